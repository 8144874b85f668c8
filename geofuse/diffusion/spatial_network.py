"""The spatial network s_theta: a U-Net that denoises the reduced coefficients (paper, Section 3.2, Figure 6a, Table 7)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_GROUPS = 32  # of every group norm, or the greatest common divisor with its channels


class SpatialNetwork(nn.Module):
    """Estimates the noise in noisy coefficients A_t (n, d, H, W), of any size.

    Four levels down, a middle, four levels up; two residual blocks a level on the way down and in the middle, three on the way up
    (one for each kept result of the way down, as is usual). No attention. With the default widths and d = 8 it has 20.7 M
    parameters; the paper states 21.46 M.

    Parameters
    ----------
    channels
        Channels in and out, the number of subspace dimensions d.
    base_channels, multipliers
        Width of the first level, and width of each level in units of it.
    """

    starts_at_zero = ("last",)

    def __init__(self, channels: int, base_channels: int = 64, multipliers: tuple[int, ...] = (1, 2, 3, 4)) -> None:
        """Make the layers; see :func:`~geofuse.diffusion.initialisation.build` for weights from a generator."""
        super().__init__()
        widths = [base_channels * m for m in multipliers]
        self.base_channels = base_channels
        self.levels = len(widths)
        embedding = 4 * base_channels
        self.time = nn.Sequential(nn.Linear(base_channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.first = nn.Conv2d(channels, base_channels, 3, padding=1)
        kept = [base_channels]  # channels of each result that the way up takes in again
        self.down = nn.ModuleList()
        width = base_channels
        for level, outputs in enumerate(widths):
            for _ in range(2):
                self.down.append(ResidualBlock(width, outputs, embedding))
                width = outputs
                kept.append(width)
            if level < self.levels - 1:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                kept.append(width)
        self.middle = nn.ModuleList(ResidualBlock(width, width, embedding) for _ in range(2))
        self.up = nn.ModuleList()
        for level, outputs in reversed(list(enumerate(widths))):
            for _ in range(3):
                self.up.append(ResidualBlock(width + kept.pop(), outputs, embedding))
                width = outputs
            if level > 0:
                self.up.append(nn.Conv2d(width, width, 3, padding=1))
        self.norm = _group_norm(width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, coefficients: Tensor, t: Tensor) -> Tensor:
        """Estimate the noise (n, d, H, W) in ``coefficients`` (n, d, H, W) at the noise levels ``t`` (n,) in 1 ... T.

        Sides that are no multiple of 2^(levels - 1) are extended at the bottom and right by reflection and cut again.
        """
        height, width = coefficients.shape[-2:]
        x = self.first(_extend(coefficients, 2 ** (self.levels - 1)))
        time = self.time(_sinusoids(t, self.base_channels, x.dtype))
        kept = [x]
        for layer in self.down:
            x = layer(x, time) if isinstance(layer, ResidualBlock) else layer(x)
            kept.append(x)
        for block in self.middle:
            x = block(x, time)
        for layer in self.up:
            if isinstance(layer, ResidualBlock):
                x = layer(torch.cat((x, kept.pop()), dim=1), time)
            else:
                x = layer(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.last(F.silu(self.norm(x)))[..., :height, :width]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions after group norm and SiLU, plus the input; time scales and shifts the second norm's result."""

    starts_at_zero = ("second",)

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        """Make a block from ``inputs`` to ``outputs`` channels that is told the time as a vector of ``embedding`` numbers."""
        super().__init__()
        self.first_norm = _group_norm(inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(embedding, 2 * outputs)
        self.second_norm = _group_norm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map (n, inputs, H, W) to (n, outputs, H, W), given ``time`` (n, embedding)."""
        h = self.first(F.silu(self.first_norm(x)))
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        h = self.second(F.silu(self.second_norm(h) * (1.0 + scale) + shift))
        return self.skip(x) + h


def _group_norm(channels: int) -> nn.GroupNorm:
    """Group norm over at most 32 groups, as many as divide the channels."""
    return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)


def _sinusoids(t: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Return the noise levels (n,) as cosines and sines (n, length) of wavelengths from 2 pi to 20 000 pi."""
    half = length // 2
    frequency = torch.exp(-math.log(10_000.0) / half * torch.arange(half, device=t.device, dtype=torch.float32))
    phase = t[:, None].float() * frequency
    return F.pad(torch.cat((phase.cos(), phase.sin()), dim=1), (0, length - 2 * half)).to(dtype)


def _extend(x: Tensor, multiple: int) -> Tensor:
    """Extend the bottom and right of (n, d, H, W) to a multiple of ``multiple``: reflected, or repeated where too small."""
    bottom, right = (-size % multiple for size in x.shape[-2:])
    if not (bottom or right):
        return x
    mode = "reflect" if bottom < x.shape[-2] and right < x.shape[-1] else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)
