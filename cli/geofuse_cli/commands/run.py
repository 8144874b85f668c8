"""``geofuse run``: the main job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geofuse_cli.byte_size import ByteSize
from geofuse_cli.options import Number, device_option, image_path, json_option, pair_options, seed_option

if TYPE_CHECKING:
    from geofuse.methods.base import Report
    from geofuse.pipeline import PairOptions


@click.command(name="run")
@click.argument("hsi", type=image_path)
@click.argument("msi", type=image_path)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Result; by default HSI-fused.tif beside the MSI.")
@pair_options()
@click.option(
    "--method",
    default="argsdiff",
    show_default=True,
    help="argsdiff, subspace (learns nothing), bicubic (HSI alone), or a baseline: brovey (one fine band), gsa, sfim, glp, cnmf, "
    "hysure, fuse, miae, spectralift; with trained networks: mossfuse (or learning from the pair), ddpmfus, ssdiff.",
)
@click.option(
    "--preset",
    help="argsdiff: fast (default on the CPU), balanced (default on a GPU) or paper (30 000 training steps); miae, spectralift, "
    "mossfuse and ssdiff: fast or paper.",
)
@click.option("--tile", type=click.IntRange(16), help="Core size of a tile in fine pixels; 512, or what --memory allows.")
@click.option("--overlap", type=click.IntRange(0), help="Halo of a tile in fine pixels; by default what the method needs.")
@click.option(
    "--driver",
    type=click.Choice(["COG", "GTiff", "ENVI", "Zarr"], case_sensitive=False),
    help="Format of the result; COG, or Zarr where its name ends in .zarr.",
)
@click.option("--dtype", help="Stored type, such as float32 or int16; by default the HSI's own, with its scale.")
@click.option(
    "--scale",
    type=Number(0.0, min_open=True),
    help="value = stored * scale; by default the HSI's own, or 1 with another --dtype.",
)
@click.option("--prior", type=click.Path(path_type=Path), metavar="FILE", help="Start from networks learnt from another scene.")
@click.option("--adapt", type=Number(0.0, 1.0), help="Share of the learning that --prior still gets; 0.25 by default.")
@click.option(
    "--weights", type=click.Path(path_type=Path), metavar="FILE.safetensors", help="Trained networks, made by 'geofuse train'."
)
@click.option("--save-prior", type=click.Path(path_type=Path), metavar="FILE.safetensors", help="Keep the learnt networks.")
@click.option(
    "--write-weights", type=click.Path(path_type=Path), metavar="FILE.tif", help="Write how far the MSI is trusted, 0 to 1."
)
@click.option(
    "--uncertainty",
    type=click.IntRange(2),
    metavar="N",
    help="Also write the standard deviation of each value, from N posterior samples (subspace; argsdiff fast, balanced).",
)
@click.option(
    "--uncertainty-output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to; by default beside the result, with -uncertainty after its name.",
)
@click.option("--report", "page", type=click.Path(path_type=Path), metavar="FILE.html", help="Also write a page that shows it.")
@click.option(
    "--memory",
    type=ByteSize(),
    metavar="SIZE",
    help="Memory the process, and each of --workers, may take, such as 4GiB; tiles follow from it.",
)
@click.option("--resume", is_flag=True, help="Go on from what an earlier run of the same job has finished, if there is any.")
@click.option("--keep-going", is_flag=True, help="Leave tiles that fail as no data and list them; the exit code is then 3.")
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Fuse tiles in N processes on this machine, one a GPU or core group."
)
@click.option(
    "--scheduler",
    metavar="tcp://HOST:8786",
    help="Fuse tiles in the workers of this dask cluster, which see the inputs under the same paths (docs/cluster.md).",
)
@seed_option
@device_option
@json_option
def command(
    hsi: str,
    msi: str,
    output: Path | None,
    pair: PairOptions,
    method: str,
    preset: str | None,
    tile: int | None,
    overlap: int | None,
    driver: str | None,
    dtype: str | None,
    scale: float | None,
    prior: Path | None,
    adapt: float | None,
    weights: Path | None,
    save_prior: Path | None,
    write_weights: Path | None,
    uncertainty: int | None,
    uncertainty_output: Path | None,
    page: Path | None,
    memory: int | None,
    resume: bool,
    keep_going: bool,
    workers: int | None,
    scheduler: str | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Fuse a coarse hyperspectral image with a fine multispectral one.

    HSI is the coarse hyperspectral image, MSI the fine multispectral one: GeoTIFF, COG, ENVI, JPEG 2000, Zarr, or a product as
    published (EnMAP, PRISMA, Sentinel-2, ...). The result has the MSI's grid over the overlap of the two, and the HSI's bands,
    units and type.
    """
    from geofuse.flow.cluster import tile_engine
    from geofuse.pipeline import ExecutionOptions, FusionSettings, OutputOptions, refuse_clashes, run, uncertainty_path
    from geofuse_cli.progress import Reporter

    output = output or _beside(hsi, msi, driver)
    options = adaptation(adapt, prior)
    settings = FusionSettings(method, preset, options, tile, overlap, seed, device, prior, weights, uncertainty)
    if page is not None:  # the other outputs are checked by the run itself, which knows of no page
        files = {"the prior": save_prior, "the weights": write_weights}
        files |= {"the uncertainty": uncertainty_path(output, uncertainty_output, settings), "the page": page}
        refuse_clashes({"the result": output, **files}, (hsi, msi, *pair.files, prior, weights))
    with Reporter() as reporter:
        with tile_engine(workers, scheduler, [hsi, msi, pair.mask], device) as engine:
            summary = run(
                hsi,
                msi,
                output,
                pair_options=pair,
                settings=settings,
                output_options=OutputOptions(driver, dtype, scale),
                save_prior=save_prior,
                uncertainty_output=uncertainty_output,
                write_weights=write_weights,
                execution=ExecutionOptions(memory, resume, keep_going, engine),
                report=reporter.report,
            )
        if page is not None:
            _write_page(output, page, hsi, msi, pair, reporter.report)
    click.echo(json.dumps(summary.as_dict()) if as_json else describe(summary.as_dict()))
    click.get_current_context().exit(3 if summary.failed_tiles else 0)


def adaptation(adapt: float | None, prior: Path | None) -> dict[str, float]:
    """Return the method's option that ``--adapt`` sets."""
    if adapt is not None and prior is None:
        raise click.UsageError("--adapt says how much a prior is adapted; give the prior with --prior, or leave --adapt out")
    return {} if adapt is None else {"adaptation": adapt}


def _beside(hsi: str, msi: str, driver: str | None) -> Path:
    """Return the result's path where none is given: a GeoTIFF beside the MSI."""
    if driver in ("ENVI", "Zarr"):
        raise click.UsageError(f"with --driver {driver} give the name of the result with -o")
    return Path(msi).with_name(f"{Path(hsi).stem}-fused.tif")


def _write_page(output: Path, page: Path, hsi: str, msi: str, pair: PairOptions, report: Report) -> None:
    from geofuse.io import open_scene
    from geofuse.report import write_report

    told = {"allow_remote": pair.allow_remote, "mask_clouds": pair.mask_clouds}
    coarse = open_scene(hsi, wavelengths=pair.wavelengths, **told)
    write_report(output, page, hsi=coarse, msi=open_scene(msi, **told), report=report)


def describe(summary: dict) -> str:
    """Write the summary for people, within 80 columns."""
    seconds = ", ".join(f"{stage} {value:.1f} s" for stage, value in summary["seconds"].items())
    shares = sorted(summary["bottleneck"].items(), key=lambda item: -item[1])
    pace = ", ".join(f"{stage} {share:.0%}" for stage, share in shares if share >= 0.005)
    failed = summary["failed_tiles"]
    lines = [
        ("grid", summary["grid"]),
        ("bands", summary["bands"]),
        ("method", f"{summary['method']}, on {summary['device']}, {summary['tiles']} tile{'s' if summary['tiles'] != 1 else ''}"),
        ("srf", summary["srf"]),
        ("psf", summary["psf"]),
        *(("note", note) for note in summary["notes"] if not note.startswith("PSF:")),
        ("time", f"{sum(summary['seconds'].values()):.1f} s: {seconds}"),
        ("pace", f"set by {pace} of the time after learning"),
        ("memory", f"peak {summary['peak_memory_bytes'] / 2**30:.2f} GiB"),
        *(("failed", f"tile {index}, left as no data: {why}") for index, why in failed.items()),
        ("output", summary["output"]),
        *(("sigma", f"{summary['uncertainty'][key]}") for key in ("note", "output") if summary["uncertainty"]),
    ]
    return "\n".join(click.wrap_text(f"{name:<8}{text}", 80, "", " " * 8) for name, text in lines)
