"""From fused tiles to the output: tiles are kept on disk, and a thread blends the regions they complete and writes them.

What is finished is in the journal, a row a tile and a row a region, so that a later run goes on from there: it takes back the
regions that are intact, keeps the tiles that other regions need, and fuses the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import numpy as np

from geofuse.errors import OutputError
from geofuse.flow.engines import Fused
from geofuse.flow.spool import TileSpool
from geofuse.journal import Journal
from geofuse.memory import give_back
from geofuse.threads import each
from geofuse.tiling import Blending, RegionGrid, TileGrid, Window

AT_ONCE = 4
"""Regions that are written at the same time, each in a thread of its own; fewer with fewer cores."""
_BEHIND = 1  # tiles, besides the one in work; more would only fill the disk


@dataclass(frozen=True)
class Planes:
    """The values (band, h, w) of a window, each band computed when it is its turn: no region is in memory as a whole.

    Looks like an array as far as :meth:`geofuse.io.RasterSink.write` needs it.
    """

    bands: slice
    window: Window
    plane: Callable[[int], np.ndarray]
    ndim = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of bands, height, width."""
        return self.bands.stop - self.bands.start, self.window.height, self.window.width

    def __iter__(self) -> Iterator[np.ndarray]:
        """Iterate over the bands, (h, w) float32."""
        return (self.plane(band) for band in range(self.bands.start, self.bands.stop))


class Sink(Protocol):
    """What takes the windows of one output."""

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of the windows it likes best."""

    def write(self, values: Planes, row_offset: int, col_offset: int = 0) -> dict[str, Any] | None:
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
    failed
        Tiles without values, and why; after the run.
    spool
        The fused tiles that wait.
    """

    grid: TileGrid
    output: Window
    outputs: Sequence[Output]
    journal: Journal
    folder: Path
    failed: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find out what is finished already; :attr:`to_do` says what is not."""
        self.spool = TileSpool(self.folder)
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
        self._waiting: list[int] = []
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
        """Note a tile that is in the spool and leave the rest to the thread; waits if that is more than ``_BEHIND`` tiles behind.

        Raises
        ------
        Exception
            What the thread raised, if it did.
        """
        key = f"tile {fused.index}"
        with self._lock:
            if fused.error is None:
                self.journal.add({"key": key, "status": "done", "crc": fused.checksum})
            else:
                self.failed[fused.index] = str(fused.error)
                self.journal.add({"key": key, "status": "failed", "error": str(fused.error)})
            self._waiting.append(fused.index)
            self._lock.notify_all()
            self._lock.wait_for(lambda: len(self._waiting) <= _BEHIND or self._error is not None)
            self._raise_error()

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
                    index = self._waiting.pop(0)
                    self._lock.notify_all()
                self._there.add(index)
                self._write_complete(sorted(self._regions_of[index]))
        except BaseException as error:
            with self._lock:
                self._error = error
                self._lock.notify_all()

    def _write_complete(self, regions: Sequence[int]) -> None:
        """Write those regions whose tiles are all there, and drop the tiles that are not needed any more."""
        complete = [r for r in regions if r in self._open and self._there.issuperset(self._tiles_of[r])]
        each(lambda i: self._write(complete[i]), len(complete), AT_ONCE)
        for region in complete:
            self._open.discard(region)
            for tile in self._tiles_of[region]:
                self._regions_of[tile].discard(region)
                if not self._regions_of[tile]:
                    self.spool.drop(tile)

    def _write(self, region: int) -> None:
        """Blend a region and write it; several at the same time in threads."""
        window = self._regions[region]
        parts = self._blending.parts(window)
        row, col = window.row0 - self.output.row0, window.col0 - self.output.col0
        receipts = []
        with ExitStack() as stack:
            files = {p.tile: stack.enter_context(self.spool.open(p.tile)) for p in parts if p.tile not in self.failed}
            for output in self.outputs:
                values = Planes(
                    output.bands, window, lambda band: self._blending.blend(window, parts, partial(self._piece, files, band))
                )
                receipts.append(output.sink.write(values, row, col))
        if not any(tile in self.failed for tile in self._tiles_of[region]):  # else it is to be tried again
            with self._lock:
                self.journal.add({"key": f"region {region}", "status": "done", "receipts": receipts})
        give_back()

    def _piece(self, files: Mapping[int, BinaryIO], band: int, index: int, window: Window) -> np.ndarray:
        if index not in files:
            return np.full((window.height, window.width), np.nan, np.float32)
        return self.spool.read(files[index], band, self._blending.contribution(index), window)

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
        return row is not None and self.spool.is_intact(tile, row["crc"])
