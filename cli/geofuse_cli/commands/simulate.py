"""``geofuse simulate``: a test pair from one scene."""

from __future__ import annotations

from pathlib import Path

import click

from geofuse_cli.options import (
    NameList,
    image_path,
    json_option,
    min_coverage_option,
    psf_option,
    seed_option,
    srf_option,
    wavelengths_option,
)


@click.command("simulate", short_help="Make a test pair from one image (Wald's protocol).")
@click.argument("scene", type=image_path)
@srf_option
@click.option("--ratio", type=click.IntRange(2, 40), default=4, show_default=True, help="Fine pixels a coarse pixel, along a side.")
@click.option(
    "--snr",
    type=float,
    default=35.0,
    show_default=True,
    metavar="DB",
    help="Signal-to-noise ratio of both images in dB, of each image's mean square; inf for no noise.",
)
@seed_option
@psf_option("bicubic")
@click.option(
    "--msi-bands", type=NameList(), metavar="B2,B3,...", help="The sensor's bands to make; by default all reflective ones."
)
@min_coverage_option
@click.option(
    "--crop-multiple",
    type=click.IntRange(1),
    metavar="PIXELS",
    help="Crop the scene from its top left corner to a multiple of this; by default the least that both the ratio and 16 divide.",
)
@wavelengths_option
@json_option
@click.option(
    "-o", "--output", "out_dir", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder for the files."
)
def command(
    scene: str,
    srf: str,
    ratio: int,
    snr: float,
    seed: int,
    psf: str,
    msi_bands: tuple[str, ...] | None,
    min_coverage: float,
    crop_multiple: int | None,
    wavelengths: Path | None,
    as_json: bool,
    out_dir: Path,
) -> None:
    """Make a test pair from one image (Wald's protocol).

    Writes hsi.tif (SCENE made coarse by the ratio), msi.tif (SCENE as the sensor's bands would see it) and reference.tif (SCENE
    itself, what a fusion of the two should give back) into DIR, as float32 in the scene's units. Bands without any data are left
    out.
    """
    import json

    from geofuse.simulate import IMAGES, SimulationOptions, simulate

    options = SimulationOptions(
        srf=srf,
        ratio=ratio,
        psf=psf,
        snr_db=snr,
        seed=seed,
        msi_bands=msi_bands,
        min_coverage=min_coverage,
        crop_multiple=crop_multiple,
        wavelengths=wavelengths,
    )
    pair = simulate(scene, out_dir, options)
    shapes = {f"{name}.tif": getattr(pair, name).shape for name in IMAGES}
    made = json.loads(pair.reference.attrs["GEOFUSE_SIMULATED"])
    del made["image"]
    if as_json:
        images = {name: {"path": str(out_dir / name), "shape": list(shape)} for name, shape in shapes.items()}
        click.echo(json.dumps({"images": images, **made, "notes": list(pair.notes)}))
        return
    for name, (bands, height, width) in shapes.items():
        click.echo(f"{out_dir / name}: {bands} band{'' if bands == 1 else 's'}, {height} x {width} pixels")
    noise = "no noise" if made["snr_db"] is None else f"SNR {made['snr_db']:g} dB, seed {made['seed']}"
    seen = f"{made['srf']} {', '.join(made['msi_bands'])}"
    click.echo(click.wrap_text(f"ratio {made['ratio']}, PSF {made['psf']}, {seen}, {noise}", 80, "", "  "))
    for note in pair.notes:
        click.echo(click.wrap_text(f"note: {note}", 80, "", " " * 6))
