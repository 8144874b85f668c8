"""Rename finished files into place, and clear away what writers that died have left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

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
