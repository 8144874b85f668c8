"""Solvers for the fusion problem in a spectral subspace.

With a whitened basis (noise of the coarse coefficients has unit variance) the penalised least-squares problem for the fine
coefficients A (d, H, W), given a first estimate A0, is

    min_A  || w_x^(1/2) (H(A) - a) ||^2  +  || w_y^(1/2) S^(-1) (F A - y) ||^2  +  || A - A0 ||_P^2

with a (d, h, w) the HSI's coefficients, y (c, H, W) the MSI, F (c, d) the response of the basis vectors, S the MSI's noise,
P (d, d) the precision of A0 and w_x, w_y masks. It is quadratic; conjugate gradients solve it. Without masks it falls
apart into d problems of H alone along the eigenvectors of F^T S^-2 F + P with a closed form (:mod:`coarse_inverse`; FUSE, Wei,
Dobigeon and Tourneret 2015): that is the preconditioner, so that one step suffices where there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from geofuse.degradation.coarse_inverse import CoarseInverse
from geofuse.degradation.spatial import SpatialOperator

_LEAST_SHIFT = 0.02  # of the largest eigenvalue of H H^T; below that, float32 loses what the preconditioner subtracts


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
        return self.spatial.adjoint(coarse).add_(_mix((self.mixing / self.fine_noise[:, None] ** 2).T, fine))

    def data_hessian(self, direction: torch.Tensor) -> torch.Tensor:
        """Apply the Hessian of the two data terms (halved) to ``direction`` (d, H, W)."""
        seen = self.mixing / self.fine_noise[:, None]
        fine = _mix(seen.T @ seen, direction).mul_(self.fine_weight)
        return fine.add_(self.spatial.adjoint(self.coarse_weight * self.spatial.forward(direction)))


def solve_with_prior(
    problem: FusionProblem, start: torch.Tensor, precision: torch.Tensor, *, tolerance: float = 1e-3, max_iterations: int = 100
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

    Arrays of that size are changed in place: beside ``start`` at most six are held at a time.
    """
    precondition = _preconditioner(problem, precision)
    change = torch.zeros_like(start)
    residual = problem.data_gradient(start)
    direction = precondition(residual)
    energy = first_energy = (residual * direction).sum()
    for _ in range(max_iterations):
        if energy <= tolerance**2 * first_energy:
            break
        curved = problem.data_hessian(direction).add_(_mix(precision, direction))
        step = energy / (direction * curved).sum()
        change += step * direction
        residual -= curved.mul_(step)
        del curved
        conditioned = precondition(residual)
        energy, previous = (residual * conditioned).sum(), energy
        direction = direction.mul_(energy / previous).add_(conditioned)
    return change.add_(start)


def _preconditioner(problem: FusionProblem, precision: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the inverse of the Hessian without masks; where the PSF is no single separable term, of one without H's directions."""
    seen = problem.mixing / problem.fine_noise[:, None]
    inverse = CoarseInverse(problem.spatial, problem.fine)
    if not inverse.exact:
        hsi_curvature = 0.3 / problem.spatial.ratio**2  # of H^T H, between its mean over directions and its largest value
        eye = torch.eye(len(precision), dtype=precision.dtype, device=precision.device)
        matrix = torch.linalg.inv(seen.T @ seen + precision + hsi_curvature * eye)
        return lambda residual: _mix(matrix, residual)
    values, vectors = torch.linalg.eigh((seen.T @ seen + precision).double())
    values, vectors = values.clamp(min=_LEAST_SHIFT * inverse.largest).to(precision), vectors.to(precision)

    def solve(residual: torch.Tensor) -> torch.Tensor:
        turned = _mix(vectors.T, residual)
        turned -= problem.spatial.adjoint(inverse.solve(problem.spatial.forward(turned), values))
        return _mix(vectors / values, turned)

    return solve


def _mix(matrix: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Multiply along the first axis: (m, n) times (n, H, W) gives (m, H, W)."""
    return (matrix @ image.flatten(1)).unflatten(1, image.shape[1:])
