"""Fused tiles on disk, from when they are finished until all that they reach into is written.

A tile is a file of float32 (band, row, column): the part of the scene that it contributes to. Nothing is flushed to the disk for
good; what a power cut took away is noticed by the checksum and fused again.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from geofuse.errors import OutputError
from geofuse.tiling import Window

_SPARE = 2  # files kept to be written again


class TileSpool:
    """The files of tiles in a folder."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, or find it."""
        self.folder = folder
        self._spare: list[Path] = []  # files of tiles that were dropped: writing into them again costs half of making new ones
        folder.mkdir(exist_ok=True)

    def put(self, index: int, values: Iterable[np.ndarray]) -> int:
        """Write a tile, band (h, w) after band, as float32; return its checksum. Several processes may put tiles into one folder.

        Raises
        ------
        OutputError
            If the disk does not take it.
        """
        checksum = 0
        path = self._spare.pop() if self._spare else self.folder / f"unfinished-{index:06d}-{os.getpid()}.bin"
        try:
            path.touch()
            with open(path, "r+b") as file:
                for plane in values:
                    plane = np.ascontiguousarray(plane, np.float32)
                    checksum = zlib.crc32(plane, checksum)
                    file.write(plane)
                file.truncate()
            path.replace(self._path(index))
        except OSError as error:
            raise OutputError(f"{self.folder}: a tile cannot be written ({error.strerror}); make room") from error
        return checksum

    def is_intact(self, index: int, checksum: int) -> bool:
        """Tell whether the file of a tile holds what :meth:`put` wrote."""
        found = 0
        try:
            with open(self._path(index), "rb") as file:
                while block := file.read(2**22):
                    found = zlib.crc32(block, found)
        except FileNotFoundError:
            return False
        return found == checksum

    def open(self, index: int) -> BinaryIO:
        """Open the file of a tile, for :meth:`read`; the caller closes it."""
        return open(self._path(index), "rb", buffering=0)

    @staticmethod
    def read(file: BinaryIO, band: int, whole: Window, part: Window) -> np.ndarray:
        """Return one band of a part of the scene, (h, w) float32, from the file of a tile that covers ``whole``."""
        inner = part.within(whole)
        rows = np.empty((inner.height, whole.width), np.float32)
        file.seek(4 * (band * whole.height + inner.row0) * whole.width)
        if file.readinto(rows) != rows.nbytes:
            raise OutputError(f"{file.name}: ends too early; go on with --resume")
        return rows[:, inner.col0 : inner.col1]

    def drop(self, index: int) -> None:
        """Remove a tile that is not needed any more."""
        path = self._path(index)
        if len(self._spare) < _SPARE and path.exists():
            self._spare.append(path.replace(self.folder / f"spare-{index:06d}.bin"))
        path.unlink(missing_ok=True)

    def _path(self, index: int) -> Path:
        return self.folder / f"tile-{index:06d}.bin"
