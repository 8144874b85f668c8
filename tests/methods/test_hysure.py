"""Claims about HySure."""

from dataclasses import replace

import numpy as np
import torch
from scipy import optimize

from geofuse.degradation import SpatialOperator
from geofuse.methods.base import silent
from geofuse.methods.hysure import (
    Consensus,
    Hysure,
    HysureOptions,
    HysureProblem,
    difference,
    difference_adjoint,
    minimise,
    shrinkage,
)
from geofuse.sensors import Psf


def small_problem(**options):
    """A problem of 2 unknowns at 8 x 8 pixels, in double precision."""
    rng = np.random.default_rng(0)
    shapes = (5, 2), (3, 2), (5, 4, 4), (3, 8, 8)
    endmembers, seen, hsi, msi = (torch.as_tensor(rng.uniform(0, 1, shape)) for shape in shapes)
    spatial = SpatialOperator(Psf.parse("bicubic"), 2, 8, 8)
    valid = torch.ones(4, 4, dtype=bool), torch.ones(8, 8, dtype=bool)
    return HysureProblem(spatial, endmembers, seen, hsi, msi, *valid, HysureOptions(**options))


def test_without_total_variation_it_converges_to_the_dense_least_squares_solution():
    problem = small_problem(variation_weight=0.0, msi_weight=0.7, iterations=1500)
    h = np.kron(*problem.spatial.axis_matrices()[0])
    e, f = problem.endmembers.numpy(), problem.seen.numpy()
    left = np.kron(e.T @ e, h.T @ h) + 0.7 * np.kron(f.T @ f, np.eye(64))
    right = e.T @ problem.hsi.numpy().reshape(5, -1) @ h + 0.7 * f.T @ problem.msi.numpy().reshape(3, -1)
    expected = np.linalg.solve(left, right.ravel())
    assert np.allclose(minimise(problem, silent).numpy().ravel(), expected, atol=1e-7)


def test_with_total_variation_no_other_solver_finds_less():
    problem = small_problem(variation_weight=0.05, iterations=1500)

    def smoothed(values):
        a = torch.tensor(values.reshape(2, 8, 8), requires_grad=True)
        hsi = problem.hsi - torch.einsum("cp,phw->chw", problem.endmembers, problem.spatial.forward(a))
        msi = problem.msi - torch.einsum("cp,phw->chw", problem.seen, a)
        length = ((difference(a, 2) ** 2 + difference(a, 1) ** 2).sum(dim=0) + 1e-10).sqrt()
        total = 0.5 * (hsi**2).sum() + 0.5 * (msi**2).sum() + 0.05 * length.sum()
        total.backward()
        return float(total.detach()), a.grad.numpy().ravel()

    start = np.random.default_rng(1).normal(size=128)
    oracle = optimize.minimize(smoothed, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "maxfun": 10000})
    found = problem.objective(minimise(problem, silent))
    assert found <= problem.objective(torch.as_tensor(oracle.x.reshape(2, 8, 8))) * (1 + 1e-6)
    assert abs(found / oracle.fun - 1) < 1e-3


def test_more_iterations_come_closer_to_the_minimum():
    problem = small_problem(variation_weight=0.05)
    values = [problem.objective(minimise(replace(problem, options=replace(problem.options, iterations=n)), silent))
              for n in (1, 10, 100, 1000)]  # fmt: skip
    assert all(before > now for before, now in zip(values, values[1:], strict=False))


def test_the_adjoint_of_the_difference_is_exact_and_the_consensus_solves_its_system():
    rng = np.random.default_rng(0)
    a, b = (torch.as_tensor(rng.normal(size=(2, 7, 5))) for _ in range(2))
    for axis in (1, 2):
        assert torch.isclose((difference(a, axis) * b).sum(), (a * difference_adjoint(b, axis)).sum())
    applied = 2 * a + sum(difference_adjoint(difference(a, axis), axis) for axis in (1, 2))
    assert torch.allclose(Consensus(a).solve(applied), a)


def test_shrinkage_shortens_the_gradient_of_all_components_together():
    across, down = torch.tensor([[[3.0]], [[0.0]]]), torch.tensor([[[0.0]], [[4.0]]])
    assert torch.allclose(shrinkage(across, down, 1.0), torch.tensor([[0.8]]))
    assert float(shrinkage(across, down, 6.0)) == 0.0
    assert float(shrinkage(0 * across, 0 * down, 1.0)) == 0.0


def test_a_scene_that_the_model_holds_for_is_recovered_without_noise(scenes):
    # Four spectra, four bands that tell them apart, no total variation.
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] / 64
    share = np.exp([4 * np.sin(7 * x + k) + 4 * np.cos((5 + k) * y + k) for k in range(4)])
    fine = np.einsum("kb,kij->bij", rng.uniform(0.1, 0.9, (4, 20)), share / share.sum(axis=0)).astype(np.float32)
    model, tile = scenes.observe(fine, 4)
    method = Hysure(HysureOptions(endmembers=4, variation_weight=0.0, iterations=1000))
    method.fit(model, [tile], silent)
    error = np.linalg.norm(method.fuse(tile, silent) - fine) / np.linalg.norm(fine - fine.mean(axis=(1, 2), keepdims=True))
    assert error < 5e-3


def test_it_beats_cubic_interpolation_clearly(scenes):
    fine = scenes.landscape()
    model, tile = scenes.observe(fine, 4, snr_db=30)
    assert scenes.psnr(fine, scenes.fuse("hysure", model, tile)) > scenes.psnr(fine, scenes.fuse("bicubic", model, tile)) + 3


def test_masked_pixels_leave_the_rest_finite_and_what_stands_in_them_does_not_matter(scenes):
    model, tile = scenes.observe(scenes.landscape(side=64), 4, snr_db=35)
    results = []
    for garbage in (0.0, 1e6):
        hsi, msi = tile.hsi.copy(), tile.msi.copy()
        hsi[1:, 3:6, 4:9], hsi[0, 3:6, 4:9] = garbage, np.nan
        msi[1:, 30:50, 40:53], msi[0, 30:50, 40:53] = garbage, np.nan
        results.append(scenes.fuse("hysure", model, replace(tile, hsi=hsi, msi=msi)))
    assert np.isfinite(results[0]).all() and np.array_equal(*results)


def test_tiles_agree_with_the_whole(scenes):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=35)
    whole, tiled = (scenes.mosaic("hysure", model, tile, size) for size in (96, 32))
    assert np.abs(tiled - whole).max() < 1e-3 * whole.std()


def test_the_same_seed_gives_the_same_bytes_and_units_pass_through(scenes):
    model, tile = scenes.observe(scenes.landscape(side=64), 4, snr_db=35)
    first = scenes.fuse("hysure", model, tile)
    assert np.array_equal(first, scenes.fuse("hysure", model, tile))
    scaled = replace(tile, hsi=1e4 * tile.hsi, msi=1e4 * tile.msi)
    assert np.allclose(scenes.fuse("hysure", model, scaled), 1e4 * first, rtol=1e-3, atol=1.0)


def test_a_scene_of_zeros_stays_zero(scenes):
    model, tile = scenes.observe(np.zeros((8, 32, 32), np.float32), 3)
    assert np.array_equal(scenes.fuse("hysure", model, tile), np.zeros((8, 32, 32), np.float32))
