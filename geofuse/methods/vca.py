"""Endmembers of a hyperspectral image: how many there are, and which pixels they are.

Vertex component analysis (Nascimento and Bioucas-Dias 2005, IEEE TGRS 43(4), 898-910): the purest pixels are the vertices of the
simplex that all pixels fill; each new vertex is the pixel that lies farthest along a random direction orthogonal to the vertices
found so far. The virtual dimensionality (Harsanyi, Farrand and Chang 1993; Chang and Du 2004, IEEE TGRS 42(3), 608-619) counts the
sources that a Neyman-Pearson test tells from noise.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri


def vertex_components(
    spectra: np.ndarray, count: int, rng: np.random.Generator, *, snr_db: float | None = None, runs: int = 1
) -> np.ndarray:
    """Find endmembers among the spectra.

    Parameters
    ----------
    spectra
        (C, N) finite values, N > count.
    count
        Number p of endmembers, 1 to C.
    rng
        Source of the random directions.
    snr_db
        Signal-to-noise ratio that decides on the projection; by default estimated as the paper does.
    runs
        Of so many runs the endmembers with the largest volume det(E^T E) are kept.

    Returns
    -------
    (C, p) float64: the pixels found, freed of the noise outside the p-dimensional subspace.
    """
    reduced, cleaned = _project(spectra.astype(np.float64), count, snr_db)
    best, largest = None, -np.inf
    for _ in range(runs):
        candidate = cleaned(_vertices(reduced, rng))
        volume = np.linalg.slogdet(candidate.T @ candidate)[1]
        if best is None or volume > largest:
            best, largest = candidate, volume
    return best


def virtual_dimension(spectra: np.ndarray, false_alarm: float = 0.05) -> int:
    """Count the spectrally distinct sources in spectra (C, N) by the test of Harsanyi, Farrand and Chang.

    An eigenvalue of the correlation matrix exceeds that of the covariance matrix where there is signal; ``false_alarm`` is the
    probability of taking noise for it.
    """
    spectra = spectra.astype(np.float64)
    n_samples = spectra.shape[1]
    mean = spectra.mean(axis=1)
    correlation = spectra @ spectra.T / n_samples
    covariance = correlation - np.outer(mean, mean)
    with_mean, without = (np.linalg.eigvalsh(m)[::-1] for m in (correlation, covariance))
    deviation = np.sqrt(2.0 * (with_mean**2 + without**2) / n_samples)
    return int((with_mean - without > -ndtri(false_alarm) * deviation).sum())


def _project(spectra: np.ndarray, count: int, snr_db: float | None):
    """Reduce spectra to the (p, N) data whose vertices are sought; also return what turns pixel numbers into clean spectra."""
    n_samples = spectra.shape[1]
    mean = spectra.mean(axis=1, keepdims=True)
    correlation = spectra @ spectra.T / n_samples
    if snr_db is None:
        snr_db = _estimate_snr(correlation, mean, count)
    if snr_db < 15.0 + 10.0 * np.log10(count):  # noisy: principal components, and a constant that lifts the simplex off the origin
        axes = _leading(correlation - mean @ mean.T, count - 1)
        low = axes.T @ (spectra - mean)
        lift = np.full((1, n_samples), np.sqrt((low**2).sum(axis=0).max()) if count > 1 else 1.0)
        return np.concatenate([low, lift]), lambda pixels: axes @ low[:, pixels] + mean
    axes = _leading(correlation, count)
    low = axes.T @ spectra
    along = low.mean(axis=1) @ low  # the projective projection onto the hyperplane x^T u = 1 takes illumination away
    lit = along > 1e-3 * along.mean()
    return np.where(lit, low / np.where(lit, along, 1.0), 0.0), lambda pixels: axes @ low[:, pixels]


def _vertices(reduced: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the pixels (p,) at the vertices of reduced data (p, N)."""
    count = len(reduced)
    found = np.zeros((count, count))
    found[-1, 0] = 1.0
    pixels = np.zeros(count, int)
    for i in range(count):
        direction = rng.standard_normal(count)
        direction -= found @ (np.linalg.pinv(found) @ direction)
        pixels[i] = np.argmax(np.abs(direction @ reduced))
        found[:, i] = reduced[:, pixels[i]]
    return pixels


def _estimate_snr(correlation: np.ndarray, mean: np.ndarray, count: int) -> float:
    """Signal-to-noise ratio in dB from the power inside and outside the subspace of ``count`` principal components."""
    covariance = correlation - mean @ mean.T
    power = np.trace(correlation)
    inside = np.linalg.eigvalsh(covariance)[::-1][:count].sum() + float((mean**2).sum())
    signal, noise = inside - count / len(mean) * power, power - inside
    if noise <= 1e-12 * power:
        return np.inf
    return 10.0 * np.log10(max(signal, 1e-12 * power) / noise)


def _leading(symmetric: np.ndarray, count: int) -> np.ndarray:
    """Eigenvectors (C, count) of the largest eigenvalues, signed so that each one's largest entry is positive."""
    vectors = np.linalg.eigh(symmetric)[1][:, ::-1][:, :count]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(count)]
    return vectors * np.where(largest < 0, -1.0, 1.0)
