"""What two images contradict each other in, shared between them before they are fused.

On the coarse grid H(Y) - R X = D should be noise. In pairs of two instruments it is far more: parallax, shadows, a response and a
PSF known in part. No image agrees with both then, and a method that believes both pulls at them where they disagree, which shows
as ringing. For whatever fused image Z, its errors e = H(Z) - X and f = R(Z) - Y satisfy

    R e - H(f) = D,

and every such e and f is that of some Z. So the images that are nearest to both, the front of |e|^2 against |f|^2, are

    e = R^T l,    f = -m H^T(l),    (R R^T + m H H^T) l = D,

one for every m > 0. The front is measured here, m chosen such that R e and H(f) are equally large, which is that both images give
way by as much, and X + e and Y + f take the place of X and Y: they agree, and noise is all that is left for the method to weigh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from geofuse.sensors.psf import Psf

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST = 0.1  # of the contrast of R X: contradictions below it stay with the method, whose noise they are
_RIDGE = 1e-6  # of the mean power of a row of R
_STEPS = 40


@dataclass(frozen=True)
class Shares:
    """What each image gives.

    Attributes
    ----------
    multiplier
        l (c, h, w) float64.
    balance
        m.
    contradiction
        Root mean square of D over the contrast of R X.
    """

    multiplier: np.ndarray
    balance: float
    contradiction: float


def reconcile(pair: xr.Dataset, difference: np.ndarray, trust: np.ndarray) -> xr.Dataset:
    """Share the contradiction of a pair between its images, where it is more than a tenth of their contrast.

    Parameters
    ----------
    pair
        A pair.
    difference
        D (c, h, w), NaN where unknown.
    trust
        (h, w) weight of the MSI, 0 to 1: what is not trusted is no reason to change the HSI.

    Returns
    -------
    Dataset
        The pair, with ``hsi`` and ``msi`` lazily changed and a note; the pair itself where the images agree.
    """
    response, psf, ratio = pair["response"].values, Psf.from_tag(pair.attrs["psf"]), int(pair.attrs["ratio"])
    terms = psf.separable_terms(ratio)
    shares = share(np.where(np.isfinite(difference), difference * trust, 0.0), response, terms, ratio, _contrast(pair))
    if shares.contradiction < LEAST:
        return pair
    hsi, msi = _with_share(pair, shares, response, terms, ratio)
    note = (
        f"images: they contradict each other by {shares.contradiction:.0%} of the contrast that the MSI's bands have on the coarse "
        "grid; half of it is taken to be the HSI's, half the MSI's (--change off leaves both as they are)"
    )
    return pair.assign(hsi=hsi, msi=msi).assign_attrs(notes=[*pair.attrs["notes"], note])


def share(
    difference: np.ndarray, response: np.ndarray, terms: Sequence[tuple[np.ndarray, np.ndarray]], ratio: int, contrast: np.ndarray
) -> Shares:
    """Solve for l and m.

    Parameters
    ----------
    difference
        D (c, h, w), 0 where unknown.
    response
        R (c, C).
    terms, ratio
        The PSF as separable kernels along y and x on the fine grid, and fine pixels to a coarse pixel.
    contrast
        (c,) standard deviation of R X.
    """
    known = (difference != 0).any(axis=0).mean()
    size = np.sqrt((difference**2).mean(axis=(1, 2)) / max(known, 1e-12))
    contradiction = float(np.sqrt(np.mean((size / np.maximum(contrast, 1e-30)) ** 2)))
    if contradiction < LEAST:
        return Shares(np.zeros_like(difference), 1.0, contradiction)
    power, axes = np.linalg.eigh(response @ response.T)
    power = np.maximum(power, 0.0) + _RIDGE * power.mean()
    kernel = _autocorrelation(terms, ratio)
    shape = tuple(n + k // 2 for n, k in zip(difference.shape[1:], kernel.shape, strict=True))  # zeros beyond the border
    spectrum = np.fft.rfft2(np.einsum("ij,ihw->jhw", axes, difference), shape)
    corner = np.zeros(shape)
    rows, cols = (np.arange(k) - k // 2 for k in kernel.shape)
    np.add.at(corner, (rows[:, None] % shape[0], cols[None, :] % shape[1]), kernel)
    blur, weight = np.maximum(np.fft.rfft2(corner).real, 0.0), np.abs(spectrum) ** 2
    low, high = np.log(power.min() / blur.max()) - 10, np.log(power.max() / blur.max()) + 25
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        by_msi = np.exp(middle) * blur
        by_hsi = power[:, None, None]
        more = (weight * (by_msi**2 - by_hsi**2) / (by_hsi + by_msi) ** 2).sum() > 0
        low, high = (low, middle) if more else (middle, high)
    balance = float(np.exp(middle))
    solved = np.fft.irfft2(spectrum / (power[:, None, None] + balance * blur), shape)
    solved = solved[:, : difference.shape[1], : difference.shape[2]]
    return Shares(np.einsum("ij,jhw->ihw", axes, solved), balance, contradiction)


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


def _contrast(pair: xr.Dataset) -> np.ndarray:
    """(c,) standard deviation of R X."""
    import dask.array as da

    seen = da.einsum("ck,khw->chw", pair["response"].values.astype(np.float32), pair["hsi"].data)
    return np.asarray(da.nanstd(seen, axis=(1, 2), dtype=np.float64).compute())


def _with_share(
    pair: xr.Dataset, shares: Shares, response: np.ndarray, terms: Sequence[tuple[np.ndarray, np.ndarray]], ratio: int
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return X + R^T l and Y - m H^T(l), lazily, chunked as X and Y."""
    import dask.array as da

    multiplier = shares.multiplier.astype(np.float32)
    reach = max(len(v) for term in terms for v in term) // ratio + 1

    def coarse(x: np.ndarray, block_info: Any = None) -> np.ndarray:
        _, rows, cols = (slice(*at) for at in block_info[0]["array-location"])
        return x + np.einsum("ck,chw->khw", response, multiplier[:, rows, cols]).astype(x.dtype)

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
