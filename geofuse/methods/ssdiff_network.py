"""The network of SSDiff (Zhong, Wu, Deng and Cao 2024): a spatial and a spectral branch, fused by alternating projections.

Both branches have two stages down, a middle and two stages up, of 32, 64 and 128 channels. The spatial branch sees the panchromatic
image and the state, in residual blocks. Each stage of the spectral branch, which sees the interpolated multispectral image and the
state, takes the spatial features of the same stage in, modulated in frequency, by an alternating projection (Theorem 1), and ends
in a multilayer perceptron.

What the paper computes over the whole image is computed so that a pixel's result does not depend on the tile that it is in: the
projections within windows of 8 x 8 pixels, the Fourier mask of eq. (17) as the convolution that it is, with a bounded kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad, silu

from geofuse.methods.network_layers import LevelEmbedding, PixelNorm, from_windows, to_windows, whole_windows

WINDOW = 8
BOOST = {1: 1.2, 2: 1.4, 4: 1.6}  # by how much half of the spectral channels are strengthened, by multiple of the base width
LOW_PASS = (1.0, 4.0, 6.0, 4.0, 1.0)
_KEPT_LOW = 0.5  # of the low frequencies, by the Fourier mask


def projection_onto_spatial(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Eq. (13): T_spa = softmax(T_a T_b^T / sqrt(S')) T_c^T, from T_a, T_b (..., HW, S') and T_c (..., S', HW)."""
    return torch.softmax(a @ b.transpose(-1, -2) / a.shape[-1] ** 0.5, dim=-1) @ c.transpose(-1, -2)


def projection_onto_spectral(c: Tensor, d: Tensor, a: Tensor) -> Tensor:
    """Eq. (14): T_spe = softmax(T_c T_d^T / (sqrt(S'^3) / HW)) T_a^T, (..., S', HW)."""
    size, pixels = c.shape[-2:]
    return torch.softmax(c @ d.transpose(-1, -2) * pixels / size**1.5, dim=-1) @ a.transpose(-1, -2)


def high_frequencies(x: Tensor) -> Tensor:
    """Eq. (17) and (18): damp the low frequencies of features (B, n, H, W) by a Fourier mask.

    The mask is 1 - 0.5 L(u) L(v), L the transfer function of the binomial kernel of five pixels, applied as a convolution.
    """
    kernel = torch.tensor(LOW_PASS, device=x.device, dtype=x.dtype) / sum(LOW_PASS)
    n = x.shape[1]
    low = conv2d(pad(x, (2, 2, 2, 2), mode="replicate"), kernel.view(1, 1, 1, 5).expand(n, 1, 1, 5), groups=n)
    low = conv2d(low, kernel.view(1, 1, 5, 1).expand(n, 1, 5, 1), groups=n)
    return x - (1.0 - _KEPT_LOW) * low


class SpatialStage(nn.Module):
    """A residual block with the level's features added between its convolutions."""

    def __init__(self, channels: int, level_features: int) -> None:
        """Build the layers; the second convolution starts at zero."""
        super().__init__()
        self.conv_1, self.conv_2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.level = nn.Linear(level_features, channels)
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """(B, n, H, W) and level features to (B, n, H, W)."""
        hidden = self.conv_1(silu(x)) + self.level(level)[:, :, None, None]
        return x + self.conv_2(silu(hidden))


class SpectralStage(nn.Module):
    """Takes spatial features into the spectral ones: frequency modulation, alternating projections, a perceptron.

    Parameters
    ----------
    channels
        S'.
    level_features
        Number of features of the level.
    boost
        Factor for half of the spectral channels.
    modulate
        Modulate in frequency; without it (Table 4's ablation) spatial features enter as they are and the factor is 1.
    """

    def __init__(self, channels: int, level_features: int, boost: float, modulate: bool) -> None:
        """Build the layers; the last of each part starts at zero."""
        super().__init__()
        self.boost, self.modulate = boost, modulate
        self.norm_spectral = PixelNorm(channels)  # not of the spatial features: how strong an edge is would be lost
        self.make_ab = nn.Linear(channels, 2 * channels)
        self.make_cd = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.level = nn.Linear(level_features, channels)
        self.widen, self.narrow = nn.Conv2d(channels, 4 * channels, 1), nn.Conv2d(4 * channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.narrow.weight)

    def forward(self, spatial: Tensor, spectral: Tensor, level: Tensor) -> Tensor:
        """Features (B, n, H, W) of both branches, sides multiples of 8, to the spectral branch's next (B, n, H, W)."""
        height, width = spectral.shape[2:]
        seen = spectral
        if self.modulate:
            half = spectral.shape[1] // 2
            seen = torch.cat([self.boost * spectral[:, :half], spectral[:, half:]], dim=1)
            spatial = high_frequencies(spatial)
        a, b = self.make_ab(to_windows(spatial, WINDOW)).chunk(2, dim=-1)
        c, d = self.make_cd(to_windows(self.norm_spectral(seen), WINDOW)).chunk(2, dim=-1)
        c, d = c.transpose(1, 2), d.transpose(1, 2)
        fused = projection_onto_spatial(a, b, c) * projection_onto_spectral(c, d, a).transpose(1, 2)  # eq. (16)
        x = seen + from_windows(self.out(fused), WINDOW, height, width)
        hidden = self.widen(x) + self.level(level)[:, :, None, None].repeat(1, 4, 1, 1)
        return x + self.narrow(silu(hidden))


class SpatialSpectralNetwork(nn.Module):
    """Estimates how the fine image differs from the interpolated one.

    Parameters
    ----------
    bands, pan_bands
        Bands of the coarse and of the fine image.
    width
        Base number of channels; 32 gives 1.3 million parameters for 8 bands and 1.
    modulate
        See :class:`SpectralStage`.
    """

    stride = 4 * WINDOW  # fine pixels of the coarsest window
    reach = 85  # fine pixels away at which an input may still matter

    def __init__(self, bands: int, pan_bands: int, width: int = 32, modulate: bool = True) -> None:
        """Build the layers; the last starts at zero, so that the network starts as the interpolation."""
        super().__init__()
        features, sizes = 4 * width, (1, 2, 4, 2, 1)
        self.level = LevelEmbedding(width, features)
        self.spatial_in = nn.Conv2d(bands + pan_bands, width, 3, padding=1)
        self.spectral_in = nn.Conv2d(2 * bands, width, 3, padding=1)
        self.spatial_stages = nn.ModuleList([SpatialStage(k * width, features) for k in sizes])
        self.spectral_stages = nn.ModuleList([SpectralStage(k * width, features, BOOST[k], modulate) for k in sizes])
        self.spatial_moves, self.spectral_moves = _moves(width), _moves(width)
        self.last = nn.Conv2d(width, bands, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, state: Tensor, pan: Tensor, ms_up: Tensor, level: Tensor) -> Tensor:
        """Estimate the difference (B, C, H, W); ``level`` (B,) is t / T.

        Where a side is no multiple of :attr:`stride`, the border is repeated until it is.
        """
        (height, width), t = state.shape[2:], self.level(level)
        state, pan, ms_up = (whole_windows(image, self.stride) for image in (state, pan, ms_up))
        spatial = self.spatial_in(torch.cat([pan, state], dim=1).contiguous(memory_format=torch.channels_last))
        spectral = self.spectral_in(torch.cat([ms_up, state], dim=1).contiguous(memory_format=torch.channels_last))
        kept: list[tuple[Tensor, Tensor]] = []
        for index, (stage, fuse) in enumerate(zip(self.spatial_stages, self.spectral_stages, strict=True)):
            spatial = stage(spatial, t)
            spectral = fuse(spatial, spectral, t)
            if index == 4:
                break
            if index < 2:
                kept.append((spatial, spectral))
            else:
                spatial, spectral = interpolate(spatial, scale_factor=2.0), interpolate(spectral, scale_factor=2.0)
            spatial, spectral = self.spatial_moves[index](spatial), self.spectral_moves[index](spectral)
            if index >= 2:
                before = kept.pop()
                spatial, spectral = spatial + before[0], spectral + before[1]
        return self.last(spectral)[..., :height, :width]

    def branch_parameters(self, branch: str) -> list[nn.Parameter]:
        """Return the parameters of ``"spatial"``: its blocks and what makes T_a and T_b; or of ``"spectral"``: all others."""
        spatial = [*self.spatial_in.parameters(), *self.spatial_stages.parameters(), *self.spatial_moves.parameters()]
        for stage in self.spectral_stages:
            spatial += stage.make_ab.parameters()
        if branch == "spatial":
            return spatial
        known = {id(parameter) for parameter in spatial}
        return [parameter for parameter in self.parameters() if id(parameter) not in known]


def _moves(width: int) -> nn.ModuleList:
    """Make the convolutions between the five stages: two that halve the grid, two for after it was doubled."""
    return nn.ModuleList(
        [
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.Conv2d(4 * width, 2 * width, 3, padding=1),
            nn.Conv2d(2 * width, width, 3, padding=1),
        ]
    )
