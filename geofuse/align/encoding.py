"""Photographs as input: 8-bit pictures encoded for display (sRGB) are brought back to what is linear in light.

Everything else here is linear: H, R, gains and offsets. A camera's 8-bit picture is not; its encoding (IEC 61966-2-1) lifts shadows
and presses highlights together. Whether an image is such a picture is asked of the two images: on the coarse grid the leading
principal components of the HSI ought to explain the MSI linearly, so the reading that they explain better is the right one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.align.grids import plan_grids
from geofuse.align.orient import north_up
from geofuse.errors import GeofuseError, InputError, UsageError

if TYPE_CHECKING:
    import xarray as xr

ENCODINGS = ("auto", "linear", "srgb")
_FULL = 255.0
_COMPONENTS = 8
_LEAST_PIXELS = 100
_BETTER = 0.93  # how much less has to be left unexplained before an image counts as encoded
_MOST_SIDE = 256  # coarse pixels along each axis that are looked at
_ROUNDS = 5


def linear_light(hsi: xr.DataArray, msi: xr.DataArray, encoding: str = "auto") -> xr.DataArray:
    """Return the MSI linear in light.

    Parameters
    ----------
    hsi, msi
        Scenes.
    encoding
        ``"linear"`` (the MSI is returned as it is), ``"srgb"`` (it is decoded: 0 to 255 becomes 0 to 255, linear in light), or
        ``"auto"``: an image of three or four bands stored as whole numbers 0 to 255 is decoded if that leaves less unexplained.

    Returns
    -------
    DataArray
        The scene, with a line in ``attrs["notes"]`` and ``attrs["encoding"] = "srgb"`` where it was decoded.

    Raises
    ------
    UsageError
        If the encoding is none of these.
    InputError
        If an image is to be decoded that is not one of 8 bits.
    """
    if encoding not in ENCODINGS:
        raise UsageError(f"unknown encoding {encoding!r}; expected {', '.join(ENCODINGS)}")
    eight_bits = msi.attrs.get("stored_dtype") == "uint8" and msi.attrs.get("stored_scale", 1.0) == 1.0
    if encoding == "srgb" and not eight_bits:
        raise InputError(
            f"the MSI holds {msi.attrs.get('stored_dtype', msi.dtype)}; sRGB pictures hold whole numbers from 0 to 255"
        )
    if encoding == "linear" or not eight_bits:
        return msi
    why = "as asked for"
    if encoding == "auto":
        left = _unexplained(hsi, msi) if msi.sizes["band"] in (3, 4) else None
        if left is None or left[1] >= _BETTER * left[0]:
            return msi
        why = f"the HSI explains it better so: {left[1]:.0%} of its typical contrast is left over, not {left[0]:.0%}"
    note = f"8-bit picture, decoded from sRGB to linear light ({why}; --msi-encoding linear leaves it as it is)"
    decoded = msi.copy(data=msi.data.map_blocks(decode, dtype=np.float32) if msi.chunks else decode(msi.values))
    decoded.attrs.update(notes=[*msi.attrs.get("notes", ()), note], encoding="srgb")
    return decoded


def decode(values: np.ndarray) -> np.ndarray:
    """Turn sRGB values, 0 to 255, into values linear in light on the same scale; float32."""
    v = np.asarray(values, np.float32) / np.float32(_FULL)
    return (np.where(v <= 0.04045, v / 12.92, ((np.maximum(v, 0) + 0.055) / 1.055) ** 2.4) * _FULL).astype(np.float32)


def encode(values: np.ndarray) -> np.ndarray:
    """Undo :func:`decode`."""
    v = np.asarray(values, np.float64) / _FULL
    return (np.where(v <= 0.0031308, v * 12.92, 1.055 * np.maximum(v, 0) ** (1 / 2.4) - 0.055) * _FULL).astype(np.float32)


def _unexplained(hsi: xr.DataArray, msi: xr.DataArray) -> tuple[float, float] | None:
    """Return what the HSI's components leave of the MSI as it is and decoded, relative; None where unknown.

    The grids are taken as they lie, without the warp that a pair may need: half a coarse pixel does not matter here.
    """
    try:
        coarse, coarse_grid, _ = north_up(hsi, "the HSI")
        fine, fine_grid, _ = north_up(msi, "the MSI")
        plan = plan_grids(coarse_grid, fine_grid)
    except GeofuseError:
        return None  # the pair will say what is wrong
    if plan.why_warp:
        return None
    out, ratio = plan.output, plan.ratio
    row, col = -(-(out.row0 - plan.coarse_row) // ratio), -(-(out.col0 - plan.coarse_col) // ratio)
    height = min((out.row1 - plan.coarse_row) // ratio - row, _MOST_SIDE)
    width = min((out.col1 - plan.coarse_col) // ratio - col, _MOST_SIDE)
    if height * width < _LEAST_PIXELS or min(height, width) < 1:
        return None
    spectra = np.asarray(coarse.data[:, row : row + height, col : col + width], np.float64)
    top, left = plan.coarse_row + row * ratio, plan.coarse_col + col * ratio
    image = np.asarray(fine.data[:, top : top + height * ratio, left : left + width * ratio], np.float32)
    return _compare(spectra, image, ratio)


def _compare(spectra: np.ndarray, image: np.ndarray, ratio: int) -> tuple[float, float] | None:
    """As :func:`_unexplained`, from arrays (C, h, w) and (c, H, W)."""
    height, width = spectra.shape[1:]
    boxes = [v.reshape(len(v), height, ratio, width, ratio).mean(axis=(2, 4)) for v in (image, decode(image))]
    good = np.isfinite(spectra).any(axis=(1, 2))
    keep = np.isfinite(spectra[good]).all(axis=0) & np.isfinite(boxes[0]).all(axis=0)
    if keep.sum() < _LEAST_PIXELS:
        return None
    known = spectra[good][:, keep]
    centred = known - known.mean(axis=1, keepdims=True)
    axes = np.linalg.svd(centred @ centred.T)[0][:, : min(_COMPONENTS, good.sum())]
    design = np.concatenate([np.ones((1, keep.sum())), axes.T @ centred]).T
    as_is, decoded = (float(np.mean([_robust_left(design, band[keep].astype(np.float64)) for band in box])) for box in boxes)
    return as_is, decoded


def _robust_left(design: np.ndarray, band: np.ndarray) -> float:
    """Typical residual of a robust fit (Cauchy weights), relative to the typical deviation of the band."""
    weight = np.ones(len(band))
    size = 0.0
    for _ in range(_ROUNDS):
        root = np.sqrt(weight)
        residual = band - design @ np.linalg.lstsq(design * root[:, None], band * root, rcond=None)[0]
        size = float(np.median(np.abs(residual)))
        weight = 1 / (1 + (residual / max(3 * size, 1e-12)) ** 2)
    return size / max(float(np.median(np.abs(band - np.median(band)))), 1e-12)


def encoding_tag(msi: xr.DataArray) -> dict[str, Any]:
    """Return the pair's attribute that records the decoding, if there was one."""
    return {"msi_encoding": msi.attrs["encoding"]} if "encoding" in msi.attrs else {}
