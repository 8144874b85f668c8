"""The response of a single panchromatic band, estimated from the two images where no table of its sensor is given.

At the coarse image's resolution a panchromatic band P is a mixture of the coarse image's bands X_k with non-negative weights,

    H(P) ~ sum_k r_k X_k,    r_k >= 0,

which non-negative least squares finds (Lawson and Hanson 1974). The weights are left as found: their sum is the radiometric gain
between the two sensors (1 where both are in the same units), and H(P) = R X holds in the units of both. There is no offset; a
method that needs one finds it itself. A faint ridge shares the weight between bands that look alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from geofuse.sensors.psf import Psf

_MAX_BLOCKS = 16
_LEAST_SHARE = 0.5  # of the PSF's weight that must fall on data
_RIDGE = 1e-5  # of the mean power of a coarse band
_LEAST_PIXELS = 4
_LEAST_EXPLAINED = 0.7  # below it the note voices a doubt


@dataclass(frozen=True)
class PanResponse:
    """An estimated response.

    Attributes
    ----------
    matrix
        (1, C) float64, not negative; its sum is the gain between the two images' units.
    explained
        Which part of the variance of H(P) it explains, at most 1; negative where it fits worse than a constant.
    n_pixels
        Number of coarse pixels it was found from.
    """

    matrix: np.ndarray
    explained: float
    n_pixels: int

    @property
    def source(self) -> str:
        """How it was found, for the provenance."""
        return f"estimated from the images by non-negative least squares on {self.n_pixels} coarse pixels"

    @property
    def note(self) -> str:
        """One line for log and summary."""
        doubt = "" if self.explained > _LEAST_EXPLAINED else "; that is little: check that both show one place and time"
        gain = f"weights add up to {self.matrix.sum():.4g}"
        return f"response: estimated from the images, explains {self.explained:.1%} of the panchromatic variance, {gain}{doubt}"


def refuse_unless_pan(msi: xr.DataArray, msi_bands: str | Sequence[str] | None, name: str) -> None:
    """Refuse an MSI without a response unless it is one band.

    Raises
    ------
    UsageError
        If the image has several bands, or bands of a sensor are named that nobody named.
    """
    if msi.sizes.get("band") != 1:
        found = f"{name} has {msi.sizes.get('band')} bands"
        raise UsageError(f"{found}, so --srf is needed: the sensor's name or a table; only one panchromatic band goes without")
    if msi_bands is not None:
        raise UsageError("--msi-bands names bands of a sensor, so --srf is needed as well; leave out both for a panchromatic band")


def estimate_pan_response(hsi: Any, pan: Any, psf: Psf, ratio: int) -> PanResponse:
    """Estimate the response of a panchromatic band to the bands of the coarse image.

    Parameters
    ----------
    hsi, pan
        (C, h, w) and (1, H, W) dask float32 on nested grids, NaN = no data. At most 16 blocks of ``pan`` are read, spread evenly.
    psf, ratio
        The operator H.

    Raises
    ------
    InputError
        If the images share too few pixels with data, or the panchromatic band grows with none of the coarse bands.
    """
    from scipy.optimize import nnls

    n_bands = hsi.shape[0]
    gram, cross = np.zeros((n_bands, n_bands)), np.zeros(n_bands)
    total = square = 0.0
    mean, count = np.zeros(n_bands), 0
    for rows, cols in _blocks(pan, ratio):
        spectra, blurred = _shared_pixels(hsi[:, rows, cols], pan[0, _fine(rows, ratio), _fine(cols, ratio)], psf, ratio)
        gram, cross, mean = gram + spectra @ spectra.T, cross + spectra @ blurred, mean + spectra.sum(axis=1)
        total, square, count = total + blurred.sum(), square + blurred @ blurred, count + len(blurred)
    if count < _LEAST_PIXELS:
        raise InputError(f"the images share {count} coarse pixels with data, expected {_LEAST_PIXELS} or more; check their no data")
    ridge = _RIDGE * np.trace(gram) / n_bands + np.finfo(float).tiny
    root = np.linalg.cholesky(gram + ridge * np.eye(n_bands))
    weights, _ = nnls(root.T, np.linalg.solve(root, cross))
    if not weights.any():
        raise InputError("the panchromatic band grows with no band of the HSI; check units and no-data values, or give --srf")
    error = square - 2 * weights @ cross + weights @ gram @ weights - (total - weights @ mean) ** 2 / count
    variance = square - total**2 / count
    explained = 1.0 if variance <= 1e-12 * square else float(1 - error / variance)
    return PanResponse(weights[None, :], explained, count)


def _blocks(pan: Any, ratio: int) -> list[tuple[slice, slice]]:
    """Choose at most 16 blocks of the fine image, as slices of the coarse one."""
    (rows, cols) = (np.concatenate([[0], np.cumsum(sizes)]) // ratio for sizes in pan.chunks[1:])
    every = [(slice(*rows[i : i + 2]), slice(*cols[j : j + 2])) for i in range(len(rows) - 1) for j in range(len(cols) - 1)]
    return [every[k] for k in np.unique(np.linspace(0, len(every) - 1, min(len(every), _MAX_BLOCKS)).round().astype(int))]


def _fine(coarse: slice, ratio: int) -> slice:
    return slice(int(coarse.start) * ratio, int(coarse.stop) * ratio)


def _shared_pixels(hsi: Any, pan: Any, psf: Psf, ratio: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the spectra (C, n) and H of the panchromatic band (n,) where both have data, float64."""
    spectra, fine = np.asarray(hsi, np.float64), np.asarray(pan, np.float64)
    valid = np.isfinite(fine)
    blurred, share = (_blur(image, psf, ratio) for image in (np.where(valid, fine, 0.0), valid.astype(np.float64)))
    keep = (share > _LEAST_SHARE) & np.isfinite(spectra).all(axis=0)
    return spectra[:, keep], blurred[keep] / share[keep]


def _blur(image: np.ndarray, psf: Psf, ratio: int) -> np.ndarray:
    """Apply H to (H, W) with zeros beyond the border: (h, w). Coarse pixel i is centred on (i + 0.5) * ratio - 0.5."""
    out = 0.0
    for along_y, along_x in psf.separable_terms(ratio):
        rows = _weighted(image.T, along_y, ratio)  # (W, h)
        out = out + _weighted(rows.T, along_x, ratio)
    return out


def _weighted(image: np.ndarray, taps: np.ndarray, ratio: int) -> np.ndarray:
    """Average the last axis of (m, n) with ``taps`` around the centre of each coarse pixel: (m, n / ratio)."""
    beyond = (len(taps) - ratio) // 2  # taps and ratio are both even or both odd
    padded = np.pad(image, ((0, 0), (max(beyond, 0), max(beyond, 0))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(taps), axis=1)
    return windows[:, max(-beyond, 0) :: ratio] @ taps
