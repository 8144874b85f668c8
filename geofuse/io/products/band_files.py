"""Products that keep each band in a file of its own: lazy arrays in physical units on one grid."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError
from geofuse.io.reader import chunk_sizes, open_scene
from geofuse.scene import BandMetadata, make_scene

if TYPE_CHECKING:
    import xarray as xr

CHUNK = 1024
"""Rows and columns of a chunk; the JPEG 2000 tiles of Sentinel-2 are as large, and each is decoded once."""


def one_file(folder: Path, pattern: str) -> Path | None:
    """Return the file in ``folder`` that matches a glob pattern, or None.

    Raises
    ------
    InputError
        If several do.
    """
    found = sorted(p for p in folder.glob(pattern) if p.is_file())
    if len(found) > 1:
        raise InputError(
            f"{folder}: {len(found)} files match {pattern} ({found[0].name}, {found[1].name}); expected one product in it"
        )
    return found[0] if found else None


def open_band(path: Path, *, chunk: int = CHUNK) -> xr.DataArray:
    """Open a file that holds one band; its stored values as float32.

    Raises
    ------
    InputError
        If it holds several.
    """
    scene = open_scene(path, chunks=(1, chunk, chunk))
    if scene.sizes["band"] != 1:
        raise InputError(f"{path}: {scene.sizes['band']} bands; expected one, as this product keeps a file a band")
    return scene


def physical(stored: Any, scale: float, offset: float, nodata: Collection[float]) -> Any:
    """Return ``stored * scale + offset`` lazily, NaN where the stored value is in ``nodata``; float32, same shape."""
    return stored.map_blocks(_physical, np.float32(scale), np.float32(offset), tuple(nodata), dtype=np.float32)


def _physical(stored: np.ndarray, scale: np.float32, offset: np.float32, nodata: tuple[float, ...]) -> np.ndarray:
    return np.where(np.isin(stored, nodata), np.float32(np.nan), stored * scale + offset)


def masked(data: Any, mask: Any) -> Any:
    """Return ``data`` (band, y, x) lazily with NaN where ``mask`` (1, y, x), bool, is True."""
    import dask.array as da

    return da.where(mask.rechunk({1: data.chunks[1], 2: data.chunks[2]}), np.float32(np.nan), data)


def twice_as_fine(data: Any) -> Any:
    """Return (band, y, x) on a grid of half the pixel size, by bilinear interpolation; lazy.

    A pixel without data stays without, and its neighbours are interpolated from those that have data: nothing leaks.
    """
    return data.map_overlap(
        _twice_as_fine,
        depth={0: 0, 1: 1, 2: 1},
        boundary={0: "none", 1: np.nan, 2: np.nan},
        trim=False,
        chunks=(data.chunks[0], *(tuple(2 * n for n in sizes) for sizes in data.chunks[1:])),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )


def _twice_as_fine(padded: np.ndarray) -> np.ndarray:
    """Interpolate a block that has one more pixel on each side: weights 3/4 and 1/4 along each axis."""
    known = np.isfinite(padded)
    sums = [np.where(known, padded, np.float32(0)), known.astype(np.float32)]
    for axis in (1, 2):
        sums = [_interleave(values, axis) for values in sums]
    total, weight = sums
    own = known[:, 1:-1, 1:-1].repeat(2, axis=1).repeat(2, axis=2)
    return np.where(own, total / np.where(own, weight, 1), np.float32(np.nan)).astype(np.float32)


def _interleave(values: np.ndarray, axis: int) -> np.ndarray:
    moved = np.moveaxis(values, axis, -1)
    centre = np.float32(0.75) * moved[..., 1:-1]
    both = np.stack([centre + np.float32(0.25) * moved[..., :-2], centre + np.float32(0.25) * moved[..., 2:]], axis=-1)
    return np.moveaxis(both.reshape(*both.shape[:-2], -1), -1, axis)


def check_same_grid(first: xr.DataArray, other: xr.DataArray, *, factor: int = 1) -> None:
    """Refuse a band whose grid is not that of the first, coarser by a whole ``factor``.

    Raises
    ------
    InputError
        If size, CRS or geotransform differ.
    """
    shape = tuple(factor * n for n in other.shape[1:])
    if (
        shape == first.shape[1:]
        and first.rio.crs == other.rio.crs
        and np.allclose(_corners(other, 1), _corners(first, factor), rtol=1e-9, atol=1e-6)
    ):
        return
    name, reference = other.attrs["source"], Path(first.attrs["source"]).name
    raise InputError(f"{name}: not on the grid of {reference}, as the bands of one product are; download the product again")


def _corners(scene: xr.DataArray, factor: int) -> tuple[float, ...]:
    """Return the geotransform (a to f) of a grid that is coarser than the scene's by ``factor``."""
    t = scene.rio.transform()
    return t.a * factor, t.b * factor, t.c, t.d * factor, t.e * factor, t.f


def assemble(first: xr.DataArray, data: Sequence[Any], bands: BandMetadata, chunks: Any, attrs: Mapping[str, Any]) -> xr.DataArray:
    """Stack lazy arrays (1, y, x) to a scene on the grid of ``first``; ``chunks`` as for :func:`geofuse.io.open_scene`."""
    import dask.array as da

    stacked = da.concatenate(list(data), axis=0)
    scene = make_scene(stacked, bands, first.rio.transform(), first.rio.crs, attrs)
    return rechunked(scene, chunks)


def rechunked(scene: xr.DataArray, chunks: Any) -> xr.DataArray:
    """Return the scene in chunks as :func:`geofuse.io.open_scene` takes them; None gives all bands in windows as they are.

    Raises
    ------
    InputError
        If they do not fit the scene.
    """
    layout = {0: -1} if chunks is None else chunk_sizes(chunks, scene.shape, (CHUNK, CHUNK))
    return scene.copy(data=scene.data.rechunk(layout))


def product_attributes(
    path: Path, title: str, notes: Sequence[str], files: Sequence[Path], stored: tuple[str, float, float, float | None]
) -> dict[str, Any]:
    """Return the attributes of a product's scene; ``stored`` is (dtype, scale, offset, nodata) of its files."""
    names = ("stored_dtype", "stored_scale", "stored_offset", "stored_nodata")
    return {
        **dict(zip(names, stored, strict=True)),
        "source": os.fspath(path),
        "product": title,
        "notes": list(notes),
        "files": [os.fspath(file) for file in files],
    }
