"""``geofuse estimate``: the responses of both sensors, found from the images."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geofuse_cli.options import image_path, json_option, pair_options, psf_option

if TYPE_CHECKING:
    from geofuse.pipeline import PairOptions

_srf_option = click.option(
    "--srf",
    default="estimate",
    show_default=True,
    metavar="NAME|FILE.csv",
    help="A known response of the multispectral sensor, to estimate the PSF alone.",
)


@click.command("estimate", short_help="Estimate the spectral response and the PSF from a pair of images.")
@click.argument("hsi", type=image_path)
@click.argument("msi", type=image_path)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE.json", help="What 'run --response' reads."
)
@pair_options(without=("response", "radiometry", "mask", "change"), srf=_srf_option, psf=psf_option("estimate"))
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Also draw both.")
@json_option
def command(
    hsi: str,
    msi: str,
    output: Path,
    pair: PairOptions,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Estimate the spectral response and the PSF from a pair of images.

    HSI is the coarse hyperspectral image, MSI the fine multispectral one. The response has one row for each band of the MSI; the
    PSF says how a coarse pixel weighs the fine ones, and how far off centre.
    """
    from geofuse.align.response_file import response_text
    from geofuse.errors import UsageError
    from geofuse.io import check_output_path
    from geofuse.pipeline import refuse_overwriting_input

    if "estimate" not in (pair.srf.strip().lower(), pair.psf.strip().lower()):
        raise UsageError("nothing is left to estimate: leave out --srf, --psf or both")
    for path in (output, plot) if plot else (output,):
        check_output_path(path)
        refuse_overwriting_input(path, (hsi, msi, *pair.files))
    if plot and plot.resolve() == output.resolve():
        raise UsageError(f"{output} is asked for as the response and as its plot; give --plot a name of its own")
    attrs = pair.open(hsi, msi).attrs
    text = response_text({**attrs["responses"], "images": {"hsi": Path(hsi).name, "msi": Path(msi).name}})
    _write(output, text.encode())
    if plot:
        _draw(json.loads(text), attrs["psf"], plot)
    click.echo(text.rstrip() if as_json else "\n".join([*describe(json.loads(text), attrs["notes"]), f"written to {output}"]))


def describe(content: dict[str, Any], notes: list[str]) -> list[str]:
    """Say what was found, one line a band."""
    response = content["response"]
    known = response["bell"] is None
    lines = [] if known else ["band              centre     width      gain   unexplained"]
    for i, name in enumerate([] if known else response["band_names"]):
        centre, width = _centre_and_width(content, i)
        lines.append(f"{name[:16]:<16}{centre:>8.1f}{width:>10.1f}{response['gain'][i]:>10.4g}{response['left_over'][i]:>12.2%}")
    return [*lines, *(click.wrap_text(f"note: {note}", 80, "", " " * 6) for note in notes)]


def _axis(content: dict[str, Any]) -> tuple[list[float], str]:
    """Wavelengths in nm, or band numbers where one is unknown."""
    wavelength = content["hsi"]["wavelength_nm"]
    return (content["hsi"]["band"], "band of the HSI") if None in wavelength else (wavelength, "wavelength, nm")


def _centre_and_width(content: dict[str, Any], i: int) -> tuple[float, float]:
    """Return the bell's centre and FWHM, or mean and 2.35 standard deviations of a row without one."""
    import numpy as np

    if content["response"]["bell"][i]:
        return tuple(content["response"]["bell"][i][:2])
    axis, row = np.array(_axis(content)[0], float), np.array(content["response"]["rows"][i])
    centre = float(axis @ row / row.sum())
    return centre, 2.355 * float(np.sqrt((axis - centre) ** 2 @ row / row.sum()))


def _write(path: Path, content: bytes) -> None:
    """Put a file in place whole."""
    from geofuse.errors import OutputError

    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as err:
        partial.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {err.strerror}") from None


def _draw(content: dict[str, Any], psf_tag: str, path: Path) -> None:
    """Draw the rows with their standard errors, and the PSF."""
    import io

    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from geofuse.sensors.psf import Psf

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[2.4, 1])
    response, (axis, label) = content["response"], _axis(content)
    order = np.argsort(axis, kind="stable")
    axis = np.array(axis, float)[order]
    for i, (name, row) in enumerate(zip(response["band_names"], response["rows"], strict=True)):
        row = np.array(row)[order]
        (line,) = left.plot(axis, row, label=name, lw=1.3)
        if response["standard_error"]:
            error = np.array(response["standard_error"][i], float)[order]
            left.fill_between(axis, np.maximum(row - error, 0), row + error, color=line.get_color(), alpha=0.2, lw=0)
    left.set(xlabel=label, ylabel="weight of the HSI's band", title="spectral response, one standard error")
    if len(response["rows"]) <= 12:
        left.legend(fontsize=8)
    ratio, psf = content["ratio"], Psf.from_tag(psf_tag)
    kernel = sum(np.outer(v, u) for v, u in psf.separable_terms(ratio))
    half_y, half_x = (n / 2 / ratio for n in kernel.shape)
    shown = right.imshow(kernel, extent=(-half_x, half_x, half_y, -half_y), cmap="viridis")
    right.plot([-0.5, 0.5, 0.5, -0.5, -0.5], [-0.5, -0.5, 0.5, 0.5, -0.5], color="white", lw=1)
    right.set(xlabel="coarse pixels", title=f"PSF: {psf.label}")
    right.title.set_fontsize(9)
    figure.colorbar(shown, ax=right, shrink=0.7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    _write(path, buffer.getvalue())
