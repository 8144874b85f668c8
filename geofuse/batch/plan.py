"""From rows to a plan: every scene's files and options settled and checked before the first one starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geofuse.batch.manifest import Row
from geofuse.batch.paths import Roots, is_remote
from geofuse.batch.reserve import check_outputs
from geofuse.errors import GeofuseError, MissingFileError, UsageError
from geofuse.registry import unknown_name

LEARNT = "learnt.safetensors"
_FILES = ("hsi", "msi", "out")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_SHOWN_PROBLEMS = 8

Check = Callable[[Sequence[str]], None]
"""Takes the arguments of ``geofuse run`` and raises ``UsageError`` if that would refuse them."""


@dataclass(frozen=True)
class OptionForm:
    """An option of ``geofuse run`` as a manifest may give it.

    Attributes
    ----------
    flag
        As on the command line, ``--msi-average``.
    is_switch
        It takes no value there; true or false here.
    kind
        ``value``; ``input`` (a file to read), ``output`` (a file to write) or ``name`` (a name, or a file to read).
    off
        What turns a switch off that is on by itself, ``--no-mask-clouds``; empty where leaving it out does.
    """

    flag: str
    is_switch: bool = False
    kind: str = "value"
    off: str = ""


@dataclass(frozen=True)
class Scene:
    """One scene of a batch, all paths absolute.

    Attributes
    ----------
    name
        The output as the manifest gives it, relative to the folder for outputs; unique.
    place
        Where the manifest gives it.
    given
        Everything that decides the result, as text: ``hsi``, ``msi`` and the options by name.
    output, log
        Where the result and the log appear.
    arguments
        Of ``geofuse run``.
    inputs
        The files and folders it reads, but for remote ones.
    outputs
        The files it writes, the log left out: the result first.
    needs
        Name of the scene that learns the prior it starts from, or None.
    """

    name: str
    place: str
    given: Mapping[str, str]
    output: Path
    log: Path
    arguments: tuple[str, ...]
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    needs: str | None = None


@dataclass(frozen=True)
class BatchPlan:
    """Scenes to run; ``source`` is the manifest or folder they come from, ``notes`` are for the user, one line each."""

    source: Path
    roots: Roots
    scenes: tuple[Scene, ...]
    notes: tuple[str, ...] = ()

    @property
    def summary_path(self) -> Path:
        """Where the summary goes."""
        return self.roots.out / "summary.json"


def make_plan(
    source: Path,
    rows: Sequence[Row],
    roots: Roots,
    forms: Mapping[str, OptionForm],
    check: Check,
    *,
    overrides: Mapping[str, str] | None = None,
    learn_once: bool = False,
    notes: Sequence[str] = (),
) -> BatchPlan:
    """Settle and check every scene; nothing is written and no pixel is read.

    Parameters
    ----------
    source
        The manifest, for messages.
    rows
        The scenes as given.
    roots
        Where files may lie.
    forms
        The options of ``geofuse run`` that a manifest may give, by name.
    check
        Tells whether ``geofuse run`` would take the arguments of a scene.
    overrides
        Options for every scene, in place of its own; an empty text takes an option away.
    learn_once
        Let the first scene keep what it learns, and all others start from that.
    notes
        Lines for the user that go into the plan.

    Raises
    ------
    GeofuseError
        If anything is wrong with any scene; the message names all that is wrong, each with its place.
    """
    problems: dict[int, GeofuseError] = {}  # by the row
    rows = [_overridden(row, overrides or {}, forms) for row in rows]
    if learn_once:
        rows = _learning_once(rows)
    learners: dict[Path, str] = {}
    names = {}
    for i, row in enumerate(rows):
        try:
            names[i] = _output_text(row)
            if "save-prior" in row.values:
                learners[roots.output(row.place, row.values["save-prior"])] = names[i]
        except GeofuseError as error:
            problems[i] = error
    scenes = []
    for i, name in names.items():
        try:
            scenes.append(_scene(rows[i], name, roots, forms, learners, remote="allow-remote" in (overrides or {})))
            check(scenes[-1].arguments)
            _check_names(scenes[-1].given)
        except GeofuseError as error:
            told = str(error).startswith(rows[i].place)
            problems[i] = error if told else type(error)(f"{rows[i].place}: {error}")
    _raise(source, [problems[i] for i in sorted(problems)])
    plan = BatchPlan(Path(source), roots, tuple(scenes), tuple(notes))
    _raise(source, [*check_outputs(plan), *_circles(scenes)])
    return plan


def _raise(source: Path, problems: Sequence[GeofuseError]) -> None:
    """Raise one error that names every problem, of the class of the first."""
    if len(problems) == 1:
        raise type(problems[0])(f"{source}, {problems[0]}")
    if problems:
        shown = "; ".join(f"({i}) {problem}" for i, problem in enumerate(problems[:_SHOWN_PROBLEMS], 1))
        more = f"; and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
        raise type(problems[0])(f"{source}: {len(problems)} problems: {shown}{more}")


def _overridden(row: Row, overrides: Mapping[str, str], forms: Mapping[str, OptionForm]) -> Row:
    for name in overrides:
        if name not in forms:
            raise unknown_name("option of 'geofuse run'", name, forms)
    return Row(row.place, {name: value for name, value in {**row.values, **overrides}.items() if value})


def _learning_once(rows: Sequence[Row]) -> list[Row]:
    """Let the first row save a prior and the others start from it."""
    for row in rows:
        for name in ("prior", "save-prior"):
            if name in row.values:
                raise UsageError(f"{row.place}: {name} beside --learn-once, which gives it to every scene; leave one out")
    first, *others = rows
    return [
        Row(first.place, {**first.values, "save-prior": LEARNT}),
        *(Row(row.place, {**row.values, "prior": LEARNT}) for row in others),
    ]


def _output_text(row: Row) -> str:
    """Return the output as given, or its default."""
    for name in ("hsi", "msi"):
        if name not in row.values:
            raise UsageError(f"{row.place}: no {name}; give the file of the {'hyper' if name == 'hsi' else 'multi'}spectral image")
    if "out" in row.values:
        return Path(row.values["out"]).as_posix()
    driver = row.values.get("driver", "COG")
    if driver.lower() not in ("cog", "gtiff"):
        raise UsageError(f"{row.place}: no out; with driver {driver} give the name of the result")
    return f"{Path(row.values['hsi']).stem}-fused.tif"


def _scene(
    row: Row, name: str, roots: Roots, forms: Mapping[str, OptionForm], learners: Mapping[Path, str], *, remote: bool
) -> Scene:
    """Settle one scene."""
    place, values = row.place, row.values
    output = roots.output(place, values.get("out", name))
    if "uncertainty" in values and "uncertainty-output" not in values:  # said aloud, so that it is checked as any output
        beside = Path(name).with_name(f"{output.stem}-uncertainty{output.suffix}")
        values = {**values, "uncertainty-output": beside.as_posix()}
    images, inputs = [], []
    for image in ("hsi", "msi"):
        text = values[image]
        if remote and is_remote(text):
            images.append(text)
            continue
        inputs.append(_existing(roots, place, image, text))
        images.append(str(inputs[-1]))
    arguments, outputs, needs = ["run", *images, f"--output={output}"], [output], None
    for option, text in values.items():
        if option in _FILES:
            continue
        if option not in forms:
            raise unknown_name("column or option", option, [*_FILES, *forms])
        form = forms[option]
        if option == "allow-remote" and not remote:
            raise UsageError(
                f"{place}: a manifest cannot allow remote files; say --set allow-remote=yes if you trust what it names"
            )
        if form.is_switch:
            flag = form.flag if _truth(place, option, text) else form.off
            arguments += [flag] if flag else []
            continue
        if form.kind == "output":
            outputs.append(roots.output(place, text))
            text = str(outputs[-1])
        elif option == "prior" and (learnt := Path(os.path.abspath(roots.out / text))) in learners:
            inputs.append(learnt)
            needs, text = learners[learnt], str(learnt)
        elif form.kind == "input" or (form.kind == "name" and _means_file(roots, text)):
            inputs.append(_existing(roots, place, option, text))
            text = str(inputs[-1])
        arguments.append(f"{form.flag}={text}")
    given = {option: text for option, text in values.items() if option != "out"}
    log = output.with_name(f"{output.name}.log")
    return Scene(name, place, given, output, log, tuple(arguments), tuple(inputs), tuple(outputs), needs)


def _existing(roots: Roots, place: str, option: str, text: str) -> Path:
    path = roots.input(f"{place}: {option}", text)
    if not path.exists():
        raise MissingFileError(f"{place}: {option} {text}: no such file in {roots.base}; paths are relative to that folder")
    return path


def _means_file(roots: Roots, text: str) -> bool:
    """Tell whether a value that may be a name is a file: by its form, or because there is one."""
    return "/" in text or text.lower().endswith((".csv", ".txt", ".json", ".npy", ".tif")) or (roots.base / text).is_file()


def _truth(place: str, option: str, text: str) -> bool:
    if text.lower() in _TRUE + _FALSE:
        return text.lower() in _TRUE
    raise UsageError(f"{place}: {option} is {text!r}; expected true or false")


def _check_names(given: Mapping[str, str]) -> None:
    """Look up the method, the preset, the response and the PSF."""
    from geofuse.fusion import choose_options
    from geofuse.methods import METHODS
    from geofuse.sensors import Psf, load_response

    if "method" in given:
        METHODS.name_of(given["method"])
    if "preset" in given:
        name = given.get("method", "argsdiff")
        choose_options(METHODS.get(name), name, given["preset"], {})
    srf, psf = given.get("srf", "estimate"), given.get("psf", "auto")
    if srf != "estimate" and "/" not in srf and "." not in srf:
        load_response(srf)
    if psf.partition(":")[0] in ("gaussian", "bicubic", "box"):
        Psf.parse(psf)


def _circles(scenes: Sequence[Scene]) -> list[GeofuseError]:
    """Return an error for each scene that waits for itself, through whatever others."""
    needs = {scene.name: scene.needs for scene in scenes}
    problems: list[GeofuseError] = []
    for scene in scenes:
        seen, at = set(), scene.needs
        while at is not None and at not in seen and at != scene.name:
            seen.add(at)
            at = needs[at]
        if at == scene.name:
            problems.append(UsageError(f"{scene.place}: waits for a prior that waits for this scene; let one scene learn without"))
    return problems
