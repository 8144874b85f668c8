"""Regions cover the output once, in whole blocks, and are blended to the last bit as the mosaic would."""

from __future__ import annotations

import numpy as np
import pytest

from geofuse.tiling import PARTS, Blending, Mosaic, RegionGrid, TileGrid, Window


@pytest.mark.parametrize(
    ("output", "block", "tile"), [((0, 100, 0, 90), (8, 8), 32), ((3, 97, 5, 61), (1, 56), 32), ((0, 20, 0, 20), (64, 64), 32)]
)
def test_regions_cover_the_output_once_in_whole_blocks_and_are_about_a_quarter_of_a_tile(output, block, tile):
    output = Window(*output)
    regions = RegionGrid.of(output, block, tile)
    seen = np.zeros((output.height, output.width), int)
    for region in regions:
        inner = region.within(output)
        seen[inner.slices] += 1
        assert inner.row0 % block[0] == 0 and inner.col0 % block[1] == 0
        assert region.height * region.width <= max(tile * tile // PARTS, block[0] * block[1])
    assert (seen == 1).all() and len(regions) == len(list(regions))


def test_a_region_is_blended_as_the_mosaic_blends_it():
    grid = TileGrid(96, 88, 4, 24, 8)
    rng = np.random.default_rng(0)
    tiles = [rng.standard_normal((2, t.outer.height, t.outer.width)).astype(np.float32) for t in grid]
    tiles[5][:, 3:9, 3:9] = np.nan
    mosaic = Mosaic(grid, 2)
    for tile, values in zip(grid, tiles, strict=True):
        mosaic.add(tile, values)
    expected = np.concatenate([rows for _, rows in mosaic.finished()], axis=1)
    blending = Blending(grid)
    for window in (Window(0, 96, 0, 88), Window(5, 50, 7, 81), Window(20, 28, 20, 28)):
        parts = blending.parts(window)
        for band in range(2):

            def piece(index, part, band=band):
                return tiles[index][band][part.within(grid[index].outer).slices]

            np.testing.assert_array_equal(blending.blend(window, parts, piece), expected[band][window.slices])
