"""Scores from the mean square error of each band: psnr, rmse, ergas.

``MSE_b`` is the mean over valid pixels of the squared difference in band b; ``max_b`` and ``mean_b`` are the maximum and the
mean of the reference's valid pixels in band b. A mean that is rounding beside the band's root mean square is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geofuse.errors import UsageError
from geofuse.metrics.blocks import FLAT
from geofuse.metrics.masks import mean_where, valid_pixels


@dataclass(frozen=True)
class BandMoments:
    """What the scores of this module need of each band; arrays (band,) float64, in the reference's units."""

    mse: np.ndarray
    maximum: np.ndarray
    mean: np.ndarray


def band_moments(reference: np.ndarray, estimate: np.ndarray, valid: np.ndarray) -> BandMoments:
    """Gather the moments of (band, y, x) images over the ``valid`` (y, x) pixels, one band at a time in float64."""
    rows = []
    for ref, est in zip(reference, estimate, strict=True):
        truth = ref[valid].astype(float)
        error = est[valid] - truth
        rows.append((np.mean(error * error), truth.max(), truth.mean(), np.mean(truth * truth)))
    mse, maximum, mean, power = np.array(rows).T
    return BandMoments(mse, maximum, mean_beside(mean, power))


def mean_beside(mean: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Return the bands' means (band,), zero where one is no more than rounding beside the band's mean square ``power`` (band,)."""
    return np.where(mean * mean <= FLAT * power, 0.0, mean)


def psnr_bands(moments: BandMoments) -> np.ndarray:
    """Return ``10 log10(max_b^2 / MSE_b)`` in dB for each band.

    An exact band has ``inf``; a band whose reference has a maximum of zero or less has ``-inf`` unless it is exact.
    """
    with np.errstate(divide="ignore"):
        signal = 20 * np.log10(np.maximum(moments.maximum, 0.0))
        noise = 10 * np.log10(moments.mse)
    return np.where(moments.mse == 0, np.inf, signal - np.where(moments.mse == 0, 0.0, noise))


def psnr_from(moments: BandMoments) -> float:
    """Return the mean over bands of :func:`psnr_bands`; bands whose maximum is zero or less are left out.

    If that leaves none, the result is ``inf`` when every band is exact and ``-inf`` otherwise.
    """
    values, lit = psnr_bands(moments), moments.maximum > 0
    return float(values[lit].mean() if lit.any() else values.min())


def psnr_global_from(moments: BandMoments) -> float:
    """Return ``10 log10(max^2 / MSE)`` in dB with the maximum and the mean square error over all bands together."""
    whole = BandMoments(np.mean(moments.mse, keepdims=True), np.max(moments.maximum, keepdims=True), moments.mean[:1])
    return float(psnr_bands(whole)[0])


def rmse_from(moments: BandMoments) -> float:
    """Return the root mean square error over all bands, in the reference's units."""
    return float(np.sqrt(np.mean(moments.mse)))


def ergas_bands(moments: BandMoments, ratio: float) -> np.ndarray:
    """Return ``(100 / ratio) RMSE_b / |mean_b|`` for each band: 0 for an exact band, ``inf`` for an inexact one of mean zero."""
    if not ratio > 0:
        raise UsageError(f"the ratio must be positive (fine pixels per coarse pixel), found {ratio}")
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.sqrt(moments.mse) / np.abs(moments.mean)
    return 100.0 / ratio * np.where(moments.mse == 0, 0.0, relative)


def ergas_from(moments: BandMoments, ratio: float) -> float:
    """Return the root mean square over bands of :func:`ergas_bands`; bands of mean zero are left out."""
    return float(np.sqrt(mean_where(ergas_bands(moments, ratio) ** 2, moments.mean != 0)))


def psnr(reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB, as in the papers: the mean over bands of ``10 log10(max_b^2 / MSE_b)``.

    Each band has its own maximum, that of the reference. Any exact band makes the mean ``inf``. Bands whose reference has a
    maximum of zero or less carry no signal to compare with and are left out of the mean.

    Parameters
    ----------
    reference, estimate
        Images (band, y, x), NaN = no data.
    mask
        Optional bool (y, x), True where a pixel may count.

    Raises
    ------
    InputError
        If the shapes differ or no pixel counts.
    """
    return psnr_from(band_moments(reference, estimate, valid_pixels(reference, estimate, mask)))


def psnr_global(reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB of the whole cube, one maximum and one mean square error for all bands.

    Parameters and errors as :func:`psnr`.
    """
    return psnr_global_from(band_moments(reference, estimate, valid_pixels(reference, estimate, mask)))


def rmse(reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Root mean square error over all bands and valid pixels, in the reference's units.

    Parameters and errors as :func:`psnr`.
    """
    return rmse_from(band_moments(reference, estimate, valid_pixels(reference, estimate, mask)))


def ergas(reference: np.ndarray, estimate: np.ndarray, ratio: float, mask: np.ndarray | None = None) -> float:
    """Relative global error (ERGAS, Wald 2002): ``(100 / ratio) sqrt(mean_b(MSE_b / mean_b^2))``; 0 is exact.

    ``ratio`` is the number of fine pixels along one side of a coarse pixel. Bands whose reference has a mean of zero are left
    out of the mean over bands. Other parameters and errors as :func:`psnr`.

    Raises
    ------
    UsageError
        If the ratio is not positive.
    """
    return ergas_from(band_moments(reference, estimate, valid_pixels(reference, estimate, mask)), ratio)
