"""The scene's spectral subspace: a few noise-whitened principal components of the coarse hyperspectral image.

A spectrum z (C,) is written z = mean + E a with a (d,). The columns of E are D U with D the bands' noise standard deviations and U
orthonormal, so that the coefficients of an observed coarse spectrum, a = U^T D^-1 (x - mean), carry unit, uncorrelated noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from geofuse.degradation.noise import hsi_noise_of, principal_components, signal_rank
from geofuse.errors import InputError

MAX_RANK = 32
_FEW_BANDS = 4  # so few do not tell noise from signal, so none of their directions is left out
_BANDS_AT_ONCE = 12  # of a tile of 576 x 576: 16 MB; a multiple of what kernels for matrices take at a time


@dataclass(frozen=True)
class SpectralBasis:
    """A spectral subspace.

    Attributes
    ----------
    mean
        (C,) mean spectrum, units of the HSI.
    noise
        (C,) noise standard deviation of the HSI, same units.
    directions
        U (C, d), orthonormal columns, strongest first.
    """

    mean: np.ndarray
    noise: np.ndarray
    directions: np.ndarray

    @property
    def rank(self) -> int:
        """Number of basis vectors, d."""
        return self.directions.shape[1]

    @property
    def vectors(self) -> np.ndarray:
        """E (C, d) = D U, in the units of the HSI."""
        return self.noise[:, None] * self.directions

    def coefficients(self, image: np.ndarray) -> np.ndarray:
        """Project an image (C, ...) on the subspace: (d, ...)."""
        flat = image.reshape(len(self.mean), -1)
        out = (self.directions / self.noise[:, None]).T @ (flat - self.mean[:, None])
        return out.reshape(-1, *image.shape[1:])

    def image(self, coefficients: np.ndarray, bands: slice = slice(None)) -> np.ndarray:
        """Turn coefficients (d, ...) into spectra (C, ...) float32 in the units of the HSI, or into some bands of them."""
        flat = self.vectors[bands].astype(np.float32) @ coefficients.reshape(self.rank, -1).astype(np.float32, copy=False)
        flat += self.mean[bands].astype(np.float32)[:, None]
        return flat.reshape(-1, *coefficients.shape[1:])


@dataclass(frozen=True)
class SubspaceImage:
    """A fine image (C, H, W) float32 whose bands are computed when they are asked for: it is never in memory as a whole.

    Looks like an array as far as a tile on its way to the disk needs it: a shape, a window of all bands, one band after the other.

    Attributes
    ----------
    basis
        The subspace.
    coefficients
        (d, H, W) float32.
    missing
        (H, W) bool: pixels that are to be NaN; None for none.
    window
        Rows and columns that are given; bands are computed whole, as the last bits of a product depend on where it begins.
    """

    basis: SpectralBasis
    coefficients: np.ndarray
    missing: np.ndarray | None = None
    window: tuple[slice, slice] = (slice(None), slice(None))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of bands, height, width."""
        return len(self.basis.mean), *self.coefficients[0][self.window].shape

    def __getitem__(self, part: tuple[slice, slice, slice]) -> SubspaceImage:
        """Return a window of a whole image, ``[:, rows, columns]``."""
        bands, rows, cols = part
        if bands != slice(None) or self.window != (slice(None), slice(None)):
            raise IndexError("only a window of all bands can be taken, and of a whole image")
        return replace(self, window=(rows, cols))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Iterate over the bands, (height, width) float32."""
        for first in range(0, len(self.basis.mean), _BANDS_AT_ONCE):
            bands = self.basis.image(self.coefficients, slice(first, first + _BANDS_AT_ONCE))
            if self.missing is not None:
                bands[:, self.missing] = np.nan
            yield from bands[:, *self.window]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Compute all bands."""
        image = np.empty(self.shape, np.float32)
        for target, band in zip(image, self, strict=True):
            target[:] = band
        return image if dtype is None else image.astype(dtype, copy=False)


def learn_basis(spectra: np.ndarray, rank: int | None = None) -> SpectralBasis:
    """Learn the subspace from the spectra of the coarse image.

    Parameters
    ----------
    spectra
        (C, N) finite values.
    rank
        Number of basis vectors; by default as many as stand above the noise (:func:`signal_rank`), at most 32, and all of up to
        four bands.

    Raises
    ------
    InputError
        If there are fewer than two spectra, or fewer bands or spectra than the rank asked for.
    """
    n_bands, n_samples = spectra.shape
    if n_samples < 2:
        raise InputError(f"the HSI has {n_samples} pixels with data in every band; a spectral subspace needs at least 2")
    highest = min(n_bands, n_samples - 1)
    if rank is not None and not 1 <= rank <= highest:
        raise InputError(f"rank {rank} asked for, but {n_bands} bands and {n_samples} coarse pixels allow 1 to {highest}")
    mean = spectra.mean(axis=1, dtype=np.float64)
    centred = spectra - mean[:, None]
    covariance = centred @ centred.T / n_samples
    del centred  # of float64, and what follows needs room
    noise = hsi_noise_of(spectra)
    variance, directions = principal_components(covariance / np.outer(noise, noise))
    if rank is None:
        found = n_bands if n_bands <= _FEW_BANDS else min(signal_rank(variance, n_samples, n_bands)[0], MAX_RANK, n_bands - 1)
        rank = max(1, min(found, n_samples - 1))
    return SpectralBasis(mean, noise, directions[:, :rank])
