"""Training of the two networks on the observed images, by eq. (1) and (2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from geofuse.diffusion.initialisation import build
from geofuse.diffusion.options import PaperOptions
from geofuse.diffusion.schedule import add_noise, exponential_schedule
from geofuse.diffusion.spatial_network import SpatialNetwork
from geofuse.diffusion.spectral_network import SpectralNetwork
from geofuse.diffusion.training_data import SpatialSampler, SpectralSampler

Report = Callable[[str, int, int], None]  # stage, done, total


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def denoising_loss(
    network: nn.Module, x_0: Tensor, alpha_bar: Tensor, generator: torch.Generator, weight: Tensor | None = None
) -> Tensor:
    """Return the mean squared error of the noise estimate, eq. (2), each sample at a noise level of its own.

    Parameters
    ----------
    network
        Takes (x_t, t), returns the noise.
    x_0
        Clean samples (n, ...) in [-1, 1].
    alpha_bar
        The schedule (T + 1,), float64; levels 1 ... T are drawn with equal chance.
    generator
        Source of the levels and the noise; drawn on the generator's device.
    weight
        Weights that broadcast against ``x_0``, 0 where a value is no data; None weighs all alike.
    """
    n, draw = len(x_0), {"generator": generator, "device": generator.device}
    t = torch.randint(1, len(alpha_bar), (n,), **draw).to(x_0.device)
    noise = torch.randn(x_0.shape, dtype=x_0.dtype, **draw).to(x_0.device)
    level = alpha_bar[t].reshape(n, *[1] * (x_0.ndim - 1))
    squared = (network(add_noise(x_0, noise, level), t) - noise) ** 2
    if weight is None:
        return squared.mean()
    weight = weight.expand_as(squared)
    return (weight * squared).sum() / weight.sum().clamp(min=1.0)


def train(
    network: nn.Module, loss: Callable[[], Tensor], steps: int, learning_rate: float, report: Callable[[int, int], None]
) -> None:
    """Take ``steps`` steps of Adam on the parameters of ``network``, whose ``loss()`` is drawn anew at each; then freeze them.

    ``report(done, total)`` is called after each step. The network is left in evaluation mode, without parameter gradients.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    network.train()
    for step in range(steps):
        optimiser.zero_grad(set_to_none=True)
        loss().backward()
        optimiser.step()
        report(step + 1, steps)
    optimiser.zero_grad(set_to_none=True)
    network.eval().requires_grad_(False)


def train_spectral_network(
    sampler: SpectralSampler, options: PaperOptions, generator: torch.Generator, report: Report = silent
) -> SpectralNetwork:
    """Train the spectral network on single spectra; it ends on the sampler's device.

    ``generator`` is a CPU generator: weights, noise levels and noise are the same on every device.
    """
    spectra = sampler.spectra
    bands = spectra.shape[1]
    network = build(lambda: SpectralNetwork(bands, options.hidden, options.timesteps), generator, spectra.device)
    alpha_bar = exponential_schedule(options.timesteps).to(spectra.device)

    def loss() -> Tensor:
        return denoising_loss(network, sampler.draw(options.spectral_batch, generator), alpha_bar, generator)

    train(
        network,
        loss,
        options.spectral_steps,
        options.learning_rate,
        lambda done, total: report("train spectral network", done, total),
    )
    return network


def train_spatial_network(
    sampler: SpatialSampler, options: PaperOptions, generator: torch.Generator, report: Report = silent
) -> SpatialNetwork:
    """Train the spatial network on patches; it ends on the sampler's device. ``generator`` is a CPU generator."""
    device = sampler.device
    network = build(lambda: SpatialNetwork(options.d, options.base_channels, options.multipliers), generator, device)
    alpha_bar = exponential_schedule(options.timesteps).to(device)

    def loss() -> Tensor:
        patches, weight = sampler.draw(options.batch, generator)
        return denoising_loss(network, patches, alpha_bar, generator, weight)

    train(
        network, loss, options.train_steps, options.learning_rate, lambda done, total: report("train spatial network", done, total)
    )
    return network
