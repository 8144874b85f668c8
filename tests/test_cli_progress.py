from __future__ import annotations

import io
import itertools
import re
import threading

import pytest

from geofuse_cli.progress import Reporter, duration, time_left_s


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (3599.7, "1 h 00 min"), (12000, "3 h 20 min")],
)
def test_durations_read_well(seconds, expected):
    assert duration(seconds) == expected


def test_the_time_left_follows_from_the_pace():
    assert time_left_s(30.0, 3, 12) == 90.0
    assert time_left_s(30.0, 12, 12) == 0.0
    assert time_left_s(30.0, 0, 12) is None


def test_away_from_a_terminal_a_line_is_written_every_ten_seconds(clock):
    stream = io.StringIO()
    with Reporter(stream, clock=clock) as reporter:
        for done in range(41):
            reporter.report("fuse tiles", done, 40)
            clock.now += 1.0
    assert stream.getvalue().splitlines() == [
        "geofuse: fuse tiles 10/40, about 30 s left",
        "geofuse: fuse tiles 20/40, about 20 s left",
        "geofuse: fuse tiles 30/40, about 10 s left",
        "geofuse: fuse tiles 40/40, took 40 s",
    ]


def test_away_from_a_terminal_a_short_stage_is_not_mentioned(clock):
    stream = io.StringIO()
    with Reporter(stream, clock=clock) as reporter:
        for done in range(10):
            reporter.report("read", done, 9)
            clock.now += 1.0
    assert stream.getvalue() == ""


def test_a_stage_that_begins_again_starts_its_clock_again(clock):
    stream = io.StringIO()
    with Reporter(stream, clock=clock) as reporter:
        for done, _ in itertools.product(range(3), range(2)):
            reporter.report("sample", done, 2)
            clock.now += 3.0
        reporter.report("sample", 0, 2)
        clock.now += 10.0
        reporter.report("sample", 1, 2)
    assert stream.getvalue().splitlines() == ["geofuse: sample 2/2, took 12 s", "geofuse: sample 1/2, about 10 s left"]


def test_a_last_report_that_is_repeated_is_not_news(clock):
    stream = io.StringIO()
    with Reporter(stream, clock=clock) as reporter:
        for done in (0, 1, 2, 2, 2):
            reporter.report("fit", done, 2)
            clock.now += 10.0
    assert stream.getvalue().count("2/2") == 1


def test_on_a_terminal_every_stage_has_a_bar_within_80_columns(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Reporter(stream, clock=clock) as reporter:
        reporter.report("read", 1, 1)
        reporter.report("train the spatial network of this scene", 0, 30000)
        clock.now += 100.0
        reporter.report("train the spatial network of this scene", 10000, 30000)
    rows = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).splitlines()  # a carriage return parts rows, too
    last = [row for row in rows if row.startswith("train")][-1]
    assert "10000/30000 about 3 min 20 s left" in last
    assert any(row.startswith("read") and "1/1" in row and "took 0 s" in row for row in rows)
    assert max(len(row.rstrip()) for row in rows) <= 80


def test_reports_may_come_from_several_threads(clock):
    stream = io.StringIO()
    with Reporter(stream, clock=clock, every_s=0.0) as reporter:

        def work(stage: str) -> None:
            for done in range(1, 51):
                reporter.report(stage, done, 50)

        workers = [threading.Thread(target=work, args=(f"stage {number}",)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 200 and all(line.startswith("geofuse: stage ") for line in lines)
