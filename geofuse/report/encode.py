"""Turn the content of a report into what a page can hold: pictures as WebP, spectra as 16-bit integers, both in base64, in JSON."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from geofuse.report.content import Layer, ReportContent
from geofuse.report.error_map import ErrorMap

MISSING = -32768
"""The 16-bit integer that stands for no data."""

_LARGEST = 32767
_QUALITIES = (65, 55, 45, 35, 25, 15, 5)
_PICTURE_QUALITY = 88
_TRIALS = 6
GAP = 3.0  # a step between wavelengths this many times the usual one breaks the line
MAP_COLOURS = "viridis"
_MAP_TOP = 98  # percentile of the errors that gets the last colour


def payload(content: ReportContent, quicklook_bytes: int) -> dict[str, Any]:
    """Return the data of the page as what ``json.dumps`` takes; ``templates/report.js`` reads it.

    Spectra are ``value = offset + step * integer``, pixel by pixel, little-endian, with :data:`MISSING` for no data.
    """
    quicklooks = _quicklooks(content.layers, quicklook_bytes)
    return {
        "grid": {
            "height": content.grid.height,
            "width": content.grid.width,
            "transform": list(content.grid.transform)[:6],
            "crs": crs_name(content.grid.crs),
        },
        "axis": _axis(content),
        "views": [{"id": v.id, "title": v.title, "caption": v.caption} for v in content.views],
        "layers": [_layer(layer, images) for layer, images in zip(content.layers, quicklooks, strict=True)],
        "stretch": {name: _numbers(getattr(content.layer("fused").stretch, name)) for name in ("low", "high")},
        "samples": {"rows": content.sample_rows.tolist(), "cols": content.sample_cols.tolist()},
        "spectra": [_spectra(layer) for layer in content.layers if layer.id != "msi" or content.msi_in_units],
        "errors": _errors(content.errors) if content.errors else None,
    }


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


def _layer(layer: Layer, images: list[str]) -> dict[str, Any]:
    place = np.full(len(layer.bands), -1)
    place[layer.shown] = np.arange(len(layer.shown))
    shown_as = [f"{nm:.0f} nm" if np.isfinite(nm) else f"band {i + 1}" for i, nm in enumerate(layer.bands.wavelength_nm)]
    return {
        "id": layer.id,
        "name": layer.name,
        "box": list(layer.box),
        "pictures": {view: to_webp(picture, _PICTURE_QUALITY) for view, picture in layer.pictures.items()},
        "quicklooks": images,
        "quicklook_of": np.where(layer.band_of >= 0, place[layer.band_of], -1).tolist(),
        "band_labels": [shown_as[i] for i in layer.shown],
    }


def _quicklooks(layers: tuple[Layer, ...], limit_bytes: int) -> list[list[str]]:
    """Encode the single bands of all layers at the best quality at which they fit ``limit_bytes`` (the last one as it comes)."""
    for quality in _QUALITIES:
        if quality != _QUALITIES[-1] and sum(_estimate(layer.quicklooks, quality) for layer in layers) > limit_bytes:
            continue
        encoded = [[to_webp(band[None].repeat(3, 0), quality) for band in layer.quicklooks] for layer in layers]
        if quality == _QUALITIES[-1] or sum(len(image) for images in encoded for image in images) * 3 / 4 <= limit_bytes:
            break
    return encoded


def _estimate(bands: np.ndarray, quality: int) -> float:
    """Guess the encoded bytes of all bands from a few."""
    few = np.unique(np.linspace(0, len(bands) - 1, _TRIALS).round().astype(int))
    return 0.75 * np.mean([len(to_webp(bands[i][None].repeat(3, 0), quality)) for i in few]) * len(bands)


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


def _errors(errors: ErrorMap) -> dict[str, Any]:
    maps = (("rmse", "Error (RMSE over bands)", "", errors.rmse), ("angle", "Spectral angle", "degrees", errors.angle))
    drawn = []
    for name, title, unit, values in maps:
        top = error_top(values)
        image = to_webp(_coloured(values, top), _PICTURE_QUALITY)
        drawn.append({"id": name, "title": title, "unit": unit, "top": top, "image": image})
    return {"box": list(errors.box), "maps": drawn, "colours": _colours(), "psnr": _numbers(errors.psnr)}


def error_top(values: np.ndarray) -> float:
    """Return the error that gets the last colour: percentile 98 of those that are known."""
    known = values[np.isfinite(values)]
    return (float(np.percentile(known, _MAP_TOP)) if known.size else 0.0) or 1.0


def _coloured(values: np.ndarray, top: float) -> np.ndarray:
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
