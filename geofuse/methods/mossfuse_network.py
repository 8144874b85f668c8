"""The network of MossFuse (Du et al. 2025, Fig. 2): decoupling, constraint, degradation estimation, aggregation; and its losses.

Where the text leaves sizes open they are chosen so that the parameters number about the paper's 0.54 million for 31 bands and 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, cosine_similarity, interpolate, pad

from geofuse.methods.mossfuse_layers import Aggregation, LargeKernel, Pointwise, SpectralTransformer
from geofuse.methods.mossfuse_start import FirstEstimate, SceneStatistics, detail
from geofuse.sensors.psf import Psf

WIDTH = 48
_BASE_BLOCKS = 4
_SMOOTH = 0.04  # of all bands: standard deviation of what the logarithm of a response is smoothed with
_LEAST_WEIGHT = 1e-4  # of a row's largest: what a weight of zero starts from
_STEEP = 50.0  # what the logarithms of response and gain change by for a weight of 1; weights move by a thousandth a step


@dataclass(frozen=True)
class Decoupled:
    """Features (B, n, H, W) of a pair: shared and complementary ones of the MSI (Y) and of the HSI (x)."""

    msi_shared: Tensor
    msi_complementary: Tensor
    hsi_shared: Tensor
    hsi_complementary: Tensor


@dataclass(frozen=True)
class Estimates:
    """What the network makes of a pair.

    Attributes
    ----------
    fused
        (B, C, H, W), the fine HSI.
    msi, hsi, coarse_msi
        The inputs as restored from the features, eq. (5): (B, c, H, W), (B, C, h, w), (B, c, h, w).
    features
        The decoupled features.
    """

    fused: Tensor
    msi: Tensor
    hsi: Tensor
    coarse_msi: Tensor
    features: Decoupled


class MossFuseNetwork(nn.Module):
    """MossFuse's network; the fused image is a first estimate by local regression and a correction within the scene's subspace.

    Both are ours (the paper decodes the whole image): the start holds what linear prediction can tell, and a correction of a few
    coefficients a pixel, in place of all bands, counted in the start's own standard errors, leaves less to what neither image
    determines.

    Parameters
    ----------
    bands, msi_bands
        C and c.
    ratio
        Fine pixels along one side of a coarse pixel.
    width
        Channels n of the features.
    """

    reach = 43  # fine pixels away at which an input may still matter

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int = WIDTH) -> None:
        """Build the parts; the decoder of the fused image ends in zeros."""
        super().__init__()
        n, self.ratio = width, ratio
        self.estimate = FirstEstimate()
        self.msi_base, self.hsi_base = (
            nn.Sequential(nn.Conv2d(k, n, 3, padding=1), *(SpectralTransformer(n) for _ in range(_BASE_BLOCKS)))
            for k in (3 * msi_bands, bands)
        )
        self.msi_complementary, self.hsi_complementary = LargeKernel(n), SpectralTransformer(n)
        self.msi_shared, self.hsi_shared = (nn.Sequential(LargeKernel(n), SpectralTransformer(n)) for _ in range(2))
        self.join_shared = Pointwise(2 * n, n)
        self.restore_msi, self.restore_hsi = Aggregation(n, spatial=True), Aggregation(n, spatial=False)
        self.add_spatial, self.add_spectral = Aggregation(n, spatial=True), Aggregation(n, spatial=False)
        self.decode_msi, self.decode_hsi, self.decode_coarse_msi = (
            nn.Sequential(SpectralTransformer(n), nn.Conv2d(n, k, 3, padding=1)) for k in (msi_bands, bands, msi_bands)
        )
        self.decode = nn.Sequential(*(SpectralTransformer(n) for _ in range(_BASE_BLOCKS)), nn.Conv2d(n, bands, 3, padding=1))
        nn.init.zeros_(self.decode[-1].weight)
        nn.init.zeros_(self.decode[-1].bias)

    def decouple(self, msi: Tensor, hsi_up: Tensor) -> Decoupled:
        """Split the features of MSI with its detail (B, 3c, H, W) and interpolated HSI (B, C, H, W), eq. (3)."""
        base_msi, base_hsi = (
            base(image.contiguous(memory_format=torch.channels_last))
            for base, image in ((self.msi_base, msi), (self.hsi_base, hsi_up))
        )
        return Decoupled(
            self.msi_shared(base_msi), self.msi_complementary(base_msi), self.hsi_shared(base_hsi), self.hsi_complementary(base_hsi)
        )

    def aggregate(self, features: Decoupled, scenes: Sequence[SceneStatistics], hsi: Tensor, msi: Tensor, coarse: Tensor) -> Tensor:
        """Correct the first estimate (B, C, H, W) from shared, then spatial, then spectral features, eq. (7)."""
        spatial = self.add_spatial(features.msi_shared + features.hsi_shared, features.msi_complementary)
        correction = self.decode(self.add_spectral(spatial, features.hsi_complementary))
        scaled = torch.stack([scene.scaled for scene in scenes])
        return self.estimate(scenes, hsi, msi, coarse) + torch.einsum("bkc,bchw->bkhw", scaled, correction)

    def fuse(self, hsi: Tensor, msi: Tensor, coarse_msi: Tensor) -> Tensor:
        """Fuse (B, C, h, w), (B, c, H, W) and the blurred MSI (B, c, h, w) into (B, C, H, W): decoupling and aggregation alone."""
        return self._decoupled_and_fused(hsi, msi, coarse_msi)[1]

    def forward(self, hsi: Tensor, msi: Tensor, coarse_msi: Tensor) -> Estimates:
        """Fuse, and restore the inputs from the features, eq. (4) and (5)."""
        f, fused = self._decoupled_and_fused(hsi, msi, coarse_msi)
        shared = self.join_shared(torch.cat([f.msi_shared, f.hsi_shared], dim=1))
        return Estimates(
            fused,
            self.decode_msi(self.restore_msi(f.msi_shared, f.msi_complementary)),
            avg_pool2d(self.decode_hsi(self.restore_hsi(f.hsi_shared, f.hsi_complementary)), self.ratio),
            avg_pool2d(self.decode_coarse_msi(shared), self.ratio),
            f,
        )

    def _decoupled_and_fused(self, hsi: Tensor, msi: Tensor, coarse_msi: Tensor) -> tuple[Decoupled, Tensor]:
        """Return the features and the fused image."""
        scenes = self.estimate.scenes(hsi, msi, coarse_msi)
        features = self.decouple(torch.cat([msi, detail(msi, scenes)], dim=1), self.upsampled(hsi))
        return features, self.aggregate(features, scenes, hsi, msi, coarse_msi)

    def upsampled(self, hsi: Tensor) -> Tensor:
        """Interpolate (B, C, h, w) bicubically to the fine grid."""
        return interpolate(hsi, scale_factor=float(self.ratio), mode="bicubic", align_corners=False)


class Degradation(nn.Module):
    """PSF and SRF as parameters: an anisotropic Gaussian, eq. (6), and non-negative rows that sum to one (section 3.5).

    It starts from what is known or was estimated before (:meth:`start_from`), and from a round PSF as wide as a coarse pixel and
    flat rows where nothing is. The rows are a softmax of the first ones' logarithm and a smooth function of the band. The paper
    clamps free weights instead: from one pair, whose bands hardly differ, these got stuck (loss four times as high on abu-beach-4,
    rows 50 to 85 degrees off the truth, against 14 to 24). They are multiplied by a gain each, because the two images are each
    scaled by their own values.

    Parameters
    ----------
    bands, msi_bands
        C and c.
    ratio
        Fine pixels along one side of a coarse pixel; the kernel is 4 ratio + 1 pixels wide (4 ratio for an even ratio).
    """

    def __init__(self, bands: int, msi_bands: int, ratio: int) -> None:
        """Start with a round PSF as wide as a coarse pixel and flat rows."""
        super().__init__()
        self.ratio, self.size = ratio, 4 * ratio + ratio % 2
        self.log_widths = nn.Parameter(torch.full((2,), math.log(ratio / 2.3548)))  # standard deviations, fine pixels
        self.angle = nn.Parameter(torch.zeros(()))
        self.logits = nn.Parameter(torch.zeros(msi_bands, bands))
        self.register_buffer("first", torch.zeros(msi_bands, bands))  # logarithm of the rows that it starts from
        apart = (torch.arange(bands)[:, None] - torch.arange(bands)[None, :]) / (_SMOOTH * bands)
        smooth = torch.exp(-0.5 * apart**2)
        self.register_buffer("smooth", smooth / smooth.sum(dim=0), persistent=False)
        self.log_gain = nn.Parameter(torch.zeros(msi_bands))

    @torch.no_grad()
    def start_from(self, response: Tensor, psf: Psf | None = None) -> None:
        """Start from a response (c, C), whose rows sum to the gains, and from a round PSF with the peak of this one.

        Rows without a weight above zero stay flat.
        """
        rows = torch.as_tensor(response).to(self.first).clamp(min=0.0)
        for k in (rows.sum(dim=1) > 0).nonzero()[:, 0]:
            self.first[k] = torch.log(rows[k] / rows[k].sum() + _LEAST_WEIGHT * rows[k].max() / rows[k].sum())
            self.log_gain[k] = rows[k].sum().log() / _STEEP
        if psf is not None:
            kernel = sum(np.outer(v, u) for v, u in psf.separable_terms(self.ratio))
            self.log_widths.fill_(0.5 * math.log(kernel.sum() / (2.0 * math.pi * kernel.max())))

    def kernel(self) -> Tensor:
        """Return the PSF (k, k), which sums to one: exp(-x^T Sigma^-1 x / 2), Sigma = R diag(l1, l2) R^T."""
        axis = torch.arange(self.size, device=self.logits.device) - (self.size - 1) / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        along = torch.cos(self.angle) * x + torch.sin(self.angle) * y
        across = -torch.sin(self.angle) * x + torch.cos(self.angle) * y
        exponent = (along / self.log_widths[0].exp()) ** 2 + (across / self.log_widths[1].exp()) ** 2
        weights = torch.exp(-0.5 * exponent)
        return weights / weights.sum()

    def response(self) -> Tensor:
        """Return R (c, C), non-negative, rows summing to one."""
        return torch.softmax(self.first + _STEEP * self.logits @ self.smooth, dim=1)

    def blur(self, fine: Tensor) -> Tensor:
        """Apply C: (B, n, H, W) to (B, n, h, w), reflected borders."""
        n, margin = fine.shape[1], (self.size - self.ratio) // 2
        weight = self.kernel().expand(n, 1, -1, -1)
        return conv2d(pad(fine, (margin,) * 4, mode="reflect"), weight, stride=self.ratio, groups=n)

    def respond(self, spectra: Tensor) -> Tensor:
        """Apply R along the bands: (B, C, ...) to (B, c, ...)."""
        return torch.einsum("ck,bkhw->bchw", (_STEEP * self.log_gain).exp()[:, None] * self.response(), spectra)


@dataclass(frozen=True)
class LossWeights:
    """Weights of eq. (14), and which parts of the losses take part (the ablations of Table 3)."""

    clustering: float = 0.1
    constraint: float = 1.0
    degradation: float = 1.0
    attract: bool = True
    repel: bool = True
    coarse_msi: bool = True


def clustering_loss(f: Decoupled, weights: LossWeights) -> Tensor:
    """Eq. (8): -log f(Ys, xs) / (f(Ys, Yc) + f(xs, xc) + f(Ys, xs) + f(Yc, xc)), f = exp(cos), pixel by pixel over the channels.

    Without ``attract`` only log(f(Yc, xc) + f(Ys, Yc) + f(xs, xc)) is left, without ``repel`` only -log f(Ys, xs).
    """

    def similarity(a: Tensor, b: Tensor) -> Tensor:
        return cosine_similarity(a, b, dim=1).mean().exp()

    shared = similarity(f.msi_shared, f.hsi_shared)
    apart = similarity(f.msi_shared, f.msi_complementary) + similarity(f.hsi_shared, f.hsi_complementary)
    apart = apart + similarity(f.msi_complementary, f.hsi_complementary)
    if not weights.attract:
        return torch.log(apart)
    return -torch.log(shared) if not weights.repel else -torch.log(shared / (shared + apart))


@dataclass(frozen=True)
class Losses:
    """The terms of eq. (14), scalars."""

    aggregation: Tensor
    clustering: Tensor
    constraint: Tensor
    degradation: Tensor

    def total(self, weights: LossWeights) -> Tensor:
        """Add them up with the weights."""
        used = (1.0, weights.clustering, weights.constraint, weights.degradation)
        return sum(w * getattr(self, field.name) for w, field in zip(used, fields(self), strict=True))


def losses(
    found: Estimates,
    hsi: Tensor,
    msi: Tensor,
    blur: Callable[[Tensor], Tensor],
    respond: Callable[[Tensor], Tensor],
    weights: LossWeights,
    margin: int = 0,
) -> Losses:
    """Compute the terms for a batch; ``margin`` coarse pixels along the border are left out where a blur is compared."""

    def inside(image: Tensor) -> Tensor:
        return image[..., margin : image.shape[-2] - margin, margin : image.shape[-1] - margin]

    def gap(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean()

    blurred_msi, seen_hsi = blur(msi), respond(hsi)
    aggregation = gap(respond(found.fused), msi) + gap(inside(blur(found.fused)), inside(hsi))  # eq. (13)
    constraint = gap(found.msi, msi) + gap(found.hsi, hsi)  # eq. (9)
    if weights.coarse_msi:
        constraint = constraint + gap(inside(blurred_msi), inside(found.coarse_msi)) + gap(seen_hsi, found.coarse_msi)  # eq. (10)
    return Losses(aggregation, clustering_loss(found.features, weights), constraint, gap(inside(blurred_msi), inside(seen_hsi)))


def recorrupted(image: Tensor, noise: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Make two images of one whose noises are independent (Pang et al. 2021): y + alpha s n and y - s n / alpha.

    Parameters
    ----------
    image
        y (B, n, H, W).
    noise
        s (B, n), its noise standard deviation.
    alpha
        How much of it is added.
    generator
        CPU generator of n, standard normal.
    """
    added = noise[:, :, None, None] * torch.randn(image.shape, generator=generator).to(image)
    return image + alpha * added, image - added / alpha


def whitened_gap(seen: Tensor, target: Tensor, noise: Tensor) -> Tensor:
    """Mean square of the difference of images (B, n, H, W) in units of the noise (B, n)."""
    return ((seen - target) / noise[:, :, None, None]).square().mean()
