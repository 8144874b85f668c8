"""Learning a diffusion model from noisy data alone, along the reverse process that will use it.

Whitened, an observation is o = x + n with n white of unit variance. That is a diffusion state already, at the level where the
schedule's noise equals the sensor's: in the variance-exploding form of eq. (1) of ARGS-Diff (divided by sqrt(alpha_bar)),

    x_t = x + s_t n,    s_t = sqrt(1 - alpha_bar_t) / sqrt(alpha_bar_t),

the observation stands at s = 1. States at higher levels are made by adding noise, x_t = o + sqrt(s_t^2 - 1) n'; lower ones are
reached by deterministic reverse steps (DDIM, eq. 12), x_u = D(x_t) + (s_u / s_t) (x_t - D(x_t)). All estimates along such a
process are functions of its first state x_t, so whatever their number of steps, each estimate f(x_t) of x can be held to

    E ||f(x_t) - x||^2 = E [ ||f(x_t) - o||^2 - N + 2 div f(x_t) ],

Stein's identity for the part of x_t's noise that o shares (their covariance given x is one, whatever s_t; Stein 1981; at s = 1
this is SURE). The divergence is taken along one random direction (Ramani, Blu and Unser 2008). A network trained on the
observation as if it were clean would learn the noise as texture; this one does not, and it learns low levels from the states it
will meet there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]  # (states (B, ...), levels (B,)) -> estimates (B, ...)

PROBE_STEP = 3e-2  # noise units; small against the noise, large against float32 rounding


def add_noise(observed: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
    """Raise observations (B, ...) with unit noise to states of the levels (B,), each at least 1."""
    extra = (level.clamp(min=1.0) ** 2 - 1.0).sqrt().view(-1, *[1] * (observed.ndim - 1))
    return observed + extra * draw(observed, generator)


def draw(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers of the shape of ``like``; on the CPU, so that every device gets the same ones."""
    return torch.randn(like.shape, generator=generator).to(like.device)


def reverse_step(state: Tensor, estimate: Tensor, level: float, next_level: float) -> Tensor:
    """Take one deterministic reverse step, eq. (12): keep the estimate, scale what is left down to the next level."""
    return estimate + (next_level / level) * (state - estimate)


def reverse_estimates(denoise: Denoiser, state: Tensor, level: Tensor, fractions: Sequence[float]) -> list[Tensor]:
    """Run the reverse process and return the estimate of each step.

    Parameters
    ----------
    denoise
        The network D.
    state, level
        First states (B, ...) and their levels (B,).
    fractions
        Levels of the steps as fractions of the first, falling from 1.
    """
    estimates = []
    for step, fraction in enumerate(fractions):
        estimates.append(denoise(state, fraction * level))
        if step + 1 < len(fractions):
            state = reverse_step(state, estimates[-1], fraction, fractions[step + 1])
    return estimates


def estimated_errors(
    process: Callable[[Tensor], list[Tensor]], state: Tensor, observed: Tensor, generator: torch.Generator
) -> list[Tensor]:
    """Estimate (f(x_t) - x)^2 at every entry, without knowing x, for every estimate f that a process makes of its first state.

    Parameters
    ----------
    process
        Turns first states (B, ...) into a list of estimates; called once, with 2 B states.
    state, observed
        x_t and o, both (B, ...), made by :func:`add_noise`.
    generator
        Where the probe direction comes from.

    Returns
    -------
    list of Tensor like ``observed``; unbiased in the mean over entries, single entries may be negative.
    """
    probe = draw(observed, generator)
    errors = []
    for both in process(torch.cat([state, state + PROBE_STEP * probe])):
        estimate, moved = both.chunk(2)
        divergence = probe * (moved - estimate) / PROBE_STEP
        errors.append((estimate - observed) ** 2 - 1.0 + 2.0 * divergence)
    return errors


def residual_weight(residual_power: Tensor, divergence: Tensor) -> Tensor:
    """How far to move an estimate back towards the observation, by the least estimated error.

    For D_w = D + w (o - D) the estimated error is quadratic in w; its least is at w = 1 - (1 - div D) / ||D - o||^2 per entry, zero
    for a perfectly trained D.

    Parameters
    ----------
    residual_power, divergence
        Means of (D - o)^2 and of the divergence per entry.

    Returns
    -------
    w, from 0 to 1.
    """
    return (1.0 - (1.0 - divergence) / residual_power.clamp(min=1e-6)).clamp(0.0, 1.0)
