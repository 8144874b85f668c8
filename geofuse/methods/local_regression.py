"""From MSI to subspace coefficients by regression in sliding windows: linear minimum mean square error, locally.

On the coarse grid both images are known: the MSI blurred by H, and the HSI's coefficients a. Around every coarse pixel a Gaussian
window gives local means and covariances, and with them the best linear predictor of a from the MSI,

    a ~ m_a + C_ay (C_yy + N / k)^-1 (y - m_y).

N is the noise covariance of the fine MSI it will be applied to, and k how many times stronger the same texture is on the fine grid
than on the coarse one, read off the MSI in the same window: a ridge that no one has to tune. The predictor is interpolated
bilinearly to the fine grid and applied to the fine MSI. Where a window holds too little, a trace of the scene's own statistics
takes over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, interpolate

from geofuse.degradation.spatial import SpatialOperator

WINDOW_SIGMA = 1.0  # coarse pixels
REACH = 3  # coarse pixels: where the window is cut off
_SCENE_SHARE = 1e-3  # weight of the scene's statistics beside a full window's
_MAX_TEXTURE_GAIN = 10.0


@dataclass(frozen=True)
class CoarseMsi:
    """The fine MSI's local statistics on the coarse grid, each (c, h, w).

    ``blurred`` is H(y); ``mean`` and ``mean_square`` are the averages of y and y^2 over the fine pixels of each coarse one.
    """

    blurred: torch.Tensor
    mean: torch.Tensor
    mean_square: torch.Tensor

    @classmethod
    def of(cls, msi: torch.Tensor, spatial: SpatialOperator) -> CoarseMsi:
        """Take the statistics of a fine MSI (c, H, W)."""
        squares = avg_pool2d((msi.double() ** 2)[None], spatial.ratio)[0]
        return cls(spatial.forward(msi), avg_pool2d(msi[None], spatial.ratio)[0], squares)


@dataclass(frozen=True)
class Moments:
    """Second moments of the scene, of the features f = (y, 1): ``ff`` (c+1, c+1) and ``fa`` (c+1, d), per unit of weight."""

    ff: torch.Tensor
    fa: torch.Tensor


def features(msi: torch.Tensor) -> torch.Tensor:
    """Append the constant one to an MSI (c, ...): (c+1, ...)."""
    return torch.cat([msi, torch.ones_like(msi[:1])])


def scene_moments(parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> Moments:
    """Average the moments over windows of the scene, each (msi (c, h, w), coefficients (d, h, w), weight (h, w))."""
    ff, fa, total = 0.0, 0.0, 0.0
    for msi, coefficients, weight in parts:
        f, a, w = features(msi).double().flatten(1), coefficients.double().flatten(1), weight.double().flatten()
        ff, fa, total = ff + (f * w) @ f.T, fa + (f * w) @ a.T, total + float(w.sum())
    return Moments(ff / max(total, 1e-12), fa / max(total, 1e-12))


def regress(msi: CoarseMsi, coefficients: torch.Tensor, weight: torch.Tensor, noise: torch.Tensor, scene: Moments) -> torch.Tensor:
    """Fit the local predictor at every coarse pixel.

    Parameters
    ----------
    msi
        The MSI on the coarse grid.
    coefficients
        (d, h, w) the HSI's coefficients.
    weight
        (h, w) 0 where a coarse pixel must not be used.
    noise
        (c,) noise standard deviation of the fine MSI.
    scene
        The scene's own moments.

    Returns
    -------
    (d, c+1, h, w) float32: for each component the weights of the bands and the intercept.
    """
    f, a, w = features(msi.blurred).double(), coefficients.double(), weight.double()
    n, d = len(f), len(a)
    rows, cols = _window_matrix(w.shape[0], w), _window_matrix(w.shape[1], w)

    def smooth(image: torch.Tensor) -> torch.Tensor:
        return rows @ (image @ cols)

    total = smooth(w) + _SCENE_SHARE
    ff = torch.empty(n, n, *w.shape, dtype=f.dtype, device=f.device)
    fa = torch.empty(n, d, *w.shape, dtype=f.dtype, device=f.device)
    for i in range(n):
        ff[i] = (smooth(f * f[i] * w) + _SCENE_SHARE * scene.ff[i, :, None, None]) / total
        fa[i] = (smooth(a * f[i] * w) + _SCENE_SHARE * scene.fa[i, :, None, None]) / total
    mean_f, mean_a = ff[n - 1, : n - 1], fa[n - 1]
    cov_ff = ff[: n - 1, : n - 1] - mean_f[:, None] * mean_f
    cov_fa = fa[: n - 1] - mean_f[:, None] * mean_a
    power = noise.double()[:, None, None] ** 2
    fine_variance = smooth(msi.mean_square * w) / total - (smooth(msi.mean.double() * w) / total) ** 2 - power
    coarse_variance = cov_ff.diagonal(dim1=0, dim2=1).permute(2, 0, 1)
    gain = (fine_variance / power).sum(dim=0) / (coarse_variance / power).sum(dim=0).clamp(min=1e-9)
    ridge = torch.diag_embed((power / gain.clamp(1.0, _MAX_TEXTURE_GAIN)).permute(1, 2, 0))
    slope = torch.linalg.solve(cov_ff.permute(2, 3, 0, 1) + ridge, cov_fa.permute(2, 3, 0, 1)).permute(3, 2, 0, 1)  # (d, c, h, w)
    intercept = mean_a - (slope * mean_f).sum(dim=1)
    return torch.cat([slope, intercept[:, None]], dim=1).float()


def texture_gain(parts: list[tuple[CoarseMsi, torch.Tensor]], noise: torch.Tensor) -> float:
    """Compare the MSI's texture inside coarse pixels with that between neighbouring ones.

    Parameters
    ----------
    parts
        Windows of the scene, each the MSI's statistics and the weight (h, w) of its coarse pixels.
    noise
        (c,) noise standard deviation of the fine MSI.

    Returns
    -------
    Variance about the means of coarse pixels, noise taken off, over the variance of blurred pixels in a window; pooled over bands,
    and never below 0.1.
    """
    power = noise.double()[:, None, None] ** 2
    inside, between = 0.0, 0.0
    for msi, weight in parts:
        w, blurred = weight.double(), msi.blurred.double()
        rows, cols = _window_matrix(w.shape[0], w), _window_matrix(w.shape[1], w)
        total = (rows @ (w @ cols)).clamp(min=1e-9)
        mean, square = (rows @ ((image * w) @ cols) / total for image in (blurred, blurred**2))
        inside += float(((msi.mean_square - msi.mean.double() ** 2 - power) / power * w).sum())
        between += float(((square - mean**2) / power * w).sum())
    return max(inside / max(between, 1e-12), 0.1) if between > 0 else 1.0


def predict_coarse(predictor: torch.Tensor, msi: torch.Tensor) -> torch.Tensor:
    """Apply a predictor (d, c+1, h, w) to an MSI on the same grid (c, h, w): (d, h, w)."""
    return torch.einsum("kihw,ihw->khw", predictor, features(msi))


def predict_fine(predictor: torch.Tensor, msi: torch.Tensor) -> torch.Tensor:
    """Interpolate a predictor (d, c+1, h, w) to the grid of a fine MSI (c, H, W) and apply it: (d, H, W)."""
    f = features(msi)
    predicted = torch.empty(len(predictor), *f.shape[1:], dtype=f.dtype, device=f.device)
    for own, p in zip(predicted, predictor, strict=True):  # one component after the other: a fine predictor is c + 1 images
        fine = interpolate(p[None], size=f.shape[1:], mode="bilinear", align_corners=False)[0]
        own[:] = fine.mul_(f).sum(dim=0)
    return predicted


def _window_matrix(size: int, like: torch.Tensor) -> torch.Tensor:
    """Gaussian window along one axis as a symmetric (size, size) matrix with unit row sums away from the borders."""
    offset = np.arange(size)[:, None] - np.arange(size)[None, :]
    window = np.where(np.abs(offset) <= REACH, np.exp(-0.5 * (offset / WINDOW_SIGMA) ** 2), 0.0)
    window /= np.exp(-0.5 * (np.arange(-REACH, REACH + 1) / WINDOW_SIGMA) ** 2).sum()
    return torch.as_tensor(window, dtype=like.dtype, device=like.device)
