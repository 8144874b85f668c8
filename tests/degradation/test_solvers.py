"""Conjugate gradients against a dense solve of the same normal equations."""

import numpy as np
import torch

from geofuse.degradation import SpatialOperator
from geofuse.degradation.solvers import FusionProblem, solve_with_prior
from geofuse.sensors import Psf


def small_problem(seed=0):
    """A problem of 3 components on 8 x 12 fine pixels with holes in both images."""
    rng = np.random.default_rng(seed)

    def tensor(*shape):
        return torch.as_tensor(rng.normal(size=shape).astype(np.float32))

    spatial = SpatialOperator(Psf("gaussian", 1.0), 4, 8, 12)
    coarse_weight, fine_weight = torch.ones(2, 3), torch.ones(8, 12)
    coarse_weight[0, 1], fine_weight[2:5, 3] = 0, 0
    noise = torch.tensor([0.5, 2.0])
    return FusionProblem(spatial, tensor(3, 2, 3), coarse_weight, tensor(2, 8, 12), fine_weight, tensor(2, 3), noise), tensor(
        3, 8, 12
    )


def dense_solution(problem, start, precision):
    """Build the normal equations entry by entry from the operator's matrices and solve them in float64."""
    (v, u), *_ = problem.spatial.axis_matrices()
    h = np.kron(v, u)  # (6, 96)
    n = h.shape[1]
    a = {
        k: getattr(problem, k).numpy().astype(float)
        for k in ("coarse", "coarse_weight", "fine", "fine_weight", "mixing", "fine_noise")
    }
    f = a["mixing"] / a["fine_noise"][:, None]
    normal = np.kron(np.eye(3), h.T @ np.diag(a["coarse_weight"].ravel()) @ h)
    normal += np.kron(f.T @ f, np.diag(a["fine_weight"].ravel())) + np.kron(precision, np.eye(n))
    right = np.concatenate([h.T @ (a["coarse_weight"] * k).ravel() for k in a["coarse"]])
    seen = np.einsum("ck,chw->khw", f, a["fine_weight"] * a["fine"] / a["fine_noise"][:, None, None])
    right += seen.ravel() + (np.kron(precision, np.eye(n)) @ start.numpy().astype(float).ravel())
    return np.linalg.solve(normal, right).reshape(3, 8, 12)


def test_conjugate_gradients_solve_the_normal_equations():
    problem, start = small_problem()
    precision = np.diag([1.0, 0.5, 2.0]) + 0.1
    found = solve_with_prior(problem, start, torch.as_tensor(precision, dtype=torch.float32), tolerance=1e-7)
    assert np.allclose(found.numpy(), dense_solution(problem, start, precision), atol=2e-4)


def test_values_under_zero_weight_do_not_matter():
    problem, start = small_problem()
    precision = torch.eye(3)
    before = solve_with_prior(problem, start, precision)
    problem.coarse[:, 0, 1] = 1e4
    problem.fine[:, 2:5, 3] = -1e4
    assert torch.equal(solve_with_prior(problem, start, precision), before)
