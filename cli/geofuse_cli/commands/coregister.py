"""``geofuse coregister``: how the coarse image lies on the fine one, and the coarse image put right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geofuse_cli.options import image_path, json_option, pair_options

if TYPE_CHECKING:
    import xarray as xr

    from geofuse.pipeline import PairOptions


@click.command("coregister", short_help="Find how a hyperspectral image lies on a fine one, and put it right.")
@click.argument("hsi", type=image_path)
@click.argument("msi", type=image_path)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The hyperspectral image put right; without it, only say.")
@click.option(
    "--model",
    type=click.Choice(["auto", "shift", "affine", "smooth", "itk"]),
    default="auto",
    show_default=True,
    help="What is fitted.",
)
@pair_options(without=("coregister", "radiometry", "mask", "change"))
@json_option
def command(
    hsi: str,
    msi: str,
    output: Path | None,
    model: str,
    pair: PairOptions,
    as_json: bool,
) -> None:
    """Find how a hyperspectral image lies on a fine one, and put it right.

    HSI is the coarse hyperspectral image, MSI the fine multispectral one. The output is the HSI over the overlap of the two, on a
    grid that nests with the MSI's: a shift by whole MSI pixels moves the grid and changes no value, the rest goes into the PSF,
    which is recorded; anything else is resampled once. Nothing is moved unless it is sure and more than 0.05 HSI pixels.
    """
    from geofuse.io import check_output_path, write_scene
    from geofuse.pipeline import refuse_overwriting_input

    if output is not None:
        check_output_path(output)
        refuse_overwriting_input(output, (hsi, msi, *pair.files))
    opened = replace(pair, coregister=model).open(hsi, msi)
    found = json.loads(opened.attrs["coregistration"])
    if output is not None:
        write_scene(coarse_scene(opened), output)
        found["output"] = str(output)
    click.echo(json.dumps(found) if as_json else "\n".join(describe(found)))


def coarse_scene(pair: xr.Dataset) -> xr.DataArray:
    """Return the coarse image of a pair as a scene whose tags say how it was moved and which PSF that leaves."""
    from affine import Affine

    from geofuse.scene import BandMetadata, make_scene

    names = tuple(str(name) for name in pair["band_name"].values)
    bands = BandMetadata(pair["wavelength"].values, pair["fwhm"].values, pair["good_band"].values, names)
    transform = pair.rio.transform() @ Affine.scale(pair.attrs["ratio"])
    attrs = {key: value for key, value in pair.attrs.items() if key.startswith("stored_")}
    attrs |= {
        "GEOFUSE_PSF": pair.attrs["psf"],
        "GEOFUSE_PSF_SOURCE": pair.attrs["psf_source"],
        "GEOFUSE_COREGISTRATION": pair.attrs["coregistration"],
    }
    return make_scene(pair["hsi"].data, bands, transform, pair.rio.crs, attrs)


def describe(found: dict) -> list[str]:
    """Write the findings for people, within 80 columns."""
    if found["model"] == "none":
        return [f"not possible: {found['why']}"]
    (row, col), (x, y) = found["shift"], found["shift_m"]
    lines = [
        f"model       {found['model']}",
        f"shift       {col:+.3f} (x), {row:+.3f} (y, down) HSI pixels; {x:+.4g} m east, {y:+.4g} m north",
        f"error       {found['error'][1]:.3f} (x), {found['error'][0]:.3f} (y) HSI pixels",
        f"residual    {found['rms']:.3f} HSI pixels",
        f"windows     {found['n_agree']} of {found['n_windows']} agree",
        f"confidence  {found['confidence']:.2f}",
        f"applied     {'yes' if found['applied'] else 'no: ' + found['why']}",
    ]
    if found["instead"]:
        lines.append(f"no smooth field: {found['instead']}")
    if found["model"] != "shift":
        (a, b), (c, d) = found["slope"]
        lines.insert(2, f"slope       x {d:+.5f} along x, {c:+.5f} along y; y {b:+.5f} along x, {a:+.5f} along y")
    lines = [click.wrap_text(line, 80, "", " " * 12) if len(line) > 80 else line for line in lines]
    return [*lines, *([f"written to {found['output']}"] if "output" in found else [])]
