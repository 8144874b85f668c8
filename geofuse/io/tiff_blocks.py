"""The compressed blocks of a TIFF in the making: each is made once, by GDAL, and kept in one file until the image is assembled.

Windows of the image come in any order. Each is compressed in memory as a small TIFF of the same block size, whose blocks are those
of the final file, byte for byte; they are appended to ``blocks.bin``. For a COG the window is also reduced by half and put into a
raw file of half the size, from which :meth:`BlockFile.add_overviews` makes the overviews without reading the image again.

Everything that is needed to go on after a crash is in the receipts that :meth:`BlockFile.store` returns.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from geofuse.io import tiff
from geofuse.io.output import OutputSpec
from geofuse.threads import choose_threads, each

_SOMEWHERE = Affine(1.0, 0.0, 9.0, 0.0, -1.0, 9.0)  # rasterio warns of an image without a place

AT_ONCE = 4
"""How many windows may be compressed at the same time, each in a thread of its own (in several if there are more cores)."""
OVERVIEW_BYTES = 16 * 2**20  # of a window while overviews are made


@dataclass(frozen=True)
class BlockLayout:
    """How a TIFF is cut into blocks: side in pixels, all bands in a block or one, and GDAL's predictor (2 integers, 3 floats)."""

    side: int
    by_pixel: bool
    predictor: int

    def count(self, height: int, width: int, n_bands: int) -> int:
        """Return the number of blocks of an image."""
        return -(-height // self.side) * -(-width // self.side) * (1 if self.by_pixel else n_bands)

    def numbers(self, window: tuple[int, int, int, int], width: int, height: int, n_bands: int) -> np.ndarray:
        """Return the numbers, in an image of this size, of the blocks of a window (row, col, height, width), in its own order."""
        row, col, n_rows, n_cols = window
        down, across = -(-height // self.side), -(-width // self.side)
        rows = row // self.side + np.arange(-(-n_rows // self.side))
        cols = col // self.side + np.arange(-(-n_cols // self.side))
        plane = (rows[:, None] * across + cols[None, :]).ravel()
        return plane if self.by_pixel else (np.arange(n_bands)[:, None] * down * across + plane).ravel()

    def profile(self, spec: OutputSpec) -> dict[str, Any]:
        """Return rasterio's creation options for a TIFF with these blocks."""
        return {
            "driver": "GTiff",
            "count": len(spec.bands),
            "dtype": spec.dtype,
            "nodata": spec.nodata_value,
            "photometric": "MINISBLACK",
            "tiled": True,
            "blockxsize": self.side,
            "blockysize": self.side,
            "interleave": "pixel" if self.by_pixel else "band",
            "compress": "DEFLATE",
            "predictor": self.predictor,
        }


@contextmanager
def compressed(stored: np.ndarray, spec: OutputSpec, layout: BlockLayout) -> Iterator[list[memoryview]]:
    """Compress a window (band, h, w) of stored values; yields its blocks in the order of a TIFF of that size."""
    from rasterio.io import MemoryFile

    threads = -(-choose_threads().count // AT_ONCE)
    with MemoryFile() as memory:
        size = {"height": stored.shape[1], "width": stored.shape[2], "num_threads": threads, "bigtiff": "IF_SAFER"}
        with memory.open(**layout.profile(spec), **size, transform=_SOMEWHERE) as dataset:
            dataset.write(stored)
        content = memoryview(memory.getbuffer())
        image = next(iter(tiff.stream_directories(BytesIO(content), len(content))))
        spans = zip(image.block_offsets.tolist(), image.block_bytes.tolist(), strict=True)
        yield [content[start : start + size] for start, size in spans]


def halved(stored: np.ndarray, spec: OutputSpec) -> np.ndarray:
    """Return the means (band, ceil(h/2), ceil(w/2)) of 2 x 2 stored values, leaving out those without data."""
    n_bands, height, width = stored.shape
    out = np.empty((n_bands, -(-height // 2), -(-width // 2)), stored.dtype)
    for plane, target in zip(stored, out, strict=True):
        target[:] = _halved_plane(plane, spec)
    return out


def _halved_plane(plane: np.ndarray, spec: OutputSpec) -> np.ndarray:
    """Return the means of 2 x 2 values of one band, (ceil(h/2), ceil(w/2))."""
    nodata = spec.nodata_value
    valid = np.isfinite(plane) if nodata is None or np.isnan(nodata) else plane != plane.dtype.type(nodata)
    if plane.shape[0] % 2 or plane.shape[1] % 2 or not valid.all():
        return _mean_of_valid(plane, valid, spec)
    narrow = spec.is_integer and plane.dtype.itemsize <= 2  # sums of four are exact in float32
    pairs = plane[0::2].astype(np.float32 if narrow else np.float64)
    pairs += plane[1::2]
    mean = pairs[:, 0::2] + pairs[:, 1::2]
    mean *= 0.25
    return _as_stored(mean, spec)


def _mean_of_valid(plane: np.ndarray, valid: np.ndarray, spec: OutputSpec) -> np.ndarray:
    """Return the means of 2 x 2 values of one band, (ceil(h/2), ceil(w/2)), no data where all four have none."""
    border = ((0, plane.shape[0] % 2), (0, plane.shape[1] % 2))
    plane, valid = np.pad(plane, border), np.pad(valid, border)
    total, count = 0.0, 0
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        seen = valid[i::2, j::2]
        total = total + np.where(seen, plane[i::2, j::2], 0).astype(np.float64)
        count = count + seen.astype(np.uint8)
    mean = _as_stored(total / np.maximum(count, 1), spec)
    return mean if spec.nodata_value is None else np.where(count == 0, spec.nodata_value, mean)


def _as_stored(mean: np.ndarray, spec: OutputSpec) -> np.ndarray:
    """Round means of an integer image; a mean that happens to be the no-data value moves beside it."""
    mean = np.rint(mean, out=mean) if spec.is_integer else mean
    nodata = spec.nodata_value
    if nodata is not None and not np.isnan(nodata):
        mean[mean == nodata] += 1 if nodata <= 0 else -1
    return mean


class _RawImage:
    """An uncompressed image in a file, its bands interleaved by pixel, of which windows are written and read; sparse until then."""

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: str) -> None:
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        path.touch()

    def write(self, values: np.ndarray, row: int, col: int) -> None:
        n_bands, _, width = self.shape
        lines = np.ascontiguousarray(values.transpose(1, 2, 0))
        with open(self.path, "r+b") as file:
            for i, line in enumerate(lines):
                file.seek(((row + i) * width + col) * n_bands * self.dtype.itemsize)
                file.write(line)

    def read(self, row: int, col: int, height: int, width: int) -> np.ndarray:
        n_bands, _, whole = self.shape
        lines = np.empty((height, width, n_bands), self.dtype)
        with open(self.path, "rb") as file:
            for i in range(height):
                file.seek(((row + i) * whole + col) * n_bands * self.dtype.itemsize)
                file.readinto(memoryview(lines[i]).cast("B"))
        return lines.transpose(2, 0, 1)


class Level:
    """The full image (0) or an overview: its size, and where each of its blocks lies in ``blocks.bin``."""

    def __init__(self, height: int, width: int, n_blocks: int) -> None:
        """Start with no block."""
        self.height, self.width = height, width
        self.offsets = np.zeros(n_blocks, np.uint64)
        self.sizes = np.zeros(n_blocks, np.uint64)


class BlockFile:
    """The blocks of one image and of its overviews."""

    def __init__(self, folder: Path, spec: OutputSpec, layout: BlockLayout, *, overviews: bool) -> None:
        """Go on in a folder, or start in an empty one; what is there already counts once :meth:`restore` took it back."""
        self.spec, self.layout = spec, layout
        self.path = folder / "blocks.bin"
        self._folder, self._end = folder, 0
        self._lock = threading.Lock()
        self.levels = [self._level(spec.height, spec.width)]
        self.path.touch()
        self._half = self._raw(1, spec.height, spec.width) if overviews and self._has_overview(spec.height, spec.width) else None

    def store(self, stored: np.ndarray, row: int, col: int) -> dict[str, Any]:
        """Compress and keep a window (band, h, w) that holds whole blocks; return the receipt for :meth:`restore`.

        Raises
        ------
        OSError
            If the disk does not take it.
        """
        receipt = self._append(0, stored, row, col)
        if self._half is not None:
            half = halved(stored, self.spec)
            self._half.write(half, row // 2, col // 2)
            receipt["half"] = zlib.crc32(np.ascontiguousarray(half))
        return receipt

    def restore(self, window: tuple[int, int, int, int], receipt: Mapping[str, Any]) -> bool:
        """Take back a window (row, col, height, width) stored by an earlier process; False if it is not intact."""
        row, col, height, width = window
        sizes = np.asarray(receipt["sizes"], np.uint64)
        with open(self.path, "rb") as file:
            file.seek(receipt["offset"])
            if zlib.crc32(file.read(int(sizes.sum()))) != receipt["crc"]:
                return False
        if self._half is not None:
            half = self._half.read(row // 2, col // 2, -(-height // 2), -(-width // 2))
            if zlib.crc32(np.ascontiguousarray(half)) != receipt["half"]:
                return False
        self._enter(0, window, receipt["offset"], sizes)
        return True

    def add_overviews(self) -> None:
        """Make all overviews from the reduced image, each from the one before, until one fits into a block."""
        raw, level = self._half, 1
        while raw is not None:
            n_bands, height, width = raw.shape
            self.levels.append(self._level(height, width))
            below = self._raw(level + 1, height, width) if self._has_overview(height, width) else None
            self._add_overview(level, raw, below)
            raw.path.unlink()
            raw, level = below, level + 1

    def _add_overview(self, level: int, raw: _RawImage, below: _RawImage | None) -> None:
        """Compress a reduced image, and reduce it again into the one ``below``."""
        n_bands, height, width = raw.shape
        pixels = OVERVIEW_BYTES // (n_bands * raw.dtype.itemsize)
        step = max(2, int(pixels**0.5) // self.layout.side // 2 * 2) * self.layout.side
        corners = [(row, col) for row in range(0, height, step) for col in range(0, width, step)]

        def add(i: int) -> None:
            row, col = corners[i]
            stored = np.ascontiguousarray(raw.read(row, col, min(step, height - row), min(step, width - col)))
            self._append(level, stored, row, col)
            if below is not None:
                below.write(halved(stored, self.spec), row // 2, col // 2)

        each(add, len(corners), AT_ONCE)

    def _append(self, level: int, stored: np.ndarray, row: int, col: int) -> dict[str, Any]:
        checksum = 0
        with compressed(stored, self.spec, self.layout) as blocks, open(self.path, "r+b") as file:
            sizes = [len(block) for block in blocks]
            with self._lock:
                offset = self._end
                self._enter(level, (row, col, *stored.shape[1:]), offset, np.asarray(sizes, np.uint64))
            file.seek(offset)
            for block in blocks:
                checksum = zlib.crc32(block, checksum)
                file.write(block)
        return {"offset": offset, "sizes": sizes, "crc": checksum}

    def _enter(self, level: int, window: tuple[int, int, int, int], offset: int, sizes: np.ndarray) -> None:
        """Note where the blocks of a window lie."""
        into = self.levels[level]
        numbers = self.layout.numbers(window, into.width, into.height, len(self.spec.bands))
        into.sizes[numbers] = sizes
        into.offsets[numbers] = offset + np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.uint64)
        self._end = max(self._end, offset + int(sizes.sum()))

    def _level(self, height: int, width: int) -> Level:
        return Level(height, width, self.layout.count(height, width, len(self.spec.bands)))

    def _has_overview(self, height: int, width: int) -> bool:
        return max(height, width) > self.layout.side

    def _raw(self, level: int, height: int, width: int) -> _RawImage:
        """Return the raw file of the overview below an image of this size."""
        shape = (len(self.spec.bands), -(-height // 2), -(-width // 2))
        return _RawImage(self._folder / f"level{level}.raw", shape, self.spec.dtype)
