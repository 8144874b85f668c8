"""Conjugate gradients against a dense solve of the same normal equations."""

import numpy as np
import pytest
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


@pytest.mark.parametrize("least", [1e-5, 1.0], ids=["a prior that says next to nothing", "a firm prior"])
def test_without_masks_few_steps_give_the_solution(least):
    rng, size = np.random.default_rng(3), 32
    spatial = SpatialOperator(Psf("gaussian", 1.0), 4, size, size)
    noise = torch.tensor([0.5, 2.0])
    shapes = ((3, 8, 8), (2, size, size), (2, 3), (3, size, size))
    image = [torch.as_tensor(rng.normal(size=shape).astype(np.float32)) for shape in shapes]
    problem = FusionProblem(spatial, image[0], torch.ones(8, 8), image[1], torch.ones(size, size), image[2], noise)
    precision = torch.diag(torch.tensor([1.0, 0.5, least]))
    exact = solve_with_prior(problem, image[3], precision, tolerance=1e-9, max_iterations=200)
    steps = 2 if least == 1.0 else 12
    assert torch.allclose(solve_with_prior(problem, image[3], precision, max_iterations=steps), exact, atol=2e-3)
