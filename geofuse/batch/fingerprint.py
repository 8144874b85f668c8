"""What a finished scene was made from, so that a later batch can tell whether it still holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geofuse.batch.plan import Scene
from geofuse.batch.reserve import with_partner
from geofuse.result import file_hash

Fingerprint = dict[str, Any]
"""``given``: the texts that decide the result; ``files``: size, time of change and SHA-256 of each input, by path."""


def take(scene: Scene) -> Fingerprint:
    """Describe what a scene is made from; reads every input once."""
    files = {str(path): _describe(path) for path in _files(scene)}
    return {"given": dict(scene.given), "files": files}


def changes(scene: Scene, before: Mapping[str, Any]) -> str | None:
    """Say in a phrase what changed since a fingerprint was taken; None if nothing did.

    A file of the same size and time counts as the same; one of the same size only is read.
    """
    now, then = dict(scene.given), dict(before.get("given", {}))
    changed = sorted(name for name in now | then if now.get(name) != then.get(name))
    if changed:
        return f"{', '.join(changed)} changed"
    then_files = before.get("files", {})
    for path in _files(scene):
        if not _same(path, then_files.get(str(path))):
            return f"{path.name} changed"
    return None


def missing_output(scene: Scene) -> str | None:
    """Say in a phrase which output is not there; None if all are."""
    gone = next((path for path in scene.outputs if not path.exists()), None)
    return None if gone is None else f"{gone.name} is missing"


def _files(scene: Scene) -> list[Path]:
    return [file for path in scene.inputs for file in with_partner(path)]


def _same(path: Path, then: Mapping[str, Any] | None) -> bool:
    if then is None or not path.exists():
        return False
    size, changed_ns = _stat(path)
    if size != then.get("size"):
        return False
    return changed_ns == then.get("mtime_ns") or file_hash(path) == then.get("sha256")


def _describe(path: Path) -> dict[str, Any]:
    size, changed_ns = _stat(path)
    return {"size": size, "mtime_ns": changed_ns, "sha256": file_hash(path)}


def _stat(path: Path) -> tuple[int, int]:
    """Return the size in bytes and the last change in nanoseconds; of a folder, the sum and the last of its files."""
    if path.is_dir():
        stats = [file.stat() for file in path.rglob("*") if file.is_file()]
        return sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
