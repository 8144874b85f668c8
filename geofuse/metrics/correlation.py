"""Spatial correlation coefficient: how alike the fine detail is, whatever the brightness and contrast."""

from __future__ import annotations

import numpy as np

from geofuse.metrics.masks import filled, mean_where, valid_pixels, whole_windows

_WINDOW = 3  # pixels
_FLAT = 1e-13


def scc(reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Spatial correlation coefficient (Zhou, Civco and Silander 1998), the mean over bands; 1 is exact.

    The correlation, over the image, of both bands after the Laplacian high-pass of 3 x 3 pixels (8 in the middle, -1 around).
    Only places whose 3 x 3 pixels are all valid count; where there is none the result is NaN, that is, not defined. A band whose
    reference has no detail scores 1 if the estimate has the same and 0 otherwise, and is left out of the mean.

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
    return scc_from(*scc_bands(reference, estimate, valid_pixels(reference, estimate, mask)))


def scc_from(values: np.ndarray, detailed: np.ndarray) -> float:
    """Return the mean over bands of what :func:`scc_bands` gives."""
    return mean_where(values, detailed)


def scc_bands(reference: np.ndarray, estimate: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the score of each band, (band,) float64, and which bands of the reference have detail, (band,) bool."""
    whole = whole_windows(valid, _WINDOW)
    if not whole.any():
        return np.full(len(reference), np.nan), np.zeros(len(reference), bool)
    rows = [_correlation(ref, est, valid, whole) for ref, est in zip(reference, estimate, strict=True)]
    values, detailed = zip(*rows, strict=True)
    return np.array(values), np.array(detailed)


def _correlation(ref: np.ndarray, est: np.ndarray, valid: np.ndarray, whole: np.ndarray) -> tuple[float, bool]:
    """Return the correlation of the detail of two bands (y, x) and whether the reference has any."""
    detail = []
    for band in (ref, est):
        image = filled(band, valid)
        values = _high_pass(image)[whole[1:-1, 1:-1]]
        values = values - values.mean()
        energy = float(values @ values)
        noise = _FLAT * float(np.square(image[valid]).mean()) * values.size  # what rounding leaves of a flat band
        detail.append((values, energy if energy > noise else 0.0))
    (truth, truth_energy), (found, found_energy) = detail
    if truth_energy and found_energy:
        return float(truth @ found / np.sqrt(truth_energy * found_energy)), True
    return float(truth_energy == found_energy), bool(truth_energy)


def _high_pass(image: np.ndarray) -> np.ndarray:
    """Return nine times each pixel less the sum of its 3 x 3 pixels, (y - 2, x - 2): the Laplacian of the paper."""
    rows = image[:-2] + image[1:-1] + image[2:]
    return 9 * image[1:-1, 1:-1] - (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:])
