"""From fused tiles to the output: a thread that keeps tiles on disk, blends the regions they complete and writes them.

What is finished is in the journal, a row a tile and a row a region, so that a later run goes on from there: it takes back the
regions that are intact, keeps the tiles that other regions need, and fuses the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from geofuse.errors import OutputError
from geofuse.flow.engines import Fused
from geofuse.flow.spool import TileSpool
from geofuse.journal import Journal
from geofuse.threads import each
from geofuse.tiling import PARTS, Blending, RegionGrid, TileGrid, Window


class Sink(Protocol):
    """What takes the windows of one output."""

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of the windows it likes best."""

    def write(self, values: np.ndarray, row_offset: int, col_offset: int = 0) -> dict[str, Any] | None:
        """Write a window (band, h, w); return a receipt."""

    def restore(self, row: int, col: int, height: int, width: int, receipt: Mapping[str, Any]) -> bool:
        """Take back a window that an earlier process wrote; False if it is not there as it should be."""

    def forget(self, row: int, col: int, height: int, width: int, receipt: Mapping[str, Any]) -> None:
        """Undo :meth:`restore`."""


@dataclass(frozen=True)
class Output:
    """A sink and the bands of a fused tile that go into it."""

    sink: Sink
    bands: slice


@dataclass
class Stitcher:
    """Takes fused tiles, in any order, and writes the regions that they complete; a context manager round its thread.

    Attributes
    ----------
    grid, output
        The tiles, and the part of the scene that is written.
    outputs
        Where the bands go.
    journal, folder
        What is finished, and where tiles wait.
    in_flight
        How many tiles the thread may hold in memory; :meth:`put` waits while there are so many.
    failed
        Tiles without values, and why; after the run.
    """

    grid: TileGrid
    output: Window
    outputs: Sequence[Output]
    journal: Journal
    folder: Path
    in_flight: int = 1
    failed: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find out what is finished already; :attr:`to_do` says what is not."""
        self._spool = TileSpool(self.folder)
        self._blending = Blending(self.grid)
        block = tuple(int(np.lcm.reduce([o.sink.block[axis] for o in self.outputs])) for axis in (0, 1))
        self._regions = RegionGrid.of(self.output, block, self.grid.tile)
        self._tiles_of = [self._blending.tiles_of(region) for region in self._regions]
        self._open = {r for r in range(len(self._regions)) if not self._restored(r)}
        self._regions_of: dict[int, set[int]] = {}
        for region in self._open:
            for tile in self._tiles_of[region]:
                self._regions_of.setdefault(tile, set()).add(region)
        self._there = {tile for tile in self._regions_of if self._is_kept(tile)}
        self.to_do = sorted(set(self._regions_of) - self._there)
        self._lock = threading.Condition()
        self._waiting: list[Fused] = []
        self._held = 0
        self._closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="geofuse-writer", daemon=True)

    @property
    def n_bands(self) -> int:
        """Number of bands of a fused tile."""
        return max(output.bands.stop for output in self.outputs)

    def __enter__(self) -> Stitcher:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Wait until all that was put is written, or stop after the window in work if the block raised.

        Raises
        ------
        OutputError
            If the thread could not write, or a region was not completed.
        """
        with self._lock:
            self._closing = True
            if kind is not None:
                self._waiting.clear()
            self._lock.notify_all()
        self._thread.join()
        if kind is None:
            self._raise_error()
            if self._open:
                raise OutputError(f"{len(self._open)} of {len(self._regions)} regions lack tiles; this is an error in the program")

    def put(self, fused: Fused) -> None:
        """Hand over a tile; waits for room.

        Raises
        ------
        Exception
            What the thread raised, if it did.
        """
        with self._lock:
            self._lock.wait_for(lambda: self._held < self.in_flight or self._error is not None)
            self._raise_error()
            self._waiting.append(fused)
            self._held += 1
            self._lock.notify_all()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            self._write_complete(range(len(self._regions)))
            while True:
                with self._lock:
                    self._lock.wait_for(lambda: self._waiting or self._closing)
                    if not self._waiting:
                        return
                    fused = self._waiting.pop(0)
                index = fused.index
                self._take(fused)
                del fused  # its values are on the disk
                with self._lock:
                    self._held -= 1
                    self._lock.notify_all()
                self._write_complete(sorted(self._regions_of[index]))
        except BaseException as error:
            with self._lock:
                self._error = error
                self._lock.notify_all()

    def _take(self, fused: Fused) -> None:
        """Keep a tile."""
        if fused.values is None:
            self.failed[fused.index] = str(fused.error)
            self.journal.add({"key": f"tile {fused.index}", "status": "failed", "error": str(fused.error)})
        else:
            try:
                checksum = self._spool.put(fused.index, fused.values)
            except OSError as error:
                raise OutputError(f"{self.folder}: a tile cannot be written ({error.strerror}); make room") from error
            self.journal.add({"key": f"tile {fused.index}", "status": "done", "crc": checksum})
        self._there.add(fused.index)

    def _write_complete(self, regions: Sequence[int]) -> None:
        """Write those regions whose tiles are all there, and drop the tiles that are not needed any more."""
        complete = [r for r in regions if r in self._open and self._there.issuperset(self._tiles_of[r])]
        each(lambda i: self._write(complete[i]), len(complete), PARTS)
        for region in complete:
            self._open.discard(region)
            for tile in self._tiles_of[region]:
                self._regions_of[tile].discard(region)
                if not self._regions_of[tile]:
                    self._spool.drop(tile)

    def _write(self, region: int) -> None:
        """Blend a region and write it; several at the same time in threads."""
        window = self._regions[region]
        values = self._blending.blend(window, self.n_bands, self._piece)
        row, col = window.row0 - self.output.row0, window.col0 - self.output.col0
        receipts = [output.sink.write(values[output.bands], row, col) for output in self.outputs]
        if not self.failed.keys() & set(self._tiles_of[region]):  # else it is to be tried again
            with self._lock:
                self.journal.add({"key": f"region {region}", "status": "done", "receipts": receipts})

    def _piece(self, index: int, band: int, window: Window) -> np.ndarray:
        if index in self.failed:
            return np.full((window.height, window.width), np.nan, np.float32)
        return self._spool.read(index, band, self._blending.contribution(index), window)

    def _restored(self, region: int) -> bool:
        """Take back a region that an earlier run wrote."""
        row = self.journal.get(f"region {region}")
        if row is None:
            return False
        window = self._regions[region]
        place = window.row0 - self.output.row0, window.col0 - self.output.col0, window.height, window.width
        back = []
        for output, receipt in zip(self.outputs, row["receipts"], strict=True):
            if receipt is None or not output.sink.restore(*place, receipt):
                for sink, taken in back:
                    sink.forget(*place, taken)
                return False
            back.append((output.sink, receipt))
        return True

    def _is_kept(self, tile: int) -> bool:
        """Tell whether an earlier run left this tile intact."""
        row = self.journal.get(f"tile {tile}")
        return row is not None and self._spool.is_intact(tile, row["crc"])
