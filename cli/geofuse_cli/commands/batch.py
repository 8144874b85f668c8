"""``geofuse batch``: many scenes in one go."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geofuse_cli.options import json_option

if TYPE_CHECKING:
    from geofuse.batch import BatchPlan, OptionForm

_START = [sys.executable, "-c", "from geofuse_cli.main import main; main()"]
_OWN = {"output", "as_json", "resume", "verbose", "debug", "help"}  # options of 'run' that a batch gives itself
WRITTEN = {"save_prior", "page", "write_weights", "uncertainty_output"}  # options of 'run' that name a file to write
_NAMES_OR_FILES = {"srf", "psf", "srf_bands"}  # options of 'run' that take a name or a file


@click.command("batch", short_help="Fuse many scenes: a manifest, or the DFC2018 Houston files.")
@click.argument("manifest", required=False, type=click.Path(path_type=Path))
@click.option(
    "--dfc2018",
    "contest",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="In place of a manifest: the folder of the DFC2018 Houston files; one scene for each RGB tile.",
)
@click.option(
    "--out-dir", type=click.Path(path_type=Path), metavar="DIR", help="Folder for the results; by default that of the manifest."
)
@click.option(
    "--data-dir",
    "data_dirs",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Another folder whose files the manifest may read; repeatable.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of 'run' for every scene, over its own; repeatable."
)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Scenes at once; they share the threads.")
@click.option("--resume", is_flag=True, help="Keep what an earlier batch finished, unless its inputs or options have changed.")
@click.option("--learn-once", is_flag=True, help="Learn on the first scene; the others start from its prior.")
@click.option("--dry-run", is_flag=True, help="Check everything and print the plan; run and write nothing.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    manifest: Path | None,
    contest: Path | None,
    out_dir: Path | None,
    data_dirs: tuple[Path, ...],
    settings: tuple[str, ...],
    jobs: int,
    resume: bool,
    learn_once: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fuse many scenes: a manifest, or the DFC2018 Houston files.

    MANIFEST is a CSV table or a YAML file with hsi, msi and, if wanted, out and any option of 'geofuse run' by its name: srf,
    method, msi-average and so on. Paths are relative to its folder. A * in hsi takes every file that fits, and stands for the same
    text in msi, out and the rest. Everything is checked before the first scene starts.

    Each scene has a process of its own and a log beside its result. One that fails does not stop the others; the exit code is then
    3. DIR gets summary.json, from which --resume continues.
    """
    from geofuse.batch import Roots, make_plan, plan_houston, read_manifest, run_batch
    from geofuse.batch.table import notes_text, plan_text, summary_text
    from geofuse_cli.progress import Reporter

    if (manifest is None) == (contest is None):
        raise click.UsageError("give either a manifest or --dfc2018 with the folder of the contest's files")
    if contest is not None:
        if out_dir is None:
            raise click.UsageError("--dfc2018 needs --out-dir, a folder for the results")
        found = plan_houston(contest)
        source, base, rows, notes = contest, contest, found.rows, found.notes
    else:
        source, base, rows, notes = manifest, manifest.parent, read_manifest(manifest), ()
    plan = make_plan(
        source,
        rows,
        Roots(base.absolute(), (out_dir or base).absolute(), data_dirs),
        option_forms(),
        checker(ctx),
        overrides=_overrides(settings),
        learn_once=learn_once,
        notes=notes,
    )
    if dry_run:
        click.echo(json.dumps(_plan_json(plan)) if as_json else plan_text(plan))
        return
    if plan.notes:
        click.echo(notes_text(plan.notes), err=True)
    with Reporter() as reporter:
        summary = run_batch(plan, _START, jobs=jobs, resume=resume, report=reporter.report, forget=reporter.forget)
    click.echo(json.dumps(summary.to_json()) if as_json else summary_text(summary))
    ctx.exit(3 if summary.unfinished else 0)


def option_forms() -> dict[str, OptionForm]:
    """Return the options of ``geofuse run`` as a manifest may give them, from that command itself."""
    from geofuse.batch import OptionForm
    from geofuse_cli.commands.run import command as run_command

    forms = {}
    for option in run_command.params:
        if not isinstance(option, click.Option) or option.name in _OWN:
            continue
        flag = next(name for name in option.opts if name.startswith("--"))
        kind = "input" if isinstance(option.type, click.Path) else "value"
        kind = "output" if option.name in WRITTEN else "name" if option.name in _NAMES_OR_FILES else kind
        forms[flag.removeprefix("--")] = OptionForm(flag, option.is_flag, kind, next(iter(option.secondary_opts), ""))
    return forms


def checker(ctx: click.Context) -> Callable[[Sequence[str]], None]:
    """Make the function that lets the options of ``geofuse run`` parse the arguments of a scene."""
    from geofuse.errors import UsageError
    from geofuse_cli.commands.run import command as run_command

    def check(arguments: Sequence[str]) -> None:
        try:
            run_command.make_context("run", list(arguments[1:]), parent=ctx)
        except click.UsageError as error:
            raise UsageError(error.format_message().rstrip(".")) from None

    return check


def _overrides(settings: Sequence[str]) -> dict[str, str]:
    """Split ``NAME=VALUE``."""
    overrides = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        name = name.strip().removeprefix("--").replace("_", "-")
        if not equals or not name:
            raise click.UsageError(f"--set {setting}: expected NAME=VALUE, such as method=subspace")
        if name in overrides:
            raise click.UsageError(f"--set {name} is given twice")
        overrides[name] = value.strip()
    return overrides


def _plan_json(plan: BatchPlan) -> dict[str, object]:
    """Return a plan as plain types."""
    scenes = [
        {"name": scene.name, "output": str(scene.output), "log": str(scene.log), "needs": scene.needs, "given": dict(scene.given)}
        | {"arguments": list(scene.arguments)}
        for scene in plan.scenes
    ]
    return {"source": str(plan.source), "out_dir": str(plan.roots.out), "notes": list(plan.notes), "scenes": scenes}
