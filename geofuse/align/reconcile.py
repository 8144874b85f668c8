"""What two images contradict each other in, shared between them before they are fused.

On the coarse grid H(Y) - R X = D should be noise. In pairs of two instruments it is far more: parallax, shadows, a response and a
PSF known in part. No image agrees with both then, and a method that believes both pulls at them where they disagree, which shows
as ringing. For whatever fused image Z, its errors e = H(Z) - X and f = R(Z) - Y satisfy

    R e - H(f) = D,

and every such e and f is that of some Z. So the images that are nearest to both are, for any m > 0,

    e = S R^T l,    f = -m H^T(l),    (R S R^T + m H H^T) l = D,

least in e^T S^-1 e + |f|^2 / m. With S the identity they are the front of |e| against |f|, which no method can pass, but e then
changes the bands that the MSI sees and no others; S also holds the covariance of the scene's spectra, so that others follow
(docs/houston.md). X + e and Y + f take the place of X and Y: they agree, and noise is all that is left for the method to weigh.

m says whose the contradiction is, and D itself tells: what is wrong in the fine image (parallax, shadows) reaches D blurred by H,
what is wrong in the coarse one (its geometry, stripes) does not. With e white along y and x and f white on the fine grid, the power
of D at a frequency is that of R S R^T + m H H^T but for a factor along each axis of R S R^T, and m is where its likelihood is
greatest (Whittle 1953). Yet the HSI gives a quarter of D at least, R e against R e and H(f) by root mean squares: an MSI that gave
all of it would be unsharp or noisy where H has to be undone.

The noise of both images is part of D and no contradiction. Along each axis of R S R^T and at each frequency the share
1 - sqrt(noise / expected power of D) is taken, so that what is left has the power of the noise: methods that estimate it from how
well the images agree find it there. (Sharing all of D made it nothing, and an MSI of 25 dB was then believed as if it had none.)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from geofuse.align.blind_rows import without_noise
from geofuse.align.pan import _blocks, _fine
from geofuse.sensors.psf import Psf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEAST = 0.08  # of the contrast of R X, noise taken off: what images of one scene that agree show by chance is below it
_RIDGE = 1e-6  # of the mean power of R S R^T
_STEPS = 40
_MOST_BY_MSI = 3.0  # times what the HSI gives
_FREE = 4.0  # variance by which a band changes alone, in mean variances of a band, beside what changes as the spectra do
_MOST_SPECTRA = 20_000
_DIFFERENCES = (2, 8)  # orders, along both axes


@dataclass(frozen=True)
class Shares:
    """What each image gives.

    Attributes
    ----------
    multiplier
        l (c, h, w) float64.
    balance
        m.
    by_hsi
        Which part of D the HSI gives: rms of R e over that of R e and that of H(f) added.
    """

    multiplier: np.ndarray
    balance: float
    by_hsi: float


def reconcile(
    pair: xr.Dataset, difference: np.ndarray, trust: np.ndarray, more: Callable[[], np.ndarray] | None = None
) -> xr.Dataset:
    """Share the contradiction of a pair between its images, where it is more than 8 % of their contrast.

    Parameters
    ----------
    pair
        A pair.
    difference
        D (c, h, w), NaN where unknown.
    trust
        (h, w) weight of the MSI, 0 to 1: what is not trusted is no reason to change the HSI.
    more
        Returns D with fewer places unknown, at borders of the data; asked only where there is something to share. What methods
        find there contradicts as it does elsewhere, though H(Y) is known in part.

    Returns
    -------
    Dataset
        The pair, with ``hsi`` and ``msi`` lazily changed and a note; the pair itself where the images agree.
    """
    response, psf, ratio = pair["response"].values, Psf.from_tag(pair.attrs["psf"]), int(pair.attrs["ratio"])
    terms = psf.separable_terms(ratio)
    known = np.where(np.isfinite(difference), difference * trust, 0.0)
    contradiction, covariance, noise = _measured(pair, known, terms, ratio)
    if contradiction < LEAST:
        return pair
    directions = covariance @ response.T + _FREE * np.trace(covariance) / len(covariance) * response.T
    if more is not None:
        difference = more()
        known = np.where(np.isfinite(difference), difference * trust, 0.0)
    shares = share(known, response @ directions, terms, ratio, noise)
    hsi, msi = _with_share(pair, shares, directions, terms, ratio)
    note = (
        f"images: they contradict each other by {contradiction:.0%} of the contrast that the MSI's bands have on the coarse "
        f"grid; {shares.by_hsi:.0%} of it is taken to be the HSI's, the rest the MSI's (--change off leaves both as they are)"
    )
    return pair.assign(hsi=hsi, msi=msi).assign_attrs(notes=[*pair.attrs["notes"], note])


def share(
    difference: np.ndarray,
    gram: np.ndarray,
    terms: Sequence[tuple[np.ndarray, np.ndarray]],
    ratio: int,
    noise: np.ndarray | float = 0.0,
) -> Shares:
    """Solve for l and m.

    Parameters
    ----------
    difference
        D (c, h, w), 0 where unknown.
    gram
        R S R^T (c, c).
    terms, ratio
        The PSF as separable kernels along y and x on the fine grid, and fine pixels to a coarse pixel.
    noise
        (c,) variance of the noise in D, which is left in it.
    """
    power, axes = np.linalg.eigh(gram)
    power = np.maximum(power, 0.0) + _RIDGE * power.mean()
    kernel = _autocorrelation(terms, ratio)
    shape = tuple(n + k // 2 for n, k in zip(difference.shape[1:], kernel.shape, strict=True))  # zeros beyond the border
    spectrum = np.fft.rfft2(np.einsum("ij,ihw->jhw", axes, difference), shape)
    corner = np.zeros(shape)
    rows, cols = (np.arange(k) - k // 2 for k in kernel.shape)
    np.add.at(corner, (rows[:, None] % shape[0], cols[None, :] % shape[1]), kernel)
    blur, weight = np.maximum(np.fft.rfft2(corner).real, 0.0), np.abs(spectrum) ** 2
    power = power[:, None, None]
    balance = _balance(power, blur, weight)
    hsi, msi = (np.sqrt((weight * (part / (power + balance * blur)) ** 2).sum()) for part in (power, balance * blur))
    expected = power + balance * blur
    observed = expected * (weight / expected).mean(axis=(1, 2), keepdims=True) / max((difference != 0).any(axis=0).sum(), 1)
    own = (axes**2).T @ np.broadcast_to(noise, len(power))
    shared = 1.0 - np.sqrt(np.minimum(own[:, None, None] / np.maximum(observed, 1e-300), 1.0))
    solved = np.fft.irfft2(spectrum * shared / expected, shape)
    solved = solved[:, : difference.shape[1], : difference.shape[2]]
    return Shares(np.einsum("ij,jhw->ihw", axes, solved), balance, float(hsi / max(hsi + msi, 1e-300)))


def _balance(power: np.ndarray, blur: np.ndarray, weight: np.ndarray) -> float:
    """Return the likeliest m of those with which the HSI gives a quarter or more.

    Parameters
    ----------
    power, blur
        Of R S R^T (c, 1, 1), along its axes, and of H H^T (h', w'), at each frequency.
    weight
        Power of D (c, h', w').
    """
    low, high = np.log(power.min() / blur.max()) - 10, np.log(power.max() / blur.max()) + 25
    least = low
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        by_msi = np.exp(middle) * blur
        more = (weight * (by_msi**2 - (_MOST_BY_MSI * power) ** 2) / (power + by_msi) ** 2).sum() > 0
        low, high = (low, middle) if more else (middle, high)

    def unlikely(m: float) -> float:
        expected = power + m * blur
        return float(np.log(expected).mean() + np.log((weight / expected).mean(axis=(1, 2))).mean())

    return float(min(np.exp(np.linspace(least, middle, _STEPS)), key=unlikely))


def _autocorrelation(terms: Sequence[tuple[np.ndarray, np.ndarray]], ratio: int) -> np.ndarray:
    """H H^T away from borders: a kernel on the coarse grid with odd sides."""
    total: Any = 0.0
    for y, x in terms:
        for v, u in terms:
            total = total + np.outer(*(_every(np.correlate(a, b, "full"), ratio) for a, b in ((y, v), (x, u))))
    return total


def _every(values: np.ndarray, ratio: int) -> np.ndarray:
    """Keep every ratio-th of an odd number of values, the middle one among them."""
    return values[(len(values) // 2) % ratio :: ratio]


def _measured(
    pair: xr.Dataset, difference: np.ndarray, terms: Sequence[tuple[np.ndarray, np.ndarray]], ratio: int
) -> tuple[float, np.ndarray, np.ndarray]:
    """Root mean square of D, noise taken off, over the standard deviation of R X; covariance (C, C) of the spectra; that noise."""
    response, seen, noise = pair["response"].values, [], []
    every = _blocks(pair["msi"].data, ratio)
    for rows, cols in every:
        spectra = np.asarray(pair["hsi"].data[:, rows, cols], np.float64).reshape(response.shape[1], -1)
        seen.append(_thinned(spectra[:, np.isfinite(spectra).all(axis=0)], _MOST_SPECTRA // len(every)))
        noise.append(_finest(np.asarray(pair["msi"].data[:, _fine(rows, ratio), _fine(cols, ratio)], np.float64)))
    spectra, power = np.concatenate(seen, axis=1), sum(np.outer(y, x) for y, x in terms)
    own = (response @ (spectra - without_noise(spectra))).var(axis=1)
    own = own + (power**2).sum() * np.nan_to_num(np.nanmedian(noise, axis=0))
    known = max(float((difference != 0).any(axis=0).mean()), 1e-12)
    more = np.maximum((difference**2).mean(axis=(1, 2)) / known - own, 0.0)
    contradiction = float(np.sqrt(np.mean(more / np.maximum((response @ spectra).var(axis=1), 1e-30))))
    return contradiction, np.cov(spectra, bias=True), own


def _thinned(spectra: np.ndarray, most: int) -> np.ndarray:
    return spectra[:, :: max(1, -(-spectra.shape[1] // max(most, 1)))]


def _finest(image: np.ndarray) -> np.ndarray:
    """Variance (c,) of the noise of (c, H, W), finest texture included; NaN where unknown.

    Of the median second difference (Immerkaer 1996) or that of order 8, which looks at finer texture: the lesser.
    """
    found = []
    for order in _DIFFERENCES:
        fine = np.diff(np.diff(image, order, axis=1), order, axis=2) / comb(2 * order, order)  # unit response to white noise
        values = [v[np.isfinite(v)] for v in np.abs(fine).reshape(len(image), -1)]
        found.append([(1.4826 * np.median(v)) ** 2 if v.size else np.nan for v in values])
    return np.fmin(*found)


def _with_share(
    pair: xr.Dataset, shares: Shares, directions: np.ndarray, terms: Sequence[tuple[np.ndarray, np.ndarray]], ratio: int
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return X + S R^T l and Y - m H^T(l), lazily, chunked as X and Y."""
    import dask.array as da

    multiplier = shares.multiplier.astype(np.float32)
    reach = max(len(v) for term in terms for v in term) // ratio + 1

    def coarse(x: np.ndarray, block_info: Any = None) -> np.ndarray:
        _, rows, cols = (slice(*at) for at in block_info[0]["array-location"])
        return x + np.einsum("kc,chw->khw", directions, multiplier[:, rows, cols]).astype(x.dtype)

    def fine(y: np.ndarray, block_info: Any = None) -> np.ndarray:
        _, (top, bottom), (left, right) = block_info[0]["array-location"]
        around = [(low // ratio - reach, -(-high // ratio) + reach) for low, high in ((top, bottom), (left, right))]
        near = _cut(multiplier, around)
        inner = tuple(
            slice(low - first * ratio, high - first * ratio)
            for (low, high), (first, _) in zip(((top, bottom), (left, right)), around, strict=True)
        )
        return y - np.float32(shares.balance) * spread(near, terms, ratio)[:, inner[0], inner[1]].astype(y.dtype)

    hsi, msi = pair["hsi"].data, pair["msi"].data
    return (
        pair["hsi"].copy(data=da.map_blocks(coarse, hsi, dtype=hsi.dtype)),
        pair["msi"].copy(data=da.map_blocks(fine, msi, dtype=msi.dtype)),
    )


def _cut(image: np.ndarray, around: Sequence[tuple[int, int]]) -> np.ndarray:
    """Cut (c, h, w) to ranges of rows and columns that may lie beyond it: zeros there."""
    inside = [slice(max(first, 0), min(last, n)) for (first, last), n in zip(around, image.shape[1:], strict=True)]
    pads = [(max(-first, 0), max(last - n, 0)) for (first, last), n in zip(around, image.shape[1:], strict=True)]
    return np.pad(image[:, inside[0], inside[1]], [(0, 0), *pads])


def spread(coarse: np.ndarray, terms: Sequence[tuple[np.ndarray, np.ndarray]], ratio: int) -> np.ndarray:
    """Apply H^T to (..., h, w), nothing beyond the border: (..., h * ratio, w * ratio)."""
    return sum(_spread_last(np.swapaxes(_spread_last(np.swapaxes(coarse, -1, -2), y, ratio), -1, -2), x, ratio) for y, x in terms)


def _spread_last(image: np.ndarray, taps: np.ndarray, ratio: int) -> np.ndarray:
    """Spread each value of the last axis over fine pixels by ``taps`` around its centre."""
    size, beyond = image.shape[-1], (len(taps) - ratio) // 2  # taps and ratio are both even or both odd
    margin = max(beyond, 0)
    out = np.zeros((*image.shape[:-1], size * ratio + 2 * margin), np.result_type(image, np.float32))
    for place, tap in enumerate(taps):
        first = margin - beyond + place
        out[..., first : first + (size - 1) * ratio + 1 : ratio] += image * tap
    return out[..., margin : margin + size * ratio]
