"""The spatial network of the fast presets: texture of the MSI's whitened components, around the level of its own noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, gelu, pad

_SOFT_LIMIT = 3.0  # noise units


class TextureNetwork(nn.Module):
    """A small residual convolutional network that estimates clean components from noisy ones.

    The strongest components are hundreds of times stronger than the noise, the weakest are mostly noise. So each enters twice:
    divided by its spread over the scene, and as its difference to the local mean in noise units, softly limited.

    Parameters
    ----------
    spread
        (c,) standard deviation of each component over the scene in noise units, at least 1.
    width, depth
        Channels, and convolutions between the first and the last (an even number).
    """

    def __init__(self, spread: Tensor, width: int = 32, depth: int = 4) -> None:
        """Build the layers; the last starts at zero, so that the network starts as the identity."""
        super().__init__()
        channels = len(spread)
        self.register_buffer("spread", spread.float().view(1, -1, 1, 1))
        self.first = nn.Conv2d(2 * channels + 1, width, 3, padding=1)
        self.body = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(depth)])
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @property
    def reach(self) -> int:
        """How many pixels away an input still matters."""
        return len(self.body) + 3

    @property
    def inner_kernels(self) -> list[nn.Parameter]:
        """The kernels between hidden channels, all square: (width, width, 3, 3)."""
        return [layer.weight for layer in self.body]

    def forward(self, state: Tensor, level: Tensor) -> Tensor:
        """Estimate clean components (B, c, H, W) from states of levels (B,) > 0; H and W any size from 2 up."""
        level = level.view(-1, 1, 1, 1)
        detail = state - avg_pool2d(pad(state, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        inputs = [state / self.spread, detail / (_SOFT_LIMIT + detail.abs()), (level - 1.0).expand_as(state[:, :1])]
        hidden = gelu(self.first(torch.cat(inputs, dim=1)))
        for one, two in zip(self.body[::2], self.body[1::2], strict=True):
            hidden = gelu(two(gelu(one(hidden))) + hidden)
        return state - level * self.last(hidden)
