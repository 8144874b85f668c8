"""Rename finished files into place, and clear away what writers that died have left."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_AT_CWD, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
_SIDECARS = (".aux.xml", ".ovr", ".msk")


def working_folder(final: Path) -> Path:
    """Return the hidden folder, beside an output, in which this process makes it."""
    return final.with_name(f".{final.name}.geofuse-{os.getpid()}.tmp")


def remove_leftovers(final: Path) -> None:
    """Remove the working folders for an output whose writers are no longer alive."""
    prefix, suffix = f".{final.name}.geofuse-", ".tmp"
    for folder in final.parent.iterdir():
        pid = folder.name[len(prefix) : -len(suffix)]
        if folder.name == f"{prefix}{pid}{suffix}" and pid.isdigit() and (int(pid) == os.getpid() or not _alive(int(pid))):
            aside = folder / f"old-{final.name}"
            if aside.is_dir() and not final.exists():  # died between two renames of folders: the old one goes back first
                os.replace(aside, final)
            shutil.rmtree(folder, ignore_errors=True)


def publish(files: Mapping[Path, Path], work: Path) -> None:
    """Flush finished files to the disk and rename them into place.

    Sidecar files of the old image, which would be wrong for the new one, go; if a rename fails, everything comes back.

    Parameters
    ----------
    files
        Finished file to its final path; the image first, then its header if it has one. An image and its header cannot be renamed
        at once, so the old header goes first: an image without a header cannot be misread in between.
    work
        Folder of the finished files.

    Raises
    ------
    OSError
        If a file cannot be flushed or renamed.
    """
    image = next(iter(files.values()))
    old = [image.with_name(image.name + suffix) for suffix in _SIDECARS] + [path for path in files.values() if path != image]
    for made in files:
        _flush(made)
    moved: dict[Path, Path] = {}
    try:
        for file in old:
            if file.exists():
                aside = work / f"old-{file.name}"
                os.replace(file, aside)
                moved[aside] = file
        for made, target in files.items():
            os.replace(made, target)
    except BaseException:
        for aside, file in moved.items():
            os.replace(aside, file)
        raise
    with suppress(OSError):  # not every file system can flush a folder
        _flush(image.parent)


def publish_folder(made: Path, target: Path, work: Path) -> None:
    """Flush a finished folder to the disk and rename it into place; a folder that stands there ends up in ``work``.

    Where the system can, old and new are exchanged at once. Otherwise the old one is renamed first and comes back if the second
    rename fails; a process that dies in between leaves it in its working folder, where :func:`remove_leftovers` finds it.

    Raises
    ------
    OSError
        If a file cannot be flushed or renamed.
    """
    for folder, _, files in os.walk(made):
        for name in files:
            _flush(Path(folder, name))
        with suppress(OSError):
            _flush(Path(folder))
    if not target.exists():
        os.replace(made, target)
    elif not exchange(made, target):
        aside = work / f"old-{target.name}"
        os.replace(target, aside)
        try:
            os.replace(made, target)
        except BaseException:
            os.replace(aside, target)
            raise
    with suppress(OSError):
        _flush(target.parent)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths of one file system change places at once (Linux, renameat2); False where that cannot be done."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return rename(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), _EXCHANGE) == 0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _flush(path: Path) -> None:
    """Make sure that a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
