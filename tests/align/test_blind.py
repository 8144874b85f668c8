"""Claims about responses that are estimated from the images alone."""

import dask.array as da
import numpy as np
import pytest

from geofuse.align.blind import estimate_psf, estimate_rows, weight_of
from geofuse.align.blind_psf import GaussianShape, named_kernel, window_size
from geofuse.align.blind_rows import fit_row, without_noise
from geofuse.degradation import SpatialOperator
from geofuse.errors import InputError
from geofuse.sensors import Psf

WAVELENGTH = np.linspace(420, 900, 49)
CENTRES, WIDTHS = (470, 560, 660, 830), (60, 70, 50, 90)


def gaussian_rows(axis=WAVELENGTH):
    rows = np.exp(-4 * np.log(2) * ((axis - np.array(CENTRES)[:, None]) / np.array(WIDTHS)[:, None]) ** 2)
    return rows / rows.sum(axis=1, keepdims=True)


def fine_scene(side, seed=0):
    """(C, side, side): ten spectra with features of all widths, mixed by textures with detail at all scales."""
    rng = np.random.default_rng(seed)
    axis = (WAVELENGTH - 420) / 480
    spectra = [0.4 + sum(rng.normal(0, 0.08) * np.sin(k * 3 * axis + rng.uniform(0, 6)) for k in range(1, 14)) for _ in range(10)]
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    shape = 1 / np.maximum(frequency, 1 / side) ** 1.2
    maps = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) * shape).real for _ in spectra]
    maps = [(m - m.min()) / (m.max() - m.min()) for m in maps]
    return np.einsum("kc,kyx->cyx", np.array(spectra), np.array(maps)).astype(np.float32)


def images(psf, ratio=4, side=96, noise=0.003, rows=None, seed=0):
    fine, rng = fine_scene(side, seed), np.random.default_rng(seed + 1)
    rows = gaussian_rows() if rows is None else rows
    hsi = SpatialOperator(psf, ratio, side, side).forward(fine)
    msi = np.einsum("mc,cyx->myx", rows, fine).astype(np.float32)
    return tuple((z + rng.normal(0, noise, z.shape)).astype(np.float32) for z in (hsi, msi))


def psf_of(hsi, msi, ratio=4, **options):
    return estimate_psf(da.from_array(hsi), da.from_array(msi), ratio, **options)


def rows_of(hsi, msi, psf, axis=WAVELENGTH, good=None, limits=None, ratio=4):
    good = np.ones(len(hsi), bool) if good is None else good
    return estimate_rows(da.from_array(hsi), da.from_array(msi), psf, ratio, axis, good, limits)


def degrees(a, b):
    return np.degrees(np.arccos(np.minimum(1, (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1))))


def shaped(shape, ratio=4):
    return Psf("kernel", kernel=tuple(map(tuple, shape.kernel(ratio, window_size(ratio)))))


@pytest.mark.parametrize(("ratio", "fwhm"), [(4, 0.8), (4, 1.2), (4, 1.6), (3, 1.0), (10, 1.1)])
def test_a_gaussian_psf_is_found_within_five_per_cent_without_knowing_the_response(ratio, fwhm):
    found = psf_of(*images(Psf("gaussian", fwhm), ratio, side=24 * ratio), ratio)
    assert abs(found.fit.shape.fwhm / fwhm - 1) < 0.05, found.fit
    assert np.isfinite(found.fit.deviation[0]) and 0 < found.fit.deviation[0] < 0.1


def test_the_bicubic_is_told_from_a_gaussian():
    assert psf_of(*images(Psf("bicubic"))).psf == Psf("bicubic")


def test_an_oval_turned_and_shifted_psf_is_found():
    true = GaussianShape(1.7, 1.0, np.radians(30), 0.3, -0.2)
    found = psf_of(*images(shaped(true))).fit
    assert found.form == "oval, shifted"
    assert abs(found.shape.wide / 1.7 - 1) < 0.05 and abs(found.shape.narrow / 1.0 - 1) < 0.05
    assert abs(np.degrees(found.shape.angle) - 30) < 5
    assert abs(found.shape.shift_y - 0.3) < 0.03 and abs(found.shape.shift_x + 0.2) < 0.03


def test_a_shift_is_left_out_where_it_is_not_asked_for():
    found = psf_of(*images(shaped(GaussianShape(1.2, 1.2, 0.0, 0.2, 0.0))), shift=False).fit
    assert "shifted" not in found.form and found.shape.shift_y == 0


def test_the_psf_is_the_same_with_the_response_known():
    hsi, msi = images(Psf("gaussian", 1.3))
    assert abs(psf_of(hsi, msi, response=gaussian_rows()).fit.shape.fwhm / 1.3 - 1) < 0.05


def test_the_response_is_found_within_five_degrees_and_sums_to_one():
    psf = Psf("gaussian", 1.2)
    found = rows_of(*images(psf), psf)
    assert degrees(found.matrix, gaussian_rows()).max() < 5
    assert (found.matrix >= 0).all() and np.allclose(found.matrix.sum(axis=1), 1, atol=0.02)
    assert all(fit.bell and (fit.deviation >= 0).all() for fit in found.rows)


def test_a_gain_between_the_images_stays_in_the_rows():
    psf = Psf("gaussian", 1.2)
    hsi, msi = images(psf)
    assert np.allclose(rows_of(hsi, msi * 250, psf).matrix.sum(axis=1), 250, rtol=0.02)


def test_an_offset_is_told_from_a_gain_and_is_zero_in_like_units():
    psf = Psf("gaussian", 1.2)
    hsi, msi = images(psf)
    assert not rows_of(hsi, msi, psf).offset.any()
    found = rows_of(hsi, 20 * msi + 50, psf)
    assert np.allclose(found.offset, 50, atol=1.5) and np.allclose(found.matrix.sum(axis=1), 20, rtol=0.1)
    peaks = WAVELENGTH[found.matrix.argmax(axis=1)]
    assert np.abs(peaks - CENTRES).max() <= 30, peaks


def test_the_order_of_the_bands_does_not_matter():
    psf, order = Psf("gaussian", 1.2), np.random.default_rng(3).permutation(49)
    hsi, msi = images(psf)
    straight, mixed = rows_of(hsi, msi, psf), rows_of(hsi[order], msi, psf, WAVELENGTH[order])
    assert degrees(straight.matrix[:, order], mixed.matrix).max() < 1


def test_a_response_of_two_lobes_is_fitted_without_a_bell_when_data_demand_it():
    rows = gaussian_rows()
    double = (rows[:1] + rows[3:]) / 2
    psf = Psf("gaussian", 1.0)
    hsi, msi = images(psf, rows=double, noise=0.0005)
    row = rows_of(hsi, msi, psf).matrix[0]
    assert row[WAVELENGTH < 600].sum() > 0.35 and row[WAVELENGTH > 700].sum() > 0.35


def test_unknown_wavelengths_and_bad_bands_are_fine():
    psf = Psf("gaussian", 1.2)
    hsi, msi = images(psf)
    good = np.ones(49, bool)
    good[30] = False
    found = rows_of(hsi, msi, psf, np.full(49, np.nan), good).matrix
    assert (found[:, 30] == 0).all() and degrees(found[1:], gaussian_rows()[1:]).max() < 5


def test_the_estimate_of_clean_spectra_is_what_they_are_on_the_mean():
    """Regressing the truth on the estimate gives slope one: what is left of the noise widens no response."""
    clean = fine_scene(32).reshape(49, -1).astype(float)
    noisy = clean + np.random.default_rng(0).normal(0, 0.05, clean.shape)
    estimate, truth = (v - v.mean(axis=1, keepdims=True) for v in (without_noise(noisy), clean))
    slope = (estimate * truth).sum() / (estimate**2).sum()
    raw = noisy - noisy.mean(axis=1, keepdims=True)
    assert abs(slope - 1) < 0.02 < abs((raw * truth).sum() / (raw**2).sum() - 1)


def test_flat_topped_rows_are_found_better_than_as_gaussians():
    edges, psf = ((450, 510), (530, 590), (640, 680), (780, 880)), Psf("gaussian", 1.2)
    rows = np.array([((WAVELENGTH >= low) & (WAVELENGTH <= high)).astype(float) for low, high in edges])
    found = rows_of(*images(psf, rows=rows / rows.sum(axis=1, keepdims=True)), psf)
    assert np.median(degrees(found.matrix, rows)) < 12
    assert sum(fit.bell[2] > 2 for fit in found.rows) >= 3


def test_a_band_with_limits_is_at_least_a_third_as_wide_as_these():
    x, block = fine_scene(32).reshape(49, -1).astype(float), np.arange(1024) // 128
    free, held = (fit_row(x, x[8], WAVELENGTH, block, limits) for limits in (None, (420, 540)))
    assert np.count_nonzero(free.row > 0.05) == 1
    assert held.bell[1] >= 39.9 and np.count_nonzero(held.row > 0.05) >= 3


def test_limits_hold():
    psf = Psf("gaussian", 1.2)
    limits = ((430, 480), (500, 600), (600, 700), (700, 850))
    found = rows_of(*images(psf), psf, limits=limits)
    for (low, high), row in zip(limits, found.matrix, strict=True):
        assert (row[(WAVELENGTH < low) | (WAVELENGTH > high)] == 0).all() and row.any()
    with pytest.raises(InputError, match="lie within 1000-1100 nm"):
        rows_of(*images(psf), psf, limits=((1000, 1100),) * 4)


def test_changed_and_missing_pixels_do_little_harm():
    hsi, msi = images(Psf("gaussian", 1.2))
    msi[:, 40:60, 20:44] += 0.4
    msi[0, 70:80, 60:90] = np.nan
    hsi[3, 2:4, 2:4] = np.nan
    found = psf_of(hsi, msi)
    assert abs(found.fit.shape.fwhm / 1.2 - 1) < 0.1
    rows = rows_of(hsi, msi, Psf("gaussian", 1.2)).matrix
    assert degrees(rows, gaussian_rows()).max() < 8 and np.allclose(rows.sum(axis=1), 1, atol=0.05)


def test_too_few_pixels_are_refused_in_one_line():
    hsi, msi = images(Psf("gaussian", 1.2))
    msi[:, 12:] = np.nan
    for refused in (lambda: psf_of(hsi, msi), lambda: rows_of(hsi, msi, Psf("gaussian", 1.0))):
        with pytest.raises(InputError, match="so give --srf and --psf instead"):
            refused()


def test_the_same_images_give_the_same_answer():
    hsi, msi = images(Psf("gaussian", 1.2))
    first, second = psf_of(hsi, msi), psf_of(hsi, msi)
    assert first.psf == second.psf and first.fit.shape == second.fit.shape


@pytest.mark.parametrize("ratio", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("psf", [Psf("bicubic"), Psf("box"), Psf("gaussian", 1.2)], ids=lambda psf: psf.label)
def test_kernels_sampled_on_the_window_are_the_operators(ratio, psf):
    kernel = named_kernel(psf, ratio, window_size(ratio))
    assert kernel.shape == (window_size(ratio),) * 2 and window_size(ratio) % 2 == ratio % 2
    assert abs(kernel.sum() - 1) < 1e-3
    if psf.kind == "gaussian":
        assert np.allclose(GaussianShape(1.2, 1.2, 0.0).kernel(ratio, window_size(ratio)), kernel, atol=2e-4)


def test_noise_is_taken_out_of_spectra_and_signal_kept():
    clean = fine_scene(32).reshape(49, -1).astype(float)
    noisy = clean + np.random.default_rng(0).normal(0, 0.01, clean.shape)
    assert np.abs(without_noise(noisy) - clean).mean() < 0.6 * np.abs(noisy - clean).mean()


def test_weights_fall_for_outliers_only():
    residual = np.random.default_rng(0).normal(size=(3, 500))
    residual[:, 7] = 40
    weight = weight_of(residual)
    assert weight[7] < 0.02 and np.delete(weight, 7).min() > 0.4 and weight.max() == 1


def test_more_bands_than_pixels_still_give_an_answer():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(80, 40))
    fit = fit_row(x, x[20:30].mean(axis=0), np.arange(80.0), np.arange(40) // 10)
    assert np.isfinite(fit.row).all() and (fit.row >= 0).all() and fit.row.any()
