"""Scores from sliding windows: ssim and uiqi. Only windows inside the image that hold valid pixels alone are averaged.

A band whose reference is constant over the valid pixels has no structure to compare: it scores 1 if the estimate is exact and
0 otherwise, and is left out of the mean over bands. Where no whole window exists (an image smaller than the window, or a mask
full of holes) the score is NaN, that is, not defined.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from geofuse.metrics.masks import filled, mean_where, valid_pixels, whole_windows

SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5
_SSIM_K1, _SSIM_K2 = 0.01, 0.03
UIQI_WINDOW = 8
_FLAT = 1e-13


def ssim(reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004, eq. 13), the mean over bands; 1 is exact.

    Gaussian window of 11 x 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03; the data range of a band is the maximum less the
    minimum of its reference over the valid pixels.

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
    valid = valid_pixels(reference, estimate, mask)
    return mean_where(ssim_bands(reference, estimate, valid), structured_bands(reference, valid))


def uiqi(reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Universal image quality index (Wang and Bovik 2002, eq. 2) in windows of 8 x 8 pixels, the mean over bands; 1 is exact.

    In a window where both images are flat the structure factor is 1, and where both have mean zero the luminance factor is 1.
    Parameters and errors as :func:`ssim`.
    """
    valid = valid_pixels(reference, estimate, mask)
    return mean_where(uiqi_bands(reference, estimate, valid), structured_bands(reference, valid))


def structured_bands(reference: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Tell which bands of the reference are not constant over the valid pixels, (band,) bool."""
    return np.array([np.ptp(band[valid]) > 0 for band in reference])


def ssim_bands(reference: np.ndarray, estimate: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the SSIM of each band, (band,) float64."""
    return _each_band(reference, estimate, valid, SSIM_WINDOW, _ssim_map)


def uiqi_bands(reference: np.ndarray, estimate: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the UIQI of each band, (band,) float64."""
    return _each_band(reference, estimate, valid, UIQI_WINDOW, _uiqi_map)


def _each_band(
    reference: np.ndarray,
    estimate: np.ndarray,
    valid: np.ndarray,
    window: int,
    quality_map: Callable[[np.ndarray, np.ndarray, float], np.ndarray],
) -> np.ndarray:
    """Average ``quality_map(reference, estimate, data range)`` of each band over the whole windows."""
    whole = whole_windows(valid, window)
    if not whole.any():
        return np.full(len(reference), np.nan)
    out = []
    for ref, est in zip(reference, estimate, strict=True):
        span = float(np.ptp(ref[valid].astype(float)))
        if span > 0:
            out.append(quality_map(filled(ref, valid), filled(est, valid), span)[whole].mean())
        else:
            out.append(float(np.array_equal(ref[valid], est[valid])))
    return np.array(out)


def _ssim_map(ref: np.ndarray, est: np.ndarray, span: float) -> np.ndarray:
    """Return the SSIM of the window around each pixel, (y, x)."""
    from skimage.metrics import structural_similarity

    return structural_similarity(
        ref,
        est,
        data_range=span,
        gaussian_weights=True,
        sigma=_SSIM_SIGMA,
        use_sample_covariance=False,
        K1=_SSIM_K1,
        K2=_SSIM_K2,
        full=True,
    )[1]


def _uiqi_map(ref: np.ndarray, est: np.ndarray, span: float) -> np.ndarray:
    """Return the UIQI of the window around each pixel, (y, x).

    Second moments are taken about the reference's mean, so that a large offset does not eat the digits of the variances.
    """
    from scipy.ndimage import uniform_filter

    def mean(image: np.ndarray) -> np.ndarray:
        return uniform_filter(image, UIQI_WINDOW)

    centre = ref.mean()
    x, y = ref - centre, est - centre
    mx, my = mean(x), mean(y)
    spread = np.maximum(mean(x * x) - mx * mx, 0) + np.maximum(mean(y * y) - my * my, 0)
    covariance = mean(x * y) - mx * my
    mx, my = mx + centre, my + centre
    level = mx * mx + my * my
    flat = spread <= _FLAT * (span * span + np.abs(y).max() ** 2)
    structure = np.where(flat, 1.0, 2 * covariance / np.where(flat, 1.0, spread))
    luminance = np.where(level == 0, 1.0, 2 * mx * my / np.where(level == 0, 1.0, level))
    return structure * luminance
