"""Reading the blurred fine image off at displaced places, and the search over whole pixels."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates, spline_filter

from geofuse.align.displacement import Field, _correlation, _whole_pixels_off
from geofuse.align.tie_windows import TieWindow


@pytest.fixture(scope="module")
def window():
    """Two bands, 12 x 10 coarse pixels within 30 x 28 of which the blurred image has four samples each."""
    rng = np.random.default_rng(2)
    blurred = np.cumsum(np.cumsum(rng.normal(size=(2, 120, 112)), axis=1), axis=2)
    known = np.ones((120, 112), bool)
    known[:9, :20] = False
    spline = np.stack([spline_filter(band, order=3, mode="mirror") for band in blurred])
    seen = rng.normal(size=(2, 12, 10))
    seen[1, 3:6, 2:5] = np.nan
    return TieWindow(seen, 7, 6, spline, known, (0.125, 0.125), 0.25)


def displacements():
    rng = np.random.default_rng(4)
    return {"same": np.array([0.3, -1.7]), "each": 2 * rng.normal(size=(2, 12, 10)), "beyond": np.array([-8.0, 14.9])}


@pytest.mark.parametrize("at", displacements().values(), ids=displacements())
def test_values_are_those_of_the_spline_and_missing_where_nothing_is_known(window, at):
    rows, cols = np.meshgrid(7.5 + np.arange(12), 6.5 + np.arange(10), indexing="ij")
    row, col = (np.asarray(at).reshape(2, *(at.shape[1:] or (1, 1))) + [rows, cols] - 0.125) / 0.25
    expected = np.stack([map_coordinates(band, [row, col], order=3, prefilter=False, mode="mirror") for band in window.spline])
    below = [np.clip(np.floor(p).astype(int), 0, n - 2) for p, n in zip((row, col), (120, 112), strict=True)]
    known = np.all([window.known[below[0] + i, below[1] + j] for i in (0, 1) for j in (0, 1)], axis=0)
    known &= (row >= 0) & (row <= 119) & (col >= 0) & (col <= 111)
    np.testing.assert_allclose(window.read_off(at), np.where(known, expected, np.nan), rtol=1e-9, atol=1e-9)
    assert 0 < np.isfinite(window.read_off(at)).sum()


def test_slopes_are_how_the_values_change(window):
    at, step = np.array([0.31, -1.73]), 1e-5
    values, *slopes = window.read_off_with_slopes(at)
    np.testing.assert_array_equal(values, window.read_off(at))
    for axis, slope in enumerate(slopes):
        off = step * np.eye(2)[axis]
        expected = (window.read_off(at + off) - window.read_off(at - off)) / (2 * step)
        np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("turn", [0.0, 0.1])
def test_whole_pixels_are_searched_as_one_shift_after_the_other(window, turn):
    slope = np.array([[np.cos(turn) - 1, np.sin(turn)], [-np.sin(turn), np.cos(turn) - 1]])
    start = Field(np.array([10.0, 12.0]), np.zeros(2), slope, np.full(2, np.inf), np.inf, 0)
    found = _whole_pixels_off(window, 2, start)
    for row in range(-2, 3):
        for col in range(-2, 3):
            whole = np.array([row, col])
            there = replace(start, shift=whole + slope @ whole)
            expected = _correlation(window.seen, window.read_off(there.over(window)))
            assert found[row + 2, col + 2] == pytest.approx(float(expected), abs=1e-9)
