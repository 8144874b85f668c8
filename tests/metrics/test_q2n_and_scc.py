"""Q2n against hypercomplex arithmetic done pixel by pixel, SCC against scipy, and what both promise."""

import numpy as np
import pytest
from scipy.signal import convolve2d

from geofuse import metrics
from geofuse.metrics.q2n import conjugate_products


def cubes(n_bands, height=64, width=64, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 5.0
    phase = rng.uniform(0, 6, (n_bands, 1, 1))
    gain = np.geomspace(0.02, 3000, n_bands)[:, None, None]
    reference = gain * (2 + np.sin(y + phase) * np.cos(1.7 * x - phase) + 0.2 * rng.standard_normal((n_bands, height, width)))
    return reference, reference * (1 + 0.1 * rng.standard_normal(reference.shape))


# ---- oracles


def conjugate(z):
    return np.concatenate([z[..., :1], -z[..., 1:]], axis=-1)


def multiply(x, y):
    """(a, b)(c, d) = (ac - d*b, a*d* + cb*) on the last axis: the product of Garzelli and Nencini's own code."""
    half = x.shape[-1] // 2
    if half == 0:
        return x * y
    a, b, c, d = x[..., :half], x[..., half:], y[..., :half], y[..., half:]
    first = multiply(a, c) - multiply(conjugate(d), b)
    return np.concatenate([first, multiply(conjugate(a), conjugate(d)) + multiply(c, conjugate(b))], axis=-1)


def oracle_block(reference, estimate):
    """Equation 13, with the hypercomplex product of every pixel; (C, n) each."""
    size = 1 << (len(reference) - 1).bit_length()
    z1, z2 = np.ones((2, reference.shape[1], size))
    for b, (r, e) in enumerate(zip(reference, estimate, strict=True)):
        z1[:, b], z2[:, b] = (r - r.mean()) / r.std(ddof=1) + 1, (e - r.mean()) / r.std(ddof=1) + 1
    m1, m2 = z1.mean(axis=0), z2.mean(axis=0)
    covariance = multiply(z1, conjugate(z2)).mean(axis=0) - multiply(m1, conjugate(m2))
    size1, size2 = m1 @ m1, m2 @ m2
    variance = (z1**2).sum(axis=1).mean() - size1 + (z2**2).sum(axis=1).mean() - size2
    return np.linalg.norm(covariance) * 2 / variance * 2 * np.sqrt(size1 * size2) / (size1 + size2)


def oracle_q2n(reference, estimate, keep):
    total = 0.0
    for i in range(0, keep.shape[0], 32):
        for j in range(0, keep.shape[1], 32):
            block = np.s_[i : i + 32, j : j + 32]
            inside = keep[block]
            if inside.any():
                total += inside.sum() * oracle_block(reference[:, *block][:, inside], estimate[:, *block][:, inside])
    return total / keep.sum()


def oracle_scc(reference, estimate, keep):
    kernel = -np.ones((3, 3))
    kernel[1, 1] = 8
    whole = convolve2d(keep, np.ones((3, 3)), mode="valid") == 9
    bands = [[convolve2d(b, kernel, mode="valid")[whole] for b in pair] for pair in zip(reference, estimate, strict=True)]
    return np.mean([np.corrcoef(r, e)[0, 1] for r, e in bands])


@pytest.fixture
def holes():
    keep = np.ones((64, 64), bool)
    keep[:40, 50:] = keep[5, 5] = keep[60, 3:9] = False
    return keep


@pytest.mark.parametrize("n_bands", [1, 2, 3, 4, 7, 16, 21])
@pytest.mark.parametrize("masked", [False, True])
def test_q2n_equals_the_products_of_hypercomplex_pixels(n_bands, masked, holes):
    reference, estimate = cubes(n_bands)
    keep = holes if masked else np.ones_like(holes)
    assert metrics.q2n(reference, estimate, keep) == pytest.approx(oracle_q2n(reference, estimate, keep), rel=1e-6)


def test_four_bands_multiply_as_quaternions():
    """Hamilton's ij = k, ji = -k and so on, up to the order of the factors and the sign of one unit."""
    component, sign = conjugate_products(4)
    product = np.zeros((4, 4, 4))
    product[np.arange(4)[:, None], np.arange(4)[None, :], component] = sign
    rng = np.random.default_rng(1)
    for _ in range(5):
        x, y = rng.standard_normal((2, 4))
        assert np.linalg.norm(np.einsum("i,j,ijk", x, y, product)) == pytest.approx(np.linalg.norm(x) * np.linalg.norm(y))


@pytest.mark.parametrize("count", [2, 8, 32])
def test_a_number_times_its_conjugate_is_its_square(count):
    z = np.random.default_rng(2).standard_normal(count)
    component, sign = conjugate_products(count)
    square = np.bincount(component.ravel(), weights=(sign * np.outer(z, z)).ravel())
    assert square == pytest.approx([z @ z] + [0] * (count - 1), abs=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_scc_equals_the_correlation_of_laplacians(masked, holes):
    reference, estimate = cubes(5)
    keep = holes if masked else np.ones_like(holes)
    assert metrics.scc(reference, estimate, keep) == pytest.approx(oracle_scc(reference, estimate, keep), rel=1e-6)


@pytest.mark.parametrize("name", ["q2n", "scc"])
def test_identical_images_score_one(name):
    reference = cubes(6)[0]
    assert getattr(metrics, name)(reference, reference.copy()) == pytest.approx(1, abs=1e-12)


def test_scc_does_not_see_gain_and_offset_and_q2n_does():
    reference = cubes(6)[0]
    changed = 1.5 * reference + reference.mean(axis=(1, 2), keepdims=True)
    assert metrics.scc(reference, changed) == pytest.approx(1, abs=1e-9)
    assert metrics.q2n(reference, changed) < 0.95


def test_q2n_does_not_depend_on_the_unit():
    reference, estimate = cubes(6)
    assert metrics.q2n(1e4 * reference, 1e4 * estimate) == pytest.approx(metrics.q2n(reference, estimate), rel=1e-9)


def test_q2n_sees_a_change_of_spectrum_that_leaves_each_band_as_good():
    """The same noise in all bands or another in each: the index of one band cannot tell, that of the spectrum can."""
    reference, _ = cubes(8)
    reference /= reference.std(axis=(1, 2), keepdims=True)
    noise = 0.5 * np.random.default_rng(3).standard_normal(reference.shape)
    alike, unlike = reference + noise[:1], reference + noise
    assert metrics.uiqi(reference, alike) == pytest.approx(metrics.uiqi(reference, unlike), abs=0.02)
    assert metrics.q2n(reference, alike) != pytest.approx(metrics.q2n(reference, unlike), abs=1e-3)


@pytest.mark.parametrize("name", ["q2n", "scc"])
@pytest.mark.parametrize("constant", [0.0, 7.1, -3.0])
@pytest.mark.parametrize("exact", [True, False])
def test_a_flat_band_gives_a_number(name, constant, exact):
    reference, estimate = cubes(4)
    reference[2] = constant
    estimate[2] = constant if exact else constant + estimate[2] / 50
    assert -1 <= getattr(metrics, name)(reference, estimate) <= 1
    assert np.isfinite(getattr(metrics, name)(np.full_like(reference, constant), estimate))


def test_an_exact_flat_image_scores_one():
    flat = np.full((3, 40, 40), 0.1)
    assert metrics.q2n(flat, flat.copy()) == pytest.approx(1) and metrics.scc(flat, flat.copy()) == 1
    assert metrics.q2n(0 * flat, 0 * flat) == pytest.approx(1)


def test_a_band_flat_in_one_block_only_is_scaled_by_the_whole_image():
    reference, estimate = cubes(3)
    reference[1, :32, :32] = reference[1].mean()
    estimate[1, :32, :32] = reference[1].mean() * 1.01
    assert 0.5 < metrics.q2n(reference, estimate) < 1


def test_scc_is_undefined_without_a_whole_window_and_q2n_is_not():
    reference, estimate = cubes(3, 2, 9)
    assert np.isnan(metrics.scc(reference, estimate))
    assert 0 < metrics.q2n(reference, estimate) <= 1


def test_one_pixel_scores_by_its_level():
    assert metrics.q2n(np.full((4, 1, 1), 2.0), np.full((4, 1, 1), 2.0)) == pytest.approx(1)
    assert metrics.q2n(np.full((4, 1, 1), 2.0), np.full((4, 1, 1), 6.0)) < 0.9
