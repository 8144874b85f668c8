"""Engines: they are given tiles to fuse, put them into the spool and say so, one after the other.

An engine may finish tiles in any order; whoever takes them blends them in a fixed one. The one here works in this process: a thread
reads the next tile's pixels while the main thread fuses.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geofuse.flow.device_memory import Fallback
from geofuse.flow.spool import TileSpool
from geofuse.memory import give_back
from geofuse.methods.base import Report, TileData
from geofuse.tiling import Blending, TileGrid

if TYPE_CHECKING:
    from geofuse.fusion import Fusion
    from geofuse.methods.spectral_basis import SubspaceImage

Lap = Callable[[str], None]
"""Counts the time since the last call as the stage it is given."""


@dataclass(frozen=True)
class Fused:
    """A tile that was worked on: its place in the grid, and its checksum in the spool or why it is not there.

    The spool has the values of the part of the scene that it contributes to, (band, h, w); see :class:`geofuse.tiling.Blending`.
    """

    index: int
    checksum: int | None
    error: BaseException | None = None


def fuse_here(fusion: Fusion, indices: Sequence[int], report: Report, lap: Lap, spool: TileSpool) -> Iterator[Fused]:
    """Fuse tiles in this process, in the order given.

    Parameters
    ----------
    fusion
        A fusion that has learnt.
    indices
        Places of the tiles in the grid.
    report
        Called with the progress within a tile.
    lap
        Told when the time since its last call went into ``"reading"`` (the tile was waited for) or ``"fusing"``.
    spool
        Where the tiles go.

    Yields
    ------
    Fused
        A tile that could not be read or fused comes with its error; whether to go on is up to the caller.
    """
    fallback = Fallback(fusion)
    with _ReadingAhead(fusion, indices) as reader:
        for index in indices:
            data = reader.next()
            lap("reading")
            outcome = _values(fallback, index, data, report)
            del data
            lap("fusing")
            fused = as_fused(index, outcome, spool)
            del outcome  # not to be in memory beside the next one
            yield fused


def _values(fallback: Fallback, index: int, data: TileData | Exception, report: Report) -> np.ndarray | SubspaceImage | Exception:
    """Return what a tile contributes, or why there is nothing."""
    if isinstance(data, Exception):
        return data
    try:
        fused = fallback.fuse(data, report)[:, *contributed(fallback.fusion.grid, index)]
        give_back()
        return fused
    except Exception as error:
        return error


def as_fused(index: int, outcome: np.ndarray | SubspaceImage | BaseException, spool: TileSpool) -> Fused:
    """Put a tile's values into the spool, if it has any."""
    return Fused(index, None, outcome) if isinstance(outcome, BaseException) else Fused(index, spool.put(index, outcome))


def contributed(grid: TileGrid, index: int) -> tuple[slice, slice]:
    """Return the rows and columns of a tile's outer window that it contributes to the scene."""
    return Blending(grid).contribution(index).within(grid[index].outer).slices


class _ReadingAhead:
    """Reads tiles in a thread, in order, one ahead of the one that was asked for last."""

    def __init__(self, fusion: Fusion, indices: Sequence[int]) -> None:
        self._fusion, self._indices = fusion, indices
        self._ready: queue.Queue[TileData | Exception] = queue.Queue()
        self._room = threading.Semaphore(1)  # not the queue's: a tile is not to be read before there is room for it
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_all, name="geofuse-reader", daemon=True)

    def __enter__(self) -> _ReadingAhead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._room.release()
        self._thread.join()

    def next(self) -> TileData | Exception:
        """Return the next tile's pixels, or the error that reading them raised."""
        data = self._ready.get()
        self._room.release()
        return data

    def _read_all(self) -> None:
        for index in self._indices:
            self._room.acquire()
            if self._stop.is_set():
                return
            tile = self._fusion.grid[index]
            try:
                self._ready.put(self._fusion.read(tile.outer, tile.edges))
            except Exception as error:
                self._ready.put(error)
