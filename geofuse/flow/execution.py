"""How a run is carried out, which does not change its result: engine, memory, recovery."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geofuse.errors import GeofuseError, UsageError
from geofuse.flow.device_memory import Fallback
from geofuse.flow.engines import Fused, Lap, fuse_here
from geofuse.flow.spool import TileSpool
from geofuse.flow.stitching import Stitcher
from geofuse.flow.workspace import Workspace
from geofuse.io.recent import RECENT
from geofuse.journal import Journal
from geofuse.memory import give_back, map_large_arrays
from geofuse.methods.base import Report, silent

if TYPE_CHECKING:
    from geofuse.fusion import Fusion

Engine = Callable[["Fusion", Sequence[int], Report, Lap, TileSpool], Iterator[Fused]]


@dataclass(frozen=True)
class ExecutionOptions:
    """How to carry out a run.

    Attributes
    ----------
    memory_bytes
        How much memory the process may take; the size of tiles follows from it where none is asked for. None: no limit.
    resume
        Whether to go on from what an earlier run of the same inputs and settings has finished.
    keep_going
        Whether tiles that fail become no data in the result, instead of ending the run.
    engine
        What fuses the tiles; see :mod:`geofuse.flow.engines`.
    """

    memory_bytes: int | None = None
    resume: bool = False
    keep_going: bool = False
    engine: Engine = fuse_here


def learn(fusion: Fusion, journal: Journal, report: Report) -> None:
    """Let a fusion learn; in a run that is continued, make sure that it learnt the same again.

    What is learnt is not kept but learnt again: the same seed, samples and number of threads give the same numbers, and loading
    them from a file would need a file format a method.

    Raises
    ------
    UsageError
        If something else was learnt than in the run that is continued.
    """
    from geofuse.methods.fingerprint import fingerprint

    Fallback(fusion).fit(report)
    learnt = fingerprint(fusion.method)
    before = journal.get("learnt")
    if before is None:
        journal.add({"key": "learnt", "status": "done", "fingerprint": learnt})
    elif before["fingerprint"] != learnt:
        raise UsageError(
            "cannot resume: learning came out differently than in the run that was begun (another processor or driver?); "
            "continue on the machine where it began, or start anew without --resume"
        )


def fuse_tiles(fusion: Fusion, stitcher: Stitcher, space: Workspace, execution: ExecutionOptions, report: Report, lap: Lap) -> None:
    """Fuse all tiles that are still to do and have them written.

    Raises
    ------
    GeofuseError
        If a tile fails and the run is not to keep going, or all of them fail.
    """
    total, to_do = len(fusion.grid), stitcher.to_do
    done = total - len(to_do)
    space.keep = space.keep or done > 0
    inner = report if total == 1 else silent
    if done and to_do:
        report("fusing tiles", done, total)
    if total > 1:
        map_large_arrays()
    with stitcher, closing(execution.engine(fusion, to_do, inner, lap, stitcher.spool)) as engine:
        for fused in engine:
            lap("writing")
            if fused.error is not None and not execution.keep_going:
                raise fused.error
            stitcher.put(fused)
            lap("writing")
            space.keep = space.keep or fused.error is None
            give_back()
            done += 1
            report("fusing tiles", done, total)
    RECENT.clear()  # finishing the file reads no input
    give_back()
    lap("writing")
    if to_do and len(stitcher.failed) == total:
        raise GeofuseError(f"all {total} tiles failed, the first because: {next(iter(stitcher.failed.values()))}")
