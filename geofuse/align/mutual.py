"""Co-registration by mutual information, for pairs whose bands see the ground so differently that correlation fails.

Needs SimpleITK (the extra ``itk``). The leading principal components of both images are compared, each with each: the coarse one's
pixels with the fine one, blurred with the PSF, read off by cubic B-splines at displaced places, by Mattes' mutual information
(Mattes et al., IEEE Trans. Med. Imaging 2003) over the pixels that hold data in both; their sum is made as large as possible. Every
whole-pixel shift is tried, then the best is refined. The standard error is that of estimates that leave a quarter of the scene out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.align.tie_windows import blurred_with
from geofuse.errors import UsageError
from geofuse.tiling import Window

if TYPE_CHECKING:
    from geofuse.sensors.psf import Psf

_MOST_SIDE = 256  # coarse pixels, around the middle of the scene
_LEAST_PIXELS = 200
_PIXELS_PER_BIN = 25  # of the joint histogram, roughly
_COMPONENTS = 2
_SAME_PLACE = 1.5  # coarse pixels
_STEP = 0.3  # coarse pixels with which the refinement begins


@dataclass(frozen=True)
class MutualShift:
    """What mutual information says.

    Attributes
    ----------
    shift, error
        Displacement (row, col) and its standard error along each axis, in coarse pixels.
    information
        Mutual information there, in nats.
    contrast
        How many standard deviations of all whole-pixel shifts the best of them stands above their mean.
    rms
        By how much the estimates without a quarter differ from it, along one axis.
    n_agree
        Quarters without which the same place is found among whole-pixel shifts, of 4.
    """

    shift: np.ndarray
    error: np.ndarray
    information: float
    contrast: float
    rms: float
    n_agree: int


def mutual_shift(hsi: Any, msi: Any, psf: Psf, ratio: int, reach: int) -> MutualShift | None:
    """Find the shift with the greatest mutual information; None where too few coarse pixels hold data in both images.

    Parameters
    ----------
    hsi, msi
        (C, h, w) and (c, H, W), dask or numpy, on nested grids; NaN = no data.
    psf, ratio
        The operator H.
    reach
        Whole coarse pixels that are searched to each side.

    Raises
    ------
    UsageError
        If SimpleITK is not installed.
    """
    itk = _simple_itk()
    _, height, width = hsi.shape
    inner = Window(*_middle(height), *_middle(width))
    coarse = _components(np.asarray(hsi[:, inner.slices[0], inner.slices[1]], np.float64))
    fine_rows, fine_cols = (slice(part.start * ratio, part.stop * ratio) for part in inner.slices)
    blurred, known, (first, step) = blurred_with(np.asarray(msi[:, fine_rows, fine_cols], np.float64), psf, ratio)
    fine = _components(np.where(known, blurred, np.nan))
    seen = np.isfinite(coarse).all(axis=0)
    if not len(coarse) or not len(fine):
        return None
    if seen.sum() < _LEAST_PIXELS or known.sum() * step**2 < _LEAST_PIXELS:
        return None
    fixed = [_image(itk, np.nan_to_num(values), 0.5, 1.0) for values in coarse]
    moving = [_image(itk, np.nan_to_num(values), first, step) for values in fine]
    mask = _image(itk, known.astype(np.uint8), first, step)
    work = _Search(itk, fixed, moving, mask, int(np.clip(np.sqrt(seen.sum() / _PIXELS_PER_BIN), 8, 32)))
    start, contrast = work.tried(seen, reach)
    shift, information = work.refined(seen, start, 80)
    kept = [seen & ~quarter for quarter in _quarters(seen.shape)]
    agree = sum(bool(np.abs(work.tried(part, reach)[0] - shift).max() <= _SAME_PLACE) for part in kept)
    parts = np.array([work.refined(part, shift, 40)[0] for part in kept])
    error = np.sqrt(0.75 * ((parts - parts.mean(axis=0)) ** 2).sum(axis=0))
    return MutualShift(shift, error, information, contrast, float(np.sqrt(((parts - shift) ** 2).mean())), agree)


class _Search:
    """Mutual information, summed over pairs of images, as a function of a shift (row, col)."""

    def __init__(self, itk: Any, fixed: list[Any], moving: list[Any], moving_mask: Any, bins: int) -> None:
        self.itk, self.fixed, self.moving, self.moving_mask, self.bins = itk, fixed, moving, moving_mask, bins

    def information(self, seen: Any, shift: np.ndarray, roughly: bool = False) -> float:
        """Return the sum of mutual information at a shift, in nats; 0 where too few pixels hold data in both.

        ``roughly``: of the first pair alone, with linear interpolation.
        """
        method = self.itk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(self.bins)
        method.SetMetricSamplingStrategy(method.NONE)
        method.SetMetricFixedMask(seen)
        method.SetMetricMovingMask(self.moving_mask)
        method.SetInterpolator(self.itk.sitkLinear if roughly else self.itk.sitkBSpline)
        method.SetNumberOfThreads(1)  # sums in one order, so that the answer is always the same
        method.SetInitialTransform(self.itk.TranslationTransform(2, [float(shift[1]), float(shift[0])]), inPlace=False)
        pairs = [(fixed, moving) for fixed in self.fixed for moving in self.moving][: 1 if roughly else None]
        try:
            return -sum(method.MetricEvaluate(fixed, moving) for fixed, moving in pairs)
        except RuntimeError:
            return 0.0

    def tried(self, seen: np.ndarray, reach: int) -> tuple[np.ndarray, float]:
        """Return the best of all whole-pixel shifts, and by how many standard deviations it stands out."""
        along, mask = np.arange(-reach, reach + 1.0), self._mask(seen)
        shifts = np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)
        found = np.array([self.information(mask, shift, roughly=True) for shift in shifts])
        best = int(found.argmax())
        return shifts[best], float((found[best] - found.mean()) / max(found.std(), 1e-12))

    def refined(self, seen: np.ndarray, start: np.ndarray, most: int) -> tuple[np.ndarray, float]:
        """Climb from a start in at most so many steps; returns the shift and its mutual information."""
        from scipy.optimize import minimize

        mask, simplex = self._mask(seen), start + _STEP * np.array([[-0.5, -0.5], [1.0, 0.0], [0.0, 1.0]])
        options = {"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-6, "maxfev": most}
        found = minimize(lambda shift: -self.information(mask, shift), start, method="Nelder-Mead", options=options)
        return found.x, -float(found.fun)

    def _mask(self, seen: np.ndarray) -> Any:
        return _image(self.itk, seen.astype(np.uint8), 0.5, 1.0)


def _simple_itk() -> Any:
    try:
        import SimpleITK
    except ImportError:
        raise UsageError("--coregister itk needs SimpleITK; install geofuse[itk], or give --coregister auto") from None
    return SimpleITK


def _middle(size: int) -> tuple[int, int]:
    start = max(0, (size - _MOST_SIDE) // 2)
    return start, min(size, start + _MOST_SIDE)


def _components(image: np.ndarray) -> np.ndarray:
    """Leading principal components (k, h, w) of an image (c, h, w), bands scaled to equal spread; NaN = no data in a band."""
    whole = np.isfinite(image).any(axis=(1, 2))
    seen = np.isfinite(image[whole]).all(axis=0)
    if not whole.any() or seen.sum() < 2:
        return np.empty((0, *image.shape[1:]))
    values = image[whole][:, seen]
    values = (values - values.mean(axis=1, keepdims=True)) / np.maximum(values.std(axis=1, keepdims=True), 1e-12)
    directions = np.linalg.svd(values @ values.T)[0][:, :_COMPONENTS]
    out = np.full((directions.shape[1], *image.shape[1:]), np.nan)
    out[:, seen] = directions.T @ values
    return out


def _image(itk: Any, values: np.ndarray, first: float, step: float) -> Any:
    """Make an image whose first pixel's centre lies at (first, first) and whose pixels are ``step`` apart."""
    image = itk.GetImageFromArray(values if values.dtype == np.uint8 else values.astype(np.float64))
    image.SetOrigin((first, first))
    image.SetSpacing((step, step))
    return image


def _quarters(shape: tuple[int, int]) -> list[np.ndarray]:
    row, col = (index * 2 // size for index, size in zip(np.indices(shape), shape, strict=True))
    return [(row == i) & (col == j) for i in (0, 1) for j in (0, 1)]
