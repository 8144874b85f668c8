"""Teaching the two small networks of the fast presets from the scene's own noisy images, in hundreds of steps.

Both are taught by :func:`geofuse.diffusion.ambient.estimated_errors`, which needs no clean image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geofuse.degradation.symmetry import symmetry
from geofuse.diffusion.ambient import Denoiser, add_noise, draw, estimated_errors, reverse_estimates
from geofuse.diffusion.optimiser import OneCycleAdam
from geofuse.diffusion.spectrum_network import SpectrumNetwork
from geofuse.diffusion.texture_network import TextureNetwork

Report = Callable[[str, int, int], None]

_EARLY_STEP_WEIGHT = 0.3
_WEIGHT_MEMORY = 0.98  # of the moving average of the weights


@dataclass(frozen=True)
class LearningOptions:
    """How to teach one network.

    Attributes
    ----------
    steps
        Optimiser steps; 0 leaves the network the identity.
    learning_rate
        Peak of a one-cycle schedule for Adam.
    batch
        Patches, or spectra, a step.
    highest_level
        States are drawn at levels from 1 to this, more of them low.
    """

    steps: int
    learning_rate: float
    batch: int
    highest_level: float = 1.5


class TextureSampler:
    """Draws square patches, flipped and rotated, from windows of the whitened MSI.

    Parameters
    ----------
    images
        Each (c, H, W).
    valid
        Each (H, W), 0 where there is no data; such pixels do not count in the error.
    patch
        Side in pixels; a window smaller than that is taken whole along that axis.
    """

    def __init__(self, images: Sequence[Tensor], valid: Sequence[Tensor], patch: int) -> None:
        """Keep the windows that hold data, each with its number of valid pixels as its chance."""
        pairs = [(i, v) for i, v in zip(images, valid, strict=True) if v.sum() > 0]
        self.images, self.valid, self.patch = [p[0] for p in pairs], [p[1] for p in pairs], patch
        self._chance = torch.tensor([float(v.sum()) for v in self.valid])

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw ``count`` patches of one window: (count, c, p, p) and their masks (count, 1, p, p)."""
        k = int(torch.multinomial(self._chance, 1, generator=generator))
        image, valid = self.images[k], self.valid[k]
        side = min(self.patch, *valid.shape)
        patches, masks = [], []
        for _ in range(count):
            row, col = (int(torch.randint(size - side + 1, (1,), generator=generator)) for size in valid.shape)
            turn = int(torch.randint(8, (1,), generator=generator))
            rows, cols = slice(row, row + side), slice(col, col + side)
            patches.append(symmetry(image[:, rows, cols], turn))
            masks.append(symmetry(valid[None, rows, cols], turn))
        return torch.stack(patches), torch.stack(masks)


def teach_texture(
    network: TextureNetwork,
    sampler: TextureSampler,
    fractions: Sequence[float],
    options: LearningOptions,
    generator: torch.Generator,
    report: Report,
) -> None:
    """Teach the spatial network in place, along reverse processes with steps at these fractions of their first level."""

    def error() -> Tensor:
        observed, mask = sampler.sample(options.batch, generator)
        level = _levels(options, generator, observed)
        state = add_noise(observed, level, generator)
        both = torch.cat([level, level])
        errors = estimated_errors(lambda x: reverse_estimates(network, x, both, fractions), state, observed, generator)
        weights = [_EARLY_STEP_WEIGHT] * (len(errors) - 1) + [1.0]
        return sum(w * (e * mask).sum() for w, e in zip(weights, errors, strict=True)) / mask.sum().clamp(min=1.0)

    _teach(network, error, options, report, "learning texture", network.inner_kernels)


def teach_spectrum(
    network: SpectrumNetwork,
    variance: Tensor,
    directions: Tensor,
    options: LearningOptions,
    generator: torch.Generator,
    report: Report,
) -> None:
    """Teach the spectral network in place.

    A sample is a random mixture of the HSI's whitened pixel spectra whose weights have unit norm, so its noise has unit variance in
    every band, as that of a basis vector has once it is scaled by its singular value. A random number of the strongest components
    is left out, because the weak basis vectors are the ones that need help.

    Parameters
    ----------
    variance, directions
        Eigenvalues (k,) and eigenvectors (C, k) of the covariance of the whitened spectra, falling.
    """
    weak = min(16, len(variance) - 1)

    def error() -> Tensor:
        shape = torch.empty(options.batch, len(variance), device=variance.device)
        leave_out = torch.randint(weak + 1, (options.batch, 1), generator=generator).to(variance.device)
        keep = torch.arange(len(variance), device=variance.device)[None] >= leave_out
        observed = (draw(shape, generator) * keep * variance.sqrt()) @ directions.T
        level = torch.ones(2 * options.batch, device=variance.device)
        denoise = unit_noise_denoiser(network)
        return estimated_errors(lambda x: [denoise(x, level)], observed, observed, generator)[0].mean()

    _teach(network, error, options, report, "learning spectra")


def unit_noise_denoiser(network: SpectrumNetwork) -> Denoiser:
    """Wrap the spectral network as D(x_t, s_t): it sees the state divided by its level, so its noise is always one."""

    def denoise(state: Tensor, level: Tensor) -> Tensor:
        scaled = state / level[:, None]
        strength = scaled.detach().square().mean(dim=1).sqrt().clamp(min=1.0)
        return level[:, None] * network(scaled, strength)

    return denoise


def _levels(options: LearningOptions, generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw one level for a batch, from 1 to the highest, denser towards 1."""
    u = torch.rand(1, generator=generator).to(like.device)
    return (1.0 + (options.highest_level - 1.0) * u**2).expand(len(like))


def _teach(
    network: nn.Module,
    error: Callable[[], Tensor],
    options: LearningOptions,
    report: Report,
    stage: str,
    inner: Sequence[nn.Parameter] = (),
) -> None:
    """Run the optimiser: Adam, for ``inner`` Muon, one-cycle learning rate, clipped gradients, moving average of the weights."""
    if options.steps == 0:
        return
    others = [p for p in network.parameters() if not any(p is weight for weight in inner)]
    optimiser = OneCycleAdam(others, options.learning_rate, options.steps, inner)
    average = [p.detach().clone() for p in network.parameters()]
    for step in range(options.steps):
        error().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        memory = min(_WEIGHT_MEMORY, (step + 1) / (step + 10))
        torch._foreach_lerp_(average, [p.detach() for p in network.parameters()], 1.0 - memory)
        report(stage, step + 1, options.steps)
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), average, strict=True):
            parameter.copy_(value)
    network.eval()
