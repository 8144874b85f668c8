"""Average the pixels of a scene that is finer than wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError, UsageError
from geofuse.scene import band_metadata, make_scene, scene_transform

if TYPE_CHECKING:
    import xarray as xr

CHUNK = 2048
"""Rows and columns of the fine scene that are averaged together, at most (and at least one block)."""


def average(scene: xr.DataArray, n: int) -> xr.DataArray:
    """Return the means of blocks of ``n`` x ``n`` pixels, as a lazy scene whose pixels are ``n`` times as large.

    A mean is of the pixels that have data, and no data where fewer than half of them have. Rows and columns at the lower and right
    border that do not fill a block are left out.

    Parameters
    ----------
    scene
        A scene (see :mod:`geofuse.scene`), of any grid.
    n
        Pixels along each side of a block, 1 or more.

    Raises
    ------
    UsageError
        If ``n`` is not a whole number of 1 or more.
    InputError
        If the scene is smaller than a block.
    """
    if n != int(n) or n < 1:
        raise UsageError(f"averaging blocks of {n} pixels; give a whole number of 1 or more")
    n = int(n)
    height, width = (size // n for size in scene.shape[1:])
    if not height or not width:
        raise InputError(f"a scene of {scene.shape[2]} x {scene.shape[1]} pixels has no block of {n} x {n}; average fewer pixels")
    if n == 1:
        return scene
    from affine import Affine

    fine = scene.data[:, : height * n, : width * n]
    if not hasattr(fine, "dask"):
        averaged: Any = _average(fine, n)
    else:
        side = max(CHUNK // n, 1) * n
        fine = fine.rechunk({0: fine.chunks[0], 1: side, 2: side})
        sizes = tuple(tuple(size // n for size in along) for along in fine.chunks[1:])
        averaged = fine.map_blocks(
            _average, n, chunks=(fine.chunks[0], *sizes), dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
        )
    t = scene_transform(scene)
    coarser = Affine(t.a * n, t.b * n, t.c, t.d * n, t.e * n, t.f)
    coarse = make_scene(averaged, band_metadata(scene), coarser, scene.rio.crs, scene.attrs)
    return coarse.assign_coords(band=("band", scene["band"].values)) if "band" in scene.coords else coarse


def _average(fine: np.ndarray, n: int) -> np.ndarray:
    """Return the means (band, h / n, w / n), float32."""
    known = np.isfinite(fine)
    count = _sums(known, n, np.int32)
    total = _sums(np.where(known, fine, np.float32(0)), n, np.float64)
    return np.where(2 * count >= n * n, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _sums(values: np.ndarray, n: int, dtype: type) -> np.ndarray:
    """Return the sums of blocks (band, h / n, w / n), first down the columns, which is the faster order."""
    bands, height, width = values.shape
    down = values.reshape(bands, height // n, n, width).sum(axis=2, dtype=dtype)
    return down.reshape(bands, height // n, width // n, n).sum(axis=3)
