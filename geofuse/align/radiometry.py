"""Radiometry: gain and offset between what the two images show of the same light, band by band.

With the response R known both images ought to agree on the coarse grid, H(Y)_b = R_b X. Calibration, haze and units differ, so
H(Y)_b = g_b R_b X + o_b is fitted robustly: iteratively reweighted least squares with Huber's weights and then Tukey's, so that
clouds, change and shadows have no say. The MSI becomes (Y - o) / g, in the HSI's units; g and o are recorded, so it can be undone.

A correction is made only where the images ask for it: it has to take away three tenths of the robust misfit, to stand out of what
leaving parts of the scene out changes, and the images have to go together in the first place. Rows of R that were estimated from
the images carry gain and offset already.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import xarray as xr

from geofuse.align.blind import _coarse_pixels
from geofuse.align.blind_rows import without_noise
from geofuse.errors import InputError, UsageError
from geofuse.sensors.psf import Psf

MODES = ("auto", "off")
_HUBER = 1.345  # Huber's tuning constant: 95 % efficient for Gaussian errors
_TUKEY = 4.685  # Tukey's, likewise
_ROUNDS = 30
_GAIN_OF_FIT = 0.7  # of the misfit that may be left for a correction to be worth making
_STANDARD_ERRORS = 4.0
_LEAST_CORRELATION = 0.5
_OTHER_UNIT = 3.0


@dataclass(frozen=True)
class BandFit:
    """One band: Y = gain * R X + offset, the standard errors of both, and in words why nothing is done (empty where it is)."""

    gain: float = 1.0
    offset: float = 0.0
    gain_error: float = 0.0
    offset_error: float = 0.0
    why: str = ""


def match_radiometry(pair: xr.Dataset, mode: str = "auto") -> xr.Dataset:
    """Bring the MSI of a pair to the HSI's calibration and units, where the images ask for it.

    Returns
    -------
    Dataset
        The pair, its ``msi`` lazily corrected; ``attrs["radiometry"]`` is then JSON with ``gain`` and ``offset`` of each
        band (1 and 0 where nothing was done) and their standard errors, and ``attrs["notes"]`` says what was done. At most 16
        blocks of the MSI are read.

    Raises
    ------
    UsageError
        If the mode is neither ``"auto"`` nor ``"off"``.
    """
    if mode not in MODES:
        raise UsageError(f"unknown radiometry {mode!r}; expected {' or '.join(MODES)}")
    response = pair["response"].values
    estimated = not np.allclose(response.sum(axis=1), 1.0, atol=1e-6)
    if mode == "off" or estimated:
        return pair
    psf, ratio = Psf.from_tag(pair.attrs["psf"]), int(pair.attrs["ratio"])
    try:
        spectra, blurred, block = _coarse_pixels(pair["hsi"].data, pair["msi"].data, psf, ratio)
    except InputError:
        return pair  # too few pixels to tell
    seen = response @ without_noise(spectra)
    fits = [fit_band(x, y, block) for x, y in zip(seen, blurred, strict=True)]
    names = [str(name) or str(i + 1) for i, name in enumerate(pair["msi_band_name"].values)]
    notes = _notes(fits, names)
    gain, offset = (np.array([getattr(f, name) for f in fits]) for name in ("gain", "offset"))
    if all(f.why for f in fits):
        return pair.assign_attrs(notes=[*pair.attrs["notes"], *notes])
    data = (pair["msi"].data - offset.astype(np.float32)[:, None, None]) / gain.astype(np.float32)[:, None, None]
    tag = {name: [float(f"{getattr(f, name):.8g}") for f in fits] for name in ("gain", "offset", "gain_error", "offset_error")}
    corrected = pair.assign(msi=pair["msi"].copy(data=data))
    return corrected.assign_attrs(radiometry=json.dumps(tag), notes=[*pair.attrs["notes"], *notes])


def fit_band(seen: np.ndarray, observed: np.ndarray, block: np.ndarray) -> BandFit:
    """Fit gain and offset of one band and decide whether they are needed.

    Parameters
    ----------
    seen, observed
        R_b X and H(Y)_b (n,), float64.
    block
        (n,) int, the spatial block of each pixel; the standard errors come from leaving one out.
    """
    together = _rank_correlation(seen, observed)
    if not together > _LEAST_CORRELATION:
        return BandFit(why=f"the images go together too little there: rank correlation {together:.2f}")
    as_is = _misfit(observed - seen)
    for with_offset in (False, True):
        gain, offset, weight = _robust_line(seen, observed, with_offset)
        left = _misfit(observed - gain * seen - offset)
        if not with_offset:
            first, least = (gain, offset, weight), left
        elif left < _GAIN_OF_FIT * least:  # an offset has to earn its place, or every haze of misfit would become one
            first, least = (gain, offset, weight), left
    gain, offset, weight = first
    covariance = _covariance(seen, observed, weight, block, offset != 0.0)
    change = np.array([gain - 1.0, offset]) if offset else np.array([gain - 1.0])
    sure = float(change @ np.linalg.solve(covariance + 1e-300 * np.eye(len(change)), change)) > _STANDARD_ERRORS**2
    if gain <= 0 or least >= _GAIN_OF_FIT * as_is or not sure:
        return BandFit(why="they agree as they are" if gain > 0 else "they do not grow with each other")
    error = np.sqrt(np.diag(covariance))
    return BandFit(float(gain), float(offset), float(error[0]), float(error[1]) if len(error) > 1 else 0.0)


def _robust_line(x: np.ndarray, y: np.ndarray, with_offset: bool) -> tuple[float, float, np.ndarray]:
    """Fit y = gain x + offset by iteratively reweighted least squares: Huber's weights, then Tukey's from where these end."""
    gain = float(np.median(y) / np.median(x)) if not with_offset and np.median(x) else 1.0
    offset, weight = 0.0, np.ones(len(x))
    for i in range(_ROUNDS):
        if i or not with_offset:
            residual = y - gain * x - offset
            size = 1.4826 * float(np.median(np.abs(residual)))
            scaled = np.abs(residual) / max(size, 1e-300)
            weight = np.minimum(1.0, _HUBER / np.maximum(scaled, 1e-300))
            if i >= _ROUNDS // 2:
                weight = np.clip(1 - (scaled / _TUKEY) ** 2, 0.0, 1.0) ** 2
        mean_x, mean_y = (np.average(v, weights=weight) if with_offset else 0.0 for v in (x, y))
        new = float(weight @ ((x - mean_x) * (y - mean_y)) / max(weight @ (x - mean_x) ** 2, 1e-300))
        gain, offset = new, float(mean_y - new * mean_x)
    return gain, offset, weight


def _covariance(x: np.ndarray, y: np.ndarray, weight: np.ndarray, block: np.ndarray, with_offset: bool) -> np.ndarray:
    """Jackknife covariance of (gain, offset) over blocks, the weights held."""
    design = np.stack([x, np.ones_like(x)]) if with_offset else x[None]
    found = []
    for i in range(block.max() + 1):
        kept = np.where(block == i, 0.0, weight)
        gram = (design * kept) @ design.T
        found.append(np.linalg.lstsq(gram, (design * kept) @ y, rcond=None)[0])
    change = np.stack(found) - np.mean(found, axis=0)
    return (len(found) - 1) / len(found) * change.T @ change


def _misfit(residual: np.ndarray) -> float:
    """Robust mean square: of the seven tenths that fit best."""
    return float(np.sort(residual**2)[: max(1, int(0.7 * len(residual)))].mean())


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    ranks = [np.argsort(np.argsort(v)).astype(float) for v in (a, b)]
    return float(np.corrcoef(ranks)[0, 1]) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def _notes(fits: list[BandFit], names: list[str]) -> list[str]:
    """Say what was done, and for which bands nothing could be said."""
    notes = []
    done = [(name, f) for name, f in zip(names, fits, strict=True) if not f.why]
    if done:
        said = ", ".join(f"{name} {f.gain:.4g}" + (f" and {f.offset:+.4g}" if f.offset else "") for name, f in done)
        unit = any(not 1 / _OTHER_UNIT < f.gain < _OTHER_UNIT for _, f in done)
        why = "; the images are in different units, which this mends too" if unit else ""
        notes.append(f"radiometry: gain (and offset) of the MSI against the HSI taken out: {said}{why}")
    apart = [f"{name} ({f.why})" for name, f in zip(names, fits, strict=True) if f.why and "too little" in f.why]
    if apart:
        notes.append(f"radiometry: left as it is: {', '.join(apart)}")
    return notes
