"""Claims about endmembers."""

import numpy as np
import pytest

from geofuse.methods.vca import vertex_components, virtual_dimension


def mixtures(snr_db=None, n_pixels=400, count=4, n_bands=20):
    """Mix spectra; the first pixels are the pure ones."""
    rng = np.random.default_rng(0)
    pure = rng.uniform(0.1, 0.9, (n_bands, count))
    shares = np.concatenate([np.eye(count), rng.dirichlet(np.ones(count), n_pixels - count).T], axis=1)
    spectra = pure @ shares
    if snr_db is not None:
        spectra = spectra + rng.normal(0, np.sqrt((spectra**2).mean() * 10 ** (-snr_db / 10)), spectra.shape)
    return pure, spectra


def matched_error(found, pure):
    """Largest distance from a pure spectrum to the nearest endmember, relative."""
    distance = np.linalg.norm(found[:, :, None] - pure[:, None, :], axis=0).min(axis=0)
    return float((distance / np.linalg.norm(pure, axis=0)).max())


@pytest.mark.parametrize("snr_db", [0.0, 100.0, None])
def test_pure_pixels_are_found_exactly_without_noise_by_either_projection(snr_db):
    pure, spectra = mixtures()
    found = vertex_components(spectra, 4, np.random.default_rng(1), snr_db=snr_db)
    assert matched_error(found, pure) < 1e-6


def test_brightness_of_pixels_does_not_matter_to_the_projective_projection():
    pure, spectra = mixtures()
    light = np.random.default_rng(2).uniform(0.3, 1.0, spectra.shape[1])
    light[:4] = 1.0
    assert matched_error(vertex_components(spectra * light, 4, np.random.default_rng(1), snr_db=100.0), pure) < 1e-6


def test_with_noise_they_are_found_about():
    pure, spectra = mixtures(snr_db=30)
    assert matched_error(vertex_components(spectra, 4, np.random.default_rng(1)), pure) < 0.15


def test_black_pixels_are_not_taken_for_endmembers():
    pure, spectra = mixtures()
    spectra[:, -5:] = 0.0
    assert matched_error(vertex_components(spectra, 4, np.random.default_rng(1), snr_db=100.0), pure) < 1e-6


def test_more_runs_give_no_smaller_volume_and_the_same_seed_the_same_endmembers():
    _, spectra = mixtures(snr_db=20)

    def found(runs):
        return vertex_components(spectra, 4, np.random.default_rng(3), snr_db=0.0, runs=runs)

    def volume(e):
        return np.linalg.slogdet(e.T @ e)[1]

    assert volume(found(20)) >= volume(found(1))
    assert np.array_equal(found(5), found(5))


def test_virtual_dimension_counts_sources():
    # Only the mean raises correlation above covariance: noise alone has no source, a bright constant one.
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(30, 20000))
    assert virtual_dimension(noise, 1e-4) <= 1
    assert virtual_dimension(noise + 3 * rng.uniform(size=(30, 1)), 1e-4) >= 1
