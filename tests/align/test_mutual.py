"""Co-registration by mutual information, where bands see the ground so differently that correlation is of no use."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from geofuse.align.coregister import register
from geofuse.degradation import SpatialOperator
from geofuse.errors import UsageError
from geofuse.sensors.psf import Psf

RATIO, PSF, SIDE = 4, Psf("bicubic"), 128
DATA = Path(__file__).resolve().parents[2] / "../shared/data/scenes"


def landscape(seed):
    """Fields with edges and texture, (2, SIDE, SIDE), 0 to 1."""
    rng = np.random.default_rng(seed)
    maps = np.stack([gaussian_filter(rng.normal(size=(SIDE, SIDE)), s) for s in (1.5, 3)])
    return 1 / (1 + np.exp(-4 * maps / maps.std(axis=(1, 2), keepdims=True)))


def seen_by_the_coarse_sensor(fine, by):
    moved = np.stack([shift(band, -np.asarray(by) * RATIO, order=5, mode="mirror") for band in fine])
    return SpatialOperator(PSF, RATIO, *fine.shape[1:]).forward(moved)


def noisy(image, rng):
    return image + np.sqrt((image**2).mean() * 10**-3.5) * rng.normal(size=image.shape)


def found(hsi, msi, mode="itk"):
    return register(hsi, msi, np.eye(len(msi), len(hsi)), PSF, RATIO, mode, (40.0, 40.0))


@pytest.mark.slow
def test_a_shift_between_bands_that_are_no_function_of_each_other_is_found():
    pytest.importorskip("SimpleITK")
    rng, fine, by = np.random.default_rng(0), landscape(0), (0.7, -1.4)
    other = 1 - np.abs(2 * fine - 1)[:1] + 0.1 * fine[1:]  # bright and dark alike
    hsi, msi = noisy(seen_by_the_coarse_sensor(fine, by), rng), noisy(other, rng)
    result = found(hsi, msi)
    assert result.applied and result.model == "shift" and np.abs(np.subtract(result.shift, by)).max() < 0.05, result
    assert found(hsi, msi, "auto").model == "none"


@pytest.mark.slow
def test_unrelated_images_are_left_alone():
    pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(1)
    result = found(noisy(seen_by_the_coarse_sensor(landscape(1), (0, 0)), rng), noisy(landscape(2), rng))
    assert result.model == "none" and "mutual information stands" in result.why


def test_an_image_without_data_is_left_alone():
    pytest.importorskip("SimpleITK")
    assert found(np.full((2, 32, 32), np.nan), landscape(0)).model == "none"


def test_without_simpleitk_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(UsageError, match=r"install geofuse\[itk\]"):
        found(landscape(0)[:, ::RATIO, ::RATIO], landscape(0))


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real scenes in ../shared/data")
def test_the_shift_between_other_halves_of_the_spectrum_of_a_real_scene_is_found():
    pytest.importorskip("SimpleITK")
    import rasterio

    with rasterio.open(DATA / "worldview2-ms.tif") as source:
        fine = source.read().astype(float)[:, :192, :192]
    rng, by = np.random.default_rng(1), (0.7, -1.4)
    result = found(noisy(seen_by_the_coarse_sensor(fine[:4], by), rng), noisy(fine[6:], rng))
    assert result.applied and np.abs(np.subtract(result.shift, by)).max() < 0.05, result
