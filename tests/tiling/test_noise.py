"""Claims about noise by absolute position."""

import numpy as np
import pytest
from scipy import stats

from geofuse.errors import UsageError
from geofuse.tiling import TileGrid, standard_normal


def test_windows_agree_wherever_they_overlap():
    whole = standard_normal(7, 3, 4, slice(0, 200), slice(0, 180))
    for tile in TileGrid(200, 180, 4, 48, 12):
        rows, cols = tile.outer.slices
        assert np.array_equal(standard_normal(7, 3, 4, rows, cols), whole[:, rows, cols])
    assert np.array_equal(standard_normal(7, 3, 2, range(60, 70), range(127, 129)), whole[:2, 60:70, 127:129])


def test_numbers_are_standard_normal():
    draw = standard_normal(1, 0, 4, slice(0, 256), slice(0, 256)).ravel().astype(float)
    assert abs(draw.mean()) < 0.01 and abs(draw.std() - 1) < 0.01
    assert abs(stats.skew(draw)) < 0.02 and abs(stats.kurtosis(draw)) < 0.04
    assert stats.kstest(draw, "norm").pvalue > 0.01


def test_neighbours_channels_blocks_streams_and_seeds_are_independent():
    def draw(seed=5, stream=2):
        return standard_normal(seed, stream, 2, slice(0, 256), slice(0, 256))

    base = draw()
    pairs = {
        "next column": (base[:, :, 1:], base[:, :, :-1]),
        "next row": (base[:, 1:], base[:, :-1]),
        "same place of the next block along x": (base[:, :, 64:], base[:, :, :-64]),
        "same place of the next block along y": (base[:, 64:], base[:, :-64]),
        "channel": (base[0], base[1]),
        "transposed": (base, base.transpose(0, 2, 1)),
        "stream": (base, draw(stream=3)),
        "seed": (base, draw(seed=6)),
        "seed and stream swapped": (base, draw(seed=2, stream=5)),
    }
    for name, (a, b) in pairs.items():
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.016, name
        assert abs(np.corrcoef(a.ravel() ** 2, b.ravel() ** 2)[0, 1]) < 0.016, name


def test_same_arguments_give_the_same_bytes():
    first, second = (standard_normal(0, 1, 2, slice(100, 150), slice(0, 70)) for _ in range(2))
    assert first.dtype == np.float32 and first.tobytes() == second.tobytes()


def test_positions_and_seeds_out_of_range_are_refused():
    for rows in (slice(-1, 4), slice(4, 2), slice(None, 4), slice(0, 4, 2)):
        with pytest.raises(UsageError, match="start <= stop"):
            standard_normal(0, 0, 1, rows, slice(0, 4))
    with pytest.raises(UsageError, match="seed -1"):
        standard_normal(-1, 0, 1, slice(0, 4), slice(0, 4))
