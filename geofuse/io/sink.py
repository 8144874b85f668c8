"""Write an image window by window, so that its final path never holds an unfinished file.

Everything is made in a hidden folder beside the output. A TIFF's blocks are compressed once, as they come, and put together at the
end (:mod:`tiff_blocks`, :mod:`tiff_assembly`); ENVI is written in place. The finished file is closed, reopened, checked against
what was written, flushed to disk and only then renamed. When the writer dies the old output is as it was, and the next writer of
the same path removes what was left behind.

Layout. A COG's bands are interleaved by pixel, so a block holds all bands; blocks of hyperspectral images are therefore smaller
than GDAL's usual 512 pixels, 128 at the least: a spectrum costs one block of a few MiB, and viewers draw from the overviews.
GeoTIFF (``driver="GTiff"``) interleaves by band in 256-pixel blocks, for software that reads band after band. ENVI is written
line-interleaved (BIL). For Zarr see :mod:`geofuse.io.zarr_sink`.
"""

from __future__ import annotations

import base64
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError, OutputError, UsageError
from geofuse.io import gdal_log
from geofuse.io.bodies import Body, CogBody, EnviBody, TiffBody, block_size
from geofuse.io.output import OutputSpec, check_output_path, encode
from geofuse.io.publish import remove_leftovers, working_folder
from geofuse.io.verify import row_sums
from geofuse.io.zarr_sink import ZarrBody
from geofuse.io.zarr_store import SUFFIX, require_zarr

if TYPE_CHECKING:
    from typing import Self

_OTHER_FORMATS = frozenset(
    ".nc .nc4 .h5 .he5 .hdf .hdf5 .jp2 .jpg .jpeg .png .vrt .img .dat .hdr .bsq .bil .bip .npy .npz .mat .csv".split()
)
DRIVERS: dict[str, type[Body]] = {"COG": CogBody, "GTiff": TiffBody, "ENVI": EnviBody, "Zarr": ZarrBody}

__all__ = ["DRIVERS", "RasterSink", "block_size", "choose_driver", "open_sink"]


def choose_driver(path: str | os.PathLike[str], driver: str | None = None) -> str:
    """Return the driver for an output: the one given, else Zarr for a name that ends in ``.zarr`` and COG for any other.

    Raises
    ------
    UsageError
        If the driver is unknown, or does not fit the name: a Zarr store's ends in ``.zarr``, and no other's does. If none is
        given and the name ends like that of another format.
    OutputError
        If the output is to be Zarr and that is not installed.
    """
    suffix = Path(path).suffix.lower()
    is_zarr = suffix == SUFFIX
    if driver is None and suffix in _OTHER_FORMATS:
        remedy = f"end it in .tif or {SUFFIX}, or say the driver, such as ENVI"
        raise UsageError(f"output {os.fspath(path)}: {suffix} says neither GeoTIFF nor Zarr; {remedy}")
    chosen = driver or ("Zarr" if is_zarr else "COG")
    if chosen not in DRIVERS:
        raise UsageError(f"output driver {driver!r}; expected one of {', '.join(DRIVERS)}")
    if (chosen == "Zarr") != is_zarr:
        raise UsageError(
            f"output {os.fspath(path)} with driver {chosen}: a Zarr store's name ends in {SUFFIX}, and no other's does"
        )
    if is_zarr:
        try:
            require_zarr(path)
        except InputError as error:
            raise OutputError(str(error)) from None
    return chosen


def open_sink(path: str | os.PathLike[str], spec: OutputSpec, *, driver: str | None = None, work: Path | None = None) -> RasterSink:
    """Return a sink for an image; use it in a ``with`` statement.

    Parameters
    ----------
    path
        Where the image appears after a clean exit. For ENVI the data file; its header gets the suffix ``.hdr``. For Zarr a
        folder.
    spec
        The form of the image.
    driver
        ``"COG"``, ``"GTiff"``, ``"ENVI"`` or ``"Zarr"``; None as for :func:`choose_driver`.
    work
        Folder on the same disk that is the caller's: what is unfinished lies there and stays when the ``with`` block raises, so
        that :meth:`RasterSink.restore` can go on from it. None: a hidden folder that goes in any case.

    Raises
    ------
    UsageError
        If the driver is unknown or does not fit the name.
    OutputError
        If nothing can be written there, or the disk has too little space.
    """
    driver = choose_driver(path, driver)
    check_output_path(path)
    return RasterSink(Path(path), spec, driver, work)


class RasterSink:
    """Takes the windows of an image and makes them appear at ``path`` as a whole, or not at all."""

    def __init__(self, path: Path, spec: OutputSpec, driver: str, work: Path | None = None) -> None:
        """Prepare to write; see :func:`open_sink`."""
        self.path = path
        self.spec = spec
        self.driver = driver
        self._final = Path(os.path.realpath(path))
        self._own_folder = work is None
        self._work = work or working_folder(self._final)
        self._body = DRIVERS[driver](self._work, self._final, spec)
        self._is_open = False
        self._lock = threading.Lock()
        self._partial: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # block row -> stored values so far, which pixels those are
        self._sums = np.zeros(spec.height, np.uint64)
        down, across = (-(-size // side) for size, side in zip((spec.height, spec.width), self.block, strict=True))
        self._done = np.zeros((down, across), bool)

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of a block: windows that begin and end at multiples of them, or at the border, are written at once."""
        return self._body.block

    @property
    def block_rows(self) -> int:
        """Rows of a block."""
        return self.block[0]

    def __enter__(self) -> Self:
        """Create the working folder beside the output."""
        if self._own_folder:
            remove_leftovers(self._final)
        folder = self._final.parent
        free, needed = shutil.disk_usage(folder).free, self._body.least_bytes
        if free < needed:
            lacks = f"{needed / 1e6:.4g} MB, but {folder} has {free / 1e6:.4g} MB free"
            raise OutputError(f"{self.path}: making the output takes at least {lacks}; make room or write elsewhere")
        try:
            with self._errors():
                if self._own_folder:
                    self._work.mkdir()
                self._body.begin()
        except BaseException:
            self._discard()
            raise
        self._is_open = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish the image and put it in its place, or discard what is unfinished if the block raised."""
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def write(self, values: np.ndarray, row_offset: int, col_offset: int = 0) -> dict[str, Any] | None:
        """Write a window, each pixel once, in any order; windows of whole blocks also from several threads at a time.

        Parameters
        ----------
        values
            Array (band, h, w), float32 in physical units, NaN where there is no data; or what has its ``shape`` and ``ndim`` and
            gives one band (h, w) after the other when iterated over.
        row_offset, col_offset
            Where in the image it begins.

        Returns
        -------
        dict or None
            Receipt of a window of whole blocks, plain JSON types, for :meth:`restore`; None for other windows, which wait in
            memory, whole block rows of them, until their blocks are complete.

        Raises
        ------
        InputError
            If the window is not within the image, or part of it was written before.
        OutputError
            If it cannot be written.
        """
        self._check_window(values, row_offset, col_offset)
        if 0 in values.shape:
            return None
        stored = encode(values, self.spec)
        window = (row_offset, col_offset, *stored.shape[1:])
        if not self._is_whole(window):
            self._keep(stored, row_offset, col_offset)
            return None
        return self._store(stored, window)

    def restore(self, row: int, col: int, height: int, width: int, receipt: Mapping[str, Any]) -> bool:
        """Take back a window that an earlier process wrote into the same working folder.

        Returns False, and counts the window as not written, if it is not there as the receipt says.
        """
        window = (row, col, height, width)
        with self._errors():
            if not self._is_whole(window) or not self._body.restore(window, receipt):
                return False
        self._note(window, np.frombuffer(base64.b64decode(receipt["sums"]), np.uint64))
        return True

    def forget(self, row: int, col: int, height: int, width: int, receipt: Mapping[str, Any]) -> None:
        """Undo :meth:`restore`: count a window that was taken back as not written."""
        window = (row, col, height, width)
        self._sums[row : row + height] -= np.frombuffer(base64.b64decode(receipt["sums"]), np.uint64)
        self._done[self._blocks_of(window)] = False

    def _store(self, stored: np.ndarray, window: tuple[int, int, int, int]) -> dict[str, Any]:
        with self._errors():
            receipt = self._body.store(stored, *window[:2])
        sums = row_sums(stored)
        self._note(window, sums)
        return {**receipt, "sums": base64.b64encode(sums.tobytes()).decode()}

    def _note(self, window: tuple[int, int, int, int], sums: np.ndarray) -> None:
        """Count a window of whole blocks as written."""
        with self._lock:
            self._sums[window[0] : window[0] + window[2]] += sums
            self._done[self._blocks_of(window)] = True

    def _keep(self, stored: np.ndarray, row_offset: int, col_offset: int) -> None:
        """Keep a window in memory; store each block row that it completes."""
        n_rows, n_cols, side = stored.shape[1], stored.shape[2], self.block[0]
        for i in range(row_offset // side, -(-(row_offset + n_rows) // side)):
            top, height = i * side, min(side, self.spec.height - i * side)
            if i not in self._partial:
                shape = (height, self.spec.width)
                self._partial[i] = np.empty((len(stored), *shape), self.spec.dtype), np.zeros(shape, bool)
            kept, filled = self._partial[i]
            first, last = max(row_offset, top), min(row_offset + n_rows, top + height)
            into = np.s_[first - top : last - top, col_offset : col_offset + n_cols]
            kept[:, *into] = stored[:, first - row_offset : last - row_offset]
            filled[into] = True
            if filled.all():
                del self._partial[i]
                self._store(kept, (top, 0, height, self.spec.width))

    def _check_window(self, values: np.ndarray, row: int, col: int) -> None:
        n_bands, height, width = len(self.spec.bands), self.spec.height, self.spec.width
        if not self._is_open:
            raise InputError(f"{self.path}: rows come outside the 'with' block of the sink")
        h, w = values.shape[1:] if values.ndim == 3 else (0, 0)
        if values.shape != (n_bands, h, w) or not (0 <= row <= height - h and 0 <= col <= width - w):
            at = f"row {row}" if col == 0 else f"row {row}, column {col}"
            expected = f"({n_bands}, n, m) within {height} rows of {width} pixels"
            raise InputError(f"{self.path}: a window of shape {values.shape} at {at}; expected {expected}")
        side = self.block[0]
        again = h > 0 and w > 0 and self._done[self._blocks_of((row, col, h, w))].any()
        for i in range(row // side, -(-(row + h) // side)) if h else ():
            filled = self._partial[i][1] if i in self._partial else None
            top = i * side
            again |= filled is not None and filled[max(row - top, 0) : row + h - top, col : col + w].any()
        if again:
            raise InputError(f"{self.path}: rows {row}-{row + h - 1} come a second time; write each pixel once")

    def _blocks_of(self, window: tuple[int, int, int, int]) -> tuple[slice, slice]:
        (row, col, height, width), (rows, cols) = window, self.block
        return slice(row // rows, -(-(row + height) // rows)), slice(col // cols, -(-(col + width) // cols))

    def _is_whole(self, window: tuple[int, int, int, int]) -> bool:
        """Tell whether a window consists of whole blocks, none of which has begun to come in parts."""
        (row, col, height, width), (rows, cols) = window, self.block
        ends = row + height in (self.spec.height, -(-(row + height) // rows) * rows)
        ends &= col + width in (self.spec.width, -(-(col + width) // cols) * cols)
        in_parts = any(i in self._partial for i in range(row // rows, -(-(row + height) // rows)))
        return row % rows == 0 and col % cols == 0 and ends and not in_parts

    def _finish(self) -> None:
        """Turn the body into the final file, verify it and rename it."""
        there = np.repeat(self._done.all(axis=1), self.block[0])[: self.spec.height]
        for i, (_, filled) in self._partial.items():
            there[i * self.block[0] : i * self.block[0] + len(filled)] = filled.all(axis=1)
        absent = np.flatnonzero(~there)
        if absent.size:
            raise OutputError(f"{self.path}: {absent.size} of {self.spec.height} rows were never written (first: row {absent[0]})")
        with self._errors():
            self._body.finish(self._sums)

    def _discard(self) -> None:
        """Remove everything that is not finished, unless the folder is the caller's."""
        self._is_open = False
        if self._own_folder:
            shutil.rmtree(self._work, ignore_errors=True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn any failure to write into one :class:`OutputError` that says how much space is left."""
        from rasterio._err import CPLE_BaseError
        from rasterio.errors import RasterioError

        with gdal_log.collected() as messages:
            try:
                yield
            except (RasterioError, CPLE_BaseError, *self._body.failures) as error:
                folder = self._final.parent
                free = shutil.disk_usage(folder).free
                raise OutputError(
                    f"{self.path}: cannot be written ({gdal_log.cause(error, messages)}); {folder} has {free / 1e6:.4g} MB free: "
                    "make room or write elsewhere; what stood there before is untouched"
                ) from error
