"""Starting dask workers on this machine, and connecting to those of a scheduler."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from geofuse.errors import UsageError

if TYPE_CHECKING:
    from distributed import Client, Worker, WorkerPlugin

_LOGGERS = ("distributed", "distributed.client", "bokeh", "tornado", "tornado.application")
_DEATHS = 1  # of workers here that a tile may be in before it is set aside
_PRELOADED = ("distributed", "rasterio", "geofuse.fusion", "geofuse.methods.device", "geofuse.methods.argsdiff")
_ORPHAN_S = "30 s"  # a worker that has lost its scheduler for so long ends


@contextmanager
def started_here(workers: int, device: str) -> Iterator[tuple[Client, Mapping[Any, Sequence[int]]]]:
    """Start so many worker processes; yields a client and the cores of each worker, by its name. All end with the block.

    Raises
    ------
    UsageError
        If distributed is not installed.
    """
    _require_distributed()
    import dask
    from distributed import Client, Nanny, Scheduler, SpecCluster

    # Dask would write what stands here into the environment of this process, too, which is to learn with all its threads.
    quiet = {"DASK_LOGGING__DISTRIBUTED": _level_name()}
    settings = {"distributed.nanny.pre-spawn-environ": quiet, "distributed.scheduler.allowed-failures": _DEATHS, **_logging()}
    with dask.config.set({**settings, "distributed.worker.multiprocessing-method": _start_method(device)}):
        options = {"nthreads": 2, "memory_limit": 0, "host": "127.0.0.1", "dashboard": False, "death_timeout": _ORPHAN_S}
        options["silence_logs"] = _level()
        gpus = _gpus() if device == "cuda:0" else []
        specs = {i: {"cls": Nanny, "options": {**options, "env": _gpu(i, gpus)}} for i in range(workers)}
        scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}}
        with (
            SpecCluster(specs, scheduler, silence_logs=_level(), name="geofuse", shutdown_on_close=True) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            client.wait_for_workers(workers)
            client.register_plugin(_deaf_to_interrupts())
            warming = [client.submit(_warm_up, workers=[i], key=f"geofuse-warm-up-{i}") for i in range(workers)]
            yield client, core_groups(workers)
            del warming


def _start_method(device: str) -> str:
    """Choose how worker processes come to be: on the CPU as forks of one that has imported all they need, once for all of them.

    Processes with a GPU start anew: the one that is theirs is named in their environment before CUDA is loaded.
    """
    if device != "cpu" or not sys.platform.startswith("linux"):
        return "spawn"
    import dask
    from distributed.utils import get_mp_context

    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(list(_PRELOADED))  # distributed names its own when it is asked first
    return "forkserver"


@contextmanager
def connected(address: str, connect_s: float, workers_s: float) -> Iterator[Client]:
    """Connect to a scheduler and wait for a first worker.

    Raises
    ------
    UsageError
        If distributed is not installed, nothing answers, or there are no workers.
    """
    _require_distributed()
    import dask
    from distributed import Client

    _knock(address, connect_s)
    with dask.config.set(_logging()):
        try:
            client = Client(address, timeout=connect_s, set_as_default=False)
        except (OSError, ValueError):
            raise UsageError(f"what answers at {address} is no dask scheduler; check the address") from None
        with client:
            try:
                client.wait_for_workers(1, timeout=workers_s)
            except TimeoutError:
                raise UsageError(f"the scheduler at {address} has had no workers for {workers_s:g} s; start some") from None
            yield client


def _knock(address: str, patience_s: float) -> None:
    """Raise ``UsageError`` if an address has not the right form or nothing listens there; dask would try for long."""
    form = re.fullmatch(r"\w+://(?P<host>[^/\s]+):(?P<port>\d{1,5})", address.strip())
    if not form or not 0 < int(form["port"]) < 2**16:
        raise UsageError(f"{address!r} is no address of a dask scheduler; expected one such as tcp://host:8786")
    try:
        socket.create_connection((form["host"].strip("[]"), int(form["port"])), patience_s).close()
    except OSError as error:
        why = error.strerror or "no answer"
        raise UsageError(
            f"nothing can be reached at {address} ({why}); check the address and that dask scheduler runs there"
        ) from None


def core_groups(workers: int) -> dict[int, list[int]]:
    """Share the cores of this process among workers 0, 1, ...; a core has several workers only if there are fewer cores.

    Empty where processes cannot be held to cores (not Linux).
    """
    if not hasattr(os, "sched_getaffinity"):
        return {}
    cores = sorted(os.sched_getaffinity(0))
    if workers >= len(cores):
        return {i: [cores[i % len(cores)]] for i in range(workers)}
    return {i: cores[i * len(cores) // workers : (i + 1) * len(cores) // workers] for i in range(workers)}


def _gpus() -> list[str]:
    """Return the GPUs of this process as ``CUDA_VISIBLE_DEVICES`` names them."""
    from geofuse.methods.device import available_devices

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    n = sum(device.name.startswith("cuda") for device in available_devices())
    return visible.split(",")[:n] if visible else [str(i) for i in range(n)]


def _gpu(worker: int, gpus: Sequence[str]) -> dict[str, str]:
    """Return the environment that makes one GPU after the other a worker's only one."""
    return {"CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)]} if gpus else {}


def _deaf_to_interrupts() -> WorkerPlugin:
    """Make the plugin that leaves Ctrl-C, which a terminal sends to the workers as well, to this process alone."""
    import signal

    from distributed import WorkerPlugin

    class DeafToInterrupts(WorkerPlugin):
        name = "geofuse-deaf-to-interrupts"

        def setup(self, worker: Worker) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    return DeafToInterrupts()


def _warm_up() -> None:
    """Import in a worker what it will need, while the main process learns."""
    import geofuse.fusion
    import geofuse.methods.device  # noqa: F401


def _level() -> int:
    """Dask's own words are for those who ask for more words: what matters to others is said by geofuse."""
    return logging.WARNING if logging.getLogger("geofuse").isEnabledFor(logging.INFO) else logging.CRITICAL


def _logging() -> dict[str, Any]:
    return {"logging": {name: _level_name() for name in _LOGGERS}}


def _level_name() -> str:
    return logging.getLevelName(_level()).lower()


def _require_distributed() -> None:
    """Import distributed, quietly.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    import dask

    with dask.config.set(_logging()):
        try:
            import distributed  # noqa: F401
        except ImportError:
            raise UsageError(
                "workers need the package distributed, which is not installed; run: pip install 'geofuse[distributed]'"
            ) from None
    for name in _LOGGERS[:2]:
        logging.getLogger(name).setLevel(_level())
