r"""Noise schedule and the equations that tie a clean sample, its noise and a noisy sample: (1)-(4), (11), (12).

Noise levels are counted as in the paper: t = 0 is clean, t = T is the most noisy; the networks see t = 1 ... T.
Every ``alpha_bar`` below is one level's value of the schedule, a float in (0, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geofuse.errors import UsageError


def exponential_schedule(timesteps: int = 1000, k: float = 10.0, floor: float = 1e-3) -> Tensor:
    r"""Return the exponential schedule alpha-bar (timesteps + 1,), float64, falling from 1 at t = 0 to ``floor`` at t = T.

    The curve 1 - exp(-k u), u in [0, 1], rescaled to [floor, 1], is read backwards, u = 1 - t / T, because alpha-bar is 1 at the
    clean end (HIR-Diff, Pang et al., CVPR 2024, and the authors' code). Noise therefore stays slight over most levels (alpha-bar is
    0.993 half-way) and grows fast near t = T. The other reading, exp(-k t / T), would spend most levels on almost pure noise and
    is not what the facts in the papers' README describe.
    """
    if timesteps < 1:
        raise UsageError(f"timesteps must be 1 or more, found {timesteps}")
    u = 1.0 - torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    curve = torch.expm1(-k * u) / math.expm1(-k)  # (1 - exp(-k u)) / (1 - exp(-k)): 1 at t = 0, 0 at t = T
    return floor + (1.0 - floor) * curve


def sampling_times(timesteps: int, steps: int, start: int | None = None) -> list[int]:
    """Return ``steps + 1`` noise levels, evenly spaced, from ``start`` (default: ``timesteps``) down to 0.

    Fewer are returned where ``steps`` exceeds ``start``: each level is visited once. The paper's setting, 1000 and 500, gives
    1000, 998, ..., 2, 0.

    Raises
    ------
    UsageError
        If ``start`` or ``steps`` is below 1 or ``start`` is above ``timesteps``.
    """
    start = timesteps if start is None else start
    if not (1 <= start <= timesteps and steps >= 1):
        raise UsageError(f"sampling from level {start} of {timesteps} in {steps} steps is not possible; both must be 1 or more")
    steps = min(steps, start)
    return [start * i // steps for i in range(steps, -1, -1)]


def add_noise(x_0: Tensor, noise: Tensor, alpha_bar: float | Tensor) -> Tensor:
    """Eq. (1): x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise. A tensor ``alpha_bar`` must broadcast against ``x_0``."""
    signal, spread = alpha_bar**0.5, (1.0 - alpha_bar) ** 0.5
    if isinstance(alpha_bar, Tensor):
        signal, spread = signal.to(x_0.dtype), spread.to(x_0.dtype)
    return signal * x_0 + spread * noise


def dimmed(x_t: Tensor, alpha_bar: float | Tensor) -> Tensor:
    """Return sqrt(alpha_bar) x_t, whose noise fades as the level rises; for networks that see images beside it."""
    factor = alpha_bar**0.5
    return x_t * (factor.to(x_t.dtype) if isinstance(factor, Tensor) else factor)


def noise_of(x_t: Tensor, x_0: Tensor, alpha_bar: float) -> Tensor:
    """Eq. (2): the noise that lies between the clean ``x_0`` and the noisy ``x_t``."""
    return (x_t - alpha_bar**0.5 * x_0) / (1.0 - alpha_bar) ** 0.5


def clean_of(x_t: Tensor, noise: Tensor, alpha_bar: float) -> Tensor:
    """Eq. (11), which is eq. (3) with the square root that (3) lacks: the clean estimate, given the noise."""
    return (x_t - (1.0 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5


def ddim_step(x_0: Tensor, noise: Tensor, alpha_bar_previous: float) -> Tensor:
    """Eq. (4) and (12): the sample at the next lower noise level (DDIM with eta = 0, so nothing is drawn)."""
    return add_noise(x_0, noise, alpha_bar_previous)
