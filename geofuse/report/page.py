"""Write the report as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from geofuse.align import Registration
from geofuse.errors import OutputError
from geofuse.evaluate.tables import MEANINGS, UNITS
from geofuse.methods.base import Report, silent
from geofuse.report.collect import SceneLike, gather_content
from geofuse.report.content import Layer, ReportContent, ReportLimits
from geofuse.report.encode import Payload, crs_name, payload

_TILES = ("psnr", "sam", "ergas", "ssim", "rmse")  # scores shown large, the first four that there are


def write_report(
    fused: SceneLike,
    out: str | Path,
    reference: SceneLike | None = None,
    hsi: SceneLike | None = None,
    msi: SceneLike | None = None,
    metrics: Any | None = None,
    *,
    limits: ReportLimits | None = None,
    report: Report = silent,
) -> ReportContent:
    """Write a page that shows a fused scene beside its inputs and its reference.

    Memory depends on the sizes in ``limits`` and on the chunks of the images, not on the size of the scene; with a reference,
    ``geofuse evaluate`` is run as well unless ``metrics`` is given or the images are large.

    Parameters
    ----------
    fused
        A path or a scene.
    out
        The page; replaced whole or not at all.
    reference
        What ``fused`` should equal, on the same pixels: gives error maps, PSNR by band and scores.
    hsi, msi
        What ``fused`` was made from; anywhere, as long as they overlap it.
    metrics
        Scores to show instead of computing them: name to value, or an object with such a mapping as ``scores``.
    limits
        How large the parts may be; the defaults keep the page under 20 MB.
    report
        Told of the progress as (stage, done, total).

    Returns
    -------
    ReportContent
        What the page shows, for :func:`geofuse.report.write_figures`.

    Raises
    ------
    GeofuseError
        If an image cannot be read, or they do not belong together.
    OutputError
        If the page cannot be written; what stood there before is untouched.
    """
    limits = limits or ReportLimits()
    content = gather_content(fused, reference=reference, hsi=hsi, msi=msi, metrics=metrics, limits=limits, report=report)
    report("writing the page", 0, 1)
    _write(Path(out), render_page(content, limits))
    report("writing the page", 1, 1)
    return content


def render_page(content: ReportContent, limits: ReportLimits | None = None) -> str:
    """Return the page as HTML text; all that comes from files is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("geofuse.report")
    made = payload(content, limits or ReportLimits())
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("report.html").render(
        title=content.title,
        summary=_summary(content),
        tiles=[row for name in _TILES for row in _score_rows(content.scores) if row["name"] == name][:4],
        scores=_score_rows(content.scores),
        layers=content.layers,
        views=content.views,
        has_errors=content.errors is not None,
        provenance=_provenance(content),
        notes=[*content.notes, *_how_it_was_made(content, made)],
        n_bands=len(content.bands),
        start_band=content.views[0].index[0],
        version=_version(),
        data=_script_json(made.data),
        css=_text("vendor", "uPlot.min.css") + _text("templates", "report.css"),
        uplot=_text("vendor", "uPlot.iife.min.js"),
        script=_text("templates", "report.js"),
        licence=_text("vendor", "uPlot-LICENSE.txt"),
    )


def _write(path: Path, page: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    except OSError as err:
        part.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {err.strerror}; choose a folder that exists and may be written") from None


def _text(folder: str, name: str) -> str:
    return (files("geofuse.report") / folder / name).read_text(encoding="utf-8")


def _version() -> str:
    from geofuse import __version__

    return __version__


def _script_json(value: Any) -> str:
    """Return JSON that is safe inside a script element, whatever its strings hold."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _summary(content: ReportContent) -> list[str]:
    """Return the facts under the title."""
    grid, wavelength = content.grid, content.bands.wavelength_nm
    crs = crs_name(grid.crs)
    size = math.hypot(grid.transform.a, grid.transform.d), math.hypot(grid.transform.b, grid.transform.e)
    unit = {"metre": " m", "degree": "°"}.get(grid.crs.units_factor[0], f" {grid.crs.units_factor[0]}") if grid.crs else ""
    pixel = f"{size[0]:.6g}{unit}" if math.isclose(*size, rel_tol=1e-6) else f"{size[0]:.6g} × {size[1]:.6g}{unit}"
    known = wavelength[np.isfinite(wavelength)]
    reach = f", {known.min():.0f}–{known.max():.0f} nm" if known.size else ""
    method = content.provenance.get("GEOFUSE_METHOD")
    preset = content.provenance.get("GEOFUSE_PRESET", "default")
    return [
        f"{grid.width} × {grid.height} pixels of {pixel}",
        crs or "no CRS",
        f"{len(content.bands)} bands{reach}",
        *([f"{content.ratio:g} × finer than the HSI"] if content.ratio else []),
        *(["standard deviations, not values"] if "GEOFUSE_UNCERTAINTY" in content.provenance else []),
        *([f"method {method}" + (f", preset {preset}" if preset != "default" else "")] if method else []),
    ]


def _score_rows(scores: Mapping[str, float]) -> list[dict[str, str]]:
    """Return name, shown value, unit and meaning of each score."""
    rows = []
    for name, value in scores.items():
        shown = "undefined" if math.isnan(value) else "exact" if value == math.inf and name.startswith("psnr") else _shown(value)
        row = {"name": name, "label": LABELS.get(name, name), "value": shown}
        rows.append(row | {"unit": UNITS.get(name, ""), "meaning": MEANINGS.get(name, "")})
    return rows


LABELS = {
    "psnr": "PSNR",
    "psnr_global": "PSNR, global",
    "rmse": "RMSE",
    "sam": "SAM",
    "ergas": "ERGAS",
    "ssim": "SSIM",
    "uiqi": "UIQI",
    "q2n": "Q2n",
    "scc": "SCC",
    "d_lambda": "D_λ",
    "d_s": "D_s",
    "qnr": "QNR",
    "hqnr": "HQNR",
}


def _shown(value: float) -> str:
    """Write a score for people: two decimals from 10 on, four significant digits below, zeros included."""
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:#.4g}"


def _provenance(content: ReportContent) -> list[tuple[str, str]]:
    """Return (label, text) of where everything comes from: the files shown, then what the fused file records, in a fixed order."""
    rows = [(f"{layer.name} file", content.sources[layer.id]) for layer in content.layers]
    tags = dict(content.provenance)
    tags.pop("GEOFUSE_RESPONSES", None)  # numbers, for programs
    if "GEOFUSE_COREGISTRATION" in tags:
        tags["GEOFUSE_COREGISTRATION"] = Registration.from_tag(tags["GEOFUSE_COREGISTRATION"]).note.partition(": ")[2]
    known = [(label, tags.pop(key)) for key, label in TAGS.items() if key in tags]
    return rows + known + sorted(tags.items())


TAGS = {
    "GEOFUSE_METHOD": "Method",
    "GEOFUSE_PRESET": "Preset",
    "GEOFUSE_PARAMETERS": "Parameters",
    "GEOFUSE_SEED": "Seed",
    "GEOFUSE_DEVICE": "Device",
    "GEOFUSE_TILES": "Tiles",
    "GEOFUSE_RATIO": "Ratio",
    "GEOFUSE_SRF": "Spectral response",
    "GEOFUSE_SRF_SOURCE": "Response from",
    "GEOFUSE_HSI_PSF": "Point spread",
    "GEOFUSE_HSI_PSF_SOURCE": "Point spread from",
    "GEOFUSE_COREGISTRATION": "Co-registration",
    "GEOFUSE_HSI": "Made from HSI",
    "GEOFUSE_MSI": "Made from MSI",
    "GEOFUSE_VERSION": "Made by geofuse",
}


def _how_it_was_made(content: ReportContent, made: Payload) -> list[str]:
    """Return what the page leaves out, rounds or takes for granted."""
    rows, cols = content.sample_rows, content.sample_cols
    step = int(rows[1] - rows[0]) if len(rows) > 1 else int(cols[1] - cols[0]) if len(cols) > 1 else 1
    which = "every pixel" if step == 1 else f"one pixel in {step} × {step}"
    lines = [f"Spectra are kept of {which} of the fused image, {len(rows)} × {len(cols)} in all, rounded to 16 bits."]
    for layer in content.layers:
        colour, single = next(iter(layer.pictures.values())), layer.quicklooks
        own = f"{layer.name}: {layer.size[1]} × {layer.size[0]} pixels, {layer.size[2]} bands"
        thinned = _drawn(layer, colour, made.picture_step), _drawn(layer, single, made.quicklook_step)
        lines.append(f"{own}; colour pictures {thinned[0]}, single bands {thinned[1]}.")
    lines.append("A thinned picture shows pixels of the image as they are, not averages.")
    lines.append("Pictures are compressed with losses; spectra, error totals and scores are not taken from them.")
    shared = [layer.name for layer in content.layers if layer.id != "msi" or content.msi_in_units]
    lines.append(
        f"Grey and colour levels run from percentile 2 to 98 of each band, over the sampled pixels at which HSI, MSI and fused "
        f"image all have data; the same for {', '.join(shared)}."
    )
    if content.layer("msi"):
        own = "" if content.msi_in_units else "The MSI is in other units: it has levels of its own, and no place in the spectra. "
        known = bool(np.isfinite(content.layer("msi").bands.wavelength_nm).all() and np.isfinite(content.bands.wavelength_nm).all())
        how = "nearest in wavelength" if known else "most correlated with it (the wavelengths are not known)"
        lines.append(f"{own}For each band the MSI shows its band {how}.")
    return lines


def _drawn(layer: Layer, picture: np.ndarray, step: int) -> str:
    share = step * layer.span[0] / picture.shape[-2]
    return "in full" if share <= 1 else f"one pixel in {share:.2g} × {share:.2g}"
