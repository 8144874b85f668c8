"""Write an image row by row, so that its final path never holds an unfinished file.

Everything is made in a hidden folder beside the output: first the raw image, then (COG, GeoTIFF) the compressed one. That is
closed, reopened, checked against what was written, flushed to disk and only then renamed. When the writer dies the old output is
as it was, and the next writer of the same path removes what was left behind.

Layout. A COG made by GDAL 3.10 interleaves its bands by pixel, so a block holds all bands; blocks of hyperspectral images are
therefore smaller than GDAL's usual 512 pixels, 128 at the least: a spectrum costs one block of a few MiB, and viewers draw from
the overviews. GeoTIFF (``driver="GTiff"``) interleaves by band in 256-pixel blocks, for software that reads band after band.
ENVI is written line-interleaved (BIL).
"""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import GeofuseError, InputError, OutputError, UsageError
from geofuse.io import gdal_log, metadata
from geofuse.io.output import OutputSpec, check_output_path, encode
from geofuse.io.publish import publish, remove_leftovers, working_folder
from geofuse.io.verify import check_complete, row_sums, verify

if TYPE_CHECKING:
    from typing import Self

    from rasterio.io import DatasetWriter

DRIVERS = ("COG", "GTiff", "ENVI")
MAX_BLOCK_BYTES = 8 * 2**20


def block_size(spec: OutputSpec) -> int:
    """Return the side of a block in pixels: 512 or 256 where all bands take 8 MiB at most, else 128 (GDAL's least for COG)."""
    pixel = len(spec.bands) * np.dtype(spec.dtype).itemsize
    return next((side for side in (512, 256) if side * side * pixel <= MAX_BLOCK_BYTES), 128)


def open_sink(path: str | os.PathLike[str], spec: OutputSpec, *, driver: str = "COG") -> RasterSink:
    """Return a sink for an image; use it in a ``with`` statement.

    Parameters
    ----------
    path
        Where the image appears after a clean exit. For ENVI the data file; its header gets the suffix ``.hdr``.
    spec
        The form of the image.
    driver
        ``"COG"``, ``"GTiff"`` or ``"ENVI"``.

    Raises
    ------
    UsageError
        If the driver is unknown.
    OutputError
        If nothing can be written there, or the disk has too little space.
    """
    if driver not in DRIVERS:
        raise UsageError(f"output driver {driver!r}; expected one of {', '.join(DRIVERS)}")
    check_output_path(path)
    return RasterSink(Path(path), spec, driver)


class RasterSink:
    """Takes the rows of an image and makes them appear at ``path`` as a whole, or not at all."""

    def __init__(self, path: Path, spec: OutputSpec, driver: str) -> None:
        """Prepare to write; see :func:`open_sink`."""
        self.path = path
        self.spec = spec
        self.driver = driver
        self._final = Path(os.path.realpath(path))
        self._work = working_folder(self._final)
        self._body = self._work / (self._final.name if driver == "ENVI" else "body.tif")
        self._dataset: DatasetWriter | None = None
        self._written = np.zeros(spec.height, bool)
        self._sums = np.zeros(spec.height, np.uint64)
        if driver == "ENVI":
            self._check_header_free()

    @property
    def _read_driver(self) -> str:
        return "ENVI" if self.driver == "ENVI" else "GTiff"

    @property
    def block_rows(self) -> int:
        """Rows in a block of the raw image: writing whole multiples at multiples of it is fastest."""
        return 1 if self.driver == "ENVI" else block_size(self.spec)

    @property
    def _body_bytes(self) -> int:
        """Size of the raw image, whose blocks are filled up at the right and lower borders."""
        spec, side = self.spec, 1 if self.driver == "ENVI" else block_size(self.spec)
        return spec.raw_bytes // (spec.height * spec.width) * math.prod(-(-n // side) * side for n in (spec.height, spec.width))

    def __enter__(self) -> Self:
        """Create the raw image beside the output."""
        remove_leftovers(self._final)
        folder = self._final.parent
        free = shutil.disk_usage(folder).free
        if free < self._body_bytes:
            needed = f"{self._body_bytes / 1e6:.4g} MB, but {folder} has {free / 1e6:.4g} MB free"
            raise OutputError(f"{self.path}: making the output takes at least {needed}; make room or write elsewhere")
        try:
            with self._errors(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an image without a grid is written without one
                self._work.mkdir()
                self._dataset = self._create()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish the image and put it in its place, or discard everything if the block raised."""
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def write(self, rows: np.ndarray, row_offset: int) -> None:
        """Write whole rows, each once, in any order, from one thread at a time.

        Parameters
        ----------
        rows
            Array (band, n, width), float32 in physical units, NaN where there is no data.
        row_offset
            Row of the image at which they begin.

        Raises
        ------
        InputError
            If the rows are not of the image's form, or were written before.
        OutputError
            If they cannot be written.
        """
        n_bands, width = len(self.spec.bands), self.spec.width
        n = rows.shape[1] if rows.ndim == 3 else 0
        if self._dataset is None:
            raise InputError(f"{self.path}: rows come outside the 'with' block of the sink")
        if rows.shape != (n_bands, n, width) or not 0 <= row_offset <= self.spec.height - n:
            expected = f"({n_bands}, n, {width}) within {self.spec.height} rows"
            raise InputError(f"{self.path}: rows of shape {rows.shape} at row {row_offset}; expected {expected}")
        if self._written[row_offset : row_offset + n].any():
            raise InputError(f"{self.path}: rows {row_offset}-{row_offset + n - 1} come a second time; write each row once")
        if n == 0:
            return
        stored = encode(rows, self.spec)
        with self._errors():
            self._dataset.write(stored, window=((row_offset, row_offset + n), (0, width)))
        self._written[row_offset : row_offset + n] = True
        self._sums[row_offset : row_offset + n] = row_sums(stored)

    def _create(self) -> DatasetWriter:
        import rasterio

        spec = self.spec
        profile: dict[str, Any] = {
            "height": spec.height,
            "width": spec.width,
            "count": len(spec.bands),
            "dtype": spec.dtype,
            "nodata": spec.nodata_value,
            "crs": spec.crs,
            "transform": spec.transform,
        }
        if self.driver == "ENVI":
            return rasterio.open(self._body, "w", driver="ENVI", interleave="bil", **profile)
        side = block_size(spec)
        layout = {"tiled": True, "blockxsize": side, "blockysize": side, "interleave": "pixel", "bigtiff": "IF_SAFER"}
        dataset = rasterio.open(self._body, "w", driver="GTiff", photometric="MINISBLACK", **layout, **profile)
        metadata.write_tags(dataset, spec)
        return dataset

    def _finish(self) -> None:
        """Turn the raw image into the final one, verify it and rename it."""
        absent = np.flatnonzero(~self._written)
        if absent.size:
            raise OutputError(f"{self.path}: {absent.size} of {self.spec.height} rows were never written (first: row {absent[0]})")
        with self._errors():
            dataset, self._dataset = self._dataset, None
            if dataset is not None:
                dataset.close()
            check_complete(self._body, self.spec, self._read_driver)
            files = self._convert()
            verify(next(iter(files)), self.spec, self._read_driver, self._sums)
            publish(files, self._work)

    def _convert(self) -> dict[Path, Path]:
        """Make the final files in the working folder; return where each of them belongs, the image first."""
        import rasterio.shutil

        if self.driver == "ENVI":
            header = self._body.with_suffix(".hdr")
            metadata.complete_header(header, self.spec)
            self._body.with_name(self._body.name + ".aux.xml").unlink(missing_ok=True)
            return {self._body: self._final, header: self._final.with_suffix(".hdr")}
        made = self._work / "image.tif"
        options = {"compress": "DEFLATE", "bigtiff": "IF_SAFER", "num_threads": "ALL_CPUS"}
        if self.driver == "COG":
            options |= {"predictor": "YES", "blocksize": str(block_size(self.spec)), "overview_resampling": "AVERAGE"}
        else:
            predictor = "2" if self.spec.is_integer else "3"
            options |= {"predictor": predictor, "tiled": "YES", "interleave": "BAND", "photometric": "MINISBLACK"}
        rasterio.shutil.copy(self._body, made, driver=self.driver, **options)
        return {made: self._final}

    def _check_header_free(self) -> None:
        """Refuse an ENVI output whose header would replace that of another image."""
        header = self._final.with_suffix(".hdr")
        if header == self._final:
            raise OutputError(f"{self.path}: name the ENVI data file, not its header")
        if header.exists() and not self._final.exists():
            raise OutputError(f"{self.path}: {header.name} in that folder belongs to another image; choose another name")

    def _discard(self) -> None:
        """Close and remove everything that is not finished."""
        if self._dataset is not None:
            with suppress(Exception):  # the files go anyway
                self._dataset.close()
            self._dataset = None
        shutil.rmtree(self._work, ignore_errors=True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn any failure to write into one :class:`OutputError` that says how much space is left."""
        from rasterio._err import CPLE_BaseError
        from rasterio.errors import RasterioError

        with gdal_log.collected() as messages:
            try:
                yield
            except (RasterioError, CPLE_BaseError, OSError, GeofuseError) as error:
                folder = self._final.parent
                free = shutil.disk_usage(folder).free
                raise OutputError(
                    f"{self.path}: cannot be written ({gdal_log.cause(error, messages)}); {folder} has {free / 1e6:.4g} MB free: "
                    "make room or write elsewhere; what stood there before is untouched"
                ) from error
