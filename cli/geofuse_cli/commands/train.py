"""``geofuse train``: networks for ``geofuse run --weights``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from geofuse_cli.options import Number, device_option, json_option, msi_bands_option, seed_option


@click.command("train", short_help="Train mossfuse, ddpmfus or ssdiff on scenes, for 'run --weights'.")
@click.argument("method")
@click.argument("scenes", nargs=-1, type=click.Path(path_type=Path), metavar="[SCENE]...")
@click.option(
    "--pair",
    "pairs",
    nargs=2,
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="HSI MSI",
    help="A real pair, such as MS PAN; repeatable.",
)
@click.option(
    "--val", "validation", multiple=True, type=click.Path(path_type=Path), metavar="SCENE", help="Validate on it; repeatable."
)
@click.option(
    "--val-pair",
    "validation_pairs",
    nargs=2,
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="HSI MSI",
    help="Validate on a real pair at reduced resolution; repeatable.",
)
@click.option(
    "--srf", metavar="NAME|FILE.csv", help="Sensor of the fine image ('geofuse srf list'); not for one panchromatic band."
)
@msi_bands_option
@click.option("--ratio", type=click.IntRange(2, 40), default=4, show_default=True, help="Fine pixels a coarse pixel, for scenes.")
@click.option("--psf", default="auto", show_default=True, metavar="KIND", help="Blur of the degradation; auto: bicubic for scenes.")
@click.option("--snr", "snr_db", type=Number(-100.0), metavar="DB", help="Noise on both images; none by default.")
@click.option("--steps", type=click.IntRange(1), help="Optimiser steps; by default the paper's.")
@click.option("--batch", type=click.IntRange(1), help="Patches a step; by default the paper's.")
@click.option("--patch", type=click.IntRange(8), help="Side of a patch in fine pixels; by default the paper's.")
@click.option("--learning-rate", type=Number(0.0, min_open=True), help="Highest learning rate; by default the paper's.")
@click.option(
    "--validate-every", type=click.IntRange(1), metavar="STEPS", help="Steps from one validation and checkpoint to the next."
)
@click.option(
    "--patience", type=click.IntRange(0), default=10, show_default=True, help="Validations without a better one; 0: go on."
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the method; repeatable.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint beside -o, if there is one.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE.safetensors", help="The weights, when done."
)
@seed_option
@device_option
@json_option
def command(
    method: str,
    scenes: tuple[Path, ...],
    pairs: tuple[tuple[Path, Path], ...],
    validation: tuple[Path, ...],
    validation_pairs: tuple[tuple[Path, Path], ...],
    srf: str | None,
    msi_bands: tuple[str, ...] | None,
    ratio: int,
    psf: str,
    snr_db: float | None,
    steps: int | None,
    batch: int | None,
    patch: int | None,
    learning_rate: float | None,
    validate_every: int | None,
    patience: int,
    settings: tuple[str, ...],
    resume: bool,
    output: Path,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Train METHOD on SCENEs, for 'run --weights'.

    METHOD is mossfuse, ddpmfus or ssdiff. A SCENE is a reference from which pairs are simulated, as 'geofuse simulate' does; a
    --pair is used at reduced resolution. Without --val, the right quarter of each is held back for validation.

    Beside the weights come STEM.metrics.csv and STEM.png with losses and validation scores. A checkpoint is kept until the training
    is done; --resume goes on from it.
    """
    from geofuse.train import TrainingPlan, train_method
    from geofuse_cli.progress import Reporter

    plan = TrainingPlan(
        method,
        scenes,
        pairs,
        validation,
        validation_pairs,
        srf,
        ratio,
        psf,
        snr_db,
        msi_bands,
        steps,
        batch,
        patch,
        learning_rate,
        validate_every,
        patience,
        seed,
        device,
        dict(setting(text) for text in settings),
    )
    with Reporter() as reporter:
        summary = train_method(plan, output, resume=resume, report=reporter.report)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(summary)))
        return
    scores = ", ".join(f"{name} {value:.3f}" for name, value in summary.metrics.items())
    click.echo(f"method  {summary.method}, {summary.parameters / 1e6:.2f} M parameters")
    click.echo(f"trained {summary.steps} steps in {summary.seconds:.0f} s")
    click.echo(f"best    {scores}")
    click.echo(f"output  {summary.output}")
    click.echo(f"also    {summary.metrics_csv}, {summary.plot}")


def setting(text: str) -> tuple[str, object]:
    """Read ``NAME=VALUE``; a value that JSON can read is a number, true or false (however they are written), else it is text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--set {text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value.lower() if value.lower() in ("true", "false") else value)
    except ValueError:
        return name, value
