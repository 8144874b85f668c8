"""Tie windows: pieces of a pair in which the two images are compared at any displacement.

The coarse image is not resampled for the comparison. The fine image, blurred with the PSF, is read off at the displaced centres of
the coarse pixels instead, so both sides stand at the same resolution and neither is aliased by it: with ``B`` the blurred MSI, a
coarse pixel at ``p`` whose true place is ``p + d`` satisfies ``R x(p) = gain B(p + d) + offset``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.sensors.psf import Psf

if TYPE_CHECKING:
    from collections.abc import Sequence

# Windows: part of the scene's shorter side, least and most coarse pixels along a side, most windows along an axis.
LARGE, SMALL = (3, 8, 32, 6), (7, 10, 24, 10)
_SAMPLES = 4  # of the blurred image, to a coarse pixel
_LEAST_SHARE = 0.7  # of the PSF's weight that must fall on data


@dataclass(frozen=True)
class TieWindow:
    """One piece of a pair.

    Attributes
    ----------
    seen
        R x, the coarse image in the bands of the fine one: (c, m, n) float64, NaN = no data.
    row, col
        Coarse pixel of the pair at its upper left corner.
    spline
        Cubic spline coefficients of the blurred fine image, (c, k, l).
    known
        Where the blurred image rests on data, (k, l) bool.
    first, step
        Position of sample 0 along y and x, and the distance of the samples, in coarse pixels of the pair (centre of the first
        coarse pixel at 0.5).
    """

    seen: np.ndarray
    row: int
    col: int
    spline: np.ndarray
    known: np.ndarray
    first: tuple[float, float]
    step: float

    @property
    def centre(self) -> np.ndarray:
        """Middle of the window (row, col), in coarse pixels of the pair."""
        return np.array([self.row + self.seen.shape[1] / 2, self.col + self.seen.shape[2] / 2])

    def read_off(self, at: np.ndarray) -> np.ndarray:
        """Return the blurred fine image at displaced centres of the coarse pixels: (c, m, n), NaN = no data.

        Parameters
        ----------
        at
            Displacement (row, col) in coarse pixels: (2,), or (2, m, n) where it differs from pixel to pixel.
        """
        return self._evaluated(at, ((0, 0),))[0]

    def read_off_with_slopes(self, at: np.ndarray) -> np.ndarray:
        """Return the same and how it changes with the row and with the column of the displacement: (3, c, m, n)."""
        return self._evaluated(at, ((0, 0), (1, 0), (0, 1)))

    def _evaluated(self, at: np.ndarray, orders: Sequence[tuple[int, int]]) -> np.ndarray:
        """Evaluate the cubic spline's derivatives of some orders along (row, col), by coarse pixel: (orders, c, m, n)."""
        _, height, width = self.seen.shape
        centres = np.meshgrid(self.row + np.arange(height) + 0.5, self.col + np.arange(width) + 0.5, indexing="ij")
        at = np.asarray(at, float).reshape(2, *(np.shape(at)[1:] or (1, 1)))
        inside, indices, taps = True, [], []
        for axis, size in enumerate(self.known.shape):
            place = (centres[axis] + at[axis] - self.first[axis]) / self.step
            inside = inside & (place >= 0) & (place <= size - 1)
            below = np.clip(np.floor(place).astype(np.intp), 0, size - 2)
            near = np.abs(below + np.arange(-1, 3)[:, None, None])  # mirrored at the borders
            indices.append(np.minimum(near, 2 * (size - 1) - near))
            taps.append(_cubic(place - below))
        index = indices[0][:, None] * self.known.shape[1] + indices[1]
        known = self.known.ravel().take(index[1:3, 1:3]).all(axis=(0, 1))
        values = self.spline.reshape(len(self.spline), -1).take(index, axis=1)  # (c, 4, 4, m, n)
        by_order = [taps[0][i][:, None] * taps[1][j][None] / self.step ** (i + j) for i, j in orders]
        return np.where(inside & known, np.einsum("cklmn,dklmn->dcmn", values, np.stack(by_order)), np.nan)


def _cubic(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (4, m, n) of the four samples around a place ``part`` of the way from the second to the third; and their slopes."""
    t, u = part, 1 - part
    values = np.stack([u**3, 3 * t**3 - 6 * t**2 + 4, 3 * u**3 - 6 * u**2 + 4, t**3]) / 6
    return values, np.stack([-u * u / 2, 1.5 * t * t - 2 * t, 2 * u - 1.5 * u * u, t * t / 2])


def tie_windows(
    hsi: Any, msi: Any, response: np.ndarray, psf: Psf, ratio: int, reach: int, *, small: bool = False
) -> list[TieWindow]:
    """Cut windows that are spread evenly over a pair, at most 36; or, where they are to be ``small``, at most 100.

    Parameters
    ----------
    hsi, msi
        (C, h, w) and (c, H, W), dask or numpy, on nested grids; NaN = no data. Only the windows are read.
    response
        R (c, C).
    psf, ratio
        The operator H.
    reach
        Largest displacement that will be asked for, in coarse pixels.

    Returns
    -------
    list of TieWindow
        Those in which both images hold data.
    """
    _, height, width = hsi.shape
    share, least, most, along = SMALL if small else LARGE
    side = int(np.clip(min(height, width) // share, least, most))
    found = []
    for row in _starts(height, side, along):
        for col in _starts(width, side, along):
            window = _cut(hsi, msi, response, psf, ratio, reach, (row, col, side))
            if np.isfinite(window.seen).any() and window.known.any():
                found.append(window)
    return found


def _starts(size: int, side: int, along: int) -> np.ndarray:
    """First pixels of at most ``along`` windows along one axis."""
    count = int(np.clip(size // side, 1, along))
    return np.unique(np.linspace(0, max(size - side, 0), count).round().astype(int))


def _cut(hsi: Any, msi: Any, response: np.ndarray, psf: Psf, ratio: int, reach: int, place: tuple[int, int, int]) -> TieWindow:
    """Read one window of both images and blur the fine one around it."""
    from scipy.ndimage import spline_filter

    row, col, side = place
    _, height, width = hsi.shape
    stop_row, stop_col = min(row + side, height), min(col + side, width)
    spectra = np.asarray(hsi[:, row:stop_row, col:stop_col], np.float64)
    seen = np.einsum("mc,cij->mij", response, np.nan_to_num(spectra))
    for band, weights in enumerate(response):
        seen[band, ~np.isfinite(spectra[weights != 0]).all(axis=0)] = np.nan
    margin = reach + 2
    top, left = max(0, row - margin), max(0, col - margin)
    bottom, right = min(height, stop_row + margin), min(width, stop_col + margin)
    fine = np.asarray(msi[:, top * ratio : bottom * ratio, left * ratio : right * ratio], np.float64)
    blurred, known, first = _blurred(fine, psf, ratio)
    spline = np.stack([spline_filter(band, order=3, mode="mirror") for band in blurred])
    step = max(1, ratio // _SAMPLES) / ratio
    return TieWindow(seen, row, col, spline, known, (top + first, left + first), step)


def blurred_with(fine: np.ndarray, psf: Psf, ratio: int) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Blur a fine image (c, m, n) with the PSF over its data.

    Returns
    -------
    tuple of (ndarray (c, k, l), ndarray (k, l) bool, (float, float))
        The samples, where they rest on data, and place of the first and distance of the samples, in coarse pixels.
    """
    out, known, first = _blurred(fine, psf, ratio)
    return out, known, (first, max(1, ratio // _SAMPLES) / ratio)


def _blurred(fine: np.ndarray, psf: Psf, ratio: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Blur (c, m, n) over its data with the PSF: samples (c, k, l), where they rest on data, and the first one's place."""
    valid = np.isfinite(fine).all(axis=0)
    mean = np.nan_to_num(fine[:, valid].mean(axis=1)) if valid.any() else np.zeros(len(fine))
    centred = np.where(valid, np.nan_to_num(fine) - mean[:, None, None], 0.0)
    stack = np.concatenate([centred, valid[None].astype(np.float64)])
    total = 0.0
    for along_y, along_x in psf.separable_terms(ratio):
        rows, first = _sampling(len(along_y), along_y, stack.shape[1], ratio)
        cols, _ = _sampling(len(along_x), along_x, stack.shape[2], ratio)
        total = total + np.stack([rows @ (cols @ band.T).T for band in stack])
    share = total[-1]
    out = total[:-1] / np.maximum(share, 1e-3) + mean[:, None, None]
    return out, share > _LEAST_SHARE, first


def _sampling(n_taps: int, taps: np.ndarray, size: int, ratio: int) -> tuple[Any, float]:
    """Matrix (samples, size) that averages with ``taps`` (zero beyond the ends), and the place of the first sample."""
    from scipy import sparse

    step = max(1, ratio // _SAMPLES)
    start = 0.0 if n_taps % 2 else 0.5  # fine pixels: taps of even number are centred between two pixels
    centre = np.arange(start, size - start, step)
    position = np.rint(centre[:, None] + np.arange(n_taps) - (n_taps - 1) / 2).astype(int)
    inside = (position >= 0) & (position < size)
    row = np.broadcast_to(np.arange(len(centre))[:, None], position.shape)
    weight = np.broadcast_to(taps, position.shape)
    matrix = sparse.csr_array((weight[inside], (row[inside], position[inside])), shape=(len(centre), size))
    return matrix, (start + 0.5) / ratio
