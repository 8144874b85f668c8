"""A PSF whose centre is moved by part of a fine pixel."""

from __future__ import annotations

import numpy as np

from geofuse.sensors.psf import Psf

LARGEST_RATIO = 10  # beyond it half a fine pixel is less than a twentieth of a coarse one, and a kernel's table is long


def move_psf(psf: Psf, ratio: int, by: tuple[float, float]) -> Psf:
    """Move a PSF by (row, col), at most half a fine pixel each way.

    The taps move by a cubic spline that is zero beyond the kernel; a box's first and last taps share the fraction exactly.

    Returns
    -------
    Psf
        A sampled kernel, two taps wider than the PSF's own; the PSF itself at ratios beyond :data:`LARGEST_RATIO`.
    """
    if ratio > LARGEST_RATIO or not any(by):
        return psf
    kernel = 0.0
    for along_y, along_x in psf.separable_terms(ratio):
        kernel = kernel + np.outer(_moved(along_y, by[0], psf.kind), _moved(along_x, by[1], psf.kind))
    kernel = kernel / kernel.sum()
    return Psf("kernel", kernel=tuple(tuple(float(v) for v in row) for row in kernel))


def _moved(taps: np.ndarray, by: float, kind: str) -> np.ndarray:
    """Move taps by part of a pixel; one more on each side."""
    from scipy.ndimage import shift

    padded = np.pad(taps, 1)
    if kind == "box":
        return (1 - abs(by)) * padded + abs(by) * np.roll(padded, int(np.sign(by)))
    return shift(padded, by, order=3, mode="constant")
