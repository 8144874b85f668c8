"""Blind responses: the PSF of the coarse image and the spectral response of the fine one, estimated from the pair alone.

The PSF comes first, with the response solved for within (:mod:`geofuse.align.blind_psf`), so that no alternation is needed; then
each row of the response (:mod:`geofuse.align.blind_rows`). Pixels that disagree with the rest - clouds, change - lose weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.align.blind_psf import GaussianShape, Patches, PsfFit, PsfProblem, fit_psf, freest_kernel, window_size
from geofuse.align.blind_rows import RowFit, fit_row, without_noise
from geofuse.align.pan import _blocks, _blur, _fine
from geofuse.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geofuse.sensors.psf import Psf

_LEAST_SHARE = 0.95  # of the PSF's weight that must fall on data
_LEAST_PIXELS = 30
_MOST_PIXELS = 20_000
_MOST_VALUES = 2**22  # of the patches around coarse pixels
_WORK_RATIO = (3, 8)  # fine pixels are averaged until a coarse pixel holds this many of them along each axis, where that divides
_SIDE = 3  # blocks along each axis for standard errors and cross-validation
_OUTLIER = 3.0  # typical residuals beyond which a pixel loses weight
_ROUNDS = 3
_MOST_ROUNDS = 12
_SETTLED = 0.004  # mean change of the weights


@dataclass(frozen=True)
class BlindPsf:
    """An estimated PSF.

    Attributes
    ----------
    psf
        What methods use.
    fit
        The form, its values and their standard errors.
    n_pixels
        Number of coarse pixels it was found from.
    """

    psf: Psf
    fit: PsfFit
    n_pixels: int


@dataclass(frozen=True)
class BlindRows:
    """An estimated response.

    Attributes
    ----------
    rows
        One fit a band of the MSI, in the file's order.
    n_pixels
        Number of coarse pixels they were found from.
    """

    rows: tuple[RowFit, ...]
    n_pixels: int

    @property
    def matrix(self) -> np.ndarray:
        """R (c, C), not negative; each row's sum is the gain between both images' units."""
        return np.stack([fit.row for fit in self.rows])

    @property
    def offset(self) -> np.ndarray:
        """Offsets o (c,) in H(Y) = R X + o; 0 where none is needed."""
        return np.array([fit.offset for fit in self.rows])


def estimate_psf(hsi: Any, msi: Any, ratio: int, response: np.ndarray | None = None, *, shift: bool = True) -> BlindPsf:
    """Estimate the PSF of the coarse image, and how far off centre it lies.

    Parameters
    ----------
    hsi, msi
        (C, h, w) and (c, H, W) dask float32 on nested grids, NaN = no data. At most 16 blocks of ``msi`` are read.
    ratio
        Fine pixels to a coarse pixel.
    response
        R (c, C) where it is known; helps little.
    shift
        Whether the PSF may lie off the coarse pixel's centre.

    Raises
    ------
    InputError
        If the images share too few coarse pixels around which both have data.
    """
    patches, spectra, block = _gather(hsi, msi, ratio)
    spectra = without_noise(spectra)
    weight = np.ones(len(block))
    for _ in range(_MOST_ROUNDS):
        problem = PsfProblem(patches, spectra, response, weight)
        residual = problem.residual(freest_kernel(problem, shift=shift)) / np.maximum(problem.root, 1e-6)
        before, weight = weight, weight_of(residual)
        if np.abs(weight - before).mean() < _SETTLED:
            break
    fit = fit_psf(PsfProblem(patches, spectra, response, weight), block, shift=shift)
    fit = fit.widened((1 / patches.ratio**2 - 1 / ratio**2) / 12)
    return BlindPsf(fit.psf(ratio), fit, len(block))


def estimate_rows(
    hsi: Any,
    msi: Any,
    psf: Psf,
    ratio: int,
    axis: np.ndarray,
    good_band: np.ndarray,
    limits: Sequence[tuple[float, float]] | None = None,
) -> BlindRows:
    """Estimate the spectral response of every band of the fine image.

    Parameters
    ----------
    hsi, msi, ratio
        As for :func:`estimate_psf`.
    psf
        The PSF of the coarse image.
    axis
        (C,) centre wavelengths in nm; where one is NaN the bands' order stands for all.
    good_band
        (C,) bool; bands that are False get no weight.
    limits
        Least and largest wavelength of each band of the fine image, where they are known.

    Raises
    ------
    InputError
        If the images share too few coarse pixels, or limits hold fewer than two bands of the HSI.
    """
    axis = np.asarray(axis, float) if np.isfinite(axis).all() else np.arange(len(axis), dtype=float)
    spectra, blurred, block = _coarse_pixels(hsi, msi, psf, ratio)
    clean = np.zeros_like(spectra)
    clean[good_band] = without_noise(spectra[good_band])
    weight = _agreement(clean[good_band], blurred)
    rows = []
    for i, band in enumerate(blurred):
        use = np.flatnonzero(good_band)
        fit = fit_row(clean[use], band, axis[use], block, None if limits is None else limits[i], weight)
        rows.append(fit.spread_to(use, len(axis)))
    return BlindRows(tuple(rows), len(block))


def weight_of(residual: np.ndarray) -> np.ndarray:
    """Turn residuals (c, n) into weights (n,): 1, falling with the fourth power beyond three times the typical residual."""
    scaled = residual / np.maximum(np.median(np.abs(residual), axis=1, keepdims=True), 1e-30)
    size = np.sqrt((scaled**2).mean(axis=0))
    return np.minimum(1.0, (_OUTLIER * np.median(size) / np.maximum(size, 1e-30)) ** 4)


def _agreement(spectra: np.ndarray, blurred: np.ndarray) -> np.ndarray:
    """Weights (n,) of pixels by how well the leading components of the spectra explain them."""
    weight = np.ones(blurred.shape[1])
    centred = spectra - spectra.mean(axis=1, keepdims=True)
    directions = np.linalg.svd(centred @ centred.T)[0][:, : min(12, len(spectra), max(1, len(weight) // 10))]
    design = np.concatenate([np.ones((1, len(weight))), directions.T @ centred])
    for _ in range(_ROUNDS):
        basis = np.linalg.qr((design * np.sqrt(weight)).T)[0]
        scaled = blurred * np.sqrt(weight)
        left = scaled - (scaled @ basis) @ basis.T
        weight = weight_of(left / np.maximum(np.sqrt(weight), 1e-6))
    return weight


def _work_ratio(ratio: int) -> int:
    """Largest divisor of the ratio within bounds; the ratio itself where there is none."""
    return max((s for s in range(_WORK_RATIO[0], _WORK_RATIO[1] + 1) if ratio % s == 0), default=ratio)


def _gather(hsi: Any, msi: Any, ratio: int) -> tuple[Patches, np.ndarray, np.ndarray]:
    """Collect patches of the fine image, spectra (C, n) and block numbers (n,) of coarse pixels with data all around."""
    work = _work_ratio(ratio)
    size = window_size(work)
    every = _blocks(msi, ratio)
    most = max(_LEAST_PIXELS, _MOST_VALUES // (msi.shape[0] * size**2 * len(every)))
    parts = [_patches(hsi, msi, at, ratio, work, most) for at in every]
    values, valid, spectra, place = (np.concatenate([p[i] for p in parts], axis=a) for i, a in ((0, 1), (1, 0), (2, 1), (3, 1)))
    _refuse_few(values.shape[1])
    return Patches(values, valid, work), spectra, _numbered(place, hsi.shape[1:])


def _patches(hsi: Any, msi: Any, at: tuple[slice, slice], ratio: int, work: int, most: int) -> tuple[np.ndarray, ...]:
    """Patches (c, n, K, K) and where they hold data, spectra (C, n) and places (2, n) of one block of the scene."""
    rows, cols = at
    spectra = np.asarray(hsi[:, rows, cols], np.float64)
    fine = _averaged(np.asarray(msi[:, _fine(rows, ratio), _fine(cols, ratio)], np.float32), ratio // work)
    valid = np.isfinite(fine).all(axis=0)
    size = window_size(work)
    pad = (size - work) // 2
    padded = np.pad(np.where(valid, fine, 0), ((0, 0), (pad, pad), (pad, pad)))
    known = np.pad(valid.astype(np.float32), pad)
    view = np.lib.stride_tricks.sliding_window_view
    windows, shares = view(padded, (size, size), axis=(1, 2))[:, ::work, ::work], view(known, (size, size))[::work, ::work]
    typical = GaussianShape(1.0, 1.0, 0.0).kernel(work, size)
    row, col = np.nonzero((np.einsum("ijkl,kl->ij", shares, typical) > _LEAST_SHARE) & np.isfinite(spectra).all(axis=0))
    row, col = (_thinned(index, most) for index in (row, col))
    place = np.stack([row + rows.start, col + cols.start])
    return windows[:, row, col].astype(np.float32), shares[row, col], spectra[:, row, col], place


def _averaged(fine: np.ndarray, by: int) -> np.ndarray:
    """Mean over squares of ``by`` fine pixels; no data where one of them has none."""
    c, height, width = fine.shape
    return fine.reshape(c, height // by, by, width // by, by).mean(axis=(2, 4)) if by > 1 else fine


def _thinned(index: np.ndarray, most: int) -> np.ndarray:
    """Keep at most ``most`` entries, spread evenly."""
    return index if len(index) <= most else index[np.linspace(0, len(index) - 1, most).round().astype(int)]


def _coarse_pixels(hsi: Any, msi: Any, psf: Psf, ratio: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Collect spectra (C, n), H(Y) (c, n) and block numbers (n,) of coarse pixels with data."""
    every = _blocks(msi, ratio)
    parts = []
    for rows, cols in every:
        spectra = np.asarray(hsi[:, rows, cols], np.float64)
        fine = np.asarray(msi[:, _fine(rows, ratio), _fine(cols, ratio)], np.float64)
        valid = np.isfinite(fine).all(axis=0)
        share = _blur(valid.astype(float), psf, ratio)
        row, col = np.nonzero((share > _LEAST_SHARE) & np.isfinite(spectra).all(axis=0))
        row, col = (_thinned(index, _MOST_PIXELS // len(every)) for index in (row, col))
        blurred = np.stack([_blur(np.where(valid, band, 0.0), psf, ratio)[row, col] for band in fine]) / share[row, col]
        parts.append((spectra[:, row, col], blurred, np.stack([row + rows.start, col + cols.start])))
    spectra, blurred, place = (np.concatenate([p[i] for p in parts], axis=1) for i in range(3))
    _refuse_few(blurred.shape[1])
    return spectra, blurred, _numbered(place, hsi.shape[1:])


def _numbered(place: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Block numbers (n,) of places (2, n): 3 x 3 blocks of the scene, those without pixels left out of the count."""
    row, col = (at * _SIDE // size for at, size in zip(place, shape, strict=True))
    _, block = np.unique(row * _SIDE + col, return_inverse=True)
    few = np.bincount(block).min() < len(block) // 50 or block.max() < _SIDE
    return np.arange(len(block)) * _SIDE**2 // len(block) if few else block


def _refuse_few(count: int) -> None:
    if count < _LEAST_PIXELS:
        raise InputError(
            f"the images share {count} coarse pixels with data all around; estimating a response takes {_LEAST_PIXELS} or more, "
            "so give --srf and --psf instead"
        )
