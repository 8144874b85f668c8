"""``geofuse benchmark``: methods side by side on the same inputs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geofuse_cli.options import NameList, device_option, json_option, pair_options

if TYPE_CHECKING:
    from geofuse.pipeline import PairOptions

_srf_option = click.option(
    "--srf",
    metavar="NAME|FILE.csv",
    help="Sensor of the multispectral image, unless SCENE@SRF names another; for a pair also 'estimate'.",
)
_psf_option = click.option(
    "--psf",
    metavar="KIND",
    help="How a coarse pixel weighs the fine ones: gaussian[:FWHM in coarse pixels], bicubic, box, or a kernel file; by default "
    "bicubic for a SCENE, and auto as for 'geofuse run' for a --pair.",
)


class NumberList(NameList):
    """A list of numbers with commas between them, handed on as a tuple of floats."""

    name = "numbers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Split at the commas and read the numbers; ``inf`` is one."""
        try:
            numbers = tuple(float(text) for text in super().convert(value, param, ctx))
        except ValueError:
            numbers = (math.nan,)
        if any(map(math.isnan, numbers)):
            self.fail(f"{value!r} is not a list of numbers; write them with commas between them, such as 35,25", param, ctx)
        return numbers


@click.command("benchmark", short_help="Compare methods on the same inputs: scores, seconds, memory.")
@click.argument("scenes", nargs=-1, metavar="[SCENE[@SRF]]...")
@click.option(
    "--pair", "pairs", nargs=2, multiple=True, metavar="HSI MSI[@SRF]", help="A real pair, without reference; repeatable."
)
@click.option(
    "--methods", type=NameList(), required=True, metavar="A,B:PRESET,...", help="Methods to compare, as for 'run --method'."
)
@click.option("--ratio", type=click.IntRange(2, 40), default=4, show_default=True, help="Fine pixels a coarse pixel, along a side.")
@click.option(
    "--snr", type=NumberList(), default="35", show_default=True, metavar="DB,...", help="SNR of the simulated images in dB."
)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="How many seeds, of the noise and the method.")
@click.option("--report", "pages", is_flag=True, help="Write a page for the first seed of every method on every scene as well.")
@pair_options(srf=_srf_option, psf=_psf_option)
@device_option
@json_option
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("geofuse-benchmark"),
    show_default=True,
    metavar="DIR",
    help="Folder for the results; runs that it holds are not run again.",
)
@click.pass_context
def command(
    ctx: click.Context,
    scenes: tuple[str, ...],
    pairs: tuple[tuple[str, str], ...],
    methods: tuple[str, ...],
    pair: PairOptions,
    ratio: int,
    snr: tuple[float, ...],
    seeds: int,
    pages: bool,
    device: str,
    as_json: bool,
    folder: Path,
) -> None:
    """Compare methods on the same inputs: scores, seconds, memory.

    From each SCENE a pair is simulated by Wald's protocol, as 'geofuse simulate' does, every method fuses it in a process of its
    own, and the result is measured against SCENE. A --pair is brought together as by 'geofuse run', with the options of that, and
    measured without a reference.

    Prints one table a scene: means over the seeds and their spread, seconds to learn and to fuse, peak memory, parameters of
    networks. DIR gets results.csv, results.json and results.md, and results.jsonl, from which a benchmark that was stopped
    continues when it is started again. A method that fails is a row that says why; the exit code is then 3.
    """
    import json

    from geofuse.benchmark import BenchmarkPlan, MethodChoice, PairSource, SceneSource, run_benchmark
    from geofuse.benchmark.tables import text
    from geofuse_cli.progress import Reporter

    sources: list[SceneSource | PairSource] = []
    for scene in scenes:
        path, own = split_srf(scene)
        if own is None and pair.srf is None:
            raise click.UsageError(f"no --srf for {path}: the sensor whose bands the multispectral image gets")
        sources.append(SceneSource(path, own or pair.srf or ""))
    for hsi, msi in pairs:
        path, own = split_srf(msi)
        sources.append(PairSource(Path(hsi), path, own or pair.srf))
    choices = tuple(MethodChoice.parse(method) for method in methods)
    real = replace(pair, psf=pair.psf or "auto")
    plan = BenchmarkPlan(tuple(sources), choices, ratio, snr, seeds, pair.psf or "bicubic", pair.msi_bands, device, real)
    with Reporter() as reporter:
        result = run_benchmark(plan, folder, reporter.report, pages=pages)
    click.echo(json.dumps(result.to_json()) if as_json else f"{text(result)}\n\nresults: {folder}/results.csv, .json, .md")
    ctx.exit(3 if result.failed else 0)


def split_srf(text: str) -> tuple[Path, str | None]:
    """Split ``FILE@SRF``; a file whose own name holds an @ is taken as it is."""
    name, at, srf = text.rpartition("@")
    return (Path(name), srf) if at and name and srf and not Path(text).exists() else (Path(text), None)
