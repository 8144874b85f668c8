"""Write a scene to a file, strip by strip."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from geofuse.io.output import OutputSpec, default_nodata
from geofuse.io.sink import open_sink
from geofuse.scene import band_metadata, provenance_of, scene_transform

if TYPE_CHECKING:
    import xarray as xr


def write_scene(
    scene: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    tags: Mapping[str, str] | None = None,
    driver: str | None = None,
) -> None:
    """Compute a scene strip by strip and write it; memory depends on the height of its chunks, not on that of the scene.

    Parameters
    ----------
    scene
        See :mod:`geofuse.scene`.
    path
        Where the image appears when it is complete.
    dtype, scale, offset, nodata
        The stored form. By default that of the file the scene came from (its ``stored_*`` attributes), or float32; with another
        ``dtype``, scale 1, offset 0 and the no-data value of :func:`~geofuse.io.output.default_nodata`.
    tags
        Dataset tags, added to the scene's own (:func:`~geofuse.scene.provenance_of`).
    driver
        ``"COG"``, ``"GTiff"``, ``"ENVI"`` or ``"Zarr"``; None for Zarr where the name ends in ``.zarr``, else COG.

    Raises
    ------
    UsageError
        If the stored form is not possible.
    OutputError
        If it cannot be written.
    """
    spec = OutputSpec(
        height=scene.sizes["y"],
        width=scene.sizes["x"],
        bands=band_metadata(scene),
        transform=scene_transform(scene),
        crs=scene.rio.crs,
        tags={**provenance_of(scene.attrs), **(tags or {})},
        **stored_form(scene, dtype, scale, offset, nodata),
    )
    with open_sink(path, spec, driver=driver) as sink:
        for start, stop in row_strips(scene, sink.block_rows):
            sink.write(np.asarray(scene.isel(y=slice(start, stop)).data), start)


def stored_form(
    scene: xr.DataArray, dtype: str | None, scale: float | None, offset: float | None, nodata: float | None
) -> dict[str, str | float]:
    """Return dtype, scale, offset and nodata for writing a scene: what is given, else what the scene's file had."""
    attrs = scene.attrs
    own = dtype is None or dtype == attrs.get("stored_dtype")
    dtype = dtype or attrs.get("stored_dtype", "float32")
    if scale is None:
        scale = attrs.get("stored_scale", 1.0) if own else 1.0
    if offset is None:
        offset = attrs.get("stored_offset", 0.0) if own else 0.0
    if nodata is None:
        nodata = attrs.get("stored_nodata") if own else None
        nodata = default_nodata(dtype) if nodata is None else nodata
    return {"dtype": str(dtype), "scale": float(scale), "offset": float(offset), "nodata": float(nodata)}


def row_strips(scene: xr.DataArray, block_rows: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) rows that follow the scene's chunks, small chunks joined to ``block_rows`` or more."""
    if scene.chunks is None:
        n = max(block_rows, 256)
        heights: tuple[int, ...] = (n,) * -(-scene.sizes["y"] // n)
    else:
        heights = scene.chunksizes["y"]
    start = stop = 0
    for height in heights:
        stop = min(stop + height, scene.sizes["y"])
        if stop - start >= block_rows:
            yield start, stop
            start = stop
    if stop > start:
        yield start, stop
