"""Layers that the trained networks share. What a pixel gets never depends on how large the image around it is."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, layer_norm, pad


class PixelNorm(nn.Module):
    """Layer normalisation of each pixel over its channels."""

    def __init__(self, channels: int) -> None:
        """Start as the plain normalisation."""
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, n, H, W)."""
        return layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias).permute(0, 3, 1, 2)


class LevelEmbedding(nn.Module):
    """Features of a noise level: sines and cosines, then two linear layers (Vaswani et al. 2017)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Take the numbers of sines and cosines together, and of features."""
        super().__init__()
        self.inputs = inputs
        self.layers = nn.Sequential(nn.Linear(inputs, outputs), nn.SiLU(), nn.Linear(outputs, outputs), nn.SiLU())

    def forward(self, level: Tensor) -> Tensor:
        """Turn levels (B,) from 0 to 1 into features (B, outputs)."""
        half = self.inputs // 2
        frequencies = torch.exp(-math.log(1e4) / half * torch.arange(half, device=level.device))
        angles = 1e3 * level[:, None] * frequencies
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))


def detail_of(fine: Tensor, ratio: int) -> Tensor:
    """Return what (B, n, H, W) loses by averaging over coarse pixels of ``ratio`` and interpolating: seen 2 coarse pixels away."""
    coarse = avg_pool2d(fine, ratio)
    return fine - interpolate(coarse, size=fine.shape[2:], mode="bicubic", align_corners=False)


def whole_windows(x: Tensor, side: int) -> Tensor:
    """Repeat the lower and right border of (B, n, H, W) until both sides are multiples of ``side``."""
    bottom, right = (-size % side for size in x.shape[2:])
    return pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def to_windows(x: Tensor, side: int) -> Tensor:
    """Cut (B, n, H, W), sides multiples of ``side``, into windows of pixels: (B * windows, side * side, n)."""
    b, n, h, w = x.shape
    cut = x.view(b, n, h // side, side, w // side, side)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(-1, side * side, n)


def from_windows(tokens: Tensor, side: int, height: int, width: int) -> Tensor:
    """Undo :func:`to_windows`."""
    n = tokens.shape[-1]
    windows = tokens.view(-1, height // side, width // side, side, side, n)
    return windows.permute(0, 5, 1, 3, 2, 4).reshape(-1, n, height, width)
