"""Claims about FUSE."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geofuse.degradation import SpatialOperator
from geofuse.errors import InputError
from geofuse.methods.base import silent
from geofuse.methods.fuse import Fuse, FuseOptions, GaussianFusion, detail_covariance, solve_sylvester
from geofuse.sensors import Psf


class Circular:
    """Blur and decimation with a circular border, as in the paper: B S of a (H, W) image."""

    def __init__(self, kernel, ratio, height, width):
        self.ratio, self.fine_shape = ratio, (height, width)
        self.pairs = [tuple(self.axis(kernel, ratio, size) for size in (height, width))]

    @staticmethod
    def axis(kernel, ratio, size):
        blur = sum(k * np.roll(np.eye(size), shift, axis=1) for shift, k in enumerate(kernel))
        return blur[::ratio]

    def axis_matrices(self):
        return self.pairs

    def forward(self, image):
        v, u = (torch.as_tensor(m) for m in self.pairs[0])
        return v @ image @ u.T

    def adjoint(self, image):
        v, u = (torch.as_tensor(m) for m in self.pairs[0])
        return v.T @ image @ u


@pytest.mark.parametrize(
    "spatial",
    [Circular((0.2, 0.5, 0.3), 2, 8, 6), SpatialOperator(Psf.parse("bicubic"), 2, 8, 6)],
    ids=["circular", "reflected"],
)
def test_the_closed_form_equals_a_dense_solution_of_the_normal_equations(spatial):
    rng = np.random.default_rng(0)
    d, c, (height, width) = 3, 2, spatial.fine_shape
    root = rng.normal(size=(d, d))
    problem = GaussianFusion(rng.normal(size=(c, d)), rng.uniform(0.1, 0.5, c), root @ root.T + 0.1 * np.eye(d))
    a = rng.normal(size=(d, height // 2, width // 2))
    y, mean = rng.normal(size=(c, height, width)), rng.normal(size=(d, height, width))
    v, u = spatial.axis_matrices()[0]
    h, eye = np.kron(v, u), np.eye(height * width)
    precision, seen = np.linalg.inv(problem.covariance), problem.mixing.T / problem.noise**2
    left = np.kron(np.eye(d), h.T @ h) + np.kron(seen @ problem.mixing + precision, eye)
    right = a.reshape(d, -1) @ h + seen @ y.reshape(c, -1) + precision @ mean.reshape(d, -1)
    expected = np.linalg.solve(left, right.ravel())
    valid = torch.ones(a.shape[1:], dtype=bool)
    found = solve_sylvester(problem, spatial, *(torch.as_tensor(t) for t in (a, y, mean)), valid)
    assert np.allclose(found.numpy().ravel(), expected, rtol=1e-8, atol=1e-9)


def test_a_scene_that_the_model_holds_for_is_recovered_without_noise(scenes):
    # Four materials, their light constant: an affine subspace of dimension 3, which 4 bands see whole.
    fine = exact_scene()
    model, tile = scenes.observe(fine, 4)
    method = Fuse(FuseOptions(rank=3))
    method.fit(model, [tile], silent)
    error = np.linalg.norm(method.fuse(tile, silent) - fine) / np.linalg.norm(fine - fine.mean(axis=(1, 2), keepdims=True))
    assert error < 5e-3


@pytest.mark.parametrize("snr_db", [35, 20])
def test_it_beats_cubic_interpolation_clearly(scenes, snr_db):
    fine = scenes.landscape()
    model, tile = scenes.observe(fine, 4, snr_db=snr_db)
    assert scenes.psnr(fine, scenes.fuse("fuse", model, tile)) > scenes.psnr(fine, scenes.fuse("bicubic", model, tile)) + 3


def test_the_detail_measured_one_scale_up_is_that_of_the_image_without_its_noise(scenes):
    # White noise of unit variance holds no detail; texture of variance 100 in one component is found there.
    model, _ = scenes.observe(scenes.landscape(side=64), 4)
    rng = np.random.default_rng(0)
    image = np.stack([rng.normal(size=(64, 64)), np.sqrt(101) * rng.normal(size=(64, 64))]).astype(np.float32)
    covariance = detail_covariance(model, [torch.as_tensor(image)])
    assert covariance[0, 0] < 0.2 and covariance[1, 1] == pytest.approx(100, rel=0.15)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_an_hsi_smaller_than_the_ratio_needs_the_prior_given(scenes):
    model, tile = scenes.observe(scenes.landscape(side=12), 4, snr_db=30)
    with pytest.raises(InputError, match="prior_precision"):
        Fuse().fit(model, [tile], silent)
    method = Fuse(FuseOptions(prior_precision=1e-3))
    method.fit(model, [tile], silent)
    assert np.isfinite(method.fuse(tile, silent)).all()


def test_masked_pixels_leave_the_rest_finite_and_what_stands_in_them_does_not_matter(scenes):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=35)
    one, other = masked(tile, 0.0), masked(tile, 1e6)
    fused = scenes.fuse("fuse", model, one)
    assert np.isfinite(fused).all() and np.array_equal(fused, scenes.fuse("fuse", model, other))


def test_tiles_agree_with_the_whole(scenes):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=35)
    whole, tiled = (scenes.mosaic("fuse", model, tile, size) for size in (96, 32))
    assert np.abs(tiled - whole).max() < 1e-3 * whole.std()


def test_the_same_input_gives_the_same_bytes_and_units_pass_through(scenes):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=35)
    first = scenes.fuse("fuse", model, tile)
    assert np.array_equal(first, scenes.fuse("fuse", model, tile))
    scaled = replace(tile, hsi=1e4 * tile.hsi, msi=1e4 * tile.msi)
    assert np.allclose(scenes.fuse("fuse", model, scaled), 1e4 * first, rtol=1e-3, atol=1.0)


def masked(tile, garbage):
    """Take data away; where one band of a pixel lacks data its other bands hold ``garbage``."""
    hsi, msi = tile.hsi.copy(), tile.msi.copy()
    hsi[1:, 3:6, 4:9], hsi[0, 3:6, 4:9] = garbage, np.nan
    msi[1:, 40:60, 50:63], msi[0, 40:60, 50:63] = garbage, np.nan
    return replace(tile, hsi=hsi, msi=msi)


def exact_scene(n_bands=20, side=64):
    """Mixtures of four spectra, every one pure over some coarse pixels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    share = np.exp([6 * np.sin(7 * x + k) + 6 * np.cos((5 + k) * y + k) for k in range(4)])
    share /= share.sum(axis=0)
    return np.einsum("kb,kij->bij", rng.uniform(0.1, 0.9, (4, n_bands)), share).astype(np.float32)
