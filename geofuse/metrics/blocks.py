"""Blocks of pixels that do not overlap, for the scores that compare statistics block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

FLAT = 1e-13  # a variance below this share of the mean square is rounding


def blocks(height: int, width: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Cut an image into blocks of ``size`` x ``size`` pixels from its top left corner; the last ones may be smaller."""
    for row in range(0, height, size):
        for col in range(0, width, size):
            yield slice(row, min(row + size, height)), slice(col, min(col + size, width))


def pairwise_uiqi(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the universal image quality index (Wang and Bovik 2002, eq. 2) of every band of one block with every band of another.

    Parameters
    ----------
    first, second
        (m, n) and (k, n) float64, n pixels.

    Returns
    -------
    (m, k). Where both bands are flat the structure factor is 1, and where both have mean zero the luminance factor is 1.
    """
    mean_1, mean_2 = first.mean(axis=1), second.mean(axis=1)
    apart_1, apart_2 = first - mean_1[:, None], second - mean_2[:, None]
    covariance = apart_1 @ apart_2.T / first.shape[1]
    spread = np.add.outer((apart_1**2).mean(axis=1), (apart_2**2).mean(axis=1))
    level = np.add.outer(mean_1**2, mean_2**2)
    flat, dark = spread <= FLAT * level, level == 0
    structure = np.where(flat, 1.0, 2 * covariance / np.where(flat, 1.0, spread))
    luminance = np.where(dark, 1.0, 2 * np.outer(mean_1, mean_2) / np.where(dark, 1.0, level))
    return structure * luminance
