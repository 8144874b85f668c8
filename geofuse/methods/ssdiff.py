"""SSDiff: pansharpening by a diffusion model of two branches that is trained beforehand (Zhong, Wu, Deng and Cao 2024).

What diffuses is the difference between the fine multispectral image and the interpolated one (Algorithm 1). The network
(:mod:`geofuse.methods.ssdiff_network`) returns the clean difference, trained with the l1 loss of eq. (7). In the last sixth of a
training (30 000 of 180 000 steps in the paper) only one branch learns at each step, in turn (L-BAF, section 4.4).

Departures: differences are divided by 0.05, and the network sees sqrt(alpha_bar_t) X_t in place of X_t; else they would be drowned
by noise of standard deviation 1 at nearly every level. Measured on landsat7, 300 steps of 4 patches: 0.9 dB.

Where the text is silent: the noise schedule is that of Ho et al. 2020 (beta from 1e-4 to 0.02 in 1000 levels); the optimiser has no
weight decay. Reverse steps are those of DDIM, deterministic. The preset ``fast`` takes one, the clean estimate
from noise alone: after short trainings five are 0.8 to 1.9 dB worse (docs/benchmark.md). ``paper`` takes its 100.

The paper leaves the result as the network gives it. Here it is moved towards the multispectral image through the PSF
(:mod:`geofuse.methods.back_projection`); the option ``back_projections=0`` leaves that out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from geofuse.diffusion.schedule import add_noise, ddim_step, dimmed, noise_of, sampling_times
from geofuse.errors import UsageError
from geofuse.methods.back_projection import REACH
from geofuse.methods.ssdiff_network import SpatialSpectralNetwork
from geofuse.methods.trainable import Plan, TrainingDefaults
from geofuse.methods.trained_method import TrainedMethod
from geofuse.methods.weights import Card

TIMESTEPS = 1000
DIFFERENCE = 0.05  # what differences are divided by, so that their size is about that of the noise
_BETAS = (1e-4, 0.02)
_SLOWER = 0.1  # learning rate of fine-tuning, relative to that before it


@dataclass(frozen=True)
class SsDiffOptions:
    """Options of SSDiff; the defaults are the paper's.

    Attributes
    ----------
    sampling_steps
        Reverse steps of a fusion, 1 to 1000.
    width
        Base number of channels, an even number; shapes the network.
    modulate
        Modulate spatial features in frequency (section 4.3); shapes the network.
    finetune
        Share of a training in which the branches learn in turn, 0 to 1; of training only.
    back_projections
        How many times the result is moved towards the coarse image; 0 leaves it as the network gives it. Not of training.
    """

    sampling_steps: int = 100
    width: int = 32
    modulate: bool = True
    finetune: float = 1 / 6
    back_projections: int = 3

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises
        ------
        UsageError
            If a number is none of those above.
        """
        if not 1 <= self.sampling_steps <= TIMESTEPS:
            raise UsageError(f"sampling_steps must be from 1 to {TIMESTEPS}, found {self.sampling_steps}")
        if not 0 <= self.finetune <= 1:
            raise UsageError(f"finetune is a share of the training, from 0 to 1, found {self.finetune}")
        if self.width % 2 or self.width < 2:
            raise UsageError(f"width must be an even number from 2, found {self.width}")
        if self.back_projections < 0:
            raise UsageError(f"back_projections must be 0 or more, found {self.back_projections}")


def linear_schedule() -> Tensor:
    """Return alpha_bar (T + 1,), float64, 1 at t = 0."""
    betas = torch.linspace(*_BETAS, TIMESTEPS, dtype=torch.float64)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1.0 - betas, dim=0)])


class SsDiffRecipe:
    """One step of training, Algorithm 1."""

    def __init__(self, options: SsDiffOptions, plan: Plan) -> None:
        """Take the options and the plan."""
        self.plan, self.alpha_bar = plan, linear_schedule()
        self.alone_from = plan.steps - round(options.finetune * plan.steps)

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        """Draw a batch and one level for each patch; return the l1 error of the clean difference, eq. (7)."""
        batch, device = self.plan.sampler.sample(self.plan.batch, generator), self.plan.device
        level = torch.randint(1, TIMESTEPS + 1, (len(batch.msi),), generator=generator)
        up = upsampled(batch.hsi, batch.msi)
        difference, alpha_bar = (batch.reference - up) / DIFFERENCE, self.alpha_bar[level].view(-1, 1, 1, 1)
        state = add_noise(difference, torch.randn(up.shape, generator=generator), alpha_bar)
        inputs = (a.to(device) for a in (dimmed(state, alpha_bar), batch.msi, up, level / TIMESTEPS))
        return (network(*inputs) - difference.to(device)).abs().mean()

    def learning_rate(self, step: int) -> float:
        """Fall along a cosine before fine-tuning, and from a tenth of that in it."""
        begin, end = (0, self.alone_from) if step < self.alone_from else (self.alone_from, self.plan.steps)
        share = (step - begin) / max(end - begin, 1)
        highest = self.plan.learning_rate * (1.0 if step < self.alone_from else _SLOWER)
        return 0.5 * highest * (1.0 + math.cos(math.pi * share)) + 1e-8

    def frozen(self, network: nn.Module, step: int) -> Iterable[nn.Parameter]:
        """Freeze one branch, then the other, in fine-tuning (L-BAF)."""
        if step < self.alone_from:
            return ()
        return network.branch_parameters("spatial" if step % 2 == 0 else "spectral")


class SsDiff(TrainedMethod):
    """SSDiff; see the module's text."""

    Options = SsDiffOptions
    presets = {"fast": SsDiffOptions(sampling_steps=1), "paper": SsDiffOptions()}
    training = TrainingDefaults(steps=180_000, batch=12, patch=64, learning_rate=1e-3)
    grid = SpatialSpectralNetwork.stride

    @staticmethod
    def default_preset(device: str) -> str:
        """Return ``paper`` for a GPU, ``fast`` for the CPU."""
        return "fast" if device == "cpu" else "paper"

    @property
    def halo(self) -> int:
        """Coarse pixels beyond its core that a tile needs: what the network, at the smallest ratio, and back-projection see."""
        return -(-SpatialSpectralNetwork.reach // 2) + REACH * self.back_projections

    @property
    def back_projections(self) -> int:
        """How many times a fused tile is moved towards its HSI."""
        return self.options.back_projections

    def shape_options(self) -> Mapping[str, Any]:
        """Return the options that shape the network, for the card."""
        return {"width": self.options.width, "modulate": self.options.modulate}

    def make_network(self, card: Card, generator: torch.Generator) -> nn.Module:
        """Return a new network with random weights from ``generator``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            made = SpatialSpectralNetwork(card.bands, card.msi_bands, self.options.width, self.options.modulate)
            return made.to(memory_format=torch.channels_last)

    def recipe(self, plan: Plan) -> SsDiffRecipe:
        """Return what one step of training does."""
        return SsDiffRecipe(self.options, plan)

    def sample(self, network: nn.Module, hsi: Tensor, msi: Tensor, noise: Tensor) -> Tensor:
        """Fuse by DDIM from noise."""
        alpha_bar, up = linear_schedule(), upsampled(hsi, msi)
        times = sampling_times(TIMESTEPS, self.options.sampling_steps)
        state = noise
        for t, t_next in zip(times, times[1:], strict=False):
            level = torch.full((len(state),), t / TIMESTEPS, device=state.device)
            clean = network(dimmed(state, float(alpha_bar[t])), msi, up, level)
            state = ddim_step(clean, noise_of(state, clean, float(alpha_bar[t])), float(alpha_bar[t_next]))
        return up + DIFFERENCE * state


def upsampled(hsi: Tensor, msi: Tensor) -> Tensor:
    """Interpolate the coarse image (B, C, h, w) bicubically to the fine one's grid."""
    return interpolate(hsi, size=msi.shape[2:], mode="bicubic", align_corners=False)
