"""The fixed components of the ablation of Table 8."""

import numpy as np
import torch
from scipy.optimize import nnls

from geofuse.diffusion.fixed_components import abundances, archetypes, project_to_simplex, selected_band_basis


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_basis_reproduces_spectra_from_bands_of_their_own():
    spectra = torch.rand(100, 3, generator=seeded()) @ torch.rand(3, 12, generator=seeded(1))
    basis = selected_band_basis(spectra, 3)
    identity = [(basis[:, c] - torch.eye(3)[k]).abs().max() < 1e-4 for k in range(3) for c in range(12)]
    bands = [i % 12 for i, found in enumerate(identity) if found]
    assert len(bands) == 3
    torch.testing.assert_close(spectra[:, bands] @ basis, spectra, rtol=1e-4, atol=1e-4)


def test_more_bands_than_the_spectra_have_dimensions_do_no_harm():
    spectra = torch.rand(100, 3, generator=seeded()) @ torch.rand(3, 12, generator=seeded(1))
    assert float(selected_band_basis(spectra, 8).abs().max()) < 10


def test_the_projection_is_the_nearest_point_of_the_simplex():
    rows = 3 * torch.randn(50, 6, generator=seeded(), dtype=torch.float64)
    projected = project_to_simplex(rows)
    assert bool((projected >= 0).all())
    torch.testing.assert_close(projected.sum(dim=1), torch.ones(50, dtype=torch.float64))
    others = project_to_simplex(torch.randn(200, 6, generator=seeded(1), dtype=torch.float64))
    inner = ((rows - projected)[:, None] * (others[None] - projected[:, None])).sum(dim=2)
    assert float(inner.max()) < 1e-10  # the defining inequality of a projection onto a convex set


def test_abundances_solve_least_squares_on_the_simplex():
    corners = torch.rand(3, 5, generator=seeded(), dtype=torch.float64)
    pixels = torch.rand(20, 5, generator=seeded(1), dtype=torch.float64)
    heavy = 1e4  # weight of the sum-to-one row in the oracle
    rows = torch.cat([corners.T, torch.full((1, 3), heavy, dtype=torch.float64)]).numpy()
    expected = [nnls(rows, [*pixel.tolist(), heavy])[0] for pixel in pixels]
    torch.testing.assert_close(abundances(pixels, corners, 2000), torch.tensor(np.array(expected)), rtol=1e-4, atol=1e-5)


def test_archetypes_find_the_corners_of_mixed_pixels():
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.3, 1.0]])
    weights = project_to_simplex(2 * torch.randn(800, 3, generator=seeded()))
    found = archetypes(weights @ corners, 3, seeded(1))
    assert float(torch.cdist(corners, found).min(dim=1).values.max()) < 0.05
    assert torch.equal(found, archetypes(weights @ corners, 3, seeded(1)))
