"""Noise estimates against noise that was put in."""

import numpy as np
import pytest
from scipy import ndimage

from geofuse.degradation.noise import consistent_noise, hsi_noise, hsi_noise_of, msi_noise, principal_components, signal_rank


def mixed_spectra(noise, rank=6, n_bands=80, n=2000, seed=0):
    """Spectra (C, N) of a given rank with noise of the given standard deviation(s)."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter1d(rng.normal(size=(n_bands, rank)), 4, axis=0)
    clean = smooth @ (rng.normal(size=(rank, n)) * np.geomspace(30, 1, rank)[:, None])
    return clean + np.asarray(noise).reshape(-1, 1) * rng.normal(size=(n_bands, n))


def covariance(spectra):
    """Sample covariance of the columns."""
    return np.cov(spectra, bias=True)


def test_hsi_noise_is_found_band_by_band():
    truth = np.linspace(0.02, 0.1, 80)
    found = hsi_noise(covariance(mixed_spectra(truth)), 2000)
    assert np.allclose(found, truth, rtol=0.12)


def test_hsi_noise_is_found_with_fewer_pixels_than_bands():
    spectra = mixed_spectra(0.05, n=60)
    assert np.median(hsi_noise(covariance(spectra), 60)) == pytest.approx(0.05, rel=0.15)


def test_noise_of_few_bands_is_found_though_the_first_guess_is_uneven():
    rng = np.random.default_rng(2)  # the first guess is up to 1.35 times the noise, and 30 of 48 components seem to be signal
    materials = 2 * np.abs(ndimage.gaussian_filter1d(rng.normal(size=(48, 8)), 5, axis=0))
    shares = np.exp(rng.normal(size=(8, 20000)))
    spectra = materials @ (shares / shares.sum(axis=0)) + 0.001 * rng.normal(size=(48, 20000))
    sigma = hsi_noise(covariance(spectra), 20000)
    assert np.allclose(sigma, 0.001, rtol=0.05)
    variance, _ = principal_components(covariance(spectra / sigma[:, None]))
    assert signal_rank(variance, 20000, 48)[0] == 7


def test_spectra_that_no_few_components_explain_are_not_taken_for_noise():
    rng = np.random.default_rng(0)
    spectra = mixed_spectra(0.05, rank=4, n_bands=31)
    iridescent = ndimage.gaussian_filter1d(rng.normal(size=(31, 700)), 0.7, axis=0)
    spectra[:, :700] += iridescent
    truth = 0.05
    assert np.median(hsi_noise(covariance(spectra), 2000)) > 3 * truth
    assert np.median(hsi_noise_of(spectra)) == pytest.approx(truth, rel=0.2)


@pytest.mark.parametrize("n_bands, n", [(31, 4000), (80, 2000), (80, 300)])
def test_white_noise_alone_does_not_make_half_of_the_spectra_calmer(n_bands, n):
    spectra = mixed_spectra(np.linspace(0.02, 0.1, n_bands), n_bands=n_bands, n=n)
    assert np.allclose(hsi_noise_of(spectra), hsi_noise(covariance(spectra), n), rtol=1e-9)


def test_rank_is_that_of_the_signal():
    variance, _ = principal_components(covariance(mixed_spectra(0.01)))
    rank, noise = signal_rank(variance, 2000, 80)
    assert rank == 6
    assert noise == pytest.approx(1e-4, rel=0.05)


def test_pure_noise_has_rank_zero():
    spectra = np.random.default_rng(1).normal(size=(50, 3000))
    assert signal_rank(principal_components(covariance(spectra))[0], 3000, 50)[0] == 0


@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_msi_noise_is_found_under_texture_that_bands_share_and_erred_upwards(sigma):
    rng = np.random.default_rng(2)
    texture = ndimage.gaussian_filter(rng.normal(size=(2, 128, 128)), (0, 0.8, 0.8))
    clean = np.einsum("cm,mhw->chw", rng.random((5, 2)), texture)
    found = msi_noise([(clean + sigma * rng.normal(size=clean.shape)).astype(np.float32)])
    assert np.all(found > 0.9 * sigma) and np.all(found < 1.8 * sigma) and np.median(found) < 1.3 * sigma


def test_msi_noise_ignores_pixels_without_data():
    rng = np.random.default_rng(3)
    image = (0.3 + 0.02 * rng.normal(size=(4, 96, 96))).astype(np.float32)
    image[:, :40, :30] = np.nan
    assert np.allclose(msi_noise([image]), 0.02, rtol=0.2)


def test_msi_noise_without_a_valid_block_is_zero():
    assert np.array_equal(msi_noise([np.full((3, 40, 40), np.nan, np.float32)]), np.zeros(3))


def test_both_images_together_tell_the_noise_better_than_texture_does():
    rng = np.random.default_rng(4)
    residual = rng.normal(size=(2, 800)) * np.sqrt(0.05 * 0.1**2 + 0.02**2)
    for texture in (0.1, 0.12, 0.2, 0.5, 0.0):  # from right to far too high, and nothing found
        found = consistent_noise(np.full(2, texture), residual, 0.05, np.full(2, 0.02**2))
        assert np.allclose(found, 0.1, rtol=0.1), texture


def test_misregistration_does_not_raise_the_noise_above_what_the_texture_shows():
    residual = 5.0 * np.random.default_rng(4).normal(size=(2, 800))
    assert np.all(consistent_noise(np.full(2, 0.1), residual, 0.05, np.zeros(2)) <= 0.1)


def test_an_overestimated_hsi_noise_does_not_make_the_msi_noise_vanish():
    residual = np.random.default_rng(0).normal(0, 1.0, (1, 4000))  # three quarters from the HSI, a quarter from the MSI
    texture = np.full(1, 3.0 * np.sqrt(0.25 / 0.05))
    for share in (0.75, 9.0):
        assert consistent_noise(texture, residual, 0.05, np.array([share])) == pytest.approx(np.sqrt(0.25 / 0.05), rel=0.1)


def test_white_noise_is_found_without_bias():
    rng = np.random.default_rng(8)
    found = [msi_noise([rng.normal(size=(3, side, side)).astype(np.float32)]) for side in (96, 96, 256, 256)]
    assert abs(np.mean(found) - 1) < 0.03


def test_texture_that_optics_have_softened_is_not_taken_for_the_noise_of_a_single_band():
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(9)
    texture = gaussian_filter(rng.normal(size=(216, 174)), 0.9)
    image = 0.08 * texture / texture.std() + 0.001 * rng.normal(size=texture.shape)
    assert 0.001 * 0.9 < msi_noise([image[None].astype(np.float32)])[0] < 0.001 * 2.5
