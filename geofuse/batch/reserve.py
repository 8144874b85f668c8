"""No two scenes of a batch write one file, and none writes what another reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from geofuse.errors import GeofuseError, OutputError, UsageError

if TYPE_CHECKING:
    from geofuse.batch.plan import BatchPlan, Scene


def check_outputs(plan: BatchPlan) -> list[GeofuseError]:
    """Return what is wrong with the files that the scenes write, one error each."""
    problems: list[GeofuseError] = []
    taken = {plan.summary_path.resolve(): "the summary of the batch"}
    read = _read_by(plan)
    for scene in plan.scenes:
        for path in written(scene):
            if (owner := taken.get(path)) is not None:
                problems.append(
                    UsageError(f"{scene.place}: {path} is written by {owner} as well; give each scene an out of its own")
                )
            elif (reader := _reader(read, path, scene)) is not None:
                problems.append(OutputError(f"{scene.place}: output {path} is an input of {reader}; choose another out"))
            taken.setdefault(path, scene.place)
        problems += _unwritable(scene, plan.roots.out)
    for path in taken:
        if inside := next((parent for parent in path.parents if parent in taken), None):
            problems.append(UsageError(f"{taken[path]}: {path} lies inside {inside}, another output; choose another out"))
    return problems


def written(scene: Scene) -> list[Path]:
    """Return all files that a scene writes, links followed."""
    paths = [*scene.outputs, scene.log]
    if scene.given.get("driver", "").lower() == "envi":
        paths.append(scene.output.with_suffix(".hdr"))
    return [path.resolve() for path in paths]


def _read_by(plan: BatchPlan) -> dict[Path, str]:
    """Return the inputs of all scenes with the place of one that reads each; priors that the batch itself learns are left out."""
    learnt = {path for scene in plan.scenes for path in scene.outputs[1:]}
    read = {}
    for scene in plan.scenes:
        for path in scene.inputs:
            if path not in learnt:
                read |= {file.resolve(): scene.place for file in with_partner(path)}
    read[plan.source.resolve()] = "the batch"
    return read


def _reader(read: dict[Path, str], path: Path, scene: Scene) -> str | None:
    """Return the place of a scene that reads ``path``, or a folder that it lies in; the scene's own prior counts too."""
    if path in (file.resolve() for file in scene.inputs):
        return scene.place
    folders = (parent for parent in (path, *path.parents) if parent in read and (parent == path or _is_product(read, parent)))
    return next((read[folder] for folder in folders), None)


def _is_product(read: dict[Path, str], folder: Path) -> bool:
    """Tell whether an input folder is an image; the folder that a batch of contest files comes from is not."""
    return read[folder] != "the batch" and folder.is_dir()


def _unwritable(scene: Scene, out: Path) -> Iterator[GeofuseError]:
    """Yield an error for each output that could not be written; folders that are missing will be made."""
    from geofuse.io import check_output_path

    for path in (*scene.outputs, scene.log):
        try:
            if path.parent.exists():
                check_output_path(path)
        except GeofuseError as error:
            yield type(error)(f"{scene.place}: {error}")


def with_partner(path: Path) -> tuple[Path, ...]:
    """Return a file and, for either file of an ENVI pair, the other one."""
    from geofuse.io.envi import find_data, find_header

    if not path.is_file():
        return (path,)
    try:
        partner = find_data(path) if path.suffix.lower() == ".hdr" else find_header(path)
    except (GeofuseError, OSError):  # no pair; the run says what is wrong with the file
        partner = None
    return (path,) if partner is None else (path, partner)
