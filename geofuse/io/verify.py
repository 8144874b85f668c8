"""Read a finished image back and hold it against what was written, before anyone else sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geofuse.errors import OutputError
from geofuse.io import tiff
from geofuse.io.bands import read_bands
from geofuse.io.guard import Source, opened
from geofuse.io.output import OutputSpec
from geofuse.io.reader import header_fields
from geofuse.io.storage import read_storage
from geofuse.threads import choose_threads

if TYPE_CHECKING:
    from rasterio import DatasetReader

WINDOW_BYTES = 32 * 2**20


def row_sums(stored: np.ndarray) -> np.ndarray:
    """Return a checksum of each row of stored values (band, n, w): bit patterns added up with a weight a band, modulo 2^64.

    Sums of windows side by side add up to the sum of the row, so the reader may use other windows than the writer did.
    """
    bits = stored.view(f"u{stored.dtype.itemsize}")
    total = np.zeros(stored.shape[1], np.uint64)
    for i, plane in enumerate(bits):
        total += np.uint64(2 * i + 1) * plane.sum(axis=1, dtype=np.uint64)
    return total


def check_complete(path: Path, spec: OutputSpec, driver: str) -> None:
    """Raise if a file lacks some of its blocks: GDAL does not always tell what it could not write when it closes a file.

    Raises
    ------
    OutputError
        If something is missing.
    """
    try:
        if driver == "ENVI":
            complete = path.stat().st_size >= spec.raw_bytes
        else:
            complete = tiff.missing_bytes(path) == 0 and not any((d.block_bytes == 0).any() for d in tiff.directories(path))
    except (tiff.TiffLayoutError, OSError):
        complete = False
    if not complete:
        raise OutputError("the file did not get onto the disk as a whole")


def verify(path: Path, spec: OutputSpec, driver: str, sums: np.ndarray) -> None:
    """Reopen an image and compare its form, its metadata and every value with what should be in it.

    Parameters
    ----------
    path
        The image.
    spec
        Its form.
    driver
        GDAL's name of the driver that reads it, ``"GTiff"`` or ``"ENVI"``.
    sums
        Checksum of each row, (height,) uint64, as of :func:`row_sums`.

    Raises
    ------
    OutputError
        If anything differs.
    InputError
        If the file cannot be read.
    """
    check_complete(path, spec, driver)
    with opened(Source.local(path, driver), check=True, threads=choose_threads().count) as dataset:
        _check_form(dataset, spec)
        found = np.zeros(spec.height, np.uint64)
        for (r0, r1), columns in _windows(dataset):
            found[r0:r1] += row_sums(dataset.read(window=((r0, r1), columns)))
    different = np.flatnonzero(found != sums)
    if different.size:
        raise OutputError(f"{different.size} rows read back differently from what was written (first: row {different[0]})")


def _check_form(dataset: DatasetReader, spec: OutputSpec) -> None:
    """Compare everything but the values."""
    header = header_fields(dataset)
    found = (dataset.height, dataset.width, dataset.count, dataset.dtypes[0], str(dataset.nodata))
    expected = (spec.height, spec.width, len(spec.bands), spec.dtype, str(spec.nodata_value))
    if found != expected:
        raise OutputError(f"the file reads back as {found}; expected {expected}")
    if not dataset.transform.almost_equals(spec.transform, precision=1e-6):
        raise OutputError(f"this format does not keep the grid {tuple(spec.transform)[:6]}; write a COG")
    if spec.crs and dataset.crs is None:
        raise OutputError(f"this format does not keep the CRS {str(spec.crs)[:40]}; write a COG")
    storage = read_storage(dataset, header)
    if not (np.allclose(storage.scale, spec.scale, rtol=1e-9) and np.allclose(storage.offset, spec.offset, rtol=1e-9)):
        found_scale = f"{storage.scale[0]:.10g} and {storage.offset[0]:.10g}"
        raise OutputError(f"scale and offset read back as {found_scale}; expected {spec.scale:.10g} and {spec.offset:.10g}")
    report = read_bands(dataset, header, storage.index)
    same = np.allclose(report.bands.wavelength_nm, spec.bands.wavelength_nm, rtol=0, atol=1e-3, equal_nan=True)
    if report.conflict or not same:
        raise OutputError(f"the wavelengths read back differently ({report.conflict or report.wavelength_source})")


def _windows(dataset: DatasetReader) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield windows ((row0, row1), (column0, column1)) along the blocks of an image, of about 32 MiB."""
    rows, columns = dataset.block_shapes[0]
    itemsize = np.dtype(dataset.dtypes[0]).itemsize
    blocks = max(1, WINDOW_BYTES // (rows * columns * dataset.count * itemsize))
    across = min(blocks, -(-dataset.width // columns))
    height, width = rows * max(1, blocks // across), columns * across
    for r0 in range(0, dataset.height, height):
        for c0 in range(0, dataset.width, width):
            yield (r0, min(r0 + height, dataset.height)), (c0, min(c0 + width, dataset.width))
