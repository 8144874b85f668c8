"""Write an image as a Zarr store, version 3, with CF metadata that xarray and rioxarray read without being told anything.

Layout. A chunk is 256 x 256 pixels of as many bands as fit in 4 MiB (32 of int16, 16 of float32). Bands are split because a map of
one band would otherwise cost the whole file: overviews, a COG's way out, are not part of the format. They are not split further
because a spectrum costs one chunk for each part. 256 rows are also what a writer that gets rows must hold back until a row of
chunks is whole. Each chunk is compressed and written once, those of a window side by side in threads. Chunks are not put together
in shards, which GDAL reads only since 3.13. Compression is Blosc with zstd and shuffled bytes: part of the standard, without loss.
"""

from __future__ import annotations

import os
import shutil
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import GeofuseError, OutputError
from geofuse.io.output import OutputSpec
from geofuse.io.publish import publish_folder
from geofuse.io.verify import row_sums
from geofuse.io.zarr_reader import COMPLETE, read_image
from geofuse.io.zarr_store import missing_chunks, require_whole_chunks
from geofuse.scene import make_scene

if TYPE_CHECKING:
    import xarray as xr
    import zarr

NAME = "image"
SIDE = 256  # pixels
CHUNK_BYTES = 4 * 2**20


def chunk_shape(spec: OutputSpec) -> tuple[int, int, int]:
    """Return the shape (band, y, x) of a chunk."""
    rows, columns = min(SIDE, spec.height), min(SIDE, spec.width)
    bands = CHUNK_BYTES // (rows * columns * np.dtype(spec.dtype).itemsize)
    return max(1, min(bands, len(spec.bands))), rows, columns


class ZarrBody:
    """An unfinished Zarr store; see :class:`geofuse.io.bodies.Body`."""

    failures: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError, GeofuseError)  # zarr has no class of its own
    least_bytes = 0  # what is compressed may be of any size

    def __init__(self, work: Path, final: Path, spec: OutputSpec) -> None:
        """Choose the layout; nothing is written yet."""
        self._work, self._final, self._spec = work, final, spec
        self._made = work / final.name

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of a chunk."""
        return chunk_shape(self._spec)[1:]

    def begin(self) -> None:
        """Write everything but the values, unless an earlier process did."""
        import zarr

        if not self._made.exists():
            new = self._work / "new.zarr"
            shutil.rmtree(new, ignore_errors=True)
            blosc = zarr.codecs.BloscCodec(cname="zstd", clevel=5, shuffle="shuffle")
            layout = {"chunks": chunk_shape(self._spec), "compressors": (blosc,), "grid_mapping": "spatial_ref"}
            encoding = {NAME: {**layout, **_packing(self._spec)}}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # consolidated metadata are no part of the standard yet; xarray warns without them
                _template(self._spec).to_zarr(new, mode="w-", compute=False, encoding=encoding, consolidated=True, zarr_format=3)
            os.replace(new, self._made)
        self._array = self._open("r+")

    def store(self, stored: np.ndarray, row: int, col: int) -> dict[str, Any]:
        """Compress and write the chunks of a window."""
        self._array[:, row : row + stored.shape[1], col : col + stored.shape[2]] = stored
        return {"crc": zlib.crc32(np.ascontiguousarray(stored))}

    def restore(self, window: tuple[int, int, int, int], receipt: Mapping[str, Any]) -> bool:
        """Check that the values of a window are as they were written."""
        row, col, height, width = window
        part = (slice(0, len(self._spec.bands)), slice(row, row + height), slice(col, col + width))
        try:
            require_whole_chunks(self._array, self._made / NAME, part)
            found = np.asarray(self._array[part])
        except self.failures:  # a chunk that is not whole
            return False
        return zlib.crc32(np.ascontiguousarray(found)) == receipt["crc"]

    def finish(self, sums: np.ndarray) -> None:
        """Verify the store and rename it into place."""
        self._verify_form()
        array = self._open("r")
        for row in range(0, self._spec.height, self.block[0]):
            stop = min(row + self.block[0], self._spec.height)
            different = np.flatnonzero(row_sums(np.asarray(array[:, row:stop, :])) != sums[row:stop])
            if different.size:
                count = f"{different.size} rows read back differently from what was written"
                raise OutputError(f"{count} (first: row {row + different[0]})")
        publish_folder(self._made, self._final, self._work)

    def _open(self, mode: str) -> zarr.Array:
        import zarr

        return zarr.open_array(self._made, path=NAME, mode=mode, zarr_format=3, config={"write_empty_chunks": True})

    def _verify_form(self) -> None:
        """Open the store as any reader would and compare form and metadata with what was asked for."""
        spec, image = self._spec, read_image(self._made)
        stored = image.storage
        found = (image.shape, stored.dtype, str(stored.nodata[0]), missing_chunks(image.store, NAME, self._open("r")))
        expected = ((len(spec.bands), spec.height, spec.width), spec.dtype, str(spec.nodata_value), 0)
        if found != expected:
            raise OutputError(f"the store reads back as {found} (shape, type, no data, missing chunks); expected {expected}")
        if not image.transform.almost_equals(spec.transform, precision=1e-6) or bool(spec.crs) != bool(image.crs):
            raise OutputError(f"the store does not keep the grid {tuple(spec.transform)[:6]} and its CRS; write a COG")
        if (stored.scale[0], stored.offset[0]) != (spec.scale, spec.offset):
            raise OutputError(f"scale and offset read back as {stored.scale[0]:.10g} and {stored.offset[0]:.10g}")
        if not np.array_equal(image.bands.wavelength_nm, spec.bands.wavelength_nm, equal_nan=True):
            raise OutputError("the wavelengths read back differently")


def _template(spec: OutputSpec) -> xr.Dataset:
    """Return the dataset to be, without values: coordinates, grid mapping and attributes."""
    import dask.array as da

    values = da.zeros((len(spec.bands), spec.height, spec.width), dtype=np.float32, chunks=chunk_shape(spec))
    scene = make_scene(values, spec.bands, spec.transform, spec.crs, {"long_name": "image", COMPLETE: 1})
    scene.encoding.pop("grid_mapping", None)
    contents = scene.rename(NAME).to_dataset()
    contents["fwhm"].attrs["long_name"] = "full width at half maximum of the spectral response"
    contents["good_band"].attrs["long_name"] = "whether the band is good to use"
    return contents.assign_attrs({"Conventions": "CF-1.11", **dict(sorted(spec.tags.items()))})


def _packing(spec: OutputSpec) -> Mapping[str, Any]:
    """Return the CF packing as xarray's encoding: value = stored * scale_factor + add_offset, no data at _FillValue."""
    packing: dict[str, Any] = {"dtype": spec.dtype}
    if (spec.scale, spec.offset) != (1.0, 0.0):
        packing |= {"scale_factor": spec.scale, "add_offset": spec.offset}
    if spec.nodata_value is not None:
        fill = np.dtype(spec.dtype).type(spec.nodata_value)
        packing |= {"_FillValue": fill, "fill_value": fill}
    return packing
