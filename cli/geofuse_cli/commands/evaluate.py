"""``geofuse evaluate``: scores of a fused image against its reference."""

from __future__ import annotations

from pathlib import Path

import click

from geofuse_cli.options import json_option


@click.command("evaluate", short_help="Measure a fused image against its reference.")
@click.argument("fused", type=click.Path(path_type=Path))
@click.option("--reference", required=True, type=click.Path(path_type=Path), metavar="FILE", help="What FUSED should equal.")
@click.option(
    "--ratio",
    type=click.FloatRange(0.0, min_open=True),
    help="Fine pixels along a side of a coarse pixel, for ERGAS; by default what FUSED records of its own making.",
)
@json_option
@click.option("--per-band", type=click.Path(path_type=Path), metavar="FILE.csv", help="Write the scores of each band as well.")
def command(fused: Path, reference: Path, ratio: float | None, as_json: bool, per_band: Path | None) -> None:
    """Measure a fused image against its reference.

    Prints psnr (dB, mean over bands), psnr_global, rmse (in the reference's units), sam (degrees), ergas, ssim and uiqi over the
    pixels that have data in every band of both images. With --json, an infinite score is the string "inf" and one that is not
    defined is null.
    """
    import json

    from geofuse.evaluate import evaluate

    result = evaluate(fused, reference, ratio)
    if per_band is not None:
        result.write_csv(per_band)
    click.echo(json.dumps(result.to_json()) if as_json else result.to_text())
