"""The blocks of MossFuse: spectral-wise transformer, large-kernel convolution, spatial- and spectral-aware aggregation.

Attention maps between channels and pooled channel weights are properties of an image. In a scene of many tiles they must be
properties of the scene: each block that has one (a :class:`SceneWide`) computes it from its input while it learns, and can be
told to keep what it computed from sample windows. From then on what a pixel gets does not depend on the tile that it is in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, normalize, pad

from geofuse.methods.network_layers import PixelNorm

LARGE_KERNEL = 7
SMALL_KERNELS = ((5, 1), (3, 2), (3, 3))  # size and dilation of the kernels beside the large one, none wider than it


class SceneWide(nn.Module):
    """A block with a quantity that belongs to the whole scene."""

    def __init__(self) -> None:
        """Start without a kept value."""
        super().__init__()
        self.kept: Tensor | None = None
        self.collecting = False

    def settle(self, value: Tensor) -> Tensor:
        """Return what is kept, if anything is; else ``value``, which is kept from now on while collecting."""
        if self.kept is not None:
            return self.kept
        if self.collecting:
            self.kept = value.detach()
        return value


@contextmanager
def collecting(network: nn.Module) -> Iterator[None]:
    """Forget what the network has kept of a scene, and keep what its next pass over a batch of windows computes."""
    blocks = [module for module in network.modules() if isinstance(module, SceneWide)]
    for block in blocks:
        block.kept, block.collecting = None, True
    try:
        yield
    finally:
        for block in blocks:
            block.collecting = False


class Pointwise(nn.Linear):
    """A 1 x 1 convolution of (B, n, H, W), as the matrix product that it is; fastest where channels lie last in memory."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, H, W) to (B, m, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SpectralAttention(SceneWide):
    """Spectral-wise self-attention (SWSA, eq. 16): channels attend to channels, over the pixels of all images of a batch.

    Parameters
    ----------
    channels, heads
        Numbers of channels and of heads that they are split into.
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        """Build the projections."""
        super().__init__()
        self.heads = heads
        self.make_qkv, self.out = Pointwise(channels, 3 * channels), Pointwise(channels, channels)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """(B, n, H, W) to (B, n, H, W); ``gate``, broadcast against it, multiplies the queries after they are normalised."""
        b, n, h, w = x.shape
        q, k, v = self.make_qkv(x).permute(0, 2, 3, 1).reshape(-1, 3 * n).chunk(3, dim=1)
        if self.kept is None:
            q, k = normalize(q, dim=0), normalize(k, dim=0)
            if gate is not None:  # one weight a channel would be lost if this came before
                q = q * gate.expand(b, n, h, w).permute(0, 2, 3, 1).reshape(-1, n)
            scores = torch.stack([a.T @ c for a, c in zip(q.chunk(self.heads, 1), k.chunk(self.heads, 1), strict=True)])
            attention = self.settle(torch.block_diag(*torch.softmax(scores * self.temperature, dim=-1)))
        else:
            attention = self.kept
        seen = linear(v, self.out.weight @ attention, self.out.bias)
        return seen.view(b, h, w, n).permute(0, 3, 1, 2)


class FeedForward(nn.Module):
    """Two 1 x 1 convolutions with a depth-wise 3 x 3 one between them."""

    def __init__(self, channels: int, factor: int = 2) -> None:
        """Take the number of channels and by how much they are widened."""
        super().__init__()
        wide = factor * channels
        self.widen, self.narrow = Pointwise(channels, wide), Pointwise(wide, channels)
        self.local = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, H, W) to (B, n, H, W)."""
        return self.narrow(gelu(self.local(self.widen(x))))


class SpectralTransformer(nn.Module):
    """Spectral-wise transformer (SWT, eq. 15), with a residual round the feed-forward part too."""

    def __init__(self, channels: int) -> None:
        """Build the layers."""
        super().__init__()
        self.norm_1, self.norm_2 = PixelNorm(channels), PixelNorm(channels)
        self.attention, self.feed = SpectralAttention(channels), FeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, H, W) to (B, n, H, W)."""
        x = x + self.attention(self.norm_1(x))
        return x + self.feed(self.norm_2(x))


class ChannelAttention(SceneWide):
    """CA: weights (1, n, 1, 1) in (0, 1) of channels, from their means over the pixels of a batch."""

    def __init__(self, channels: int, factor: int = 4) -> None:
        """Take the number of channels and by how much the bottleneck is narrower."""
        super().__init__()
        narrow = max(channels // factor, 4)
        self.layers = nn.Sequential(
            Pointwise(channels, narrow), nn.GELU(), Pointwise(narrow, narrow), nn.GELU(), Pointwise(narrow, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels of (B, n, H, W)."""
        if self.kept is not None:
            return self.kept
        return self.settle(torch.sigmoid(self.layers(x.mean(dim=(0, 2, 3), keepdim=True))))


class SpatialAttention(nn.Module):
    """SA: weights (B, 1, H, W) in (0, 1) of pixels, by three 1 x 1 convolutions."""

    def __init__(self, channels: int, factor: int = 4) -> None:
        """Take the number of channels and by how much they are narrowed."""
        super().__init__()
        narrow = max(channels // factor, 4)
        self.layers = nn.Sequential(
            Pointwise(channels, narrow), nn.GELU(), Pointwise(narrow, narrow), nn.GELU(), Pointwise(narrow, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the pixels of (B, n, H, W)."""
        return torch.sigmoid(self.layers(x))


class DilatedReparam(nn.Module):
    """A large depth-wise convolution and dilated small ones beside it, each with batch normalisation, added up.

    In evaluation mode they are one convolution with the large kernel: :meth:`merged` gives its weights.
    """

    def __init__(self, channels: int) -> None:
        """Build the parallel convolutions."""
        super().__init__()
        self.sizes = ((LARGE_KERNEL, 1), *SMALL_KERNELS)
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(channels, channels, k, padding=d * (k - 1) // 2, dilation=d, groups=channels, bias=False)
                for k, d in self.sizes
            ]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels) for _ in self.sizes])

    def merged(self) -> tuple[Tensor, Tensor]:
        """Return weight (n, 1, 7, 7) and bias (n,) of the equivalent single convolution, for evaluation."""
        weight, bias = 0.0, 0.0
        for (size, dilation), conv, norm in zip(self.sizes, self.convs, self.norms, strict=True):
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            spread = torch.zeros(*conv.weight.shape[:2], dilation * (size - 1) + 1, dilation * (size - 1) + 1).to(conv.weight)
            spread[:, :, ::dilation, ::dilation] = conv.weight
            margin = (LARGE_KERNEL - spread.shape[-1]) // 2
            weight = weight + pad(spread, (margin,) * 4) * scale.view(-1, 1, 1, 1)
            bias = bias + norm.bias - norm.running_mean * scale
        return weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, H, W) to (B, n, H, W)."""
        if self.training:
            return sum(norm(conv(x)) for conv, norm in zip(self.convs, self.norms, strict=True))
        weight, bias = self.merged()
        return nn.functional.conv2d(x, weight, bias, padding=LARGE_KERNEL // 2, groups=x.shape[1])


class LargeKernel(nn.Module):
    """LK-CNN block: dilated reparametrised convolution, squeeze and excitation, feed-forward, residuals."""

    def __init__(self, channels: int) -> None:
        """Build the layers."""
        super().__init__()
        self.conv, self.squeeze = DilatedReparam(channels), ChannelAttention(channels)
        self.norm, self.feed = nn.BatchNorm2d(channels), FeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, H, W) to (B, n, H, W)."""
        local = self.conv(x)
        x = x + self.squeeze(local) * local
        return x + self.feed(self.norm(x))


class Aggregation(nn.Module):
    """Spatial- or spectral-aware aggregation of shared features with complementary ones (section 3.4, Fig. 2 b and c).

    Parameters
    ----------
    channels
        n.
    spatial
        True: the complementary features gate the queries by spatial attention and are weighed by channel attention on the result;
        False: the other way round.
    """

    def __init__(self, channels: int, *, spatial: bool) -> None:
        """Build both branches."""
        super().__init__()
        self.attention = SpectralAttention(channels)
        self.local = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        over_pixels, over_channels = SpatialAttention(channels), ChannelAttention(channels)
        self.gate, self.weigh = (over_pixels, over_channels) if spatial else (over_channels, over_pixels)
        self.out = Pointwise(channels, channels, bias=False)

    def forward(self, shared: Tensor, complementary: Tensor) -> Tensor:
        """Two (B, n, H, W) to one: F^f = Linear(F^S' + F^C'), added to the shared features."""
        base = self.local(complementary)
        seen = self.attention(shared, self.gate(base))
        return shared + self.out(seen + self.weigh(seen) * base)
