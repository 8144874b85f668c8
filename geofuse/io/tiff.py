"""Just enough of the TIFF 6.0 and BigTIFF directory layout to tell whether every block a file promises is there.

GDAL opens a GeoTIFF whose tail is missing without a word and fails only when the missing blocks are read; the offsets and
byte counts in the image file directories (IFDs) show it at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES = 273, 279, 324, 325
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGER_TYPES = {3: "u2", 4: "u4", 16: "u8"}  # SHORT, LONG, LONG8
_MAX_DIRECTORIES = 4096


class TiffLayoutError(ValueError):
    """The directories of a TIFF file point outside the file or cannot be followed."""


@dataclass(frozen=True)
class Directory:
    """Where one image of a TIFF file (full resolution, overview or mask) lies in the file."""

    offset: int
    block_offsets: np.ndarray  # (blocks,) uint64; 0 where a sparse file left the block out
    block_bytes: np.ndarray  # (blocks,) uint64


@dataclass(frozen=True)
class Field:
    """One field of a directory: TIFF type, number of values, and the values as bytes."""

    kind: int
    count: int
    value: bytes


@dataclass(frozen=True)
class _Layout:
    """Sizes of the fields of one flavour of TIFF, as ``struct`` and numpy formats."""

    order: str
    count: str
    entry: int
    pointer: str
    inline: int

    @classmethod
    def of(cls, magic: bytes) -> _Layout:
        order = "<" if magic[:2] == b"II" else ">"
        return cls(order, "Q", 20, "Q", 8) if b"+" in magic else cls(order, "H", 12, "I", 4)


def _unpack(file: BinaryIO, offset: int, form: str) -> tuple[int, ...]:
    """Read and unpack ``form`` at ``offset``."""
    file.seek(offset)
    data = file.read(struct.calcsize(form))
    if len(data) < struct.calcsize(form):
        raise TiffLayoutError(f"ends before byte {offset + struct.calcsize(form)}")
    return struct.unpack(form, data)


def _value(entry: bytes, layout: _Layout, size: int) -> tuple[int, int, int]:
    """Return type, count and position in the file of the value of a directory entry (-1: the entry itself holds it).

    Raises
    ------
    TiffLayoutError
        If the value lies outside the file of ``size`` bytes.
    """
    _, kind, n = struct.unpack(f"{layout.order}HH{layout.pointer}", entry[: layout.entry - layout.inline])
    n_bytes = n * _TYPE_BYTES.get(kind, 1)
    if n_bytes <= layout.inline:
        return kind, n, -1
    (start,) = struct.unpack(layout.order + layout.pointer, entry[-layout.inline :])
    if start + n_bytes > size:
        raise TiffLayoutError(f"ends before byte {start + n_bytes}")
    return kind, n, start


def _integers(file: BinaryIO, entry: bytes, layout: _Layout, size: int) -> np.ndarray:
    """Return the values of a directory entry of an unsigned integer type as uint64."""
    kind, n, start = _value(entry, layout, size)
    if kind not in _INTEGER_TYPES:
        raise TiffLayoutError(f"has block offsets of the unknown type {kind}")
    dtype = np.dtype(layout.order + _INTEGER_TYPES[kind])
    if start < 0:
        return np.frombuffer(entry[-layout.inline :], dtype, n).astype(np.uint64)
    file.seek(start)
    return np.frombuffer(file.read(n * dtype.itemsize), dtype).astype(np.uint64)


def directories(path: str | Path) -> Iterator[Directory]:
    """Yield the image directories of a TIFF or BigTIFF file, in the order in which they are chained.

    Raises
    ------
    TiffLayoutError
        If a directory, or the value of one of its entries, lies outside the file.
    """
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        yield from stream_directories(file, size)


def stream_directories(file: BinaryIO, size: int) -> Iterator[Directory]:
    """Yield the image directories of an open TIFF of ``size`` bytes; see :func:`directories`."""
    for layout, offset, entries in _tables(file, size):
        tags = (_TILE_OFFSETS, _TILE_BYTES) if _TILE_OFFSETS in entries else (_STRIP_OFFSETS, _STRIP_BYTES)
        empty = np.empty(0, np.uint64)
        blocks = [_integers(file, entries[tag], layout, size) if tag in entries else empty for tag in tags]
        yield Directory(offset, blocks[0], blocks[1])


def first_fields(path: str | Path) -> dict[int, Field]:
    """Return the fields of a TIFF's first image by tag, their values little-endian as in the file.

    Raises
    ------
    TiffLayoutError
        As :func:`directories`, or if the file is big-endian.
    """
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        layout, _, entries = next(iter(_tables(file, size)))
        if layout.order != "<":
            raise TiffLayoutError("is big-endian")
        fields = {}
        for tag, entry in entries.items():
            kind, n, start = _value(entry, layout, size)
            n_bytes = n * _TYPE_BYTES[kind]
            file.seek(max(start, 0))
            fields[tag] = Field(kind, n, entry[-layout.inline :][:n_bytes] if start < 0 else file.read(n_bytes))
        return fields


def _tables(file: BinaryIO, size: int) -> Iterator[tuple[_Layout, int, dict[int, bytes]]]:
    """Yield the directories as (layout, offset in the file, raw entry by tag)."""
    file.seek(0)
    layout = _Layout.of(file.read(4))
    at = 8 if layout.pointer == "Q" else 4
    (offset,) = _unpack(file, at, layout.order + layout.pointer)
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < _MAX_DIRECTORIES:
        seen.add(offset)
        (n,) = _unpack(file, offset, layout.order + layout.count)
        start = offset + struct.calcsize(layout.count)
        if start + n * layout.entry > size:
            raise TiffLayoutError(f"ends before byte {start + n * layout.entry}")
        file.seek(start)
        table = file.read(n * layout.entry)
        entries = {}
        for i in range(n):
            entry = table[i * layout.entry : (i + 1) * layout.entry]
            _value(entry, layout, size)
            entries[struct.unpack(layout.order + "H", entry[:2])[0]] = entry
        yield layout, offset, entries
        (offset,) = _unpack(file, start + n * layout.entry, layout.order + layout.pointer)


def missing_bytes(path: str | Path) -> int:
    """Return how many bytes a TIFF file would need to grow to hold every block that it lists (0: complete).

    Raises
    ------
    TiffLayoutError
        As :func:`directories`.
    """
    size = Path(path).stat().st_size
    end = 0
    for directory in directories(path):
        offsets, counts = directory.block_offsets, directory.block_bytes
        if len(counts) != len(offsets):
            counts = np.zeros_like(offsets)
        if len(offsets):
            last = int(offsets.argmax())
            end = max(end, int(offsets[last]) + int(counts[last]))
    return max(0, end - size)
