"""``geofuse doctor``: look at the installation."""

from __future__ import annotations

import dataclasses
import json

import click

from geofuse.doctor import Examination, examine
from geofuse_cli.options import json_option


@click.command("doctor", short_help="Check the installation: versions, data paths, devices, threads, memory.")
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Check the installation: versions, data paths, devices, threads, memory.

    The exit code is 0 when geofuse can work here and 2 when something that it needs is broken.
    """
    found = examine()
    if as_json:
        click.echo(json.dumps({"verdict": found.verdict} | dataclasses.asdict(found), indent=2))
    else:
        click.echo(_text(found))
    ctx.exit(2 if found.problems else 0)


def _text(found: Examination) -> str:
    """Lay the findings out in sections."""
    lines = []
    for title, rows in found.sections.items():
        lines.append(title)
        lines += [f"  {label.removesuffix('_bytes'):<22}{_value(label, value)}" for label, value in rows.items()]
    lines += [f"hint: {hint}" for hint in found.hints]
    lines += [f"problem: {problem}" for problem in found.problems]
    return "\n".join([*lines, f"verdict: {found.verdict}"])


def _value(label: str, value: str | int | bool | None) -> str:
    """Write one value for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if label.endswith("_bytes") and value is not None:
        return f"{int(value) / 1024**3:.1f} GiB"
    return "not installed" if value is None else str(value)
