"""``geofuse srf``: which sensors are known, and what their bands look like."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geofuse_cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from geofuse.sensors import ResponseBand, SensorResponse, SensorSummary

_WIDTH = 80
_NAME_WIDTH = 14
_COLOURS = (  # upper limit in nm, colour
    (455, "blueviolet"),
    (500, "royalblue"),
    (540, "teal"),
    (585, "forestgreen"),
    (625, "darkorange"),
    (690, "red"),
    (780, "firebrick"),
    (855, "maroon"),
    (1000, "saddlebrown"),
    (1400, "darkgoldenrod"),
    (2000, "indigo"),
    (2250, "purple"),
)


@click.group("srf", short_help="List and show the spectral responses of known sensors.")
def command() -> None:
    """List and show the spectral responses of known sensors."""


@command.command("list", short_help="List the known sensors.")
@json_option
def list_command(as_json: bool) -> None:
    """List the known sensors: names for --srf, bands, and where the curves come from.

    Approximate sensors have curves made from published band edges or centres, not measured tables. Panchromatic, cirrus and
    thermal bands are known but left out of a fusion.
    """
    import dataclasses
    import json

    from geofuse.sensors import list_sensors

    sensors = list_sensors()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(sensor) for sensor in sensors]))
        return
    click.echo("\n".join(line for sensor in sensors for line in _summary_lines(sensor)))
    click.echo("\nAny of the names goes with --srf; case, dashes and spaces do not matter.\nA file works too: --srf FILE.csv")


def _summary_lines(sensor: SensorSummary) -> list[str]:
    """Write one sensor in a few lines of at most 80 columns."""
    bands = f"{len(sensor.band_names)} bands: {', '.join(sensor.band_names)}"
    if sensor.other_band_names:
        bands += f" (left out: {', '.join(sensor.other_band_names)})"
    facts = (sensor.title, bands, f"also: {', '.join(sensor.aliases)}", f"source: {sensor.source}")
    indent = " " * _NAME_WIDTH
    lines = [line for fact in facts for line in textwrap.wrap(fact, _WIDTH - _NAME_WIDTH, subsequent_indent="  ")]
    return [f"{sensor.name:<{_NAME_WIDTH}}{lines[0]}", *(indent + line for line in lines[1:])]


@command.command("show", short_help="Show the bands of a sensor, as a table or drawn.")
@click.argument("sensor", metavar="NAME|FILE.csv")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw the curves into this PNG instead.")
def show_command(sensor: str, output: Path | None) -> None:
    """Show the bands of a sensor or of a response file.

    Prints a table of centre, full width at half maximum (FWHM) and range (where the response exceeds 1 %), all in nm.
    """
    from geofuse.sensors import load_response

    response = load_response(sensor)
    if output is None:
        click.echo(_table(response))
        return
    _draw(response, output)
    click.echo(f"wrote {output}")


def _table(response: SensorResponse) -> str:
    """Write the bands as a table of at most 80 columns."""
    name_width = max(6, *(len(name) for name in response.band_names))
    lines = textwrap.wrap(response.title, _WIDTH)
    lines += textwrap.wrap(f"source: {response.source}", _WIDTH)
    lines += ["", f"{'band':<{name_width}}  {'kind':<10}  {'centre':>8}  {'FWHM':>7}  {'range':>13}  also"]
    for band in response.bands:
        low, high = band.range_nm
        numbers = f"{band.center_nm:>8.1f}  {band.fwhm_nm:>7.1f}  {f'{low:.0f}-{high:.0f}':>13}"
        lines.append(f"{band.name:<{name_width}}  {band.kind:<10}  {numbers}  {', '.join(band.aliases)}".rstrip())
    return "\n".join(lines)


def _draw(response: SensorResponse, path: Path) -> None:
    """Draw the curves, one panel for each stretch of the spectrum, into a PNG that appears when it is complete."""
    import os

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from geofuse.errors import OutputError, UsageError

    if path.suffix.lower() != ".png":
        raise UsageError(f"the curves are drawn as PNG; {path} does not end in .png")
    if not path.resolve().parent.is_dir() or path.is_dir():
        raise OutputError(f"cannot write {path}: {'it is a folder' if path.is_dir() else 'its folder does not exist'}")
    solar = [band for band in response.bands if band.kind != "thermal"]
    thermal = [band for band in response.bands if band.kind == "thermal"]
    panels = [bands for bands in (solar, thermal) if bands]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    shares = [4, 1][: len(panels)]
    for axes, bands in zip(figure.subplots(1, len(panels), width_ratios=shares, squeeze=False)[0], panels, strict=True):
        _draw_panel(axes, bands, "thermal" if bands is thermal else "")
    figure.suptitle(f"{response.title}\n", fontsize=12)
    figure.text(0.5, 0.915, f"source: {response.source}", ha="center", fontsize=8, color="0.35")
    figure.supylabel("relative response")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        figure.savefig(partial, format="png", dpi=120)
        os.replace(partial, path)
    except OSError as err:
        raise OutputError(f"cannot write {path}: {err.strerror or err}") from None
    finally:
        partial.unlink(missing_ok=True)


def _draw_panel(axes: Axes, bands: Sequence[ResponseBand], title: str) -> None:
    """Draw bands into one panel, reflective ones in colour, the others dashed and grey."""
    low, high = min(band.range_nm[0] for band in bands), max(band.range_nm[1] for band in bands)
    for k, band in enumerate(sorted(bands, key=lambda band: band.center_nm)):
        used = band.kind == "reflective"
        colour = _colour(band.center_nm) if used else "0.55"
        axes.plot(band.wavelength_nm, band.response, color=colour, ls="-" if used else "--", lw=1.4)
        label = band.name if used or band.name.lower() == band.kind else f"{band.name}\n{band.kind}"
        height = 1.03 + 0.07 * (k % 3 if len(bands) > 4 else 0)
        axes.annotate(label, (band.center_nm, height), ha="center", va="bottom", fontsize=7, color=colour if used else "0.45")
    margin = 0.03 * (high - low)
    axes.set(xlim=(low - margin, high + margin), ylim=(0, 1.4), xlabel="wavelength (nm)", title=title, yticks=[0, 0.5, 1])
    axes.title.set_fontsize(9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _colour(wavelength_nm: float) -> str:
    """Return a colour that recalls the wavelength: the eye's up to 780 nm, then browns and purples."""
    return next((name for limit, name in _COLOURS if wavelength_nm < limit), "mediumvioletred")
