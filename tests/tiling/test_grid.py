"""Claims about the tile grid."""

import numpy as np
import pytest

from geofuse.errors import UsageError
from geofuse.tiling import Edges, TileGrid, Window


def random_grids(count=120):
    """Grids of many sizes, ratios, tiles and overlaps."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        ratio = int(rng.integers(1, 12))
        height, width = (int(n) * ratio for n in rng.integers(1, 40, 2))
        yield TileGrid(height, width, ratio, int(rng.integers(1, 200)), int(rng.integers(0, 60)))


def test_cores_cover_every_pixel_once_edges_included():
    for grid in random_grids():
        count = np.zeros((grid.height, grid.width), int)
        for tile in grid:
            count[tile.core.slices] += 1
        assert (count == 1).all(), grid


def test_every_border_is_on_a_coarse_pixel_and_every_core_fits_the_tile():
    for grid in random_grids():
        assert grid.tile % grid.ratio == 0 and grid.overlap % grid.ratio == 0
        for tile in grid:
            coarse = tile.outer.coarse(grid.ratio)
            assert (coarse.height * grid.ratio, coarse.width * grid.ratio) == (tile.outer.height, tile.outer.width)
            tile.core.coarse(grid.ratio)
            assert 0 < tile.core.height <= grid.tile and 0 < tile.core.width <= grid.tile


def test_outer_is_core_and_halo_clipped_to_the_scene():
    for grid in random_grids():
        for tile in grid:
            assert tile.outer.row0 == max(0, tile.core.row0 - grid.overlap)
            assert tile.outer.row1 == min(grid.height, tile.core.row1 + grid.overlap)
            assert tile.outer.col0 == max(0, tile.core.col0 - grid.overlap)
            assert tile.outer.col1 == min(grid.width, tile.core.col1 + grid.overlap)
            sides = (tile.outer.row0 == 0, tile.outer.row1 == grid.height, tile.outer.col0 == 0, tile.outer.col1 == grid.width)
            assert tile.edges == Edges(*sides)


def test_cores_are_balanced_so_no_sliver_is_left():
    for grid in random_grids():
        for bounds in (grid.row_bounds, grid.col_bounds):
            sizes = np.diff(bounds)
            assert sizes.max() - sizes.min() <= grid.ratio


def test_tiles_come_in_row_major_order_and_by_index():
    grid = TileGrid(40, 60, 4, 16, 4)
    corners = [(tile.core.row0, tile.core.col0) for tile in grid]
    assert corners == sorted(corners) and len(corners) == len(grid) == grid.n_rows * grid.n_cols
    assert [tile.index for tile in grid] == list(range(len(grid)))
    assert grid[5] == list(grid)[5]
    with pytest.raises(IndexError):
        grid[len(grid)]


def test_a_scene_smaller_than_a_tile_is_one_tile_without_halo():
    grid = TileGrid(20, 12, 4, 256, 32)
    (tile,) = grid
    assert tile.core == tile.outer == Window(0, 20, 0, 12)
    assert tile.edges == Edges(True, True, True, True)


def test_tile_and_overlap_are_rounded_up_to_the_ratio():
    grid = TileGrid(90, 90, 3, 31, 4)
    assert (grid.tile, grid.overlap) == (33, 6)


def test_window_within_another_counts_from_its_corner():
    tile = TileGrid(64, 64, 4, 16, 8)[5]
    image = np.arange(64 * 64).reshape(64, 64)
    assert np.array_equal(image[tile.outer.slices][tile.core.within(tile.outer).slices], image[tile.core.slices])


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((0, 8, 4, 8, 0), "whole number"),
        ((9, 8, 4, 8, 0), "whole number"),
        ((8, 8, 4, 0, 0), "positive"),
        ((8, 8, 4, 8, -1), "positive"),
    ],
)
def test_impossible_grids_are_refused(size, message):
    with pytest.raises(UsageError, match=message):
        TileGrid(*size)


def test_a_window_that_cuts_coarse_pixels_has_no_coarse_form():
    with pytest.raises(UsageError, match="multiples of 4"):
        Window(0, 8, 2, 8).coarse(4)
