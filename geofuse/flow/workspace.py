"""The hidden folder beside an output in which a run keeps what is finished, and the lock that keeps a second run out.

The folder's name follows from the output's, so that a later run finds it. A file in it is locked by the system for as long as the
process lives; the lock of a process that died is free at once, whatever killed it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from geofuse.errors import OutputError, UsageError
from geofuse.io.publish import remove_leftovers
from geofuse.journal import Journal

if TYPE_CHECKING:
    from typing import Self

_LOG = logging.getLogger(__name__)
_JOURNAL, _LOCK, _IDENTITY = "journal.jsonl", "lock", "run"


class Workspace:
    """The folder of one output; a context manager that holds the lock.

    On a clean exit the folder goes. When the ``with`` block raises, it stays if :attr:`keep` is true.
    """

    def __init__(self, output: str | Path) -> None:
        """Name the folder; nothing is made yet."""
        self.output = output
        self._final = Path(os.path.realpath(output))
        self.folder = self._final.with_name(f".{self._final.name}.geofuse")
        self.keep = False

    def __enter__(self) -> Self:
        """Make the folder and take the lock.

        Raises
        ------
        OutputError
            If another run holds the lock, or nothing can be written.
        """
        try:
            self._lock = self._locked()
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"{self.output}: cannot work in {self.folder} ({error.strerror}); choose another output") from None
        remove_leftovers(self._final)
        self.keep = (self.folder / _JOURNAL).exists()  # an earlier run's, until it is decided to start anew
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Remove the folder, or leave what a later run can go on from, and give the lock back."""
        if kind is None or not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            _LOG.warning("what is finished of %s is kept in %s: go on with --resume, or remove it", self.output, self.folder)
        self._lock.close()

    def subfolder(self, name: str) -> Path:
        """Return a folder within the workspace, made if need be."""
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    def open_journal(self, identity: Mapping[str, str], *, resume: bool) -> Journal:
        """Return the journal of the unfinished run that is to be continued, else an empty one in an empty folder.

        Parameters
        ----------
        identity
            What decides the bytes of the result: inputs, settings, versions, by name.
        resume
            Whether to go on from what is there.

        Raises
        ------
        UsageError
            If what is there was made from another input or with another setting.
        """
        path = self.folder / _JOURNAL
        begun = Journal(path).get(_IDENTITY) if resume else None
        if begun is not None:
            self._refuse_other(begun["identity"], identity)
            return Journal(path)
        self.keep = False
        for entry in self.folder.iterdir():
            if entry.name != _LOCK:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        journal = Journal(path)
        journal.add({"key": _IDENTITY, "status": "done", "identity": dict(identity)})
        return journal

    def _refuse_other(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                was, is_now = (json.dumps(values.get(name, "absent"), ensure_ascii=False)[:80] for values in (before, now))
                raise UsageError(
                    f"cannot resume {self.output}: {name} was {was} and is {is_now}; put it back, or start anew without --resume"
                )

    def _locked(self) -> BinaryIO:
        """Open and lock the lock file; made anew if another run that ended removed it meanwhile."""
        while True:
            self.folder.mkdir(exist_ok=True)
            path = self.folder / _LOCK
            try:
                lock = open(path, "a+b")  # noqa: SIM115 (held until the run ends)
            except FileNotFoundError:
                continue
            if not _try_lock(lock):
                lock.seek(0)
                who = lock.read(20).decode(errors="replace").strip()
                lock.close()
                raise OutputError(
                    f"{self.output}: another run (process {who or 'unknown'}) is writing it; wait for it, or choose another output"
                )
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock.fileno()), os.stat(path)):
                    lock.truncate(0)
                    lock.write(str(os.getpid()).encode())
                    lock.flush()
                    return lock
            lock.close()


def _try_lock(file: BinaryIO) -> bool:
    """Lock a file for this process until it closes it or dies; False if another process has it."""
    try:
        import fcntl
    except ImportError:  # Windows: a byte far beyond the content, which stays readable
        import msvcrt

        file.seek(2**30)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
