"""``geofuse report``: one page that shows a fused image beside its inputs and its reference."""

from __future__ import annotations

from pathlib import Path

import click

from geofuse_cli.options import image_path, wavelengths_option


@click.command("report", short_help="Write a page that shows a fused image, its inputs and its errors.")
@click.argument("fused", type=image_path)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.html", help="Page; by default FUSED with .html.")
@click.option("--reference", type=image_path, metavar="FILE", help="What FUSED should equal.")
@click.option("--hsi", type=image_path, metavar="FILE", help="The hyperspectral image it was made from.")
@click.option("--msi", type=image_path, metavar="FILE", help="The multispectral image it was made from.")
@click.option("--png", type=click.Path(path_type=Path), metavar="DIR", help="Write the figures as pictures as well.")
@wavelengths_option
def command(
    fused: str,
    output: Path | None,
    reference: str | None,
    hsi: str | None,
    msi: str | None,
    png: Path | None,
    wavelengths: Path | None,
) -> None:
    """Write a page that shows a fused image, its inputs and its errors.

    The page is one file that needs no network: swipe between the images, look at any band, click a pixel for its spectra. With
    --reference it has error maps, PSNR by band and the scores of 'geofuse evaluate'.
    """
    from geofuse.io import open_scene
    from geofuse.pipeline import refuse_clashes
    from geofuse.report import write_figures, write_report
    from geofuse_cli.progress import Reporter

    if wavelengths is not None and hsi is None:
        raise click.UsageError("--wavelengths are those of the HSI; give the HSI with --hsi, or leave them out")
    output = output or Path(fused).with_suffix(".html")
    refuse_clashes({"the page": output}, (fused, reference, hsi, msi, wavelengths))
    coarse = open_scene(hsi, wavelengths=wavelengths) if hsi is not None else None
    with Reporter() as reporter:
        content = write_report(fused, output, reference, coarse, msi, report=reporter.report)
        paths = write_figures(content, png) if png is not None else ()
    click.echo(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")
    for path in paths:
        click.echo(f"wrote {path}")
