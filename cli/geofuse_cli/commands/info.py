"""``geofuse info FILE``: what an image file says of itself."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from geofuse.io.info import SceneInfo

WIDTH = 80
_LABEL = 14


@click.command("info")
@click.argument("file", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--bands", "with_bands", is_flag=True, help="List every band.")
def command(file: str, as_json: bool, with_bands: bool) -> None:
    """Print size, grid, CRS, wavelengths, no data and scale of an image.

    FILE is a GeoTIFF, a COG, an ENVI data or header file, a Zarr store, or a product's file or folder (EnMAP,
    PRISMA, EMIT, DESIS and others). No pixel is read.
    """
    from geofuse.io import describe

    info = describe(file)
    if as_json:
        click.echo(json.dumps(info.to_dict(), indent=2))
        return
    for label, text in summary(info):
        click.echo(_entry(label, text))
    if with_bands:
        click.echo()
        for line in band_table(info):
            click.echo(line)


def _entry(label: str, text: str) -> str:
    """Format one line, wrapped under its label at 80 columns."""
    indent = " " * _LABEL
    lines = textwrap.wrap(text, WIDTH - _LABEL, break_on_hyphens=False, break_long_words=False) or [""]
    return f"{label:<{_LABEL}}" + ("\n" + indent).join(lines)


def summary(info: SceneInfo) -> list[tuple[str, str]]:
    """Return (label, text) pairs that describe an image."""
    kind = "COG" if info.is_cog else info.driver
    size = "" if info.file_bytes is None else f", {_bytes(info.file_bytes)}"
    packing = [] if info.product else [info.compression.lower() if info.compression else "uncompressed"]
    storage = [*packing, f"blocks of {info.block[1]} x {info.block[0]}"]
    if info.interleave and info.bands > 1:
        raw = info.interleave in ("bsq", "bil", "bip")
        storage.insert(1, info.interleave.upper() if raw else f"{info.interleave}-interleaved")
    unit = info.unit or "units"
    rows = [
        ("File", info.path),
        *([("Product", info.product)] if info.product else []),
        ("Format", f"{kind}, {info.dtype}, {', '.join(storage)}{size}"),
        ("Size", f"{info.width} x {info.height} pixels, {info.bands} band{'s' if info.bands > 1 else ''}"),
        ("CRS", f"{info.crs_name} ({info.crs if len(info.crs) < 30 else 'no code'})" if info.crs else "none"),
        ("Pixel", f"{info.resolution[0]:.10g} x {info.resolution[1]:.10g} {unit}" + _rotation(info)),
        ("Corner", f"x {info.transform[2]:.10g}, y {info.transform[5]:.10g} (upper left)"),
        ("Extent", "x {0:.10g} to {2:.10g}, y {1:.10g} to {3:.10g}".format(*info.bounds)),
        ("Wavelengths", _wavelengths(info)),
        ("FWHM", _range(info.fwhm_nm)),
        ("Bad bands", _bad_bands(info)),
        ("No data", _no_data(info)),
        ("Scale", _scale(info)),
        ("Overviews", ", ".join(f"1:{factor}" for factor in info.overviews) or "none"),
    ]
    rows += [("Provenance" if i == 0 else "", f"{key} = {value}") for i, (key, value) in enumerate(info.provenance.items())]
    return rows + [("Note", note) for note in info.notes]


def _bytes(n: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n} bytes"


def _rotation(info: SceneInfo) -> str:
    return f", rotated by {info.rotation_deg:.4g} degrees" if abs(info.rotation_deg) > 1e-6 else ""


def _range(values: tuple[float, ...]) -> str:
    known = [v for v in values if v == v]
    if not known:
        return "unknown"
    unknown = len(values) - len(known)
    rest = f", {unknown} band{'s' if unknown > 1 else ''} unknown" if unknown else ""
    return f"{min(known):.6g} to {max(known):.6g} nm{rest}"


def _wavelengths(info: SceneInfo) -> str:
    text = _range(info.wavelength_nm)
    known = [v for v in info.wavelength_nm if v == v]
    if not known:
        return "unknown"
    order = "" if known == sorted(known) else ", not in ascending order"
    return f"{text} (from {info.wavelength_source}){order}"


def _bad_bands(info: SceneInfo) -> str:
    bad = [i for i, good in enumerate(info.good_band, 1) if not good]
    return f"{len(bad)}: {_ranges(bad)}" if bad else "none"


def _ranges(numbers: list[int]) -> str:
    """Write band numbers as ranges: 1, 2, 3, 7 as ``1-3, 7``."""
    groups: list[list[int]] = []
    for n in numbers:
        if groups and n == groups[-1][-1] + 1:
            groups[-1].append(n)
        else:
            groups.append([n])
    return ", ".join(str(g[0]) if len(g) == 1 else f"{g[0]}-{g[-1]}" for g in groups)


def _no_data(info: SceneInfo) -> str:
    marks = [f"{info.nodata:g}"] if info.nodata is not None else []
    marks += [info.mask] if info.mask else []
    return ", ".join(marks) or "not declared"


def _scale(info: SceneInfo) -> str:
    if isinstance(info.scale, tuple) or isinstance(info.offset, tuple):
        return "differs from band to band"
    if (info.scale, info.offset) == (1.0, 0.0):
        return "none (values as stored)"
    return f"value = stored x {info.scale:.10g}" + (f" {info.offset:+.10g}" if info.offset else "")


def band_table(info: SceneInfo) -> list[str]:
    """Return the lines of a table with one row a band."""
    lines = [f"{'band':>5} {'wavelength_nm':>14} {'fwhm_nm':>9}  {'use':4} name"]
    for i in range(info.bands):
        wavelength, fwhm = (f"{v:.3f}" if v == v else "-" for v in (info.wavelength_nm[i], info.fwhm_nm[i]))
        use = "good" if info.good_band[i] else "bad"
        lines.append(f"{i + 1:>5} {wavelength:>14} {fwhm:>9}  {use:4} {info.band_name[i]}"[:WIDTH])
    return lines
