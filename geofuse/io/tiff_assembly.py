"""Put a TIFF together from blocks that are compressed already.

The fields of its directories (types, grid, CRS, tags) are taken from an empty TIFF that GDAL wrote, so they are GDAL's own; only
where the blocks lie is new. A COG has the layout of GDAL's COG driver: a note on the layout, all directories, the blocks from the
smallest overview to the full image in row-major order, each between its size and a copy of its last four bytes. Any other TIFF is
one directory followed by its blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from geofuse.io.tiff import Field, first_fields
from geofuse.io.tiff_blocks import BlockFile, Level

_NOTE = (
    "LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\nBLOCK_TRAILER=LAST_4_BYTES_REPEATED\n"
    "KNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_SUBFILE, _WIDTH, _HEIGHT, _OFFSETS, _BYTES = 254, 256, 257, 324, 325
_OF_OVERVIEWS = (258, 259, 262, 277, 284, 317, 322, 323, 338, 339, 42113)  # what an overview shares with the full image
_LONG, _LONG8 = 4, 16
_CLASSIC_LIMIT = 2**32 - 2**20


def assemble(path: Path, template: Path, blocks: BlockFile, *, cog: bool) -> None:
    """Write the TIFF.

    Parameters
    ----------
    path
        The file to make.
    template
        A TIFF without blocks, little-endian, of the same form, whose fields are taken.
    blocks
        The blocks of the full image and, for a COG, of its overviews.
    cog
        Whether to follow the layout of a COG.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    fields = first_fields(template)
    data_bytes = sum(int(level.sizes.sum()) + 8 * len(level.sizes) for level in blocks.levels)
    tables = sum(16 * len(level.sizes) + sum(len(f.value) for f in fields.values()) + 4096 for level in blocks.levels)
    big = data_bytes + tables > _CLASSIC_LIMIT
    note = f"GDAL_STRUCTURAL_METADATA_SIZE={len(_NOTE):06d} bytes\n{_NOTE}".encode() if cog else b""
    directories = [_fields_of(fields, level, i, big) for i, level in enumerate(blocks.levels)]
    start = (16 if big else 8) + len(note)
    start += start % 2
    heads = [start]
    for directory in directories:
        heads.append(heads[-1] + _size(directory, big))
    positions = _positions(blocks.levels, heads[-1], leader=4 if cog else 0)
    with open(path, "wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, start) if big else struct.pack("<2sHI", b"II", 42, start))
        file.write(note)
        for i, directory in enumerate(directories):
            table = positions[i].astype("<u8" if big else "<u4")
            directory[_OFFSETS] = Field(_LONG8 if big else _LONG, len(table), table.tobytes())
            file.seek(heads[i])
            file.write(_packed(directory, heads[i], heads[i + 1] if i + 1 < len(directories) else 0, big))
        file.seek(heads[-1])
        for level in reversed(blocks.levels):
            _copy_blocks(blocks.path, level, file, framed=cog)


def _fields_of(fields: Mapping[int, Field], level: Level, index: int, big: bool) -> dict[int, Field]:
    """Return the fields of one directory; the offsets of the blocks are still zero."""
    if index == 0:
        own = dict(fields)
    else:
        own = {tag: fields[tag] for tag in _OF_OVERVIEWS if tag in fields}
        own[_SUBFILE] = Field(_LONG, 1, struct.pack("<I", 1))
    own[_WIDTH], own[_HEIGHT] = (Field(_LONG, 1, struct.pack("<I", size)) for size in (level.width, level.height))
    kind, code = (_LONG8, "<u8") if big else (_LONG, "<u4")
    own[_BYTES] = Field(_LONG, len(level.sizes), level.sizes.astype("<u4").tobytes())
    own[_OFFSETS] = Field(kind, len(level.sizes), np.zeros(len(level.sizes), code).tobytes())
    return dict(sorted(own.items()))


def _size(directory: Mapping[int, Field], big: bool) -> int:
    """Return the bytes that a directory and the values beside it take, a multiple of 8."""
    inline = 8 if big else 4
    size = 8 + 20 * len(directory) + 8 if big else 2 + 12 * len(directory) + 4
    size += size % 2
    size += sum(len(f.value) + len(f.value) % 2 for f in directory.values() if len(f.value) > inline)
    return -(-size // 8) * 8


def _packed(directory: Mapping[int, Field], at: int, following: int, big: bool) -> bytes:
    """Return the bytes of a directory that lies at ``at`` and points at the one ``following``."""
    inline = 8 if big else 4
    table = struct.pack("<Q" if big else "<H", len(directory))
    head = 8 + 20 * len(directory) + 8 if big else 2 + 12 * len(directory) + 4
    outside = b"\0" * (head % 2)
    for tag, field in sorted(directory.items()):
        value = field.value
        if len(value) > inline:
            value = struct.pack("<Q" if big else "<I", at + head + len(outside))
            outside += field.value + b"\0" * (len(field.value) % 2)
        table += struct.pack("<HHQ" if big else "<HHI", tag, field.kind, field.count) + value.ljust(inline, b"\0")
    return table + struct.pack("<Q" if big else "<I", following) + outside


def _positions(levels: Sequence[Level], start: int, leader: int) -> list[np.ndarray]:
    """Return where the blocks of each level will lie, the last level first in the file; ``leader`` bytes before and after each."""
    positions: list[np.ndarray] = [np.empty(0)] * len(levels)
    for i in reversed(range(len(levels))):
        spans = levels[i].sizes + np.uint64(2 * leader)
        ends = start + np.cumsum(spans).astype(np.int64)
        positions[i] = ends - spans.astype(np.int64) + leader
        start = int(ends[-1])
    return positions


def _copy_blocks(source: Path, level: Level, target: BinaryIO, *, framed: bool) -> None:
    """Append the blocks of a level in their order, ``framed`` by size and last four bytes."""
    with open(source, "rb") as file:
        for offset, size in zip(level.offsets.tolist(), level.sizes.tolist(), strict=True):
            file.seek(offset)
            block = file.read(size)
            target.write(b"".join((struct.pack("<I", size), block, block[-4:].rjust(4, b"\0"))) if framed else block)
