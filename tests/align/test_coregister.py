"""Co-registration against displacements that are known because the scenes were made with them."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from geofuse.align import make_pair
from geofuse.align.coregister import register
from geofuse.align.move_psf import move_psf
from geofuse.degradation import SpatialOperator
from geofuse.errors import UsageError
from geofuse.sensors.psf import Psf

RATIO, SIDE = 4, 192
PSF = Psf("gaussian", 1.0)


def landscape(seed=0, n_bands=30):
    """Fine reflectance (band, y, x) of mixed materials with edges and texture."""
    rng = np.random.default_rng(seed)
    maps = np.stack([gaussian_filter(rng.normal(size=(SIDE, SIDE)), s) for s in (2, 3, 5, 8)])
    maps = 1 / (1 + np.exp(-4 * maps / maps.std(axis=(1, 2), keepdims=True)))
    spectra = gaussian_filter(rng.uniform(0.05, 0.9, (n_bands, 4)), (3, 0))
    return np.einsum("bk,kij->bij", spectra, maps)


def seen_at(fine, shift, slope=((0, 0), (0, 0))):
    """What the coarse sensor sees whose pixel at p truly lies at p + shift + slope (p - middle), all in coarse pixels."""
    row, col = (np.indices((SIDE, SIDE)) + 0.5) / RATIO
    middle = SIDE / RATIO / 2
    dy = shift[0] + slope[0][0] * (row - middle) + slope[0][1] * (col - middle)
    dx = shift[1] + slope[1][0] * (row - middle) + slope[1][1] * (col - middle)
    where = (row + dy) * RATIO - 0.5, (col + dx) * RATIO - 0.5
    moved = np.stack([map_coordinates(band, where, order=3, mode="mirror") for band in fine])
    return SpatialOperator(PSF, RATIO, SIDE, SIDE).forward(moved)


RESPONSE = np.array([np.exp(-(((np.arange(30) - c) / 4.0) ** 2)) for c in (5, 15, 25)])
RESPONSE /= RESPONSE.sum(axis=1, keepdims=True)


def found(hsi, msi, mode="auto"):
    return register(hsi, msi, RESPONSE, PSF, RATIO, mode, (40.0, 40.0))


def noisy(image, snr_db, rng):
    return image + np.sqrt((image**2).mean() * 10 ** (-snr_db / 10)) * rng.normal(size=image.shape)


@pytest.fixture(scope="module")
def fine():
    return landscape()


@pytest.fixture(scope="module")
def msi(fine):
    return np.einsum("mb,bij->mij", RESPONSE, fine)


@pytest.mark.parametrize("shift", [(0.7, -0.7), (2.3, 1.125), (-3.0, 2.9)])
def test_a_shift_is_found_within_a_fiftieth_of_a_coarse_pixel(fine, msi, shift):
    result = found(seen_at(fine, shift), msi)
    assert result.model == "shift" and result.applied
    np.testing.assert_allclose(result.shift, shift, atol=0.02)
    np.testing.assert_allclose(result.shift_m, (40 * shift[1], -40 * shift[0]), atol=0.8)
    assert result.confidence > 0.7 and result.rms < 0.05


def test_noise_clouds_and_another_calibration_do_not_mislead(fine, msi):
    rng = np.random.default_rng(3)
    hsi = 1.3 * noisy(seen_at(fine, (1.3, -0.4)), 35, rng) + 0.05
    changed = noisy(msi, 35, rng)
    cloud = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 8)
    changed[:, cloud > np.quantile(cloud, 0.85)] = np.nan
    changed[:, :60, 100:150] = 0.8  # a roof that was not there on the other day
    hsi[:, 20:28, 5:15] = np.nan
    np.testing.assert_allclose(found(hsi, changed).shift, (1.3, -0.4), atol=0.03)


def test_an_affine_map_is_found_where_the_windows_support_one(fine, msi):
    slope = np.array([[0.01, -0.03], [0.03, 0.005]])
    result = found(seen_at(fine, (0.6, -1.2), slope), msi)
    assert result.model == "affine" and result.applied
    corners = np.array([[-24, -24], [24, 24], [-24, 24], [24, -24]])
    error = corners @ (np.array(result.slope) - slope).T + np.subtract(result.shift, (0.6, -1.2))
    assert np.abs(error).max() < 0.1


def test_a_rotation_of_ten_degrees_is_found_when_an_affine_map_is_asked_for(fine, msi):
    turn = np.radians(10)
    slope = np.array([[np.cos(turn) - 1, np.sin(turn)], [-np.sin(turn), np.cos(turn) - 1]])
    result = found(seen_at(fine, (0.5, 0.5), slope), msi, "affine")
    assert np.abs(np.array(result.slope) - slope).max() < 0.005


def test_aligned_images_are_left_alone(fine, msi):
    result = found(noisy(seen_at(fine, (0, 0)), 35, np.random.default_rng(0)), msi)
    assert result.model == "shift" and not result.applied and np.abs(result.shift).max() < 0.02


@pytest.mark.parametrize("kind", ["unrelated", "flat", "empty"])
def test_images_that_cannot_be_compared_are_left_alone_and_said(fine, msi, kind):
    rng = np.random.default_rng(1)
    other = {"unrelated": landscape(7)[:3], "flat": 0.3 + 0.001 * rng.normal(size=msi.shape), "empty": np.full(msi.shape, np.nan)}
    result = found(noisy(seen_at(fine, (1, 1)), 30, rng), other[kind])
    assert result.model == "none" and not result.applied and result.shift == (0.0, 0.0)
    assert "images stay as georeferenced" in result.note and result.why


@pytest.mark.parametrize("text", ["gaussian:1", "bicubic", "box"])
@pytest.mark.parametrize("ratio", [3, 4])
def test_a_moved_psf_keeps_its_sum_and_moves_its_centre(text, ratio):
    kernel = np.asarray(move_psf(Psf.parse(text), ratio, (0.3, -0.45)).kernel)
    row, col = np.indices(kernel.shape)
    middle = (kernel.shape[0] - 1) / 2
    assert kernel.sum() == pytest.approx(1)
    assert (kernel * row).sum() - middle == pytest.approx(0.3, abs=0.02)
    assert (kernel * col).sum() - middle == pytest.approx(-0.45, abs=0.02)


@pytest.fixture(scope="module")
def scenes(build, fine, msi):
    """A pair of scenes whose coarse one lies (0.7, -1.3) coarse pixels (down, right) off."""
    nm = np.arange(400.0, 700.0, 10.0)
    coarse = build.scene(seen_at(fine, (0.7, -1.3)), build.north_up(3e5, 4e6, 40), wavelengths=nm)
    return SimpleNamespace(hsi=coarse, msi=build.scene(msi, build.north_up(3e5, 4e6, 10)))


def test_a_shift_of_nesting_grids_moves_the_grid_and_changes_no_value(scenes, rgb):
    off, on = (make_pair(scenes.hsi, scenes.msi, srf=rgb, psf="gaussian:1", coregister=mode) for mode in ("off", "auto"))
    # 0.7 and -1.3 coarse pixels are 2.8 and -5.2 fine ones: 3 and -5, and a PSF moved by -0.2 each way
    assert on.x_hsi.values[0] - off.x_hsi.values[0] == pytest.approx(-50 + 40)  # a column falls off the MSI to the west
    assert on.y_hsi.values[0] - off.y_hsi.values[0] == pytest.approx(-30)
    rows, cols = on.sizes["y_hsi"], on.sizes["x_hsi"]
    np.testing.assert_array_equal(on["hsi"].values, off["hsi"].values[:, :rows, 1 : cols + 1])
    assert "moved" in on.attrs["psf_source"] and Psf.from_tag(on.attrs["psf"]).kind == "kernel"
    assert any("co-registration" in note for note in on.attrs["notes"])


def test_an_unknown_mode_is_refused(scenes, rgb):
    with pytest.raises(UsageError, match="sideways"):
        make_pair(scenes.hsi, scenes.msi, srf=rgb, coregister="sideways")
