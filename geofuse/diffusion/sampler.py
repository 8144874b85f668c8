"""Algorithm 1 of ARGS-Diff: the reverse diffusion of both components, guided by the two observed images.

Where the authors' code and the text differ, this follows the code (see ``shared/papers/README.md``):

- the clean estimates (11) are clamped to [-1, 1] and the noise is derived again from the clamped estimate, by (2);
- the guidance (10), (16) sums norms, not squared norms, of components mapped to [0, 1];
- the Adam step (15) is subtracted from A_{t-1}, E_{t-1}, not from the noise estimate that (12) uses;
- the last step, to t = 0, returns the clamped clean estimates themselves, without a further guidance step.

Nothing is drawn here: given the starting noise A_T, E_T, the algorithm is deterministic (DDIM with eta = 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from geofuse.diffusion.guidance import AdamMoments, Observation, argm_gradients, product, residual_norms, to_unit
from geofuse.diffusion.options import PaperOptions
from geofuse.diffusion.schedule import clean_of, ddim_step, noise_of
from geofuse.diffusion.training import Report, silent

STAGE = "reverse diffusion"


@dataclass(frozen=True)
class Reconstruction:
    """What the reverse diffusion found.

    Attributes
    ----------
    spatial, spectral
        A_0 (d, H, W) and E_0 (d, C), mapped to [0, 1] (a component that was held fixed: as it was given).
    hsi_residual, msi_residual
        Norms of the residuals of the clean estimates at each step, (steps,); the last belongs to the result.
    """

    spatial: Tensor
    spectral: Tensor
    hsi_residual: Tensor
    msi_residual: Tensor

    def image(self) -> Tensor:
        """Return Z_0 = A_0 x_3 E_0, (C, H, W)."""
        return product(self.spatial, self.spectral)


class Component:
    """One of the two components on its way down: A (d, H, W) or E (d, C), in [-1, 1] when clean.

    Parameters
    ----------
    network
        Its denoiser, or None for a component that is held fixed at ``start``.
    start
        The noisy component at the first noise level.
    as_batch
        Whether the network takes the whole component as one sample (A) or each row as one (E).
    """

    def __init__(self, network: nn.Module | None, start: Tensor, *, as_batch: bool) -> None:
        """Start at ``start`` with Adam moments of zero."""
        self.network, self.x_t, self.as_batch = network, start.detach(), as_batch
        self.moments = AdamMoments(start)
        self.moves = network is not None

    def estimate(self, t: int, alpha_bar: float) -> None:
        """Do step 1: the clean estimate, eq. (11), clamped, and its noise, eq. (2), as functions of x_t."""
        if not self.moves:
            self.clean = self.x_t
            return
        self.x_t = self.x_t.detach().requires_grad_(torch.is_grad_enabled())
        sample = self.x_t[None] if self.as_batch else self.x_t
        level = torch.full((len(sample),), t, device=sample.device)
        noise = self.network(sample, level).reshape(self.x_t.shape)
        self.clean = clean_of(self.x_t, noise, alpha_bar).clamp(-1.0, 1.0)
        self.noise = noise_of(self.x_t, self.clean, alpha_bar)

    def descend(self, alpha_bar_previous: float, gradient: Tensor, rho: float) -> None:
        """Do steps 3-5: the sample one level down, eq. (12), less the Adam step of the guidance, eq. (13)-(15)."""
        with torch.no_grad():
            self.x_t = ddim_step(self.clean, self.noise, alpha_bar_previous) - rho * self.moments.direction(gradient)

    def refine(self, gradient: Tensor | None, step: float) -> None:
        """Do step 7: the ARGM's plain gradient step, eq. (17)."""
        if gradient is not None:
            self.x_t = self.x_t - step * gradient


def reverse_diffusion(
    spatial: Component,
    spectral: Component,
    observation: Observation,
    alpha_bar: Tensor,
    times: Sequence[int],
    options: PaperOptions,
    report: Report = silent,
) -> Reconstruction:
    """Run Algorithm 1.

    Parameters
    ----------
    spatial, spectral
        The components at the noise level ``times[0]``: with A_T (d, H, W) and E_T (d, C) standard normal noise, or clean guesses
        brought to that level by :func:`~geofuse.diffusion.schedule.add_noise`. They are used up. At least one has a network,
        whose parameters are best frozen (``requires_grad_(False)``), as nothing is learnt here.
    observation
        The images, in [0, 1].
    alpha_bar
        The schedule (T + 1,) on which the networks were trained.
    times
        Noise levels from the first down to 0, as from :func:`~geofuse.diffusion.schedule.sampling_times`.
    options
        Of which ``rho``, ``r``, ``lambda1``, ``lambda2`` and ``argm`` count here.
    report
        Called as ``report("reverse diffusion", done, total)`` after each step.
    """
    levels = alpha_bar.tolist()
    trace = []
    with torch.enable_grad():
        for done, (t, previous) in enumerate(pairwise(times[:-1]), start=1):
            trace.append(_step(spatial, spectral, observation, (t, levels[t], levels[previous]), options))
            report(STAGE, done, len(times) - 1)
    with torch.no_grad():
        for component in (spatial, spectral):
            component.estimate(times[-2], levels[times[-2]])
        trace.append(residual_norms(spatial.clean, spectral.clean, observation))
    report(STAGE, len(times) - 1, len(times) - 1)
    hsi, msi = (torch.stack(norms).cpu() for norms in zip(*trace, strict=True))
    return Reconstruction(to_unit(spatial.clean), to_unit(spectral.clean), hsi, msi)


def _step(
    spatial: Component,
    spectral: Component,
    observation: Observation,
    level: tuple[int, float, float],
    options: PaperOptions,
) -> tuple[Tensor, Tensor]:
    """Take one step of Algorithm 1, from the noise level (t, alpha_bar_t) to alpha_bar_previous; return the residual norms."""
    t, alpha_bar, alpha_bar_previous = level
    moving = [component for component in (spatial, spectral) if component.moves]
    for component in (spatial, spectral):
        component.estimate(t, alpha_bar)  # step 1
    hsi, msi = residual_norms(spatial.clean, spectral.clean, observation)
    loss = hsi + options.lambda1 * msi  # step 2, eq. (10)
    gradients = torch.autograd.grad(loss, [component.x_t for component in moving])
    for component, gradient in zip(moving, gradients, strict=True):
        component.descend(alpha_bar_previous, gradient, options.rho)  # steps 3-5
    if options.argm:  # steps 6-7
        gradients = argm_gradients(
            spatial.x_t, spectral.x_t, observation, options.lambda2, for_spatial=spatial.moves, for_spectral=spectral.moves
        )
        for component, gradient in zip((spatial, spectral), gradients, strict=True):
            component.refine(gradient, options.rho / options.r)
    return hsi.detach(), msi.detach()
