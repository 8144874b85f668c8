"""Turn the content of a report into what a page can hold: pictures as WebP, spectra as 16-bit integers, both in base64, in JSON."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geofuse.report.content import Layer, ReportContent, ReportLimits
from geofuse.report.error_map import ErrorMap

MISSING = -32768
"""The 16-bit integer that stands for no data."""

_LARGEST = 32767
_BAND_QUALITIES = (65, 55, 45, 35, 25, 15)
_PICTURE_QUALITIES = (88, 80, 70, 55, 40, 25)
_TRIALS = 6
_SMALLEST_SIDE = 16
GAP = 3.0  # a step between wavelengths this many times the usual one breaks the line
MAP_COLOURS = "viridis"
_MAP_TOP = 98  # percentile of the errors that gets the last colour


@dataclass(frozen=True)
class Payload:
    """The data of the page, as what ``json.dumps`` takes, and one in how many rows and columns of the pictures fitted in."""

    data: dict[str, Any]
    picture_step: int
    quicklook_step: int


def payload(content: ReportContent, limits: ReportLimits) -> Payload:
    """Return the data of the page; ``templates/report.js`` reads it.

    Spectra are ``value = offset + step * integer``, pixel by pixel, little-endian, with :data:`MISSING` for no data.
    """
    layers, views, errors = content.layers, content.views, content.errors
    maps = [coloured(values, error_top(values)) for values in (errors.rmse, errors.angle)] if errors else []
    levels = [layer.pictures[view.id] for layer in layers for view in views] + maps
    pictures, picture_step = encode_within(levels, limits.picture_bytes, _PICTURE_QUALITIES)
    bands = [np.broadcast_to(band, (3, *band.shape)) for layer in layers for band in layer.quicklooks]
    quicklooks, quicklook_step = encode_within(bands, limits.quicklook_bytes, _BAND_QUALITIES)
    next_picture, next_quicklook = iter(pictures), iter(quicklooks)
    grid, stretch = content.grid, content.layer("fused").stretch
    data = {
        "grid": {"height": grid.height, "width": grid.width, "transform": list(grid.transform)[:6], "crs": crs_name(grid.crs)},
        "axis": _axis(content),
        "views": [{"id": view.id, "title": view.title, "caption": view.caption} for view in views],
        "layers": [
            _layer(layer, {view.id: next(next_picture) for view in views}, [next(next_quicklook) for _ in layer.quicklooks])
            for layer in layers
        ],
        "stretch": {"low": _numbers(stretch.low), "high": _numbers(stretch.high)},
        "samples": {"rows": content.sample_rows.tolist(), "cols": content.sample_cols.tolist()},
        "spectra": [_spectra(layer) for layer in layers if layer.id != "msi" or content.msi_in_units],
        "errors": _errors(errors, list(next_picture)) if errors else None,
    }
    return Payload(data, picture_step, quicklook_step)


def crs_name(crs: Any) -> str:
    """Return a CRS as ``EPSG:32633`` where it has a code, else the name in its WKT; empty without a CRS."""
    if not crs:
        return ""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else crs.to_wkt().split('"')[1]


def band_labels(content: ReportContent) -> list[str]:
    """Return what the page calls each band: its wavelength, else its name in the file."""
    bands = content.bands
    return [f"{nm:.1f} nm" if np.isfinite(nm) else name for nm, name in zip(bands.wavelength_nm, bands.band_name, strict=True)]


def _axis(content: ReportContent) -> dict[str, Any]:
    """Return the horizontal axis of spectra: values, the order that sorts them, and after which places in it the line breaks."""
    known = bool(np.isfinite(content.bands.wavelength_nm).all())
    x = content.bands.wavelength_nm if known else np.arange(1, len(content.bands) + 1)
    order = np.argsort(x, kind="stable")
    steps = np.diff(x[order])
    usual = np.median(steps) if len(steps) else 0.0
    return {
        "title": "Wavelength (nm)" if known else "Band",
        "wavelengths": known,
        "x": _numbers(x),
        "order": order.tolist(),
        "breaks": np.flatnonzero(steps > GAP * usual).tolist() if usual > 0 else [],
        "labels": band_labels(content),
        "good": content.bands.good_band.tolist(),
    }


def _layer(layer: Layer, pictures: dict[str, str], quicklooks: list[str]) -> dict[str, Any]:
    place = np.full(len(layer.bands), -1)
    place[layer.shown] = np.arange(len(layer.shown))
    shown_as = [f"{nm:.0f} nm" if np.isfinite(nm) else f"band {i + 1}" for i, nm in enumerate(layer.bands.wavelength_nm)]
    return {
        "id": layer.id,
        "name": layer.name,
        "box": list(layer.box),
        "pictures": pictures,
        "quicklooks": quicklooks,
        "quicklook_of": np.where(layer.band_of >= 0, place[layer.band_of], -1).tolist(),
        "band_labels": [shown_as[i] for i in layer.shown],
    }


def encode_within(images: Sequence[np.ndarray], limit_bytes: int, qualities: Sequence[int]) -> tuple[list[str], int]:
    """Encode levels (3, h, w) uint8 each, at the best of the qualities at which all fit ``limit_bytes``.

    If none does, every other row and column is left out until they fit. Returns the images in base64, and one in how many rows
    and columns is left (1: all).
    """
    images, step = list(images), 1
    while True:
        large = max((max(image.shape) for image in images), default=0) > _SMALLEST_SIDE
        for quality in qualities:
            if _estimate(images, quality) > limit_bytes and large:
                continue
            encoded = [to_webp(image, quality) for image in images]
            if not large or sum(map(len, encoded)) * 3 / 4 <= limit_bytes:
                return encoded, step
        images, step = [image[:, ::2, ::2] for image in images], 2 * step


def _estimate(images: Sequence[np.ndarray], quality: int) -> float:
    """Guess the encoded bytes of all images from a few."""
    few = images[:: max(1, len(images) // _TRIALS)]
    return 0.75 * sum(len(to_webp(image, quality)) for image in few) * len(images) / max(1, len(few))


def to_webp(levels: np.ndarray, quality: int) -> str:
    """Encode levels (3, h, w) uint8 as WebP in base64; a pixel that is 0 (no data) in any channel is transparent."""
    from PIL import Image

    alpha = np.where((levels > 0).all(axis=0), 255, 0).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.dstack([*levels, alpha])).save(out, "WEBP", quality=quality, method=2, alpha_quality=100)
    return base64.b64encode(out.getvalue()).decode("ascii")


def _spectra(layer: Layer) -> dict[str, Any]:
    """Return the sampled spectra of a layer: in the fused scene's bands, the MSI's in its own; equal pixels once."""
    values = layer.sampled
    if layer.id != "msi":
        values = np.where((layer.band_of >= 0)[:, None, None], values[layer.band_of], np.nan)
    pixels, first, index = np.unique(layer.pixel_of, return_index=True, return_inverse=True)
    table = values.reshape(len(values), -1)[:, first].T  # (pixel, band)
    table[pixels < 0] = np.nan
    offset, step, stored = quantise(table)
    return {
        "id": layer.id,
        "name": layer.name,
        "bands": table.shape[1],
        "x": _numbers(layer.bands.wavelength_nm) if layer.id == "msi" else None,
        "offset": offset,
        "step": step,
        "pixel": index.ravel().tolist(),
        "data": base64.b64encode(stored.astype("<i2").tobytes()).decode("ascii"),
    }


def quantise(values: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Turn values into int16: returns offset and step (value = offset + step * stored) and what is stored, of the same shape."""
    valid = np.isfinite(values)
    if not valid.any():
        return 0.0, 1.0, np.full(values.shape, MISSING, np.int16)
    low, high = float(values[valid].min()), float(values[valid].max())
    offset, step = (low + high) / 2, max((high - low) / (2 * _LARGEST), np.finfo(float).tiny)
    stored = np.rint((np.where(valid, values, low).astype(float) - offset) / step)
    return offset, step, np.where(valid, np.clip(stored, -_LARGEST, _LARGEST), MISSING).astype(np.int16)


def _errors(errors: ErrorMap, images: list[str]) -> dict[str, Any]:
    maps = [
        {"id": "rmse", "title": "Error (RMSE over bands)", "unit": "", "top": error_top(errors.rmse), "image": images[0]},
        {"id": "angle", "title": "Spectral angle", "unit": "degrees", "top": error_top(errors.angle), "image": images[1]},
    ]
    return {"box": list(errors.box), "maps": maps, "colours": _colours(), "psnr": _numbers(errors.psnr)}


def error_top(values: np.ndarray) -> float:
    """Return the error that gets the last colour: percentile 98 of those that are known."""
    known = values[np.isfinite(values)]
    return (float(np.percentile(known, _MAP_TOP)) if known.size else 0.0) or 1.0


def coloured(values: np.ndarray, top: float) -> np.ndarray:
    """Return (3, h, w) uint8 of values from 0 to ``top``; 0 (no data) where they are NaN."""
    from matplotlib import colormaps

    rgb = colormaps[MAP_COLOURS](np.clip(np.nan_to_num(values) / top, 0, 1), bytes=True)[..., :3]
    return np.where(np.isfinite(values)[..., None], np.maximum(rgb, 1), 0).transpose(2, 0, 1)


def _colours() -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps[MAP_COLOURS](share)) for share in np.linspace(0, 1, 9)]


def _numbers(values: np.ndarray) -> list[float | None]:
    """Return floats as JSON can hold them, with 6 digits; None for those that are not finite."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in values.tolist()]
