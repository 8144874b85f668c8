"""Claims about ratio, nesting and overlap."""

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from geofuse.align.grids import Grid, plan_grids, positions
from geofuse.errors import InputError
from geofuse.tiling import Window

UTM33, UTM34, LONLAT = CRS.from_epsg(32633), CRS.from_epsg(32634), CRS.from_epsg(4326)


def grid(height, width, x, y, size, crs=UTM33):
    return Grid(height, width, Affine(size, 0, x, 0, -size, y), crs)


def test_the_same_corner_nests():
    plan = plan_grids(grid(12, 10, 300000, 4000000, 30), grid(48, 40, 300000, 4000000, 7.5))
    assert (plan.ratio, plan.why_warp) == (4, "")
    assert plan.fine == plan.output == Window(0, 48, 0, 40)
    assert plan.coarse == Window(0, 12, 0, 10)


def test_jitter_of_a_transform_does_not_matter():
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, e, c, f = 1 + rng.uniform(-1e-9, 1e-9, 4)
        coarse = Grid(100, 100, Affine(30 * a, 0, 300000 * c, 0, -30 * e, 4000000 + (f - 1) * 3e5), UTM33)
        assert plan_grids(coarse, grid(400, 400, 300000, 4000000, 7.5)).why_warp == ""


def test_any_whole_number_of_fine_pixels_between_the_corners_nests():
    rng = np.random.default_rng(1)
    for _ in range(200):
        ratio = int(rng.integers(2, 41))
        row, col = (int(v) for v in rng.integers(-3 * ratio, 3 * ratio, 2))
        coarse, fine = (9, 8), tuple(int(v) for v in rng.integers(6 * ratio, 9 * ratio, 2))
        plan = plan_grids(grid(*coarse, 500000 + col * 2.5, 5000000 - row * 2.5, 2.5 * ratio), grid(*fine, 500000, 5000000, 2.5))
        assert (plan.ratio, plan.why_warp, plan.coarse_row, plan.coarse_col) == (ratio, "", row, col)
        expected = Window(max(0, row), min(fine[0], row + 9 * ratio), max(0, col), min(fine[1], col + 8 * ratio))
        assert plan.output == expected
        assert plan.fine.row0 <= expected.row0 < plan.fine.row0 + ratio and plan.fine.row1 - ratio < expected.row1 <= plan.fine.row1
        assert plan.fine.col0 <= expected.col0 < plan.fine.col0 + ratio and plan.fine.col1 - ratio < expected.col1 <= plan.fine.col1
        assert 0 <= plan.coarse.row0 < plan.coarse.row1 <= 9 and 0 <= plan.coarse.col0 < plan.coarse.col1 <= 8


def test_a_crs_that_is_the_same_under_another_description_nests():
    other = CRS.from_proj4("+proj=utm +zone=33 +ellps=WGS84 +towgs84=0,0,0 +units=m")
    assert other != UTM33
    plan = plan_grids(grid(12, 10, 300000, 4000000, 30, other), grid(48, 40, 300000, 4000000, 7.5))
    assert plan.why_warp == ""


@pytest.mark.parametrize(
    ("coarse", "ratio", "why"),
    [
        (grid(12, 10, 300003.75, 4000000, 90), 12, "0.5 (x)"),
        (grid(12, 10, 300000, 4000000 - 0.15, 90), 12, "0.02 (y)"),
        (grid(12, 10, 300000, 4000000, 26.25), 4, "3.5 x 3.5 times"),
        (grid(12, 10, 300000, 4000000, 18.0), 2, "2.4 x 2.4 times"),
        (Grid(12, 10, Affine(30, 0, 300000, 0, -37.5, 4000000), UTM33), 4, "4 x 5 times"),
        (grid(1000, 1000, 300000, 4000000, 30.001), 4, "4.00013 x 4.00013 times"),
        (grid(12, 10, 0.0, 0.0, 1.0, UTM34), None, "EPSG:32634"),
        (grid(12, 10, 0.0, 0.0, 1.0, LONLAT), None, "EPSG:4326"),
    ],
)
def test_grids_that_do_not_nest_say_why(coarse, ratio, why):
    fine = grid(48, 40, 300000, 4000000, 7.5)
    if ratio is None:
        size = 30 if coarse.crs == UTM34 else 0.0003
        x, y = positions(fine, Grid(1, 1, Affine.identity(), coarse.crs), np.array([0.0]), np.array([0.0]))
        coarse, ratio = grid(12, 10, x[0], y[0], size, coarse.crs), 4
    plan = plan_grids(coarse, fine)
    assert plan.ratio == ratio and why in plan.why_warp
    assert plan.coarse.height * ratio == plan.fine.height and plan.coarse.width * ratio == plan.fine.width


def test_grids_that_are_off_by_part_of_a_fine_pixel_nest_and_say_by_how_much():
    plan = plan_grids(grid(12, 10, 300009.0, 4000000 - 10.5, 30), grid(96, 96, 300000, 4000000, 7.5))
    assert (plan.why_warp, plan.coarse_row, plan.coarse_col) == ("", 1, 1)
    np.testing.assert_allclose(plan.rest, (0.4, 0.2), atol=1e-9)


def test_half_a_fine_pixel_of_shift_does_not_change_the_size():
    for shift in (0.5, -0.5, 1.5):
        plan = plan_grids(grid(12, 10, 300000 + shift * 7.5, 4000000, 30), grid(96, 96, 299900.0 - 2.5, 4000100 - 2.5, 7.5))
        assert (plan.output.height, plan.output.width) == (48, 40)


def test_positions_in_another_crs_go_there_and_back():
    fine, coarse = grid(48, 40, 300000, 4000000, 7.5), grid(48, 40, 12.7, 36.1, 0.001, LONLAT)
    cols, rows = np.meshgrid(np.linspace(0, 40, 7), np.linspace(0, 48, 5))
    back = positions(coarse, fine, *positions(fine, coarse, cols, rows))
    assert np.abs(np.array(back) - [cols, rows]).max() < 1e-4


@pytest.mark.parametrize(
    ("coarse", "message"),
    [
        (grid(12, 10, 400000, 4000000, 30), r"do not overlap: the HSI covers x 400000 to 400300.*the MSI x 300000 to 300300"),
        (grid(12, 10, 300300, 4000000, 30), "do not overlap"),
        (grid(12, 10, 300247.5, 4000000, 30), r"overlap by 48 x 7 fine pixels only; at ratio 4 at least 8 x 8"),
        (grid(80, 80, 300000, 4000000, 5), "5 x 5 CRS units for the HSI, 7.5 x 7.5 CRS units for the MSI.*swapped"),
        (grid(40, 40, 300000, 4000000, 9), "1.2 times as large"),
        (grid(9, 9, 300000, 4000000, 7.5 * 41), "41 times as large.*expected 2 to 40"),
        (grid(10, 10, 10.0, 89.9, 0.001, LONLAT), "do not overlap|lies outside"),
    ],
)
def test_pairs_that_cannot_be_fused_are_refused(coarse, message):
    with pytest.raises(InputError, match=message) as caught:
        plan_grids(coarse, grid(48, 40, 300000, 4000000, 7.5))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("coarse_x", "fine_x"), [(-180.01, 179.99), (250.0, -110.0), (179.99, -180.01)])
def test_longitudes_a_whole_turn_apart_are_the_same(coarse_x, fine_x):
    plan = plan_grids(grid(12, 10, coarse_x, 50, 0.004, LONLAT), grid(48, 40, fine_x, 50, 0.001, LONLAT))
    assert (plan.ratio, plan.why_warp, plan.output) == (4, "", Window(0, 48, 0, 40))


@pytest.mark.parametrize("fine_x", [179.9, -180.1])
def test_a_projected_image_across_the_antimeridian_lies_in_one_piece_on_degrees(fine_x):
    coarse, fine = grid(40, 60, 705000, 5766000, 30, CRS.from_epsg(32660)), grid(400, 2000, fine_x, 52.2, 0.0001, LONLAT)
    x, y = positions(coarse, fine, np.arange(0.0, 61), np.zeros(61))
    assert (np.diff(x) > 0).all() and np.ptp(np.diff(x)) < 0.01 and 0 < x[0] < x[-1] < 2000
    back, _ = positions(fine, coarse, x, y)
    np.testing.assert_allclose(back, np.arange(61), atol=1e-3)


@pytest.mark.parametrize(
    ("hsi", "msi", "who"),
    [
        (grid(12, 10, 0, 12, 1), grid(48, 40, 300000, 4000000, 7.5), "the HSI"),
        (grid(12, 10, 0, 12, 1), grid(48, 40, 0, 48, 1), "the HSI and the MSI"),
    ],
)
def test_images_without_a_geotransform_are_told_from_images_of_other_places(hsi, msi, who):
    with pytest.raises(InputError, match=f"no geotransform in {who}: georeference first"):
        plan_grids(hsi, msi)
