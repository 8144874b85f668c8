"""``geofuse run --workers`` and ``--scheduler``: tiles fused by other processes, the result as if by this one."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from geofuse.errors import OutputError, UsageError
from geofuse.flow import cluster
from geofuse.flow.dask_setup import core_groups
from geofuse.flow.engines import fuse_here
from geofuse.flow.spool import TileSpool
from geofuse.pipeline import ExecutionOptions, FusionSettings, PairOptions, run
from geofuse.tiling import Blending, TileGrid


@pytest.fixture(scope="module")
def local():
    """Two workers in processes of their own, shared by the tests of this module."""
    pytest.importorskip("distributed")
    with cluster.tile_engine(2, None, [], "cpu") as engine:
        yield engine


@pytest.fixture
def address(local):
    return local.client.scheduler.address


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


@pytest.mark.parametrize(
    ("method", "more"), [("subspace", ("--uncertainty", "2")), pytest.param("argsdiff", (), marks=pytest.mark.slow)]
)
def test_workers_give_the_bytes_of_this_process(job, geofuse, address, method, more):
    outputs = {"here.tif": (), "there.tif": ("--scheduler", address)}
    for name, where in outputs.items():
        done = geofuse(*job.arguments(job.folder / name, "--tile", "32", *more, *where, method=method))
        assert done.code == 0, done.err
    here, there = ((job.folder / name).read_bytes() for name in outputs)
    assert here == there
    if more:
        beside = [(job.folder / name.replace(".", "-uncertainty.")).read_bytes() for name in outputs]
        assert beside[0] == beside[1]


def test_a_worker_killed_in_the_middle_costs_only_its_tile(job, local):
    def fuse(name, **execution):
        run(
            job.hsi_path,
            job.msi_path,
            job.folder / name,
            pair_options=PairOptions(srf=job.camera, psf="box"),
            settings=FusionSettings("subspace", tile=16, device="cpu"),
            execution=ExecutionOptions(**execution),
            report=report if execution else lambda *_: None,
        )
        return (job.folder / name).read_bytes()

    pids, done = list(local.client.run(os.getpid).values()), []

    def report(stage, n, total):
        if stage == "fusing tiles":
            done.append(n)
            if n == 3:
                os.kill(pids[0], signal.SIGKILL)

    assert fuse("there.tif", engine=local) == fuse("here.tif")
    assert done[-1] == 20
    deadline = time.monotonic() + 60
    while (now := set(local.client.run(os.getpid).values())) in ({pids[1]}, set(pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(now) == 2 and pids[0] not in now  # its nanny has put another in its place


class Scene:
    """Stands for a fusion: a tile's values are its row and column; the tile at the origin does what it is told."""

    def __init__(self, at_origin):
        self.grid = TileGrid(8, 8, 2, 4, 2)
        self.at_origin = at_origin

    def read(self, window, edges):
        return window

    def fuse_data(self, window, report):
        if window.row0 == window.col0 == 0:
            self.at_origin()
        return np.full((1, window.height, window.width), 10.0 * window.row0 + window.col0)


@pytest.fixture
def spool(tmp_path):
    return TileSpool(tmp_path / "tiles")


def outcomes(engine, at_origin, spool):
    return {f.index: f for f in engine(Scene(at_origin), range(4), lambda *_: None, lambda _: None, spool)}


def portable(function):
    """Make a function of this module travel by value: workers cannot import the tests."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return function


def test_an_error_in_a_worker_is_that_tiles_error_alone(local, spool):
    def fail():
        raise UsageError("no such thing; leave it")

    fused = outcomes(local, portable(fail), spool)
    assert isinstance(fused[0].error, UsageError) and str(fused[0].error) == "no such thing; leave it"
    assert [fused[i].error for i in (1, 2, 3)] == [None] * 3
    assert not spool.is_intact(0, 0) and all(spool.is_intact(i, fused[i].checksum) for i in (1, 2, 3))
    whole = Blending(Scene(fail).grid).contribution(3)
    with spool.open(3) as file:
        assert (spool.read(file, 0, whole, whole) == 22.0).all()


def test_a_tile_that_a_worker_cannot_write_ends_the_run_and_is_no_fault_of_the_tile(local, spool):
    (spool.folder / "tile-000000.bin").mkdir()  # a file cannot be put there
    with pytest.raises(OutputError, match="a tile cannot be written .* make room"):
        outcomes(local, portable(lambda: None), spool)


@pytest.mark.slow
def test_a_tile_that_kills_its_workers_fails_alone(local, spool):
    fused = outcomes(local, portable(lambda: os._exit(1)), spool)
    assert "killed" in str(fused[0].error)
    assert [fused[i].error for i in (1, 2, 3)] == [None] * 3


def test_without_the_extra_one_line_says_what_to_install(job, geofuse, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = geofuse(*job.arguments(job.folder / "x.tif", "--workers", "2"))
    assert done.code == 2 and len(lines(done.err)) == 1 and "geofuse[distributed]" in done.err


@pytest.mark.parametrize("where", ["tcp://127.0.0.1:{port}", "nonsense", "tcp://127.0.0.1:99999"])
def test_a_wrong_address_is_one_line_within_seconds(job, geofuse, where):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    done = geofuse(*job.arguments(job.folder / "x.tif", "--scheduler", where.format(port=port)))
    assert done.code == 2 and len(lines(done.err)) == 1 and time.monotonic() - began < 10
    assert not list(job.folder.glob(".x.tif*"))


def test_workers_and_scheduler_exclude_each_other(job, geofuse):
    done = geofuse(*job.arguments(job.folder / "x.tif", "--scheduler", "tcp://a:1", "--workers", "2"))
    assert done.code == 2 and "one of the two" in done.err


def test_without_workers_this_process_fuses():
    with cluster.tile_engine(None, None, [], "cpu") as engine:
        assert engine is fuse_here


def refusal(there, files=(), device="cpu"):
    client = SimpleNamespace(run=lambda function, *arguments, on_error: {"tcp://b:1": there})
    with pytest.raises(UsageError) as caught:
        cluster._check_workers(client, files, device)
    return str(caught.value)


def test_workers_that_cannot_do_the_job_are_refused_in_one_line(tmp_path):
    file = tmp_path / "a.tif"
    file.write_bytes(b"abc")
    here = cluster.look_around({})
    gone = cluster.look_around({str(tmp_path / "b.tif"): 3, str(file): 4})
    assert set(gone.problems) == {str(tmp_path / "b.tif"), str(file)}
    assert "shared disk" in refusal(gone)
    assert "no cuda:0" in refusal(here, device="cuda:0")
    assert "install the same" in refusal(cluster.Surroundings("geofuse 0, torch 1, numpy 2", ("cpu",), {}))
    assert "cannot load geofuse" in refusal(ModuleNotFoundError("No module named 'geofuse'"))


@pytest.mark.parametrize("workers", [1, 2, 3, 64])
def test_every_worker_has_cores_and_every_core_a_worker(workers):
    offered = os.sched_getaffinity(0)
    groups = core_groups(workers)
    assert sorted(groups) == list(range(workers)) and all(groups.values())
    assert set().union(*groups.values()) == offered
    assert sum(map(len, groups.values())) == max(workers, len(offered))


START = "from geofuse_cli.main import main; main()"


def heed_ctrl_c() -> None:
    """Undo what a process started in the background inherits: to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def begun(job, output):
    """Start a run with workers as a program; return it and its workers once a tile is finished."""
    arguments = job.arguments(output, "--tile", "16", "--workers", "2")
    process = subprocess.Popen(
        [sys.executable, "-c", START, *arguments], stderr=subprocess.PIPE, start_new_session=True, preexec_fn=heed_ctrl_c
    )
    journal = output.with_name(f".{output.name}.geofuse") / "journal.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            if '"tile' in journal.read_text():
                break
        time.sleep(0.05)
    return process, psutil.Process(process.pid).children(recursive=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_run(make_job, how):
    job = make_job(128, 128).write()
    process, workers = begun(job, job.folder / "x.tif")
    assert process.poll() is None and len(workers) >= 2
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.kill()
    err = process.communicate(timeout=60)[1].decode()
    assert not psutil.wait_procs(workers, timeout=40)[1]
    if how == signal.SIGINT:
        assert process.returncode == 130, err
        assert [line for line in lines(err) if "interrupted" in line] and "Traceback" not in err, err
