"""Networks whose weights come from an explicit generator, so that torch's global random state is neither read nor moved."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def build(factory: Callable[[], Network], generator: torch.Generator, device: torch.device | str = "cpu") -> Network:
    """Make a network on the CPU with weights from ``generator`` (a CPU generator), then move it to ``device``.

    Weights and biases of linear and convolution layers are uniform in +-1/sqrt(inputs of the layer), torch's own rule;
    embeddings are standard normal; group norms are the identity. Layers listed in a module's ``starts_at_zero`` are zero.
    The network must hold no buffers, as those would stay unset.
    """
    with torch.device("meta"):
        network = factory()
    network.to_empty(device="cpu")
    with torch.no_grad():
        for module in network.modules():
            _fill(module, generator)
        for module in network.modules():
            for layer in getattr(module, "starts_at_zero", ()):
                for parameter in getattr(module, layer).parameters():
                    parameter.zero_()
    return network.to(device)


def _fill(module: nn.Module, generator: torch.Generator) -> None:
    """Set the parameters that belong to ``module`` itself."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        bound = 1.0 / math.sqrt(module.weight[0].numel())
        module.weight.uniform_(-bound, bound, generator=generator)
        module.bias.uniform_(-bound, bound, generator=generator)
    elif isinstance(module, nn.Embedding):
        module.weight.normal_(generator=generator)
    elif isinstance(module, nn.GroupNorm):
        module.weight.fill_(1.0)
        module.bias.zero_()
