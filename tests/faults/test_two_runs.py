"""Two runs on one output, and threads that fail."""

from __future__ import annotations

import threading

import pytest

import geofuse.io.sink as sink_module
from geofuse.errors import OutputError
from geofuse.flow.workspace import Workspace
from tests.faults.conftest import fuse


def test_the_second_run_on_an_output_is_refused_in_one_line_and_the_first_goes_on(pair, names):
    refused = []

    def second(stage, done, total):
        if (stage, done) == ("fusing tiles", 3):
            with pytest.raises(OutputError, match=r"out.tif: another run \(process \d+\) is writing it; wait for it") as caught:
                fuse(pair, resume=True)
            refused.append(str(caught.value))

    fuse(pair, report=second)
    assert len(refused) == 1 and "\n" not in refused[0] and names(pair) == {"out.tif"}


def test_the_lock_of_a_process_that_died_is_taken_over(pair, names):
    work = pair / ".out.tif.geofuse"
    work.mkdir()
    (work / "lock").write_text("999999999")
    fuse(pair, resume=True)
    assert names(pair) == {"out.tif"}


def test_another_name_for_the_same_output_is_the_same_output(pair):
    (pair / "link.tif").symlink_to(pair / "out.tif")
    with Workspace(pair / "out.tif"), pytest.raises(OutputError, match="another run"):
        fuse(pair, name="link.tif")


def test_an_error_of_the_writer_ends_the_run_with_its_own_message_and_no_thread_stays(pair, names, monkeypatch):
    original, calls = sink_module.RasterSink.write, []

    def fail(self, *window):
        calls.append(window)
        if len(calls) == 1:
            raise OutputError("the disk is on fire")
        return original(self, *window)

    monkeypatch.setattr(sink_module.RasterSink, "write", fail)
    with pytest.raises(OutputError, match="^the disk is on fire$"):
        fuse(pair)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("geofuse-")]
    assert "out.tif" not in names(pair)


def test_reading_fusing_and_writing_account_for_the_time_after_learning(pair):
    shares = fuse(pair).bottleneck
    assert set(shares) <= {"reading", "fusing", "writing"} and sum(shares.values()) == pytest.approx(1.0, abs=1e-3)
