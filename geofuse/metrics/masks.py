"""Which pixels count, and which windows hold such pixels only.

A pixel counts when every band of both images is finite there (NaN = no data; infinities are treated the same) and the
caller's mask, if any, is True there. The values of all other pixels never enter a score.
"""

from __future__ import annotations

import numpy as np

from geofuse.errors import InputError


def valid_pixels(reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Return the pixels that count, as bool (y, x).

    Parameters
    ----------
    reference, estimate
        Images (band, y, x) of one shape, NaN = no data.
    mask
        Optional bool (y, x), True where a pixel may count.

    Raises
    ------
    InputError
        If the shapes differ, there is no band, or no pixel counts.
    """
    if reference.ndim != 3 or reference.shape != estimate.shape or 0 in reference.shape:
        raise InputError(f"the images to compare must share one shape (band, y, x), found {reference.shape} and {estimate.shape}")
    if mask is not None and np.shape(mask) != reference.shape[1:]:
        raise InputError(f"the mask is {np.shape(mask)}, the images are {reference.shape[1:]} pixels")
    valid = np.ones(reference.shape[1:], bool) if mask is None else np.array(mask, bool)
    for ref, est in zip(reference, estimate, strict=True):
        valid &= np.isfinite(ref) & np.isfinite(est)
    if not valid.any():
        raise InputError("no pixel has data in every band of both images (and inside the mask), so nothing can be compared")
    return valid


def whole_windows(valid: np.ndarray, size: int) -> np.ndarray:
    """Tell which ``size`` x ``size`` windows lie inside the image and hold valid pixels only.

    Returns bool (y, x), True at index ``(i, j)`` where the window of rows ``i - size // 2 ... i - size // 2 + size - 1`` (and
    columns alike) is whole: the place where ``scipy.ndimage`` filters of that size put their result.
    """
    from scipy.ndimage import minimum_filter

    return minimum_filter(valid.astype(np.uint8), size=size, mode="constant", cval=0).astype(bool)


def filled(band: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return a band (y, x) as float64 with the mean of its valid pixels at the others, so that filters stay finite."""
    out = np.full(band.shape, band[valid].mean(dtype=float))
    out[valid] = band[valid]
    return out


def mean_where(values: np.ndarray, meaningful: np.ndarray) -> float:
    """Return the mean of the meaningful entries, or of all of them if none is meaningful."""
    return float(np.mean(values[meaningful] if meaningful.any() else values))
