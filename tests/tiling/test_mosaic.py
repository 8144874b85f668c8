"""Claims about the mosaic."""

import tracemalloc

import numpy as np
import pytest

from geofuse.errors import UsageError
from geofuse.tiling import Mosaic, TileGrid, axis_weights


def run(grid, scene, blend=0.5, drain_every=1):
    """Cut a scene into tiles, put it together again and check the order of the rows."""
    mosaic = Mosaic(grid, scene.shape[0], blend)
    out, next_row = [], 0
    for tile in grid:
        rows, cols = tile.outer.slices
        mosaic.add(tile, scene[:, rows, cols])
        if tile.index % drain_every == 0 or mosaic.complete:
            for offset, block in mosaic.finished():
                assert offset == next_row
                next_row += block.shape[1]
                out.append(block)
    assert mosaic.complete and next_row == grid.height
    return np.concatenate(out, axis=1)


def random_grids(count=60):
    """Grids of many kinds, cores narrower than the halo among them."""
    rng = np.random.default_rng(1)
    for _ in range(count):
        ratio = int(rng.integers(1, 6))
        height, width = (int(n) * ratio for n in rng.integers(1, 30, 2))
        yield TileGrid(height, width, ratio, int(rng.integers(1, 60)), int(rng.integers(0, 40))), float(rng.random())


def test_weights_of_an_axis_are_positive_and_add_up_to_one():
    for grid, blend in random_grids():
        total = np.zeros(grid.height)
        for start, weights in axis_weights(grid.row_bounds, int(grid.overlap * blend)):
            assert weights.min() > 0
            total[start : start + len(weights)] += weights
        assert np.abs(total - 1).max() < 1e-6


def test_weights_cover_the_core_and_stay_inside_the_outer_window():
    for grid, blend in random_grids():
        weights = axis_weights(grid.col_bounds, int(grid.overlap * blend))
        for tile in list(grid)[: grid.n_cols]:
            start, values = weights[tile.index]
            assert tile.outer.col0 <= start <= tile.core.col0
            assert tile.core.col1 <= start + len(values) <= tile.outer.col1


def test_constant_in_is_constant_out():
    for grid, blend in random_grids():
        scene = np.full((2, grid.height, grid.width), 0.3, np.float32)
        assert np.abs(run(grid, scene, blend) - 0.3).max() < 3e-7


def test_a_smooth_scene_has_no_seams():
    grid = TileGrid(96, 120, 4, 24, 8)
    y, x = np.mgrid[:96, :120]
    scene = np.stack([np.sin(y / 9) * np.cos(x / 13), 1e3 + 0.1 * x * y]).astype(np.float32)
    assert np.allclose(run(grid, scene), scene, rtol=4e-7, atol=4e-7)


def test_a_step_between_two_tiles_becomes_a_smooth_ramp_inside_the_blended_halo():
    grid = TileGrid(8, 64, 4, 32, 16)
    mosaic = Mosaic(grid, 1)
    for tile, level in zip(grid, (0.0, 1.0), strict=True):
        mosaic.add(tile, np.full((1, tile.outer.height, tile.outer.width), level, np.float32))
    ((_, rows),) = mosaic.finished()
    profile = rows[0, 3]
    assert (profile[:24] == 0).all() and (profile[40:] == 1).all()
    assert (np.diff(profile[23:41]) > 0).all() and np.diff(profile).max() < 0.11
    assert np.allclose(profile + profile[::-1], 1)


def test_the_outer_part_of_the_halo_is_thrown_away():
    grid = TileGrid(64, 64, 4, 16, 8)
    scene = np.ones((1, 64, 64), np.float32)
    mosaic, out = Mosaic(grid, 1, blend=0.5), []
    for tile in grid:
        data = scene[:, tile.outer.slices[0], tile.outer.slices[1]].copy()
        e = tile.edges
        sides = (np.s_[:, :4], np.s_[:, -4:], np.s_[..., :4], np.s_[..., -4:])
        for at_border, side in zip((e.top, e.bottom, e.left, e.right), sides, strict=True):
            if not at_border:
                data[side] = np.nan
        mosaic.add(tile, data)
        out += [rows for _, rows in mosaic.finished()]
    assert np.allclose(np.concatenate(out, axis=1), 1)


def test_no_overlap_and_no_blend_give_the_tiles_themselves():
    scene = np.random.default_rng(0).normal(size=(2, 48, 40)).astype(np.float32)
    assert np.array_equal(run(TileGrid(48, 40, 4, 12, 0), scene), scene)
    assert np.array_equal(run(TileGrid(48, 40, 4, 12, 8), scene, blend=0.0), scene)
    assert np.array_equal(run(TileGrid(48, 40, 4, 64, 8), scene), scene)


def test_no_data_stays_where_it_was():
    rng = np.random.default_rng(2)
    for grid, blend in random_grids(20):
        scene = rng.normal(size=(3, grid.height, grid.width)).astype(np.float32)
        hole = rng.random((grid.height, grid.width)) < 0.2
        scene[:, hole] = np.nan
        assert np.array_equal(np.isnan(run(grid, scene, blend)), np.isnan(scene))


def test_bytes_do_not_depend_on_when_rows_are_fetched():
    grid = TileGrid(60, 60, 4, 16, 8)
    scene = np.random.default_rng(3).normal(size=(2, 60, 60)).astype(np.float32)
    assert run(grid, scene).tobytes() == run(grid, scene, drain_every=7).tobytes() == run(grid, scene, drain_every=10**6).tobytes()


def test_rows_are_finished_as_soon_as_no_later_tile_reaches_them():
    grid = TileGrid(64, 32, 4, 16, 8)
    mosaic, seen = Mosaic(grid, 1), []
    for tile in grid:
        mosaic.add(tile, np.zeros((1, tile.outer.height, tile.outer.width), np.float32))
        seen.append([(offset, rows.shape[1]) for offset, rows in mosaic.finished()])
    assert seen == [[], [(0, 12)], [], [(12, 16)], [], [(28, 16)], [], [(44, 20)]]


def test_memory_is_that_of_tile_rows_not_of_the_scene():
    def peak(height):
        grid = TileGrid(height, 256, 4, 32, 8)
        mosaic = Mosaic(grid, 4)
        tracemalloc.start()
        for tile in grid:
            mosaic.add(tile, np.zeros((4, tile.outer.height, tile.outer.width), np.float32))
            for _ in mosaic.finished():
                pass
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    row_bytes = 4 * 256 * 4
    assert peak(2048) < peak(256) * 1.1
    assert peak(2048) < 3 * (32 + 2 * 8) * row_bytes


def test_a_tile_out_of_order_or_of_the_wrong_shape_is_refused():
    grid = TileGrid(32, 32, 4, 16, 4)
    mosaic = Mosaic(grid, 2)
    with pytest.raises(UsageError, match="expected tile 0"):
        mosaic.add(grid[1], np.zeros((2, 20, 20), np.float32))
    with pytest.raises(UsageError, match=r"\(2, 20, 20\)"):
        mosaic.add(grid[0], np.zeros((2, 16, 16), np.float32))
    with pytest.raises(UsageError, match="blend"):
        Mosaic(grid, 2, blend=1.5)
