"""Spectral angle: how the shape of the spectra differs, whatever their brightness."""

from __future__ import annotations

import numpy as np

from geofuse.metrics.masks import valid_pixels


def sam(reference: np.ndarray, estimate: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Spectral angle mapper: the mean over valid pixels of the angle between the two spectra, in degrees; 0 is exact.

    A pixel whose reference is zero in every band has no direction and is left out (if all are, the result is 0 when the
    estimate is zero there as well and 90 otherwise). A pixel whose estimate alone is zero counts 90 degrees.

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
    return sam_over(reference, estimate, valid_pixels(reference, estimate, mask))


def sam_over(reference: np.ndarray, estimate: np.ndarray, valid: np.ndarray) -> float:
    """Return :func:`sam` over the ``valid`` (y, x) pixels, which must have data in every band."""
    ref_norm, est_norm = _norm(reference, valid), _norm(estimate, valid)
    directed = ref_norm > 0
    if not directed.any():
        return 90.0 if est_norm.any() else 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        angle = _angle(reference, estimate, valid, ref_norm, est_norm)
    return float(np.degrees(np.where(est_norm > 0, angle, np.pi / 2)[directed]).mean())


def _norm(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the Euclidean norm of each valid spectrum, (pixel,) float64."""
    total = np.zeros(int(valid.sum()))
    for band in image:
        total += band[valid].astype(float) ** 2
    return np.sqrt(total)


def _angle(
    reference: np.ndarray, estimate: np.ndarray, valid: np.ndarray, ref_norm: np.ndarray, est_norm: np.ndarray
) -> np.ndarray:
    """Return the angle in radians between unit spectra u and v as ``2 atan2(|u - v|, |u + v|)``.

    This form (Kahan) is exactly 0 for equal spectra and keeps its accuracy for small angles, where arccos loses half the digits.
    """
    apart = np.zeros_like(ref_norm)
    along = np.zeros_like(ref_norm)
    for ref, est in zip(reference, estimate, strict=True):
        u = ref[valid].astype(float) / ref_norm
        v = est[valid].astype(float) / est_norm
        apart += (u - v) ** 2
        along += (u + v) ** 2
    return 2 * np.arctan2(np.sqrt(apart), np.sqrt(along))
