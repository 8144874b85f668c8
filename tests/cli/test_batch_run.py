"""A batch runs each scene in a process of its own, writes down what became of it, and continues from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from geofuse.batch import BatchSummary, SceneResult, run_batch
from geofuse.batch.scene_process import NotStarted, Processes, cause
from geofuse.batch.table import duration, shortened, summary_text
from geofuse.errors import OutputError
from geofuse.threads import choose_threads


def test_one_scene_that_fails_does_not_stop_the_others(plan, stand_in, tools):
    summary = run_batch(plan({"a": "A", "b": "corrupt", "c": "killed", "d": "D"}), stand_in, jobs=2)
    assert tools.states(summary) == {"a": "done", "b": "failed", "c": "failed", "d": "done"}
    _, b, c, d = summary.scenes
    assert b.cause.endswith("b.hsi is corrupt") and c.cause == "ended by SIGKILL, probably out of memory"
    assert Path(d.output).read_text() == "D" and not Path(b.output).exists()
    log = Path(b.log).read_text()
    assert log.startswith("$ geofuse run ") and "is corrupt" in log and log.endswith("exit code 1\n")
    assert [scene.name for scene in summary.unfinished] == ["b.tif", "c.tif"]


def test_the_summary_on_disk_is_the_one_returned_and_nothing_else_is_left(plan, stand_in, tmp_path, tools):
    summary = run_batch(plan({"a": "A", "b": "corrupt"}), stand_in)
    found = tools.read_summary(tmp_path / "out")
    assert found["scenes"] == json.loads(json.dumps(summary.to_json()))["scenes"]
    assert found["counts"] == {"done": 1, "kept": 0, "failed": 1, "interrupted": 0, "waiting": 0}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.tif", "a.tif.log", "b.tif.log", "summary.json"}


def test_resume_redoes_only_what_failed_is_missing_or_changed_and_says_why(plan, stand_in, tmp_path, tools):
    texts = {"a": "A", "b": "corrupt", "c": "C", "d": "D", "e": "E"}
    run_batch(plan(texts), stand_in)
    (tmp_path / "out" / "c.tif").unlink()
    os.utime(tmp_path / "a.hsi")  # newer, but the same
    (tmp_path / "e.msi").write_text("other")
    again = plan({**texts, "b": "B", "f": "F"}, more={"d": {"seed": "3"}})
    before = (tmp_path / "out" / "a.tif").stat().st_mtime_ns
    summary = run_batch(again, stand_in, resume=True)
    assert tools.states(summary) == {"a": "kept", "b": "done", "c": "done", "d": "done", "e": "done", "f": "done"}
    notes = {scene.name[0]: scene.note for scene in summary.scenes}
    assert notes == {
        "a": None,
        "b": "failed before",
        "c": "c.tif is missing",
        "d": "seed changed",
        "e": "e.msi changed",
        "f": None,
    }
    assert (tmp_path / "out" / "a.tif").stat().st_mtime_ns == before
    assert set(tools.states(run_batch(again, stand_in, resume=True)).values()) == {"kept"}


def test_without_resume_everything_is_done_again(plan, stand_in, tools):
    scenes = plan({"a": "A", "b": "B"})
    run_batch(scenes, stand_in)
    assert set(tools.states(run_batch(scenes, stand_in)).values()) == {"done"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"form": 99, "scenes": []}', '{"form": 1, "scenes": [{"x": 1}]}'])
def test_a_summary_that_cannot_be_used_refuses_nothing(plan, stand_in, tmp_path, tools, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text(text)
    assert tools.states(run_batch(plan({"a": "A"}), stand_in, resume=True)) == {"a": "done"}


def test_scenes_that_need_a_prior_wait_for_it_and_start_from_it(plan, stand_in, tmp_path, tools):
    more = {"a": {"prior": "p"}, "b": {"save-prior": "p"}, "c": {"prior": "p"}}
    summary = run_batch(plan({"a": "A", "b": "B", "c": "C"}, more=more), stand_in, jobs=3)
    assert set(tools.states(summary).values()) == {"done"}
    assert (tmp_path / "out" / "a.tif").read_text() == "Alearnt"


def test_scenes_whose_prior_is_not_learnt_say_so_and_are_redone_with_it(plan, stand_in, tools):
    summary = run_batch(plan({"a": "corrupt", "b": "B", "c": "C"}, learn_once=True), stand_in, jobs=3)
    assert tools.states(summary) == {"a": "failed", "b": "failed", "c": "failed"}
    assert summary.scenes[1].cause == "starts from the prior of a.tif, which is not finished"
    mended = run_batch(plan({"a": "A", "b": "B", "c": "C"}, learn_once=True), stand_in, jobs=3, resume=True)
    assert set(tools.states(mended).values()) == {"done"}


def test_resume_lets_a_scene_go_on_from_its_tiles_and_begins_anew_where_they_are_of_another_job(plan, stand_in, tmp_path):
    scenes = plan({"a": "begun", "b": "begun by other", "c": "C"})
    run_batch(scenes, stand_in, resume=True)
    assert [(tmp_path / "out" / f"{name}.tif").read_text() for name in "abc"] == ["begun resumed", "begun by other", "C"]
    run_batch(scenes, stand_in)
    assert (tmp_path / "out" / "a.tif").read_text() == "begun"


def test_a_scene_with_tiles_left_as_no_data_has_failed_and_names_them(plan, stand_in, tools):
    summary = run_batch(plan({"a": "tiles"}, more={"a": {"keep-going": "yes"}}), stand_in)
    assert tools.states(summary) == {"a": "failed"}
    assert summary.scenes[0].cause == "tile 7 is left as no data: no memory, and 1 more"


@pytest.mark.parametrize(("jobs", "share"), [(1, 1), (2, 2), (100, 2)])
def test_jobs_share_the_threads(plan, stand_in, jobs, share):
    summary = run_batch(plan({"a": "A", "b": "B"}), stand_in, jobs=jobs)
    assert {scene.run["threads"] for scene in summary.scenes} == {str(max(1, choose_threads().count // share))}


def test_progress_tells_the_scenes_and_the_stages_of_each(plan, stand_in):
    told, forgotten = [], []
    scenes = plan({"a": "A", "b": "B"})
    run_batch(scenes, stand_in, report=lambda *step: told.append(step), forget=forgotten.append)
    assert [step for step in told if step[0] == "scenes"] == [("scenes", 0, 2), ("scenes", 1, 2), ("scenes", 2, 2)]
    assert ("a.tif: fusing tiles", 3, 4) in told
    assert set(forgotten) == {"a.tif: fusing tiles", "b.tif: fusing tiles"}


def test_a_folder_that_cannot_be_made_is_refused(plan, stand_in, tmp_path):
    scenes = plan({"a": "A"})
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        run_batch(scenes, stand_in)


@pytest.fixture
def ctrl_c_interrupts():
    """A process started in the background may have been told to ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_interrupts")
def test_ctrl_c_keeps_what_is_finished_and_ends_what_runs(plan, stand_in, tmp_path, tools):
    scenes = plan({"a": "A", "b": "slow", "c": "C"})

    def interrupt_when_b_runs():
        while not (tmp_path / "out" / "b.tif.began").exists():
            time.sleep(0.02)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt_when_b_runs)
    thread.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_batch(scenes, stand_in)
    thread.join()
    assert time.monotonic() - began < 15
    found = {scene["name"][0]: scene["state"] for scene in tools.read_summary(tmp_path / "out")["scenes"]}
    assert found == {"a": "done", "b": "interrupted", "c": "waiting"}
    again = run_batch(plan({"a": "A", "b": "B", "c": "C"}), stand_in, resume=True)
    assert tools.states(again) == {"a": "kept", "b": "done", "c": "done"}


def test_a_scene_whose_turn_comes_when_all_were_told_to_end_still_waits(plan, stand_in, tools, monkeypatch):
    def ended(*_):
        raise NotStarted("interrupted")

    monkeypatch.setattr(Processes, "start", ended)
    assert tools.states(run_batch(plan({"a": "A"}), stand_in)) == {"a": "waiting"}


@pytest.mark.usefixtures("ctrl_c_interrupts")
def test_an_interrupted_resume_forgets_nothing_that_was_finished(plan, stand_in, tmp_path, tools):
    run_batch(plan({"a": "corrupt", "b": "B"}), stand_in)
    scenes = plan({"a": "slow", "b": "B"})

    def interrupt():
        while not (tmp_path / "out" / "a.tif.began").exists():
            time.sleep(0.02)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_batch(scenes, stand_in, resume=True)
    thread.join()
    found = {scene["name"][0]: scene["state"] for scene in tools.read_summary(tmp_path / "out")["scenes"]}
    assert found["a"] == "interrupted"
    assert found["b"] in ("done", "kept")  # kept, if its turn came before the interrupt


def test_a_batch_that_is_killed_leaves_a_summary_of_what_was_finished(plan, stand_in, tmp_path, tools):
    """The killed batch is a process of its own, with the stand-in for ``geofuse``."""
    scenes = plan({"a": "A", "b": "slow", "c": "C"})
    code = f"""
import pickle, sys
from geofuse.batch import run_batch
run_batch(pickle.loads(sys.stdin.buffer.read()), {stand_in!r})
"""
    import pickle

    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    process.stdin.write(pickle.dumps(scenes))
    process.stdin.close()
    while not (tmp_path / "out" / "b.tif.began").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert tools.read_summary(tmp_path / "out")["counts"]["done"] == 1
    again = run_batch(plan({"a": "A", "b": "B", "c": "C"}), stand_in, resume=True)
    assert tools.states(again) == {"a": "kept", "b": "done", "c": "done"}


@pytest.mark.parametrize(
    ("code", "lines", "expected"),
    [
        (2, ["geofuse: warning: x", "geofuse: error: a is broken"], "a is broken"),
        (1, ["Traceback", "geofuse: internal error: KeyError: 3"], "internal error: KeyError: 3"),
        (1, ["geofuse: error: no", "geofuse: fusing tiles 3/4, took 2 s", ""], "no"),
        (1, ["Segmentation fault", ""], "exit code 1: Segmentation fault"),
        (3, [], "exit code 3 without a word"),
        (-9, ["geofuse: error: x"], "ended by SIGKILL, probably out of memory"),
        (-11, [], "ended by SIGSEGV"),
    ],
)
def test_the_cause_is_what_the_process_said_last_as_an_error(code, lines, expected):
    assert cause(code, lines) == expected


def test_the_table_fits_80_columns_whatever_the_names(tmp_path):
    scenes = [
        SceneResult("x/" * 60 + "a.tif", "done", "o", "l", seconds=12345, run={"peak_memory_bytes": 2**37}, note="seed changed"),
        SceneResult("b\n\x1b[31m.tif", "failed", "o", "l" * 300, cause="found " + "y" * 200 + " expected\x1b[0m z", seconds=0.04),
        SceneResult("c.tif", "waiting", "o", "l"),
    ]
    text = summary_text(BatchSummary(Path("m.csv"), tmp_path / "summary.json", scenes, 3700))
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text and "3 scenes: 1 done, 1 failed, 1 waiting; took 1 h 01 min" in text
    assert "run again: seed changed" in text


def test_names_and_durations_are_short():
    assert shortened("abcdefghij", 7) == "ab...ij" and shortened("abc", 7) == "abc"
    assert [duration(s) for s in (0.04, 59.96, 3599.9)] == ["0.0 s", "1 min 00 s", "1 h 00 min"]


def test_two_pairs_are_fused_by_the_real_command_line(geofuse, pairs, tools):
    folder = pairs(2)
    (folder / "m.csv").write_text(
        "hsi,msi,out,srf,psf,method,coregister\ns*/hsi.tif,s*/msi.tif,f/*.tif,camera.csv,box,bicubic,off\n"
    )
    tools.cut(folder / "s01" / "hsi.tif")
    done = geofuse("batch", folder / "m.csv", "--jobs", "2")
    assert done.code == 3, done.err
    assert (folder / "f" / "00.tif").exists() and not (folder / "f" / "01.tif").exists()
    assert max(map(len, done.out.splitlines())) <= 80
    assert "2 scenes: 1 done, 1 failed" in done.out and "truncated" in " ".join(done.out.split())
    first = tools.read_summary(folder)["scenes"][0]
    assert first["run"]["method"].startswith("bicubic") and first["run"]["output"] == first["output"]
