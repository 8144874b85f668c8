"""Closed-form solution of (H H^T + s I) z = r on the coarse grid, which inverts H^T H + s I on the fine one.

By the Woodbury identity (H^T H + s I)^-1 = (I - H^T (H H^T + s I)^-1 H) / s, and H^T (H H^T + s I)^-1 = (H^T H + s I)^-1 H^T: the
large system of the fine grid becomes one on the coarse grid. FUSE (Wei, Dobigeon and Tourneret 2015) and R-FUSE (Wei et al. 2016)
solve that one by FFT, which needs a circular border. Here the border is reflected, so H H^T is not circulant; but a separable PSF
makes it a Kronecker product, V V^T along y times U U^T along x, whose eigenvectors are the products of those of two small
matrices. The solution is exact for any border, the circular one included.

Sampled kernels that take several separable terms have no such eigenvectors: conjugate gradients, preconditioned by the leading
term, solve these to the given tolerance.
"""

from __future__ import annotations

import numpy as np
import torch

from geofuse.degradation.spatial import SpatialOperator

_MAX_ITERATIONS = 200


class CoarseInverse:
    """Solves (H H^T + s I) z = r for stacks of coarse images.

    Parameters
    ----------
    spatial
        The operator H.
    like
        A tensor of the device and dtype to compute with.
    tolerance
        Relative residual at which conjugate gradients stop, for PSFs of several separable terms.
    """

    def __init__(self, spatial: SpatialOperator, like: torch.Tensor, *, tolerance: float = 1e-6) -> None:
        """Find the eigenvectors along both axes."""
        self.spatial, self.tolerance = spatial, tolerance
        terms = spatial.axis_matrices()
        self.exact = len(terms) == 1
        (self._y, power_y), (self._x, power_x) = (_eigen(matrix, like) for matrix in terms[0])
        self._power = power_y[:, None] * power_x
        self.largest = float(self._power.max())  # eigenvalue of H H^T, of its leading term

    def solve(self, coarse: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """Return z (d, h, w) for the images ``coarse`` r (d, h, w), each with its own s > 0 of ``shift`` (d,)."""
        if self.exact:
            return self._separable(coarse, shift)
        return self._conjugate_gradients(coarse, shift)

    def _separable(self, coarse: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        spectrum = self._y.T @ coarse @ self._x
        return self._y @ (spectrum / (self._power + shift[:, None, None])) @ self._x.T

    def _conjugate_gradients(self, coarse: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        solution, residual = torch.zeros_like(coarse), coarse
        direction = conditioned = self._separable(residual, shift)
        energy = first = (residual * conditioned).sum(dim=(1, 2))
        for _ in range(_MAX_ITERATIONS):
            if bool((energy <= self.tolerance**2 * first).all()):
                break
            curved = self.spatial.forward(self.spatial.adjoint(direction)) + shift[:, None, None] * direction
            step = energy / (direction * curved).sum(dim=(1, 2)).clamp(min=torch.finfo(coarse.dtype).tiny)
            solution = solution + step[:, None, None] * direction
            residual = residual - step[:, None, None] * curved
            conditioned = self._separable(residual, shift)
            energy, previous = (residual * conditioned).sum(dim=(1, 2)), energy
            gain = energy / previous.clamp(min=torch.finfo(coarse.dtype).tiny)
            direction = conditioned + gain[:, None, None] * direction
        return solution


def _eigen(matrix: np.ndarray, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvectors, in columns, and eigenvalues of M M^T for the matrix M (n, N) of one axis."""
    power, vectors = np.linalg.eigh(matrix @ matrix.T)
    options = {"dtype": like.dtype, "device": like.device}
    return torch.as_tensor(vectors, **options), torch.as_tensor(np.maximum(power, 0.0), **options)
