"""Smooth displacement fields that are known, because images were bent by them; and data that support none."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from scipy.ndimage import gaussian_filter, map_coordinates

from geofuse.align import make_pair
from geofuse.align.bent_grid import BentGrid
from geofuse.align.coregister import register
from geofuse.align.grids import Grid
from geofuse.align.smooth_field import Bend, fit_smooth, supported
from geofuse.align.warp import warp
from geofuse.degradation import SpatialOperator
from geofuse.sensors.psf import Psf

DATA = Path(__file__).resolve().parents[2] / "../shared/data/scenes"
RATIO, PSF = 4, Psf("bicubic")


def hill(row, col):
    """A parallax of terrain: two bumps; coarse pixels."""
    first = 1.2 * np.exp(-((row - 0.4) ** 2 + (col - 0.55) ** 2) / 0.06) + 0.3
    return first, 0.5 * np.exp(-((row - 0.7) ** 2 + (col - 0.3) ** 2) / 0.05) - 0.4


def jitter(row, col):
    """An unsteady platform: over one period along track, alike across it."""
    return 0.5 * np.sin(2 * np.pi * 1.3 * row) + 0.6 + 0 * col, 0.6 * np.sin(2 * np.pi * 1.1 * row + 1) - 1.2 + 0 * col


def tilt(row, col):
    """No bend at all."""
    return 0.6 * (row - 0.5) + 0.2, 0.5 + 0 * col


def bent(fine, field):
    """What a coarse sensor sees whose pixel at p truly lies at p + field(p)."""
    height, width = fine.shape[1:]
    rows, cols = np.indices((height, width)).astype(float)
    dy, dx = field((rows + 0.5) / max(height, width), (cols + 0.5) / max(height, width))
    moved = np.stack([map_coordinates(band, (rows + dy * RATIO, cols + dx * RATIO), order=3, mode="mirror") for band in fine])
    return SpatialOperator(PSF, RATIO, height, width).forward(moved)


def noisy(image, rng, snr_db=35):
    return image + np.sqrt((image**2).mean() * 10 ** (-snr_db / 10)) * rng.normal(size=image.shape)


def three_rows(n_bands):
    centre = np.linspace(0.15, 0.85, 3)[:, None] * (n_bands - 1)
    rows = np.exp(-(((np.arange(n_bands) - centre) / (n_bands / 8)) ** 2))
    return rows / rows.sum(axis=1, keepdims=True)


def error_of(found, field, shape):
    """Largest and typical error over the whole scene, coarse pixels."""
    rows, cols = (index.ravel() + 0.5 for index in np.indices(shape))
    place = np.column_stack([rows, cols])
    estimate = np.array(found.shift) + (place - np.array(found.origin)) @ np.array(found.slope).T
    if found.bend:
        estimate = estimate + found.bend.at(place)
    true = np.column_stack(field(rows / max(shape), cols / max(shape)))
    error = np.hypot(*(estimate - true).T)
    return error.max(), np.sqrt((error**2).mean())


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real scenes in ../shared/data")
@pytest.mark.parametrize("name", ["worldview2-ms.tif", "landsat7/01-ms.tif", "cave-feathers.tif"])
@pytest.mark.parametrize(("field", "most"), [(hill, 0.2), (jitter, 0.3)])
def test_known_fields_on_real_scenes_are_found(name, field, most):
    import rasterio

    with rasterio.open(DATA / name) as source:
        fine = source.read().astype(float)[:, :320, :320]
    rng, matrix = np.random.default_rng(1), three_rows(len(fine))
    msi = noisy(np.einsum("mb,bij->mij", matrix, fine), rng)
    found = register(noisy(bent(fine, field), rng), msi, matrix, PSF, RATIO, "auto", (1.0, 1.0))
    worst, typical = error_of(found, field, (80, 80))
    assert found.model == "smooth" and worst < most and typical < 0.06, (worst, typical)


@pytest.fixture(scope="module")
def landscape():
    """Fine reflectance (4, 256, 256) with edges and texture."""
    rng = np.random.default_rng(0)
    maps = np.stack([gaussian_filter(rng.normal(size=(256, 256)), s) for s in (1.5, 2, 3, 5)])
    maps = 1 / (1 + np.exp(-4 * maps / maps.std(axis=(1, 2), keepdims=True)))
    return np.einsum("bk,kij->bij", rng.uniform(0.05, 0.9, (4, 4)), maps)


@pytest.fixture(scope="module")
def over_hills(landscape):
    rng = np.random.default_rng(3)
    return noisy(bent(landscape, hill), rng), noisy(landscape[:2], rng)


def scenes_of(build, hsi, msi):
    coarse = build.scene(hsi, build.north_up(3e5, 4e6, 40), wavelengths=[450, 550, 650, 850])
    return coarse, build.scene(msi, build.north_up(3e5, 4e6, 10))


def test_a_field_is_found_and_taken_out_in_the_one_warp(build, tmp_path, landscape, over_hills):
    table = tmp_path / "two.csv"
    table.write_text("wavelength_nm,a,b\n430,1,0\n470,1,0\n471,0,0\n529,0,0\n530,0,1\n570,0,1\n571,0,0\n")
    coarse, fine = scenes_of(build, *over_hills)
    pair = make_pair(coarse, fine, srf=table, psf="bicubic", coregister="auto")
    assert any("(smooth;" in note for note in pair.attrs["notes"]) and any("warped once" in note for note in pair.attrs["notes"])
    first = [round(v) for v in ((4e6 - pair.y_hsi.values[0] - 20) / 10, (pair.x_hsi.values[0] - 3e5 - 20) / 10)]
    moved = np.roll(landscape, [-(v % RATIO) for v in first], axis=(1, 2))  # the pair's coarse grid need not start at the MSI's
    true = SpatialOperator(PSF, RATIO, 256, 256).forward(moved)
    row, col = (v // RATIO for v in first)
    here = pair["hsi"].values[:, 2:-2, 2:-2]
    there = true[:, row + 2 : row + 2 + here.shape[1], col + 2 : col + 2 + here.shape[2]]
    before = over_hills[0][:, row + 2 : row + 2 + here.shape[1], col + 2 : col + 2 + here.shape[2]]
    kept = np.isfinite(here)
    after, left = (np.sqrt(((image - there)[kept] ** 2).mean()) for image in (here, before))
    assert kept.mean() > 0.9 and after < 0.25 * left, (after, left)


@pytest.mark.parametrize("field", [tilt])
def test_an_affine_map_stays_one_and_it_is_said_why(landscape, field):
    rng = np.random.default_rng(2)
    hsi, msi = noisy(bent(landscape, field), rng), noisy(landscape[:2], rng)
    found = register(hsi, msi, np.eye(4)[:2], PSF, RATIO, "smooth", (1.0, 1.0))
    assert found.model == "affine" and found.bend is None and error_of(found, field, (64, 64))[0] < 0.03
    assert "no smooth field: all windows lie within" in found.note


def test_a_small_scene_supports_no_field_and_it_is_said(landscape):
    hsi = bent(landscape[:, :96, :96], lambda row, col: (0.7 + 0 * row, 0.3 + 0 * col))
    found = register(hsi, landscape[:2, :96, :96], np.eye(4)[:2], PSF, RATIO, "smooth", (1.0, 1.0))
    assert found.model == "shift" and found.shift == pytest.approx((0.7, 0.3), abs=0.02)
    assert "no smooth field: 4 small windows hold data" in found.note


def ties(n=7, seed=0, noise=0.02):
    rng = np.random.default_rng(seed)
    centre = np.stack(np.meshgrid(np.arange(n) * 10 + 5.0, np.arange(n) * 10 + 5.0, indexing="ij"), axis=-1).reshape(-1, 2)
    moved = np.column_stack(hill(*(centre / (10 * n)).T))
    return centre, moved + noise * rng.normal(size=moved.shape), np.full(len(centre), noise**2), rng


def test_wrong_windows_do_not_bend_the_field():
    centre, moved, variance, rng = ties()
    wrong = rng.choice(len(centre), 6, replace=False)
    spoilt = moved.copy()
    spoilt[wrong] += rng.uniform(1, 2, (6, 2)) * rng.choice([-1, 1], (6, 2))
    fit = fit_smooth(centre, spoilt, variance, (70, 70))
    assert not fit.agree[wrong].any() and fit.agree.sum() > 38
    right = fit.shift + (centre - fit.origin) @ fit.slope.T + fit.bend.at(centre)
    assert np.abs(right - moved).max() < 0.4 and not supported(fit, centre, spoilt, variance, 0.05)


def test_noise_alone_supports_no_field():
    for seed in range(20):
        centre, _, variance, rng = ties(seed=seed)
        moved = 0.1 * rng.normal(size=(len(centre), 2)) + (0.3, -0.2)
        assert supported(fit_smooth(centre, moved, variance, (70, 70)), centre, moved, variance, 0.05)


def test_a_bent_warp_is_the_inverse_of_the_bend_and_independent_of_blocks():
    rng = np.random.default_rng(0)
    centre, moved, variance, _ = ties(noise=0.001)
    fit = fit_smooth(centre, moved, variance, (70, 70))
    grid = Grid(70, 70, Affine(10, 0, 3e5, 0, -10, 4e6), CRS.from_epsg(32633))
    bend = BentGrid(grid, Affine.identity(), fit.bend)
    cols, rows = rng.uniform(2, 68, (2, 50))
    at_x, at_y = bend.undo(grid, cols, rows)
    back = np.column_stack([at_y, at_x]) + fit.bend.at(np.column_stack([at_y, at_x]))
    np.testing.assert_allclose(back, np.column_stack([rows, cols]), atol=1e-6)
    ramp = np.stack([np.indices((70, 70))[0] + 0.5, np.indices((70, 70))[1] + 0.5]).astype(np.float32)
    out = warp(da.from_array(ramp), grid, grid, bend).compute()
    x, y = bend.undo(grid, *(index + 0.5 for index in np.indices((70, 70))[::-1]))
    inner = (slice(None), slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(out[inner], np.stack([y, x])[inner], atol=1e-3)


def test_beyond_its_area_a_bend_stays_as_on_the_border():
    bend = Bend(((0.0, 0.0), (5.0, 9.0), (9.0, 1.0)), ((1.0, 0.0), (-2.0, 1.0), (1.0, -1.0)), 10.0, (0.0, 0.0), (10.0, 10.0))
    np.testing.assert_array_equal(bend.at(np.array([[-50.0, 4.0]])), bend.at(np.array([[0.0, 4.0]])))
