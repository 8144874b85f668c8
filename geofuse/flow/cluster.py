"""The engine that fuses tiles in the workers of a dask cluster: processes on this machine, or a scheduler that is there already.

What was learnt goes to each worker once. Workers read their tiles from the input files themselves, so they must see these under the
same paths; they send back the part of a tile that the result needs, or put it into the spool themselves if they run here. At most
two tiles a worker are under way: one is read while the other is fused. A tile whose worker ends is fused by another one.

Sums and products come out differently in the last bit with another number of threads (torch 2.13: the inner products of the solver
with 2 in place of 1, products of matrices with 4). So workers compute with as many threads as this process, and the bytes are those
of a run without workers; on this machine each worker is held to its own share of the cores meanwhile.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import GeofuseError, OutputError, UsageError
from geofuse.flow.device_memory import Fallback
from geofuse.flow.engines import Fused, Lap, as_fused, contributed, fuse_here
from geofuse.flow.spool import TileSpool
from geofuse.memory import give_back, map_large_arrays, share_arenas
from geofuse.methods.base import Report, silent
from geofuse.threads import choose_threads, fix_threads

if TYPE_CHECKING:
    from distributed import Client, Future

    from geofuse.flow.execution import Engine
    from geofuse.fusion import Fusion

CONNECT_S = 5.0
"""How long a scheduler may take to answer."""
_WORKERS_S = 20.0  # how long the scheduler may be without a worker before the run begins
_TELL_S = 30.0  # how long nothing may come back before the user is told that there are no workers
_AHEAD = 2  # tiles a worker
_LOG = logging.getLogger(__name__)
_ONE_AT_A_TIME = threading.Lock()  # in a worker: a tile uses all its threads by itself


@dataclass(frozen=True)
class Job:
    """What a worker needs: a fusion that has learnt, the number of threads; if it runs here, the cores of each and the spool."""

    fallback: Fallback
    threads: int
    cores: Mapping[Any, Sequence[int]] = field(default_factory=dict)  # by the worker's name
    spool: Path | None = None


@contextmanager
def tile_engine(
    workers: int | None, scheduler: str | None, files: Sequence[str | os.PathLike[str]], device: str
) -> Iterator[Engine]:
    """Open what fuses the tiles of a run, and close it afterwards.

    Parameters
    ----------
    workers
        Number of processes to start on this machine; with GPUs here, each gets one of them in turn as its ``cuda:0``.
    scheduler
        Address of a dask scheduler, such as ``tcp://host:8786``. Whoever can reach it can run programs in its workers.
    files
        Inputs that the workers of that scheduler must be able to read; what is no path of something here is left out.
    device
        As for :class:`geofuse.fusion.FusionSettings`.

    Yields
    ------
    Engine
        :func:`geofuse.flow.engines.fuse_here` if neither is given.

    Raises
    ------
    UsageError
        If both are given, distributed is not installed, the scheduler does not answer or has no workers, or a worker has another
        version, not the device, or cannot read an input.
    """
    if workers is not None and scheduler is not None:
        raise UsageError("--workers starts workers here, --scheduler uses those of a cluster; give one of the two")
    if workers is None and scheduler is None:
        yield fuse_here
        return
    from geofuse.flow.dask_setup import connected, started_here
    from geofuse.methods.device import pick_device

    if scheduler is None:
        with started_here(workers, pick_device(device)) as (client, cores):
            yield ClusterEngine(client, cores, is_here=True)
        return
    with connected(scheduler, CONNECT_S, _WORKERS_S) as client:
        paths = [os.path.abspath(path) for path in files if isinstance(path, str | os.PathLike) and os.path.exists(path)]
        _check_workers(client, paths, pick_device(device))
        yield ClusterEngine(client, {})


@dataclass(frozen=True)
class ClusterEngine:
    """Fuses tiles in a cluster's workers; an :data:`geofuse.flow.execution.Engine`."""

    client: Client
    cores: Mapping[Any, Sequence[int]]
    is_here: bool = False

    def __call__(self, fusion: Fusion, indices: Sequence[int], report: Report, lap: Lap, spool: TileSpool) -> Iterator[Fused]:
        """Yield tiles as they are finished; those that took a worker with them come last, each tried once more by itself."""
        from distributed import KilledWorker

        folder = spool.folder.absolute() if self.is_here else None
        job = self._ship(Job(Fallback(fusion), choose_threads().count, self.cores, folder))
        suspects = []
        for index, outcome in self._outcomes(job, indices, lambda: _AHEAD * max(1, len(self.client.nthreads()))):
            if isinstance(outcome, KilledWorker):  # perhaps it only shared a worker with the tile that is to blame
                suspects.append(index)
                continue
            lap("fusing")
            yield _as_fused(index, outcome, spool)
        for suspect in suspects:
            for index, outcome in self._outcomes(job, [suspect], lambda: 1):
                if isinstance(outcome, KilledWorker):
                    outcome = GeofuseError(
                        f"tile {index}: its workers were killed (out of memory?); use a smaller --tile or fewer workers"
                    )
                lap("fusing")
                yield _as_fused(index, outcome, spool)

    def _ship(self, job: Job) -> Future:
        """Hand what workers need to the scheduler, which can send it again to a worker that comes later."""
        import cloudpickle

        return self.client.submit(_unpacked, cloudpickle.dumps(job), key=f"geofuse-job-{uuid.uuid4().hex}")

    def _outcomes(
        self, job: Future, indices: Sequence[int], at_once: Callable[[], int]
    ) -> Iterator[tuple[int, int | np.ndarray | BaseException]]:
        """Have tiles fused, so many at once, and yield each with its values, its checksum in the spool, or its error."""
        waiting, running = deque(indices), {}
        run = uuid.uuid4().hex
        while waiting or running:
            room = at_once() - len(running) if waiting else 0
            for index in [waiting.popleft() for _ in range(min(room, len(waiting)))]:
                future = self.client.submit(_fuse_tile, job, index, key=f"geofuse-tile-{index}-{run}")
                running[future] = index
            for future in self._first(list(running)):
                index = running.pop(future)
                yield index, _outcome(future)
                del future  # its values may go now

    def _first(self, futures: Sequence[Future]) -> list[Future]:
        """Wait until one or more are done; return those."""
        from distributed import wait

        told = False
        while True:
            try:
                with self.client.as_current():
                    return list(wait(futures, timeout=_TELL_S, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                if not told and not self.client.nthreads():
                    _LOG.warning("the cluster has no workers at the moment; waiting for some (Ctrl-C ends the run)")
                    told = True
            except (CancelledError, OSError) as error:
                raise _lost(error) from None


def _outcome(future: Future) -> int | np.ndarray | BaseException:
    """Return what :func:`_fuse_tile` returned, or what was raised in the worker."""
    try:
        error = future.exception()
        return future.result() if error is None else error
    except (CancelledError, OSError) as lost:
        raise _lost(lost) from None


def _lost(error: Exception) -> GeofuseError:
    return GeofuseError(f"the scheduler was lost ({type(error).__name__}); start it again and go on with --resume")


def _as_fused(index: int, outcome: int | np.ndarray | BaseException, spool: TileSpool) -> Fused:
    """Put the values that a worker sent into the spool, if it did not do so itself and sent the checksum."""
    if isinstance(outcome, OutputError):
        raise outcome  # which is no fault of the tile's
    return Fused(index, outcome) if isinstance(outcome, int) else as_fused(index, outcome, spool)


def _unpacked(packed: bytes) -> Job:
    """Make a job of its bytes, in a worker."""
    import cloudpickle

    return cloudpickle.loads(packed)


def _fuse_tile(job: Job, index: int) -> int | np.ndarray:
    """Read and fuse a tile, in a worker; return what it contributes to the scene, or its checksum in the spool if that is given."""
    from distributed import get_worker

    from geofuse.methods.device import use_threads

    fusion, cores = job.fallback.fusion, job.cores.get(get_worker().name)
    fix_threads(job.threads)
    share_arenas()
    map_large_arrays()
    if cores:
        with suppress(OSError):
            os.sched_setaffinity(0, cores)  # of this thread, and of those it starts
    tile = fusion.grid[index]
    data = fusion.read(tile.outer, tile.edges)
    with _ONE_AT_A_TIME:
        use_threads()
        values = job.fallback.fuse(data, silent)[:, *contributed(fusion.grid, index)]
    give_back()
    if job.spool is not None:
        return TileSpool(job.spool).put(index, values)
    return np.ascontiguousarray(values)


@dataclass(frozen=True)
class Surroundings:
    """What a worker has: versions, devices, and what hinders it from reading a file, by the file's path."""

    versions: str
    devices: tuple[str, ...]
    problems: Mapping[str, str]


def look_around(files: Mapping[str, int]) -> Surroundings:
    """Say what this process has and whether it can read files (path to size in bytes, 0 for a folder)."""
    from importlib.metadata import version

    from geofuse import __version__
    from geofuse.methods.device import available_devices

    problems = {}
    for path, size in files.items():
        try:
            found = len(os.listdir(path)) * 0 if os.path.isdir(path) else os.path.getsize(path)
            if found != size:
                problems[path] = f"has {found} bytes there, {size} here"
            elif not os.access(path, os.R_OK):
                problems[path] = "permission denied"
        except OSError as error:
            problems[path] = error.strerror or type(error).__name__
    versions = f"geofuse {__version__}, torch {version('torch')}, numpy {np.__version__}"
    return Surroundings(versions, tuple(device.name for device in available_devices()), problems)


def _check_workers(client: Client, files: Sequence[str], device: str) -> None:
    """Refuse a cluster whose workers could not do what is asked, or would give other bytes."""
    sizes = {path: 0 if os.path.isdir(path) else os.path.getsize(path) for path in files}
    here = look_around(sizes)
    for worker, there in client.run(look_around, sizes, on_error="return").items():
        if isinstance(there, BaseException):
            raise UsageError(f"worker {worker} cannot load geofuse ({there}); install {here.versions} where the workers run")
        if there.versions != here.versions:
            raise UsageError(f"worker {worker} has {there.versions}, this process {here.versions}; install the same")
        if device not in there.devices:
            raise UsageError(f"worker {worker} has no {device}, only {', '.join(there.devices)}; give another --device")
        for path, why in there.problems.items():
            raise UsageError(
                f"worker {worker} cannot read {path} ({why}); all workers must see the inputs under the same paths (a shared disk)"
            )
