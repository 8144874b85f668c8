"""The scene's spectral subspace: a few noise-whitened principal components of the coarse hyperspectral image.

A spectrum z (C,) is written z = mean + E a with a (d,). The columns of E are D U with D the bands' noise standard deviations and U
orthonormal, so that the coefficients of an observed coarse spectrum, a = U^T D^-1 (x - mean), carry unit, uncorrelated noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geofuse.degradation.noise import hsi_noise_of, principal_components, signal_rank
from geofuse.errors import InputError

MAX_RANK = 32


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

    def image(self, coefficients: np.ndarray) -> np.ndarray:
        """Turn coefficients (d, ...) into spectra (C, ...) float32 in the units of the HSI."""
        flat = self.vectors.astype(np.float32) @ coefficients.reshape(self.rank, -1).astype(np.float32, copy=False)
        flat += self.mean.astype(np.float32)[:, None]
        return flat.reshape(-1, *coefficients.shape[1:])


def learn_basis(spectra: np.ndarray, rank: int | None = None) -> SpectralBasis:
    """Learn the subspace from the spectra of the coarse image.

    Parameters
    ----------
    spectra
        (C, N) finite values.
    rank
        Number of basis vectors; by default as many as stand above the noise (:func:`signal_rank`), at most 32.

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
    noise = hsi_noise_of(spectra)
    variance, directions = principal_components(covariance / np.outer(noise, noise))
    if rank is None:
        found, _ = signal_rank(variance, n_samples, n_bands)
        rank = max(1, min(found, MAX_RANK, n_bands - 1, n_samples - 1))
    return SpectralBasis(mean, noise, directions[:, :rank])
