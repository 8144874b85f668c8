"""Solvers for the fusion problem in a spectral subspace.

With a whitened basis (noise of the coarse coefficients has unit variance) the penalised least-squares problem for the fine
coefficients A (d, H, W), given a first estimate A0, is

    min_A  || w_x^(1/2) (H(A) - a) ||^2  +  || w_y^(1/2) S^(-1) (F A - y) ||^2  +  || A - A0 ||_P^2

with a (d, h, w) the HSI's coefficients, y (c, H, W) the MSI, F (c, d) the response of the basis vectors, S the MSI's noise,
P (d, d) the precision of A0 and w_x, w_y masks. It is quadratic; conjugate gradients solve it to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from geofuse.degradation.spatial import SpatialOperator


@dataclass(frozen=True)
class FusionProblem:
    """The data and weights of the problem above, all float32 tensors on one device."""

    spatial: SpatialOperator
    coarse: torch.Tensor  # a (d, h, w)
    coarse_weight: torch.Tensor  # w_x (h, w), 0 where the HSI has no data
    fine: torch.Tensor  # y (c, H, W)
    fine_weight: torch.Tensor  # w_y (H, W), 0 where the MSI has no data
    mixing: torch.Tensor  # F (c, d)
    fine_noise: torch.Tensor  # S (c,)

    def data_gradient(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Half the negative gradient of the two data terms at ``coefficients`` (d, H, W)."""
        coarse = self.coarse_weight * (self.coarse - self.spatial.forward(coefficients))
        fine = self.fine_weight * (self.fine - _mix(self.mixing, coefficients))
        return self.spatial.adjoint(coarse) + _mix((self.mixing / self.fine_noise[:, None] ** 2).T, fine)

    def data_hessian(self, direction: torch.Tensor) -> torch.Tensor:
        """Apply the Hessian of the two data terms (halved) to ``direction`` (d, H, W)."""
        seen = self.mixing / self.fine_noise[:, None]
        fine = self.fine_weight * _mix(seen.T @ seen, direction)
        return fine + self.spatial.adjoint(self.coarse_weight * self.spatial.forward(direction))


def solve_with_prior(
    problem: FusionProblem, start: torch.Tensor, precision: torch.Tensor, *, tolerance: float = 1e-5, max_iterations: int = 100
) -> torch.Tensor:
    """Solve the penalised least-squares problem by preconditioned conjugate gradients.

    Parameters
    ----------
    problem
        Data and weights.
    start
        A0 (d, H, W), the estimate that the penalty holds on to.
    precision
        P (d, d) symmetric positive definite.
    tolerance
        Stop when the preconditioned residual has fallen by this factor.
    max_iterations
        Stop there in any case.

    Returns
    -------
    (d, H, W) coefficients.
    """
    seen = problem.mixing / problem.fine_noise[:, None]
    hsi_curvature = 0.3 / problem.spatial.ratio**2  # of H^T H, between its mean over directions and its largest value
    eye = torch.eye(len(precision), dtype=precision.dtype, device=precision.device)
    precondition = torch.linalg.inv(seen.T @ seen + precision + hsi_curvature * eye)
    change = torch.zeros_like(start)
    residual = problem.data_gradient(start)
    direction = _mix(precondition, residual)
    energy = first_energy = (residual * direction).sum()
    for _ in range(max_iterations):
        if energy <= tolerance**2 * first_energy:
            break
        curved = problem.data_hessian(direction) + _mix(precision, direction)
        step = energy / (direction * curved).sum()
        change = change + step * direction
        residual = residual - step * curved
        conditioned = _mix(precondition, residual)
        energy, previous = (residual * conditioned).sum(), energy
        direction = conditioned + (energy / previous) * direction
    return start + change


def _mix(matrix: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Multiply along the first axis: (m, n) times (n, H, W) gives (m, H, W)."""
    return (matrix @ image.flatten(1)).unflatten(1, image.shape[1:])
