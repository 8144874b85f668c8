"""Shows how far the job is, on stderr: a bar a stage on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import TaskID

_STAGE_WIDTH = 24  # characters; with the bar, the count and the time left it stays within 80 columns
_BAR_WIDTH = 18


def time_left_s(elapsed_s: float, done: int, total: int) -> float | None:
    """Estimate the seconds a stage still needs from its pace so far; None before anything is done."""
    return elapsed_s * (total - done) / done if done > 0 else None


def duration(seconds: float) -> str:
    """Write a duration for people: ``"8 s"``, ``"2 min 05 s"``, ``"3 h 20 min"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Reporter:
    """Takes reports of progress and shows them; used as a context manager round the job.

    Parameters
    ----------
    stream
        Where to write; stderr by default. A terminal gets bars, anything else gets lines.
    every_s
        Seconds from one line to the next where there is no terminal; a stage shorter than that is not mentioned.
    clock
        Monotonic seconds; a test passes its own.
    """

    def __init__(self, stream: TextIO | None = None, *, every_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare; nothing is written before the first report."""
        stream = sys.stderr if stream is None else stream
        self._show: _Bars | _Lines = _Bars(stream) if stream.isatty() else _Lines(stream, every_s)
        self._clock = clock
        self._stages: dict[str, tuple[float, int]] = {}  # stage -> when it began, steps done
        self._lock = threading.Lock()

    def report(self, stage: str, done: int, total: int) -> None:
        """Say that ``done`` of ``total`` steps of ``stage`` are done.

        A stage begins with its first report, and again when ``done`` falls. May be called from several threads, and as often as
        is convenient.
        """
        now = self._clock()
        with self._lock:
            began, before = self._stages.get(stage, (now, -1))
            if done == before:
                return
            if done < before:
                began = now
            self._stages[stage] = (began, done)
            self._show.report(stage, done, total, now - began)

    def forget(self, stage: str) -> None:
        """Take the bar of a stage away, of which no more will be reported; one that was never reported is no matter."""
        with self._lock:
            self._stages.pop(stage, None)
            self._show.forget(stage)

    def __enter__(self) -> Reporter:
        """Return the reporter."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the terminal as it was found."""
        self._show.close()


class _Bars:
    """One bar a stage, by rich."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_BAR_WIDTH),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[left]}"),
            console=Console(file=stream),
            refresh_per_second=4,
        )

    def report(self, stage: str, done: int, total: int, elapsed_s: float) -> None:
        """Move the stage's bar."""
        if stage not in self._tasks:
            self._progress.start()
            label = stage if len(stage) <= _STAGE_WIDTH else stage[: _STAGE_WIDTH - 3] + "..."
            self._tasks[stage] = self._progress.add_task(label.ljust(_STAGE_WIDTH), left="")
        self._progress.update(self._tasks[stage], completed=done, total=total, left=_phrase(elapsed_s, done, total))

    def forget(self, stage: str) -> None:
        """Remove the stage's bar."""
        if stage in self._tasks:
            self._progress.remove_task(self._tasks.pop(stage))

    def close(self) -> None:
        """Draw the last state and give the terminal back."""
        self._progress.stop()


class _Lines:
    """A plain line every few seconds, for logs."""

    def __init__(self, stream: TextIO, every_s: float) -> None:
        self._stream = stream
        self._every_s = every_s
        self._told: dict[str, float] = {}  # stage -> seconds from its beginning to the last line

    def report(self, stage: str, done: int, total: int, elapsed_s: float) -> None:
        """Write a line if the stage's last one is old enough, and one when a stage that was mentioned ends."""
        told = self._told.get(stage, 0.0)
        if told > elapsed_s:  # the stage began again
            told = 0.0
        if elapsed_s - told >= self._every_s or (done >= total and told > 0):
            print(f"geofuse: {stage} {done}/{total}, {_phrase(elapsed_s, done, total)}", file=self._stream, flush=True)
            told = elapsed_s
        self._told[stage] = told

    def forget(self, stage: str) -> None:
        """Let the stage begin anew if it is reported again."""
        self._told.pop(stage, None)

    def close(self) -> None:
        """Do nothing: every line is out already."""


def _phrase(elapsed_s: float, done: int, total: int) -> str:
    """Say how long the stage took, or will take."""
    if done >= total:
        return f"took {duration(elapsed_s)}"
    left = time_left_s(elapsed_s, done, total)
    return "time left unknown" if left is None else f"about {duration(left)} left"
