"""DDPM-Fus: fusion by a conditional denoising diffusion model that is trained beforehand (Shi, Zhang and Chen 2023).

Images X_0 in [-1, 1] are noised, X_t = sqrt(alpha_bar_t) X_0 + sqrt(1 - alpha_bar_t) noise (eq. 4), with beta rising linearly
from 0 to 0.01 over T = 2000 levels; a U-Net sees [X_t, Z, bicubic Y] and t (eq. 17). Fusing starts from noise and takes a few
deterministic steps (DDIM, eq. 18-20).

Departures from the text: the network returns the clean image, as a correction of the interpolated HSI, and the noise follows from
it by eq. (4). The text has it return the noise; at level T the clean image would then be that noise's error magnified by
1 / sqrt(alpha_bar_T) = 151, and the few steps of Table V could not work. The loss is that of the clean image. The network sees
sqrt(alpha_bar_t) X_t in place of X_t, or at most levels the noise would drown the images beside it, and beside the MSI that MSI's
detail, ten times as strong: from the MSI and the HSI alone it must learn the difference of two nearly equal images first (after
300 steps of 4 patches of CAVE it had not begun, 33.1 dB; with the detail it passed 35.9 dB after 120). What it looks at is bounded,
so that whole scenes can be fused in tiles (:mod:`geofuse.methods.ddpmfus_network`).
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
from geofuse.methods.ddpmfus_network import ConditionalUNet
from geofuse.methods.network_layers import detail_of
from geofuse.methods.trainable import Plan, TrainingDefaults
from geofuse.methods.trained_method import TrainedMethod
from geofuse.methods.weights import Card

TIMESTEPS = 2000
_LAST_BETA = 0.01
_MAGNIFIED = 10.0  # detail of the MSI as the network sees it
_CYCLE = 50_000  # steps in which the learning rate falls to zero


@dataclass(frozen=True)
class DdpmFusOptions:
    """Options of DDPM-Fus; the defaults are the paper's.

    Attributes
    ----------
    sampling_steps
        Reverse steps of a fusion, 1 to 1000.
    loss
        ``l1`` or ``l2``; of training only.
    width
        Channels of the U-Net's finest grid, an even number; shapes the network.
    """

    sampling_steps: int = 1
    loss: str = "l1"
    width: int = 64

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises
        ------
        UsageError
            If the number of steps, the loss or the width is none of those above.
        """
        if not 1 <= self.sampling_steps <= TIMESTEPS // 2:
            raise UsageError(f"sampling_steps must be from 1 to {TIMESTEPS // 2}, found {self.sampling_steps}")
        if self.loss not in ("l1", "l2"):
            raise UsageError(f"loss {self.loss!r} is neither l1 nor l2")
        if self.width % 2 or self.width < 2:
            raise UsageError(f"width must be an even number from 2, found {self.width}")


def linear_schedule() -> Tensor:
    """Return alpha_bar (T + 1,), float64: the product of 1 - beta, beta from 0 to 0.01 in T even steps; 1 at t = 0."""
    betas = torch.linspace(0.0, _LAST_BETA, TIMESTEPS, dtype=torch.float64)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1.0 - betas, dim=0)])


class DdpmFusRecipe:
    """One step of training, Algorithm 1."""

    def __init__(self, options: DdpmFusOptions, plan: Plan) -> None:
        """Take the options and the plan."""
        self.options, self.plan, self.alpha_bar = options, plan, linear_schedule()

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        """Draw a batch and one level for each patch; return the mean error of the clean estimate, eq. (15)."""
        batch, device = self.plan.sampler.sample(self.plan.batch, generator), self.plan.device
        level = torch.randint(1, TIMESTEPS + 1, (len(batch.msi),), generator=generator)
        clean = to_signed(batch.reference)
        alpha_bar = self.alpha_bar[level].view(-1, 1, 1, 1)
        state = add_noise(clean, torch.randn(clean.shape, generator=generator), alpha_bar)
        hsi_up, msi = conditions(batch.hsi, batch.msi)
        inputs = (a.to(device) for a in (dimmed(state, alpha_bar), msi, hsi_up, level / TIMESTEPS))
        error = network(*inputs) - clean.to(device)
        return error.abs().mean() if self.options.loss == "l1" else error.square().mean()

    def learning_rate(self, step: int) -> float:
        """Fall along a cosine to zero within each cycle of 50 000 steps; a shorter training is one cycle."""
        cycle = max(1, min(_CYCLE, self.plan.steps))
        return 0.5 * self.plan.learning_rate * (1.0 + math.cos(math.pi * (step % cycle) / cycle)) + 1e-8

    def frozen(self, network: nn.Module, step: int) -> Iterable[nn.Parameter]:
        """Nothing is frozen."""
        return ()


class DdpmFus(TrainedMethod):
    """DDPM-Fus; see the module's text."""

    Options = DdpmFusOptions
    presets = {"default": DdpmFusOptions()}
    training = TrainingDefaults(steps=250_000, batch=8, patch=64, learning_rate=1e-4)
    grid = ConditionalUNet.stride

    @staticmethod
    def default_preset(device: str) -> str:
        """Return the only preset."""
        return "default"

    @property
    def halo(self) -> int:
        """Coarse pixels beyond its core that a tile needs: what network and input see, at the smallest ratio."""
        return -(-ConditionalUNet.reach // 2) + 2

    def shape_options(self) -> Mapping[str, Any]:
        """Return the options that shape the network, for the card."""
        return {"width": self.options.width}

    def make_network(self, card: Card, generator: torch.Generator) -> nn.Module:
        """Return a new U-Net with random weights from ``generator``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            return ConditionalUNet(card.bands, card.msi_bands, self.options.width).to(memory_format=torch.channels_last)

    def recipe(self, plan: Plan) -> DdpmFusRecipe:
        """Return what one step of training does."""
        return DdpmFusRecipe(self.options, plan)

    def sample(self, network: nn.Module, hsi: Tensor, msi: Tensor, noise: Tensor) -> Tensor:
        """Fuse by DDIM from noise, Algorithm 2."""
        alpha_bar = linear_schedule()
        hsi_up, msi = conditions(hsi, msi)
        times = sampling_times(TIMESTEPS, self.options.sampling_steps)
        state = noise
        for t, t_next in zip(times, times[1:], strict=False):
            level = torch.full((len(state),), t / TIMESTEPS, device=state.device)
            clean = network(dimmed(state, float(alpha_bar[t])), msi, hsi_up, level)
            state = ddim_step(clean, noise_of(state, clean, float(alpha_bar[t])), float(alpha_bar[t_next]))
        return 0.5 * (state + 1.0)


def conditions(hsi: Tensor, msi: Tensor) -> tuple[Tensor, Tensor]:
    """Return the interpolated HSI (B, C, H, W), eq. (16), and the MSI with its detail (B, 2 c, H, W); from [0, 1] to [-1, 1]."""
    up = interpolate(hsi, size=msi.shape[2:], mode="bicubic", align_corners=False)
    detail = _MAGNIFIED * detail_of(msi, msi.shape[2] // hsi.shape[2])
    return to_signed(up), torch.cat([to_signed(msi), detail], dim=1)


def to_signed(image: Tensor) -> Tensor:
    """Map [0, 1] to [-1, 1]."""
    return 2.0 * image - 1.0
