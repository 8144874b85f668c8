"""What MossFuse's network starts from: a scene's statistics, the first estimate by local regression, the MSI's detail. All ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from geofuse.degradation.noise import msi_noise
from geofuse.methods.local_regression import CoarseMsi, Moments, features, predict_coarse, predict_fine, regress, scene_moments
from geofuse.methods.spectral_basis import learn_basis

MEDIAN = 0.6745  # of the absolute value of a standard normal number
_LEAST_NOISE = 1e-4  # of an image's mean
_DETAIL_SIDES = (3, 7)  # pixels of the surroundings that detail stands out of


@dataclass(frozen=True)
class SceneStatistics:
    """What a first estimate takes from a whole scene.

    Attributes
    ----------
    mean
        (C,) mean spectrum.
    vectors, inverse
        E (C, d) and what coefficients come from, (d, C): a = inverse (x - mean); see :mod:`geofuse.methods.spectral_basis`.
    scaled
        (C, C) from C numbers that a network puts out to a change of the spectrum within the subspace: the length of their part
        along each of its axes is counted in standard errors of the first estimate there, as its residuals on the coarse grid show.
    noise, hsi_noise
        (c,) and (C,) noise standard deviations of the fine MSI and of the HSI.
    moments
        Of the MSI at the HSI's resolution and the coefficients.
    """

    mean: Tensor
    vectors: Tensor
    inverse: Tensor
    scaled: Tensor
    noise: Tensor
    hsi_noise: Tensor
    moments: Moments

    @classmethod
    def of(cls, windows: Sequence[tuple[Tensor, Tensor, Tensor]]) -> SceneStatistics:
        """Find them from windows of a scene that do not overlap, each (C, h, w), (c, H, W) and the blurred MSI (c, h, w)."""
        hsi, like = torch.cat([hsi.flatten(1) for hsi, _, _ in windows], dim=1), windows[0][0]
        basis = learn_basis(hsi.double().cpu().numpy())
        made = (basis.mean, basis.vectors, (basis.directions / basis.noise[:, None]).T, basis.noise)
        mean, vectors, inverse, hsi_noise = (torch.as_tensor(a, dtype=like.dtype, device=like.device) for a in made)
        hsi_noise = hsi_noise + _LEAST_NOISE * hsi.abs().mean()
        coefficients = [torch.einsum("dc,chw->dhw", inverse, hsi - mean[:, None, None]) for hsi, _, _ in windows]
        noise = torch.as_tensor(_noise_of(windows, coefficients), dtype=like.dtype, device=like.device)
        moments = scene_moments([(w[2], a, torch.ones_like(a[0])) for w, a in zip(windows, coefficients, strict=True)])
        left = []
        for (_, msi, coarse), a in zip(windows, coefficients, strict=True):
            left.append((a - predict_coarse(_predictor(msi, coarse, a, noise, moments), coarse)).flatten(1))
        errors = torch.cat(left, dim=1).square().mean(dim=1).sqrt()
        directions = torch.as_tensor(basis.directions.copy(), dtype=like.dtype, device=like.device)
        return cls(mean, vectors, inverse, vectors @ (errors[:, None] * directions.T), noise, hsi_noise, moments)


def _predictor(msi: Tensor, coarse_msi: Tensor, coefficients: Tensor, noise: Tensor, moments: Moments) -> Tensor:
    """Fit the local regression of one window; returns (d, c+1, h, w)."""
    ratio = msi.shape[1] // coarse_msi.shape[1]
    on_coarse = CoarseMsi(coarse_msi, avg_pool2d(msi[None], ratio)[0], avg_pool2d(msi.double()[None] ** 2, ratio)[0])
    return regress(on_coarse, coefficients, torch.ones_like(coefficients[0]), noise, moments).to(msi.dtype)


def _noise_of(windows: Sequence[tuple[Tensor, Tensor, Tensor]], coefficients: Sequence[Tensor]) -> np.ndarray:
    """Noise (c,) of the MSI: the smaller of what its texture and what its agreement with the HSI allow.

    The second is what a linear regression of the blurred MSI on the HSI's coefficients (d, h, w) leaves, with a blur that averages
    ratio^2 pixels; its median, as a patch's border is blurred wrongly.
    """
    from_texture = msi_noise([msi.double().cpu().numpy() for _, msi, _ in windows])
    y = torch.cat([coarse.flatten(1) for _, _, coarse in windows], dim=1).double().cpu().numpy()
    a = torch.cat([features(a).flatten(1) for a in coefficients], dim=1).double().cpu().numpy()
    left = np.abs(y.T - a.T @ np.linalg.lstsq(a.T, y.T, rcond=None)[0])
    from_agreement = np.median(left, axis=0) / MEDIAN * (windows[0][1].shape[1] // windows[0][2].shape[1])
    noise = np.where(from_texture > 0, np.minimum(from_texture, from_agreement), from_agreement)
    return noise + _LEAST_NOISE * np.abs(y).mean() + 1e-12


class FirstEstimate(nn.Module):
    """What the network corrects: the HSI's subspace coefficients as a local linear regression on the MSI foretells them.

    It is the prediction of ``subspace`` (:mod:`geofuse.methods.local_regression`) without what follows there; ours, not the
    paper's. ``scene`` is what it takes from the whole scene; None while it learns from several scenes: each image then has its own.
    """

    def __init__(self) -> None:
        """Start without a scene."""
        super().__init__()
        self.scene: SceneStatistics | None = None

    def scenes(self, hsi: Tensor, msi: Tensor, coarse_msi: Tensor) -> list[SceneStatistics]:
        """Return the statistics of the scene of each image: (B, C, h, w), (B, c, H, W) and the blurred MSI (B, c, h, w)."""
        if self.scene is not None:
            return [self.scene] * len(hsi)
        with torch.no_grad():
            return [SceneStatistics.of([images]) for images in zip(hsi, msi, coarse_msi, strict=True)]

    def forward(self, scenes: Sequence[SceneStatistics], hsi: Tensor, msi: Tensor, coarse_msi: Tensor) -> Tensor:
        """Estimate the fine image (B, C, H, W) of each image of :meth:`scenes`."""
        with torch.no_grad():
            return torch.stack([self._one(*images) for images in zip(scenes, hsi, msi, coarse_msi, strict=True)])

    @staticmethod
    def _one(scene: SceneStatistics, hsi: Tensor, msi: Tensor, coarse_msi: Tensor) -> Tensor:
        """Predict one image (C, H, W)."""
        coefficients = torch.einsum("dc,chw->dhw", scene.inverse, hsi - scene.mean[:, None, None])
        fine = predict_fine(_predictor(msi, coarse_msi, coefficients, scene.noise, scene.moments), msi)
        return torch.einsum("cd,dhw->chw", scene.vectors, fine) + scene.mean[:, None, None]


def detail(msi: Tensor, scenes: Sequence[SceneStatistics]) -> Tensor:
    """Return how an MSI (B, c, H, W) stands out of its surroundings, (B, 2c, H, W), in units of its noise.

    Large values enter as their logarithms (asinh). Noise is a few thousandths of an image's values: from these alone a network
    hardly learns to tell it from texture.
    """
    scaled, parts = msi / torch.stack([scene.noise for scene in scenes])[:, :, None, None], []
    for side in _DETAIL_SIDES:
        around = avg_pool2d(pad(scaled, (side // 2,) * 4, mode="replicate"), side, stride=1)
        parts.append(torch.asinh(scaled - around))
    return torch.cat(parts, dim=1)
