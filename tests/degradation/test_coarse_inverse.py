"""The closed form on the coarse grid against dense linear algebra."""

import numpy as np
import pytest
import torch

from geofuse.degradation import SpatialOperator
from geofuse.degradation.coarse_inverse import CoarseInverse
from geofuse.sensors import Psf

TILTED = Psf("kernel", kernel=((0.1, 0.05, 0.0, 0.0), (0.05, 0.2, 0.1, 0.0), (0.0, 0.1, 0.2, 0.05), (0.0, 0.0, 0.05, 0.1)))


def dense(spatial):
    """H as a matrix (h w, H W)."""
    height, width = spatial.fine_shape
    return np.stack([spatial.forward(e).ravel() for e in np.eye(height * width).reshape(-1, height, width)], axis=1)


@pytest.mark.parametrize("psf", [Psf.parse("bicubic"), Psf.parse("gaussian:1.2"), TILTED], ids=["bicubic", "gaussian", "tilted"])
def test_it_solves_the_coarse_system_as_a_dense_solver_does(psf):
    spatial = SpatialOperator(psf, 2, 12, 8)
    inverse = CoarseInverse(spatial, torch.zeros(1, dtype=torch.float64), tolerance=1e-12)
    assert inverse.exact == (psf is not TILTED)
    right = np.random.default_rng(0).normal(size=(3, 6, 4))
    matrix = dense(spatial)
    shifts = [1e-4, 0.1, 7.0]
    expected = [np.linalg.solve(matrix @ matrix.T + s * np.eye(24), r.ravel()) for s, r in zip(shifts, right, strict=True)]
    found = inverse.solve(torch.as_tensor(right), torch.tensor(shifts, dtype=torch.float64))
    assert np.allclose(found.numpy().reshape(3, -1), expected, rtol=1e-8, atol=1e-9)


def test_the_woodbury_identity_holds_for_the_real_operator():
    spatial = SpatialOperator(Psf.parse("bicubic"), 2, 8, 8)
    right = torch.as_tensor(np.random.default_rng(1).normal(size=(1, 8, 8)))
    shift = torch.tensor([0.03], dtype=torch.float64)
    small = CoarseInverse(spatial, right).solve(spatial.forward(right), shift)
    found = (right - spatial.adjoint(small)) / shift
    matrix = dense(spatial)
    expected = np.linalg.solve(matrix.T @ matrix + 0.03 * np.eye(64), right.numpy().ravel())
    assert np.allclose(found.numpy().ravel(), expected)
