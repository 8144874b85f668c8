"""Guidance by the residuals of the two observed images: eq. (5)-(7), (10), (13)-(17).

Components live in [-1, 1] in the diffusion; here, as in the authors' code, they are mapped to [0, 1] before the product, and the
guidance is the sum of the two residual *norms*, where the text prints squared norms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from geofuse.errors import InputError


class SpatialDegradation(Protocol):
    """The spatial operator H, such as :class:`geofuse.degradation.SpatialOperator`: linear, the same for every band."""

    def forward(self, fine: Tensor) -> Tensor:
        """Map (..., H, W) to (..., h, w), differentiably."""
        ...


@dataclass(frozen=True)
class Observation:
    """What was observed of one scene or tile; build it with :meth:`of`.

    Attributes
    ----------
    hsi, msi
        X (C, h, w) and Y (c, H, W) in [0, 1], with 0 where there is no data.
    hsi_valid, msi_valid
        True where there is data, of the same shapes; the residual counts there alone.
    operator
        The spatial operator H.
    response
        The spectral operator R (c, C).
    """

    hsi: Tensor
    msi: Tensor
    hsi_valid: Tensor
    msi_valid: Tensor
    operator: SpatialDegradation
    response: Tensor

    @classmethod
    def of(cls, hsi: Tensor, msi: Tensor, operator: SpatialDegradation, response: Tensor) -> Observation:
        """Split images (C, h, w) and (c, H, W), in [0, 1] with NaN for no data, into values and masks.

        Raises
        ------
        InputError
            If ``response`` is not (c, C).
        """
        if tuple(response.shape) != (msi.shape[0], hsi.shape[0]):
            expected = f"{msi.shape[0]} x {hsi.shape[0]}"
            found = " x ".join(map(str, response.shape))
            raise InputError(f"the response matrix is {found}, expected {expected} (MSI x HSI bands)")
        return cls(hsi.nan_to_num(nan=0.0), msi.nan_to_num(nan=0.0), hsi.isfinite(), msi.isfinite(), operator, response)


def to_unit(component: Tensor) -> Tensor:
    """Map a component from the networks' [-1, 1] to [0, 1]."""
    return 0.5 * (component + 1.0)


def from_unit(component: Tensor) -> Tensor:
    """Map a component from [0, 1] to the networks' [-1, 1]."""
    return 2.0 * component - 1.0


def product(spatial: Tensor, spectral: Tensor) -> Tensor:
    """Eq. (7): Z = A x_3 E, from A (d, H, W) and E (d, C) to Z (C, H, W)."""
    return torch.einsum("dhw,dc->chw", spatial, spectral)


def residual_norms(spatial: Tensor, spectral: Tensor, observation: Observation) -> tuple[Tensor, Tensor]:
    """Return ||H(A x_3 E) - X|| and ||A x_3 E x_3 R - Y||, for A (d, H, W) and E (d, C) in [-1, 1].

    H acts on each band alike, so H(A x_3 E) = H(A) x_3 E; and A x_3 E x_3 R = A x_3 (E R^T). Hence Z is never formed.
    """
    spatial, spectral = to_unit(spatial), to_unit(spectral)
    hsi = product(observation.operator.forward(spatial), spectral)
    msi = product(spatial, spectral @ observation.response.T)
    hsi_residual = torch.where(observation.hsi_valid, hsi - observation.hsi, 0.0)
    msi_residual = torch.where(observation.msi_valid, msi - observation.msi, 0.0)
    return torch.linalg.vector_norm(hsi_residual), torch.linalg.vector_norm(msi_residual)


def guidance_loss(spatial: Tensor, spectral: Tensor, observation: Observation, weight: float) -> Tensor:
    """Eq. (10) and (16): L = ||H(A x_3 E) - X|| + weight ||A x_3 E x_3 R - Y||, for components in [-1, 1]."""
    hsi, msi = residual_norms(spatial, spectral, observation)
    return hsi + weight * msi


class AdamMoments:
    """The running moments of Adam for one component, eq. (13)-(15).

    The text's bias exponent T - t is 0 at the first step, t = T; as in the authors' code the first step counts as 1.
    """

    beta1, beta2, epsilon = 0.9, 0.999, 1e-8  # Section 4.2

    def __init__(self, like: Tensor) -> None:
        """Start with moments of zero, of the shape of ``like``."""
        self.mean, self.square = torch.zeros_like(like), torch.zeros_like(like)
        self.steps = 0

    def direction(self, gradient: Tensor) -> Tensor:
        """Take in a gradient and return m_hat / (sqrt(v_hat) + epsilon), to be multiplied by rho and subtracted."""
        self.steps += 1
        self.mean = self.beta1 * self.mean + (1.0 - self.beta1) * gradient  # (13)
        self.square = self.beta2 * self.square + (1.0 - self.beta2) * gradient**2
        mean = self.mean / (1.0 - self.beta1**self.steps)  # (14)
        square = self.square / (1.0 - self.beta2**self.steps)
        return mean / (square.sqrt() + self.epsilon)  # (15)


def argm_gradients(
    spatial: Tensor,
    spectral: Tensor,
    observation: Observation,
    weight: float,
    *,
    for_spatial: bool = True,
    for_spectral: bool = True,
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of eq. (16) with respect to A_{t-1} and E_{t-1}; None for a component that is not asked for."""
    spatial = spatial.detach().requires_grad_(for_spatial)
    spectral = spectral.detach().requires_grad_(for_spectral)
    with torch.enable_grad():
        loss = guidance_loss(spatial, spectral, observation, weight)
        wanted = [x for x in (spatial, spectral) if x.requires_grad]
        gradients = iter(torch.autograd.grad(loss, wanted))
    return (next(gradients) if for_spatial else None), (next(gradients) if for_spectral else None)
