"""``geofuse evaluate``: scores of a fused image against its reference, or against the images it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from geofuse_cli.options import Number, image_path, json_option, pair_options

if TYPE_CHECKING:
    from geofuse.pipeline import PairOptions


@click.command("evaluate", short_help="Measure a fused image against its reference or its sources.")
@click.argument("fused", type=image_path)
@click.option("--reference", type=image_path, metavar="FILE", help="What FUSED should equal.")
@click.option("--hsi", type=image_path, metavar="FILE", help="The coarse hyperspectral image FUSED was made from.")
@click.option("--msi", type=image_path, metavar="FILE", help="The fine multispectral image FUSED was made from.")
@pair_options(without=("mask", "change"), coregister="recorded")
@click.option(
    "--ratio",
    type=Number(0.0, min_open=True),
    help="Fine pixels along a side of a coarse pixel, for ERGAS; by default what FUSED records of its own making.",
)
@json_option
@click.option("--per-band", type=click.Path(path_type=Path), metavar="FILE.csv", help="Write the scores of each band as well.")
def command(
    fused: str,
    reference: str | None,
    hsi: str | None,
    msi: str | None,
    pair: PairOptions,
    ratio: float | None,
    as_json: bool,
    per_band: Path | None,
) -> None:
    """Measure a fused image against its reference or its sources.

    With --reference: psnr (dB, mean over bands), psnr_global, rmse (in the reference's units), sam (degrees), ergas, ssim, uiqi,
    q2n and scc over the pixels that have data in every band of both images.

    With --hsi and --msi, and the options that 'geofuse run' had: d_lambda, d_s, qnr, d_lambda_k and hqnr, and how far FUSED,
    made coarse and seen by the MSI's bands, is from the two images (rms in their units, and in dB of their power). In the JSON
    these are under "no_reference". Where the HSI truly lies, its PSF and an estimated response are taken from what FUSED
    records of its making, unless an option says otherwise.

    With --json, an infinite score is the string "inf" and one that is not defined is null.
    """
    import json

    from geofuse.evaluate import evaluate, evaluate_without_reference

    if (hsi is None) != (msi is None) or (pair.srf is not None and hsi is None):
        raise click.UsageError("--hsi and --msi go together, and --srf with them; give both images")
    if reference is None and hsi is None:
        raise click.UsageError("nothing to measure against; give --reference FILE, or --hsi, --msi and --srf")
    if reference is None and (per_band is not None or ratio is not None):
        raise click.UsageError("--per-band and --ratio need --reference")
    if per_band is not None and per_band.resolve() in [Path(image).resolve() for image in (fused, reference, hsi, msi) if image]:
        raise click.UsageError(f"--per-band {per_band} would be written over an image; choose another name")
    told, text = {}, []
    if reference is not None:
        result = evaluate(fused, reference, ratio)
        if per_band is not None:
            result.write_csv(per_band)
        told |= result.to_json()
        text.append(result.to_text())
    if hsi is not None and msi is not None:
        sources = evaluate_without_reference(fused, hsi, msi, pair)
        told["no_reference"] = sources.to_json()
        text.append(sources.to_text())
    click.echo(json.dumps(told) if as_json else "\n".join(text))
