"""Claims about the warp of the coarse image."""

import dask.array as da
import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points

from geofuse.align import warp as warp_module
from geofuse.align.grids import Grid
from geofuse.align.warp import resample, warp

UTM33, UTM34, LONLAT = CRS.from_epsg(32633), CRS.from_epsg(32634), CRS.from_epsg(4326)
TARGET = Grid(40, 36, Affine(30, 0, 300000, 0, -30, 4000000), UTM33)


def field(x, y):
    """A smooth function of UTM33 coordinates, about 70 pixels of 30 m a period."""
    return 0.5 + 0.2 * np.sin((x - 300000) / 320) * np.cos((y - 4000000) / 350)


def field_on(grid):
    cols, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = transform_points(grid.crs, UTM33, *(grid.transform @ (cols.ravel(), rows.ravel())))
    return field(np.array(x), np.array(y)).reshape(1, grid.height, grid.width)


def source_around(crs, size):
    """A source grid in another CRS that covers the target with room to spare."""
    x, y = transform_points(UTM33, crs, [299000.0, 302000.0], [4001000.0, 3998000.0])
    x0, y0 = x[0], y[0]
    height, width = int((y0 - y[1]) / size) + 1, int((x[1] - x0) / size) + 1
    return Grid(height, width, Affine(size, 0, x0, 0, -size, y0), crs)


@pytest.mark.parametrize(("crs", "size"), [(UTM34, 30.0), (LONLAT, 0.0003), (UTM33, 26.3), (UTM33, 33.0)])
def test_a_smooth_field_survives_a_change_of_grid(crs, size):
    source = source_around(crs, size)
    out = warp(da.from_array(field_on(source).astype(np.float32)), source, TARGET).compute()
    assert out.dtype == np.float32 and out.shape == (1, 40, 36)
    assert np.abs(out - field_on(TARGET)).max() < 4e-4  # 0.2 % of the amplitude; the pixels of some sources are 1.14 times smaller


def test_the_same_grid_gives_the_same_values():
    values = np.random.default_rng(0).normal(size=(2, 40, 36)).astype(np.float32)
    assert np.array_equal(warp(da.from_array(values), TARGET, TARGET).compute(), values)


def test_blocks_and_chunks_do_not_change_the_result(monkeypatch):
    source = source_around(UTM34, 28.0)
    values = np.random.default_rng(1).normal(size=(3, source.height, source.width)).astype(np.float32)
    values[:, 50:55, 40:60] = np.nan
    whole = warp(da.from_array(values, chunks=-1), source, TARGET).compute()
    monkeypatch.setattr(warp_module, "BLOCK", 7)
    pieces = warp(da.from_array(values, chunks=(2, 11, 13)), source, TARGET).compute()
    assert np.array_equal(np.isnan(whole), np.isnan(pieces)) and np.isnan(whole).any()
    assert np.nanmax(np.abs(whole - pieces)) < 1e-5


def test_nothing_is_computed_before_it_is_asked_for():
    def explode(block):
        raise AssertionError("computed")

    source = source_around(UTM34, 30.0)
    zeros = da.zeros((1, source.height, source.width), dtype=np.float32)
    out = warp(zeros.map_blocks(explode, dtype=np.float32, meta=np.zeros((0, 0, 0))), source, TARGET)
    with pytest.raises(AssertionError, match="computed"):
        out.compute()


def test_cubic_reproduces_quadratics_and_keeps_constants():
    y, x = np.mgrid[:20, :20].astype(float)
    row, col = np.random.default_rng(2).uniform(3, 16, (2, 200))
    image = np.stack([np.full((20, 20), 0.7), x, y * y - 0.5 * x * x])
    out = resample(image, row, col)
    expected = np.stack([np.full(200, 0.7), col, row * row - 0.5 * col * col])
    assert np.allclose(out, expected, rtol=1e-5, atol=1e-5)
    assert np.allclose(resample(image, row, col, (1.3, 1.2))[:2], expected[:2], atol=0.05)


def test_no_data_stays_in_its_pixel_and_in_its_band():
    image = np.random.default_rng(3).uniform(0.2, 0.8, (2, 30, 30))
    holed = image.copy()
    holed[0, 12:15, 10:20] = np.nan
    row, col = (axis.ravel() + 0.3 for axis in np.mgrid[2:26, 2:26])
    out, whole = resample(holed, row, col), resample(image, row, col)
    expected = np.isnan(holed[0, np.rint(row).astype(int), np.rint(col).astype(int)])
    assert np.array_equal(np.isnan(out[0]), expected)
    assert np.array_equal(out[1], whole[1])
    known = out[0][~expected]
    assert known.min() >= 0.05 and known.max() <= 0.95


def test_a_constant_stays_constant_beside_no_data_and_at_the_border():
    image = np.full((1, 12, 12), 0.25)
    image[0, 4:6, 4:9] = np.nan
    row, col = (axis.ravel() for axis in np.meshgrid(np.linspace(-0.49, 11.49, 50), np.linspace(-0.49, 11.49, 50)))
    out = resample(image, row, col, (1.2, 1.0))
    assert np.allclose(out[np.isfinite(out)], 0.25, atol=1e-6)
    assert np.isfinite(out).mean() > 0.9


def test_points_outside_the_image_have_no_data():
    out = resample(np.ones((1, 5, 5)), np.array([-0.6, 5.0, 2.0, np.nan, np.inf]), np.array([2.0, 2.0, 2.0, 2.0, 2.0]))
    assert np.array_equal(np.isfinite(out[0]), [False, False, True, False, False])


def test_larger_target_pixels_do_not_alias():
    stripes = np.tile([0.0, 1.0], 60)[None, None, :] * np.ones((1, 120, 1))
    source = Grid(120, 120, Affine(30, 0, 300000, 0, -30, 4000000), UTM33)
    target = Grid(60, 60, Affine(45, 0, 300000, 0, -45, 4000000), UTM33)
    out = warp(da.from_array(stripes.astype(np.float32)), source, target).compute()[0, 5:-5, 5:-5]
    nearest = stripes[0, 0, (1.5 * (np.arange(60) + 0.5)).astype(int)]
    assert out.std() < 0.3 * nearest.std()
