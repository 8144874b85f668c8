"""One scene in a process of its own: ``geofuse run`` with its words in a log file."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from geofuse.batch.plan import Scene

PATIENCE_S = 20.0
"""How long a scene that is told to end may tidy up."""

_OTHER_JOB = "cannot resume"  # how `geofuse run --resume` refuses tiles of another job, or of another number of threads
_TILES_FAILED = 3  # exit code of `geofuse run --keep-going`
_PROGRESS = re.compile(r"geofuse: (?P<stage>.+) (?P<done>\d+)/(?P<total>\d+), (took|about|time left)")
_ERROR = re.compile(r"geofuse: (?:error: )?(?P<cause>.+)")

Follow = Callable[[str, int, int], None]
"""Takes the stage a scene is in, the steps done and the steps there are."""


class SceneFailed(Exception):
    """A scene did not come to its end; the message says why in one line."""


class NotStarted(SceneFailed):
    """A scene's turn came when all had been told to end."""


class Processes:
    """The processes that are running now; told to end, none starts any more."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self.stopped = False

    def start(self, command: Sequence[str], environment: Mapping[str, str], stdout: TextIO) -> subprocess.Popen[str]:
        """Start a process in a session of its own, so that a Ctrl-C at the terminal reaches it through us alone, and once."""
        with self._lock:
            if self.stopped:
                raise NotStarted("interrupted")
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=environment,
                start_new_session=True,
            )
            self._running.add(process)
            return process

    def ended(self, process: subprocess.Popen[str]) -> None:
        """Make sure that a process is gone, and forget it."""
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
        with self._lock:
            self._running.discard(process)

    def stop(self) -> None:
        """Tell all to end, as Ctrl-C would; what still runs after ``PATIENCE_S`` is killed."""
        with self._lock:
            self.stopped = True
            running = list(self._running)
        for process in running:
            process.send_signal(signal.SIGINT)
        timer = threading.Timer(PATIENCE_S, _kill, [running])
        timer.daemon = True
        timer.start()


def _kill(running: Sequence[subprocess.Popen[str]]) -> None:
    for process in running:
        if process.poll() is None:
            process.kill()


def run_scene(
    scene: Scene, command: Sequence[str], environment: Mapping[str, str], processes: Processes, follow: Follow, *, resume: bool
) -> dict[str, Any]:
    """Run a scene and return what ``geofuse run --json`` printed; its log is written beside its output.

    With ``resume``, the scene goes on from the tiles that an earlier run of it left, if they are of the same job.

    Raises
    ------
    SceneFailed
        If it did not come to its end, or left tiles without data.
    """
    try:
        return _run(scene, [*command, *scene.arguments, *(["--resume"] if resume else [])], environment, processes, follow)
    except SceneFailed as failure:
        if not resume or _OTHER_JOB not in str(failure):
            raise
    return _run(scene, [*command, *scene.arguments], environment, processes, follow)


def _run(
    scene: Scene, command: Sequence[str], environment: Mapping[str, str], processes: Processes, follow: Follow
) -> dict[str, Any]:
    for path in (*scene.outputs, scene.log):
        _make_folder(path.parent)
    last: deque[str] = deque(maxlen=50)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
        try:
            with open(scene.log, "w", encoding="utf-8") as log:
                log.write(f"$ geofuse {shlex.join(scene.arguments)}\n")
                log.flush()
                code = _converse(command, environment, answer, processes, _Listener(log, last, follow))
                log.write(f"exit code {code}\n")
        except OSError as error:
            raise SceneFailed(f"{error.filename or scene.log}: {error.strerror}") from None
        answer.seek(0)
        text = answer.read()
    if code and not (code == _TILES_FAILED and text):
        raise SceneFailed(cause(code, last))
    try:
        summary = json.loads(text)
    except ValueError:
        raise SceneFailed("ended without its summary") from None
    if code:
        raise SceneFailed(_failed_tiles(summary.get("failed_tiles", {})))
    return summary


def _failed_tiles(failed: Mapping[str, str]) -> str:
    """Say which tiles ``--keep-going`` left as no data."""
    first = next(iter(failed.items()), ("unknown", "no cause given"))
    more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
    return f"tile {first[0]} is left as no data: {first[1]}{more}"


class _Listener:
    """Writes down what a process says and picks its progress out of it."""

    def __init__(self, log: TextIO, last: deque[str], follow: Follow) -> None:
        self._log, self._last, self._follow = log, last, follow

    def hear(self, line: str) -> None:
        self._log.write(line)
        self._log.flush()
        self._last.append(line.strip())
        if progress := _PROGRESS.match(line):
            self._follow(progress["stage"], int(progress["done"]), int(progress["total"]))


def _converse(
    command: Sequence[str], environment: Mapping[str, str], answer: TextIO, processes: Processes, listener: _Listener
) -> int:
    """Run a command, hand each line of its stderr on, and return its exit code."""
    process = processes.start([*command, "--json", "--verbose", "--debug"], environment, answer)
    try:
        for line in process.stderr or ():
            listener.hear(line)
        return process.wait()
    finally:
        processes.ended(process)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SceneFailed(f"{folder} cannot be made: {error.strerror}; choose another out") from None


def cause(code: int, lines: Sequence[str]) -> str:
    """Say in one line why a process ended, from its exit code and the last lines it wrote."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}" + (", probably out of memory" if name == "SIGKILL" else "")
    said = [line for line in lines if line]
    errors = [found["cause"] for line in said if (found := _ERROR.match(line)) and not _PROGRESS.match(line)]
    if errors:
        return errors[-1]
    return f"exit code {code}: {said[-1]}" if said else f"exit code {code} without a word"
