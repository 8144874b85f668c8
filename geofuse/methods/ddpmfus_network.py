"""The U-Net of DDPM-Fus (Shi, Zhang and Chen, Fig. 2): residual blocks with the noise level, skip connections, attention.

Two departures make what a pixel gets independent of the tile that it is in, as fusing a whole scene needs: nothing is normalised
over the image, and attention on the coarsest of the three grids stays within windows. (Normalising each pixel over its channels was
tried in place of the first: it loses how strong an edge is, and after 1000 steps the network was no better than the interpolation.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention, silu

from geofuse.methods.network_layers import LevelEmbedding, PixelNorm, from_windows, to_windows, whole_windows

CORRECTION = 0.1  # size of what the interpolation lacks, in images from -1 to 1; a step of Adam is small beside it
_WINDOW = 8  # pixels of the coarsest grid along a side of an attention window
_HEADS = 4


class Block(nn.Module):
    """Two convolutions with the level's features added between them, and a skip; nothing is normalised."""

    def __init__(self, inputs: int, outputs: int, level_features: int) -> None:
        """Build the layers; the second convolution starts at zero."""
        super().__init__()
        self.conv_1, self.conv_2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.level = nn.Linear(level_features, outputs)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """(B, inputs, H, W) and level features (B, n) to (B, outputs, H, W)."""
        hidden = self.conv_1(silu(x)) + self.level(level)[:, :, None, None]
        return self.conv_2(silu(hidden)) + self.skip(x)


class WindowAttention(nn.Module):
    """Self-attention within windows of 8 x 8 pixels."""

    def __init__(self, channels: int) -> None:
        """Build the layers; the last starts at zero."""
        super().__init__()
        self.norm = PixelNorm(channels)
        self.mix, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, H, W), H and W multiples of 8."""
        _, n, h, w = x.shape
        k = _WINDOW
        parts = self.mix(to_windows(self.norm(x), k)).view(-1, k * k, 3, _HEADS, n // _HEADS).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(*parts).transpose(1, 2).reshape(-1, k * k, n)
        return x + from_windows(self.out(seen), k, h, w)


class ConditionalUNet(nn.Module):
    """Estimates the clean image from [X_t, Z, bicubic Y] and t, eq. (17).

    Parameters
    ----------
    bands, msi_bands
        C and c.
    width
        Channels of the finest grid; the coarsest has twice as many. 64 gives 1.7 million parameters for 31 bands and 3.
    """

    stride = 4 * _WINDOW  # fine pixels of an attention window
    reach = 44 + stride  # fine pixels away at which an input may still matter

    def __init__(self, bands: int, msi_bands: int, width: int = 64) -> None:
        """Build the layers; the last starts at zero, so that the network starts as the interpolation."""
        super().__init__()
        n = 2 * width
        self.level = LevelEmbedding(width, n)
        self.first = nn.Conv2d(2 * bands + 2 * msi_bands, width, 3, padding=1)
        self.down_1, self.half_1 = Block(width, width, n), nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.down_2, self.half_2 = Block(width, width, n), nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.down_3, self.attention, self.middle = Block(width, n, n), WindowAttention(n), Block(n, n, n)
        self.up_3, self.up_2, self.up_1 = Block(2 * n, n, n), Block(n + width, width, n), Block(2 * width, width, n)
        self.last = nn.Conv2d(2 * width, bands, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, state: Tensor, msi: Tensor, hsi_up: Tensor, level: Tensor) -> Tensor:
        """Estimate the clean image (B, C, H, W); ``msi`` (B, 2 c, H, W) is the MSI and its detail, ``level`` (B,) is t / T.

        Where a side is no multiple of :attr:`stride`, the border is repeated until it is.
        """
        (height, width), t = state.shape[2:], self.level(level)
        state, msi, hsi_up = (whole_windows(image, self.stride) for image in (state, msi, hsi_up))
        x_0 = self.first(torch.cat([state, msi, hsi_up], dim=1).contiguous(memory_format=torch.channels_last))
        x_1 = self.down_1(x_0, t)
        x_2 = self.down_2(self.half_1(x_1), t)
        x_3 = self.down_3(self.half_2(x_2), t)
        x = self.middle(self.attention(x_3), t)
        x = self.up_3(torch.cat([x, x_3], dim=1), t)
        x = self.up_2(torch.cat([interpolate(x, scale_factor=2.0), x_2], dim=1), t)
        x = self.up_1(torch.cat([interpolate(x, scale_factor=2.0), x_1], dim=1), t)
        return (hsi_up + CORRECTION * self.last(torch.cat([x, x_0], dim=1)))[..., :height, :width]
