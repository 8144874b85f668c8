"""Co-registration of real scenes that were displaced on purpose: forty known shifts, and fusion after one of them."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from scipy.ndimage import gaussian_filter, shift

from geofuse.align import make_pair
from geofuse.align.coregister import put_right, register
from geofuse.align.grids import Grid, plan_grids
from geofuse.align.warp import warp
from geofuse.degradation import SpatialOperator
from geofuse.io import open_scene
from geofuse.pipeline import Fusion, FusionSettings
from geofuse.scene import band_metadata
from geofuse.sensors import load_response, response_matrix
from geofuse.sensors.psf import Psf

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
SCENES = {
    "enmap-potsdam/enmap_potsdam_A_64r_128c.tif": ("landsat8", "sentinel2a"),
    "scenes/jasper-ridge.tif": ("landsat8", "sentinel2a"),
    "scenes/abu-airport-1.tif": ("landsat8", "sentinel2a"),
    "scenes/abu-beach-2.tif": ("landsat8", "sentinel2a"),
    "scenes/abu-urban-1.tif": ("landsat8", "sentinel2a"),
}
RATIO, PSF = 4, Psf("bicubic")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs the real scenes in ../shared/data")


def reference(path):
    """Values without empty bands, cut to whole coarse pixels, and the metadata of the bands that stay."""
    scene = open_scene(DATA / path)
    values = scene.values.astype(float)
    kept = np.flatnonzero(np.isfinite(values).all(axis=(1, 2)))
    height, width = (size // 16 * 16 for size in values.shape[1:])
    return values[kept][:, :height, :width], band_metadata(scene).select(kept)


def rows(sensor, bands):
    return response_matrix(load_response(sensor).reflective(), bands.wavelength_nm, bands.fwhm_nm, min_coverage=0.5)


def displaced(fine, by):
    """H of a scene whose coarse pixels truly lie ``by`` coarse pixels off."""
    moved = np.stack([shift(band, -np.asarray(by) * RATIO, order=5, mode="mirror") for band in fine])
    return SpatialOperator(PSF, RATIO, *fine.shape[1:]).forward(moved)


def noisy(image, rng):
    return image + np.sqrt((image**2).mean() * 10**-3.5) * rng.normal(size=image.shape)


def masked(image, blob, rng):
    """No data in blobs that cover a fifth."""
    field = gaussian_filter(rng.normal(size=image.shape[1:]), blob)
    return np.where(field > np.quantile(field, 0.8), np.nan, image)


def error(fine, bands, sensor, by, rng):
    """Largest error along an axis of the shift that is found, in coarse pixels; a fifth of each image is masked."""
    matrix = rows(sensor, bands)
    hsi = masked(noisy(displaced(fine, by), rng), 1.5, rng)
    msi = masked(noisy(np.einsum("mb,bij->mij", matrix, fine), rng), 4, rng)
    found = register(hsi, msi, matrix, PSF, RATIO, "auto", (40.0, 40.0))
    return np.abs(np.subtract(found.shift, by)).max()


@pytest.mark.slow
def test_forty_shifts_are_found_to_a_twentieth_at_the_median_and_a_fifth_at_worst():
    rng, errors = np.random.default_rng(1), []
    for path, sensors in SCENES.items():
        fine, bands = reference(path)
        for case in range(8):
            by = rng.uniform(-3, 3, 2) if case % 3 else rng.integers(-12, 13, 2) / 4
            errors.append(error(fine, bands, sensors[case % 2], by, rng))
    print(f"median {np.median(errors):.4f}, worst {max(errors):.4f} coarse pixels of {len(errors)} shifts")
    assert len(errors) == 40 and np.median(errors) < 0.05 and max(errors) < 0.2, (np.median(errors), max(errors))


@pytest.mark.parametrize(
    ("path", "sensor", "by"),
    [
        ("enmap-potsdam/enmap_potsdam_A_64r_128c.tif", "sentinel2a", (0.7, -2.3)),
        ("scenes/jasper-ridge.tif", "landsat8", (-1.375, 0.25)),
        ("scenes/abu-urban-1.tif", "landsat8", (2.9, 2.6)),
        ("scenes/abu-beach-2.tif", "sentinel2a", (-3, 1)),
    ],
)
def test_a_shift_of_a_real_scene_with_a_fifth_masked_is_found(path, sensor, by):
    assert error(*reference(path), sensor, by, np.random.default_rng(7)) < 0.1


@pytest.mark.slow
def test_the_known_affine_map_of_the_pavia_pair_is_found_within_three_tenths_at_the_corners():
    """The HSI of reg-zhou was made from another image of the scene than its RGB, turned by 10 degrees and scaled by 4.5 and 4.4."""
    from scipy.io import loadmat

    found = loadmat(DATA / "reg-zhou/reg_pavia_dataset.mat")
    hsi, msi = (np.moveaxis(found[name], -1, 0).astype(np.float32) for name in ("I1", "rgb1"))
    nm, crs = found["wl"][0] * 1000.0, CRS.from_epsg(32633)
    rgb = np.exp(-4 * np.log(2) * ((nm - np.array([640, 550, 460])[:, None]) / 70) ** 2)
    page = Affine(1, 0, 0, 0, -1, 500)
    fine = Grid(500, 340, page, crs)
    true = page @ Affine(*found["T"][0], *found["T"][1]) @ Affine.scale(4.4, 4.5)
    for degrees in (5, -5, 10):
        middle = Affine.translation(*(true @ (25, 40)))
        stated = Grid(80, 50, middle @ Affine.rotation(degrees) @ ~middle @ true, crs)
        plan, psf = plan_grids(stated, fine), Psf("gaussian", 1.19)
        target = fine.cut(plan.fine).coarsened(plan.ratio)
        inner, padded = plan.output.within(plan.fine), np.full((3, plan.fine.height, plan.fine.width), np.nan, np.float32)
        padded[:, inner.slices[0], inner.slices[1]] = msi[:, plan.output.slices[0], plan.output.slices[1]]
        laid = warp(da.from_array(hsi), stated, target).compute()
        result = register(laid, padded, rgb / rgb.sum(axis=1, keepdims=True), psf, plan.ratio, "affine", (1.0, 1.0))
        right, _ = put_right(result, stated, fine, plan)
        corners = ((0, 0), (50, 0), (0, 80), (50, 80))
        off = [np.hypot(*np.subtract(right.transform @ corner, true @ corner)) / 4.45 for corner in corners]
        print(f"{degrees} degrees: {max(off):.3f} coarse pixels at the worst corner")
        assert result.applied and max(off) < 0.3, (degrees, off)


def fused(build, fine, hsi, msi, bands, mode):
    """Fuse, and put the result where it belongs in an array like the reference."""
    coarse = build.scene(hsi, build.north_up(3e5, 4e6, 40), wavelengths=bands.wavelength_nm)
    pair = make_pair(
        coarse,
        build.scene(msi, build.north_up(3e5, 4e6, 10)),
        srf="landsat8",
        msi_bands="B1,B2,B3,B4,B5,B6,B7",
        psf=PSF,
        coregister=mode,
    )
    fusion = Fusion(pair, FusionSettings(method="subspace", device="cpu"))
    fusion.fit()
    col, row = (round(v) for v in ~build.north_up(3e5, 4e6, 10) @ (Affine(*pair.attrs["output_transform"]) @ (0, 0)))
    out = np.full(fine.shape, np.nan)
    for offset, values in fusion.rows():
        first = row + offset
        out[:, first : first + values.shape[1], col : col + values.shape[2]] = values
    return out


def test_fusing_a_pair_shifted_by_seven_tenths_is_as_good_as_fusing_it_aligned(build):
    fine, bands = reference("scenes/jasper-ridge.tif")
    matrix, rng = (
        response_matrix(load_response("landsat8").reflective(), bands.wavelength_nm, bands.fwhm_nm),
        np.random.default_rng(0),
    )
    msi = noisy(np.einsum("mb,bij->mij", matrix[:7], fine), rng)
    aligned, moved = (noisy(displaced(fine, by), rng) for by in ((0, 0), (0.7, -0.7)))
    cases = ((aligned, "auto"), (moved, "auto"), (moved, "off"))
    images = [fused(build, fine, hsi, msi, bands, mode) for hsi, mode in cases]
    inner = np.isfinite(images[1]).all(axis=0)
    inner[:8], inner[-8:], inner[:, :8], inner[:, -8:] = False, False, False, False
    best, found, left = (
        np.mean(10 * np.log10(fine.max(axis=(1, 2)) ** 2 / ((image - fine)[:, inner] ** 2).mean(axis=1))) for image in images
    )
    assert found > best - 0.5 and left < best - 4, (best, found, left)
