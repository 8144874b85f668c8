"""All scores of one comparison at once, per band and overall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geofuse.metrics.angle import sam_over
from geofuse.metrics.correlation import scc_bands, scc_from
from geofuse.metrics.masks import mean_where, valid_pixels
from geofuse.metrics.pixelwise import (
    band_moments,
    ergas_bands,
    ergas_from,
    psnr_bands,
    psnr_from,
    psnr_global_from,
    rmse_from,
)
from geofuse.metrics.q2n import q2n_over
from geofuse.metrics.windowed import ssim_bands, structured_bands, uiqi_bands


@dataclass(frozen=True)
class Scores:
    """The scores of one comparison.

    Attributes
    ----------
    overall
        ``psnr`` and ``psnr_global`` (dB), ``rmse`` (the reference's units), ``sam`` (degrees), ``ergas``, ``ssim``, ``uiqi``,
        ``q2n``, ``scc``. Never NaN but for ``ssim``, ``uiqi`` and ``scc`` where no whole window exists; ``psnr`` is ``inf`` where a
        band is exact.
    bands
        ``psnr``, ``rmse``, ``ergas`` (the band's own term), ``ssim``, ``uiqi``, ``scc``, each (band,) float64.
    n_pixels
        The number of pixels that counted.
    """

    overall: dict[str, float]
    bands: dict[str, np.ndarray]
    n_pixels: int


def score(reference: np.ndarray, estimate: np.ndarray, ratio: float, mask: np.ndarray | None = None) -> Scores:
    """Compare an estimate with its reference.

    Parameters
    ----------
    reference, estimate
        Images (band, y, x) of one shape and unit, NaN = no data. A pixel without data in any band of either image does not
        count in any band.
    ratio
        Fine pixels along one side of a coarse pixel (for ERGAS).
    mask
        Optional bool (y, x), True where a pixel may count.

    Raises
    ------
    InputError
        If the shapes differ or no pixel counts.
    UsageError
        If the ratio is not positive.
    """
    reference, estimate = np.asarray(reference), np.asarray(estimate)
    valid = valid_pixels(reference, estimate, mask)
    moments = band_moments(reference, estimate, valid)
    correlation, detailed = scc_bands(reference, estimate, valid)
    bands = {
        "psnr": psnr_bands(moments),
        "rmse": np.sqrt(moments.mse),
        "ergas": ergas_bands(moments, ratio),
        "ssim": ssim_bands(reference, estimate, valid),
        "uiqi": uiqi_bands(reference, estimate, valid),
        "scc": correlation,
    }
    structured = structured_bands(reference, valid)
    overall = {
        "psnr": psnr_from(moments),
        "psnr_global": psnr_global_from(moments),
        "rmse": rmse_from(moments),
        "sam": sam_over(reference, estimate, valid),
        "ergas": ergas_from(moments, ratio),
        "ssim": mean_where(bands["ssim"], structured),
        "uiqi": mean_where(bands["uiqi"], structured),
        "q2n": q2n_over(reference, estimate, valid),
        "scc": scc_from(correlation, detailed),
    }
    return Scores(overall, bands, int(valid.sum()))


def evaluate_arrays(reference: np.ndarray, estimate: np.ndarray, ratio: float, mask: np.ndarray | None = None) -> dict[str, float]:
    """Return the overall scores of :func:`score`: psnr, psnr_global, rmse, sam, ergas, ssim, uiqi, q2n, scc."""
    return score(reference, estimate, ratio, mask).overall


def per_band(reference: np.ndarray, estimate: np.ndarray, ratio: float, mask: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return the scores of each band of :func:`score`: psnr, rmse, ergas, ssim, uiqi, scc, each (band,)."""
    return score(reference, estimate, ratio, mask).bands
