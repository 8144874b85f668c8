"""Tiles of one image, side by side on one grid, as one lazy array."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError

if TYPE_CHECKING:
    import xarray as xr
    from affine import Affine

Box = tuple[int, int, int, int]  # row0, row1, column0, column1 in the mosaic


def mosaic(tiles: Sequence[xr.DataArray]) -> tuple[Any, Affine]:
    """Lay tiles side by side; where they overlap the first one counts, where there is none there is no data.

    Nothing is read: every piece of the result is a part of a tile's own lazy array.

    Parameters
    ----------
    tiles
        Scenes with the same bands, CRS and pixel size, whole pixels apart; north-up.

    Returns
    -------
    tuple
        Dask array (band, y, x) and the transform of its pixel corners.

    Raises
    ------
    InputError
        If the tiles do not lie on one grid.
    """
    import dask.array as da
    from affine import Affine

    for tile in tiles:
        _check_alike(tiles[0], tile)
    a, _, _, _, e, _ = tuple(tiles[0].rio.transform())[:6]
    left = min(tile.rio.transform().c for tile in tiles)
    top = max(tile.rio.transform().f for tile in tiles)
    transform = Affine(a, 0, left, 0, e, top)
    boxes = [_box(tile, transform) for tile in tiles]
    rows = sorted({edge for box in boxes for edge in box[:2]})
    columns = sorted({edge for box in boxes for edge in box[2:]})
    pieces = [[_piece(tiles, boxes, (r0, r1, c0, c1)) for c0, c1 in pairwise(columns)] for r0, r1 in pairwise(rows)]
    return da.concatenate([da.concatenate(row, axis=2) for row in pieces], axis=1), transform


def _check_alike(first: xr.DataArray, other: xr.DataArray) -> None:
    t, u = first.rio.transform(), other.rio.transform()
    alike = first.sizes["band"] == other.sizes["band"] and first.rio.crs == other.rio.crs
    if not (alike and np.allclose((t.a, t.b, t.d, t.e), (u.a, u.b, u.d, u.e), rtol=1e-9, atol=0)):
        names = f"{other.attrs['source']} and {first.attrs['source']}"
        raise InputError(f"{names}: tiles that differ in bands, CRS or pixel size; expected those of one image")
    if t.b or t.d or t.a <= 0 or t.e >= 0:
        raise InputError(f"{first.attrs['source']}: a tile that is not north-up; warp the tiles first (gdalwarp)")


def _box(tile: xr.DataArray, transform: Affine) -> Box:
    """Return where a tile lies in the mosaic."""
    own = tile.rio.transform()
    column, row = (own.c - transform.c) / transform.a, (own.f - transform.f) / transform.e
    if abs(column - round(column)) > 0.01 or abs(row - round(row)) > 0.01:
        raise InputError(f"{tile.attrs['source']}: {row:.2f} rows, {column:.2f} columns from the first tile; expected whole pixels")
    row, column = round(row), round(column)
    return row, row + tile.shape[1], column, column + tile.shape[2]


def _piece(tiles: Sequence[xr.DataArray], boxes: Sequence[Box], piece: Box) -> Any:
    """Return the part of the first tile that covers a piece; no data if there is none."""
    import dask.array as da

    r0, r1, c0, c1 = piece
    _, rows, columns = tiles[0].data.chunks
    for tile, (top, bottom, left, right) in zip(tiles, boxes, strict=True):
        if top <= r0 and r1 <= bottom and left <= c0 and c1 <= right:
            return tile.data[:, r0 - top : r1 - top, c0 - left : c1 - left]
    return da.full((tiles[0].sizes["band"], r1 - r0, c1 - c0), np.nan, np.float32, chunks=(-1, rows[0], columns[0]))
