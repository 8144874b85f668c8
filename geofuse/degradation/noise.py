"""How noisy are the two images? Estimates from the images alone.

The weights of every data term follow from these numbers, so nothing has to be tuned by hand or by hindsight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.special import binom, chdtri

_DIFFERENCES = ((2, 8), (8, 12), (16, 16))  # order of the differences along both axes, side of the blocks they are looked at in
_LEAST_BLOCKS = 40  # for the higher orders: a low quantile of fewer is uncertain
_QUANTILE = 0.1
_LEAST_SHARE = 0.25  # of a residual: left to the MSI's noise where the HSI's is said to explain all of it
_DOUBT = 0.8  # explained share from which that begins
_EXPLAINED_ERROR = 0.1  # of what the HSI's noise is said to explain
_TEXTURE_ERROR = 0.4  # of the variance found in the MSI's texture
_CALM_SHARE = 0.5
_CALM_SPECTRA_PER_BAND = 4  # fewer do not tell noise from signal
_SPECTRA_AT_ONCE = 4096  # to bound memory
_MUCH_CALMER = 0.6  # of white noise, the calm half by chance shows 0.85 with few bands and more with many


def signal_rank(variance: np.ndarray, n_samples: int, n_bands: int) -> tuple[int, float]:
    """Tell how many principal components stand above white noise.

    The largest eigenvalue of pure noise of variance v approaches v (1 + sqrt(C / N))^2 (Marchenko and Pastur 1967), so components
    are counted as signal from the top down while they exceed that bound for the noise variance left in the remaining ones.

    Parameters
    ----------
    variance
        Eigenvalues of the sample covariance, falling.
    n_samples, n_bands
        N spectra of C bands.

    Returns
    -------
    rank, noise_variance
        Count of signal components (0 to len(variance) - 1) and the mean noise variance per band.
    """
    rank, noise = 0, 0.0
    edge = (1.0 + np.sqrt(n_bands / n_samples)) ** 2
    for rank in range(len(variance)):
        freedom = (n_bands - rank) * max(n_samples - rank - 1, 1) / n_samples
        noise = float(variance[rank:].sum() / freedom)
        if variance[rank] <= noise * edge:
            break
    return rank, noise


def hsi_noise(covariance: np.ndarray, n_samples: int, rounds: int = 2) -> np.ndarray:
    """Estimate the noise standard deviation of each band from what few principal components cannot explain.

    Parameters
    ----------
    covariance
        (C, C) sample covariance of the spectra.
    n_samples
        How many spectra it was taken from.
    rounds
        How often the bands are rescaled by the noise found before.

    Returns
    -------
    (C,) float64 in the units of the spectra; at least a tenth of the median, so that a dead band cannot dominate a weighted fit.
    """
    n_bands = len(covariance)
    spread = float(np.sqrt(covariance.diagonal().mean())) or 1.0
    sigma = _least(_regression_residual(covariance, n_samples), spread)
    for _ in range(rounds):
        scaled = covariance / np.outer(sigma, sigma)
        variance, directions = principal_components(scaled)
        # Uneven estimates make the rank too high at first; the rounds even them out, if some components are left for the noise.
        rank = min(signal_rank(variance, n_samples, n_bands)[0], n_samples // 4, n_bands // 2)
        signal = directions[:, :rank]
        outside = np.eye(n_bands) - signal @ signal.T
        left = np.einsum("ij,jk,ik->i", outside, scaled, outside)
        lost = np.maximum(outside.diagonal(), 0.05)  # share of a band's noise that lies outside the subspace
        sigma = sigma * np.sqrt(np.maximum(left, 0.0) / (lost * max(n_samples - rank - 1, 1) / n_samples))
        sigma = _least(sigma, spread)
    return sigma


def hsi_noise_of(spectra: np.ndarray) -> np.ndarray:
    """Estimate the noise standard deviation of each band from spectra, some of which may be too varied for few components.

    Where a part of the scene holds spectra that no few components explain (iridescence, a colour chart), :func:`hsi_noise` takes
    what they leave for noise. So the half of the spectra that fits best is looked at alone; if it shows clearly less noise, that is
    the answer.

    Parameters
    ----------
    spectra
        (C, N) finite values.

    Returns
    -------
    (C,) float64 in the units of the spectra.
    """
    n_bands, n_samples = spectra.shape
    centred = spectra - spectra.mean(axis=1, dtype=np.float64)[:, None]
    covariance = centred @ centred.T / n_samples
    sigma = hsi_noise(covariance, n_samples)
    n_calm = int(_CALM_SHARE * n_samples)
    if n_calm < _CALM_SPECTRA_PER_BAND * n_bands:
        return sigma
    variance, directions = principal_components(covariance / np.outer(sigma, sigma))
    rank = min(signal_rank(variance, n_samples, n_bands)[0], n_bands // 2)
    left = np.empty(n_samples)
    for first in range(0, n_samples, _SPECTRA_AT_ONCE):
        scaled = centred[:, first : first + _SPECTRA_AT_ONCE] / sigma[:, None]
        unexplained = (scaled**2).sum(axis=0) - ((directions[:, :rank].T @ scaled) ** 2).sum(axis=0)
        left[first : first + _SPECTRA_AT_ONCE] = unexplained
    calm = centred[:, np.argsort(left, kind="stable")[:n_calm]]
    del centred
    calm -= calm.mean(axis=1, keepdims=True)
    calm_sigma = hsi_noise(calm @ calm.T / n_calm, n_calm)
    return calm_sigma if np.median(calm_sigma / sigma) < _MUCH_CALMER else sigma


def _regression_residual(covariance: np.ndarray, n_samples: int) -> np.ndarray:
    """Return what linear regression on the other bands leaves of each (Bioucas-Dias and Nascimento 2008).

    Given the others, a band's variance is one over its diagonal entry of the inverse covariance, so one inverse serves all bands. A
    quarter of the samples bounds how many bands take part; with fewer than all, windows half of which overlap, each band in the
    one that it is most central in.
    """
    n_bands = len(covariance)
    side = min(n_bands, max(2, n_samples // 4 + 1))
    starts = np.linspace(0, n_bands - side, -(-2 * (n_bands - side) // side) + 1).round().astype(int)
    ridge = 1e-9 * max(float(covariance.diagonal().mean()), 1e-300)
    freedom = max(n_samples - side, 1) / n_samples
    sigma, own = np.empty(n_bands), np.abs(np.arange(n_bands)[:, None] - starts - (side - 1) / 2).argmin(axis=1)
    for window, start in enumerate(starts):
        part = covariance[start : start + side, start : start + side] + ridge * np.eye(side)
        left = 1.0 / np.linalg.inv(part).diagonal() - ridge
        bands = np.flatnonzero(own == window)
        sigma[bands] = np.sqrt(np.maximum(left[bands - start], 0.0) / freedom)
    return sigma


def _least(sigma: np.ndarray, spread: float) -> np.ndarray:
    """Lift estimates to at least a tenth of their median and a trace of the signal."""
    return np.maximum(sigma, max(0.1 * float(np.median(sigma)), 1e-6 * spread))


def principal_components(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return variances, falling, and directions (C, C) in columns, signed so that each one's largest entry is positive."""
    variance, directions = np.linalg.eigh(covariance)
    variance, directions = np.maximum(variance[::-1], 0.0), directions[:, ::-1]
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(len(variance))]
    return variance, directions * np.where(largest < 0, -1.0, 1.0)


def msi_noise(images: Sequence[np.ndarray]) -> np.ndarray:
    """Estimate the noise standard deviation of each MSI band from its finest texture.

    Differences along both axes (Immerkaer 1996, eq. 4, has those of second order) in blocks, from which what the other bands
    explain is taken away; of the blocks' variances a low quantile is kept, corrected for what that quantile is of pure noise.
    Optics leave little of the scene at the finest frequencies, where differences of high order look, and white noise is as strong
    there as elsewhere: the least of what several orders find is the answer. Texture that no other band shows counts as noise: the
    estimate can be too high, hardly too low.

    Parameters
    ----------
    images
        Arrays (c, H, W); NaN where there is no data.

    Returns
    -------
    (c,) float64 in the units of the images; zero when no block of valid pixels is found.
    """
    found = []
    for order, side in _DIFFERENCES:
        covariance = np.concatenate([_block_covariances(image, order, side) for image in images])
        if len(covariance) >= (_LEAST_BLOCKS if found else 1):
            found.append(_noise_in_blocks(covariance, order, side))
    return np.min(found, axis=0) if found else np.zeros(len(images[0]))


def _noise_in_blocks(covariance: np.ndarray, order: int, side: int) -> np.ndarray:
    """Noise (c,) by the covariances (blocks, c, c) of differences of one order in blocks of ``side`` x ``side`` pixels."""
    n_bands = covariance.shape[1]
    power = np.einsum("nii->ni", covariance)
    typical = np.maximum(np.median(power, axis=0), 1e-30)
    calm = np.argsort((power / typical).mean(axis=1), kind="stable")[: max(n_bands + 1, len(power) // 5)]
    pooled = covariance[calm].mean(axis=0)
    degrees = _independent(order, side)
    correction = chdtri(degrees, 1.0 - _QUANTILE) / degrees
    sigma = np.empty(n_bands)
    for band in range(n_bands):
        others = [i for i in range(n_bands) if i != band]
        weight = np.zeros(n_bands)
        weight[band] = 1.0
        if others:
            ridge = 1e-6 * pooled[band, band] * np.eye(len(others)) + 1e-30 * np.eye(len(others))
            weight[others] = -np.linalg.solve(pooled[np.ix_(others, others)] + ridge, pooled[others, band])
        left = np.einsum("i,nij,j->n", weight, covariance, weight)
        sigma[band] = np.sqrt(max(np.quantile(left, _QUANTILE), 0.0) / correction)
    return sigma


def consistent_noise(from_texture: np.ndarray, residual: np.ndarray, psf_power: float, explained: np.ndarray) -> np.ndarray:
    """Improve the estimate of the MSI's noise by how well the two images agree on the coarse grid.

    H(Y) - R(X) holds the MSI's noise, averaged by the PSF, and the HSI's, averaged by the response. Without other errors
    (misregistration, a wrong response) what is left of its variance is the MSI's; with them it is too much. This estimate and the
    texture's are averaged by their precision; neither the texture's nor two standard errors above the other are exceeded.

    Parameters
    ----------
    from_texture
        (c,) of :func:`msi_noise`; zero where it found nothing.
    residual
        (c, N) values of H(Y) - R(X) at valid coarse pixels.
    psf_power
        Sum of the squared weights with which one coarse pixel averages fine ones.
    explained
        (c,) variance in the residual that the HSI's noise accounts for. Where that is nearly all of it or more, the HSI's noise was
        overestimated (by spectra that few components do not explain), and less is believed.

    Returns
    -------
    (c,) standard deviation of the MSI's noise.
    """
    variance, chance = residual.astype(np.float64).var(axis=1), np.sqrt(2.0 / max(residual.shape[1], 2))
    error = np.hypot(chance * variance, _EXPLAINED_ERROR * explained) / psf_power
    highest = _not_explained((1.0 + 2.0 * chance) * variance, explained) / psf_power
    texture = np.where(from_texture > 0, from_texture.astype(np.float64) ** 2, highest)
    trust = np.maximum([_TEXTURE_ERROR * texture, error], 1e-100) ** -2.0
    averaged = (trust * [texture, _not_explained(variance, explained) / psf_power]).sum(axis=0) / trust.sum(axis=0)
    return np.sqrt(np.minimum(averaged, np.minimum(texture, highest)))


def _not_explained(variance: np.ndarray, explained: np.ndarray) -> np.ndarray:
    """Take from the variance of a residual what the HSI's noise explains, but leave a part where that seems too much."""
    share = explained / np.maximum(variance, 1e-300)
    return variance * np.maximum(1.0 - share, _LEAST_SHARE * np.clip((share - _DOUBT) / (1.0 - _DOUBT), 0.0, 1.0))


def _block_covariances(image: np.ndarray, order: int, side: int) -> np.ndarray:
    """Covariance between bands of the differences in each fully valid block of ``side`` pixels: (blocks, c, c)."""
    n_bands, height, width = image.shape
    valid = np.isfinite(image).all(axis=0)
    filled, taps, margin = np.where(valid, image, 0.0).astype(np.float64), _difference(order), order // 2
    inner = (slice(margin, height - margin), slice(margin, width - margin))
    fine = np.stack([ndimage.convolve1d(ndimage.convolve1d(band, taps, axis=0), taps, axis=1)[inner] for band in filled])
    usable = ndimage.binary_erosion(valid, np.ones((order + 1, order + 1)))[inner]
    rows, cols = (max(size - order, 0) // side for size in (height, width))
    fine = fine[:, : rows * side, : cols * side].reshape(n_bands, rows, side, cols, side)
    blocks = fine.transpose(1, 3, 0, 2, 4).reshape(rows * cols, n_bands, side * side)
    whole = usable[: rows * side, : cols * side].reshape(rows, side, cols, side).all(axis=(1, 3)).ravel()
    return np.einsum("ncp,nkp->nck", blocks[whole], blocks[whole]) / (side * side)


def _difference(order: int) -> np.ndarray:
    """Taps (order + 1,) of differences with unit response to white noise."""
    taps = (-1.0) ** np.arange(order + 1) * binom(order, np.arange(order + 1))
    return taps / np.sqrt((taps**2).sum())


def _independent(order: int, side: int) -> float:
    """Count the independent values that the differences of white noise in a block of ``side`` x ``side`` are worth."""
    apart = np.abs(np.subtract.outer(np.arange(side), np.arange(side)))
    correlation = np.where(apart <= order, binom(2 * order, order + apart), 0.0) / binom(2 * order, order)
    return (side**2 / float((correlation**2).sum())) ** 2
