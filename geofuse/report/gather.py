"""Read chosen pixels of a scene in one pass over its chunks, so that memory depends on what is chosen and not on the scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Request:
    """What to take from a scene.

    Attributes
    ----------
    rows, cols
        (h, w) int positions; -1 where there is none.
    bands
        (n,) int positions of bands.
    convert
        Makes stored values of physical ones, (n, pixels) float32 to the same shape; None keeps them.
    dtype, missing
        Type of the result, and what it holds where there is no pixel.
    """

    rows: np.ndarray
    cols: np.ndarray
    bands: np.ndarray
    convert: Callable[[np.ndarray], np.ndarray] | None = None
    dtype: Any = np.float32
    missing: float = np.nan


def windows(scene: xr.DataArray) -> Iterator[tuple[slice, slice]]:
    """Iterate over the chunks of a scene as (rows, columns); a scene in memory is one window."""
    rows, cols = (scene.chunks[1], scene.chunks[2]) if scene.chunks else ((scene.sizes["y"],), (scene.sizes["x"],))
    row_edges, col_edges = (np.concatenate([[0], np.cumsum(sizes)]) for sizes in (rows, cols))
    for r0, r1 in zip(row_edges[:-1], row_edges[1:], strict=True):
        for c0, c1 in zip(col_edges[:-1], col_edges[1:], strict=True):
            yield slice(int(r0), int(r1)), slice(int(c0), int(c1))


def gather(scene: xr.DataArray, requests: Sequence[Request]) -> list[np.ndarray]:
    """Take the pixels of every request, each an array (n, h, w); chunks that hold none of them are not read."""
    results = [np.full((len(r.bands), *r.rows.shape), r.missing, r.dtype) for r in requests]
    places = [_by_row(request) for request in requests]
    for rows, cols in windows(scene):
        wanted = [_inside(place, rows, cols) for place in places]
        if not any(len(flat) for flat in wanted):
            continue
        block = np.asarray(scene.data[:, rows, cols])
        for request, result, flat in zip(requests, results, wanted, strict=True):
            if len(flat):
                values = block[:, request.rows.flat[flat] - rows.start, request.cols.flat[flat] - cols.start][request.bands]
                result.reshape(len(result), -1)[:, flat] = request.convert(values) if request.convert else values
    return results


@dataclass(frozen=True)
class _Places:
    """The pixels of a request sorted by row: flat positions in the request, their rows and columns."""

    flat: np.ndarray
    rows: np.ndarray
    cols: np.ndarray


def _by_row(request: Request) -> _Places:
    flat = np.flatnonzero(request.rows.ravel() >= 0)
    flat = flat[np.argsort(request.rows.flat[flat], kind="stable")]
    return _Places(flat, request.rows.flat[flat], request.cols.flat[flat])


def _inside(places: _Places, rows: slice, cols: slice) -> np.ndarray:
    """Return the flat positions of the pixels inside a window."""
    first, last = np.searchsorted(places.rows, [rows.start, rows.stop])
    here = places.cols[first:last]
    return places.flat[first:last][(here >= cols.start) & (here < cols.stop)]
