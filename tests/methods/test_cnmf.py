"""Claims about coupled non-negative matrix factorisation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geofuse.errors import InputError
from geofuse.methods.base import silent
from geofuse.methods.cnmf import Cnmf, CnmfOptions, Factors, few_pixels


def factors(delta=0.3):
    rng = np.random.default_rng(0)
    v, w, h = (torch.as_tensor(rng.uniform(0, 1, shape)) for shape in ((8, 50), (8, 3), (3, 50)))
    return Factors(v, w, h, delta)


def test_no_update_ever_raises_the_objective_or_makes_a_factor_negative():
    found, before = factors(), np.inf
    for _ in range(200):
        for update in (found.update_spectra, found.update_abundances):
            update()
            now = found.objective()
            assert now <= before * (1 + 1e-12)
            before = now
    assert float(found.w.min()) >= 0 and float(found.h.min()) >= 0


def test_an_update_is_lee_and_seungs_on_the_matrices_with_the_row_of_constants():
    found = factors(delta=0.3)
    row = np.full((1, 50), 0.3), np.full((1, 3), 0.3)
    v, w, h = np.vstack([found.v, row[0]]), np.vstack([found.w, row[1]]), found.h.numpy()
    expected = h * (w.T @ v) / (w.T @ w @ h)
    found.update_abundances()
    assert np.allclose(found.h.numpy(), expected)


def test_iterations_stop_when_the_error_stalls():
    found = factors()
    found.iterate(10000, 1e-4)
    stopped = found.objective()
    found.iterate(10, 0.0)
    assert stopped - found.objective() < 20 * 1e-4 * stopped


def test_a_heavy_weight_makes_abundances_sum_to_one():
    found = factors(delta=30.0)
    found.iterate(500, 0.0)
    assert np.allclose(found.h.sum(dim=0), 1, atol=0.01)


def test_a_scene_that_the_model_holds_for_is_recovered_without_noise_as_iterations_go_on(scenes):
    # Four spectra, each pure over some coarse pixels, and four bands that tell them apart; multiplicative updates are slow.
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] / 64
    share = np.exp([8 * np.sin(3 * x + 1.6 * k) + 8 * np.cos(3 * y + 2.3 * k) for k in range(4)])
    fine = np.einsum("kb,kij->bij", rng.uniform(0.1, 0.9, (4, 20)), share / share.sum(axis=0)).astype(np.float32)
    model, tile = scenes.observe(fine, 4)
    spread = np.linalg.norm(fine - fine.mean(axis=(1, 2), keepdims=True))
    errors = []
    for inner in (100, 600, 3000):
        method = Cnmf(CnmfOptions(endmembers=4, inner=inner))
        method.fit(model, [tile], silent)
        errors.append(np.linalg.norm(method.fuse(tile, silent) - fine) / spread)
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.02


def test_the_outer_loop_brings_the_result_closer_to_the_msi(scenes):
    model, tile = scenes.observe(scenes.landscape(side=64), 4, snr_db=35)
    residuals = []
    for preset in ("default", "thorough"):
        method = Cnmf(Cnmf.presets[preset])
        method.fit(model, [tile], silent)
        seen = np.einsum("ck,khw->chw", model.response, method.fuse(tile, silent))
        residuals.append(np.linalg.norm(seen - tile.msi))
    assert residuals[1] < residuals[0]


@pytest.mark.parametrize("n_msi", [3, 4, 7])
def test_it_beats_cubic_interpolation_clearly_and_is_not_negative(scenes, n_msi):
    fine = scenes.landscape()
    model, tile = scenes.observe(fine, n_msi, snr_db=30)
    fused = scenes.fuse("cnmf", model, tile)
    assert fused.min() >= 0
    assert scenes.psnr(fine, fused) > scenes.psnr(fine, scenes.fuse("bicubic", model, tile)) + 3


def test_masked_pixels_leave_the_rest_finite_and_what_stands_in_them_does_not_matter(scenes):
    model, tile = scenes.observe(scenes.landscape(side=64), 4, snr_db=35)
    results = []
    for garbage in (0.0, 1e6):
        hsi, msi = tile.hsi.copy(), tile.msi.copy()
        hsi[1:, 3:6, 4:9], hsi[0, 3:6, 4:9] = garbage, np.nan
        msi[1:, 30:50, 40:53], msi[0, 30:50, 40:53] = garbage, np.nan
        results.append(scenes.fuse("cnmf", model, replace(tile, hsi=hsi, msi=msi)))
    assert np.isfinite(results[0]).all() and np.array_equal(*results)


def test_images_without_a_pixel_in_common_are_refused(scenes):
    model, tile = scenes.observe(scenes.landscape(side=32), 4)
    hsi, msi = tile.hsi.copy(), tile.msi.copy()
    hsi[:, :, 4:], msi[:, :, :16] = np.nan, np.nan
    with pytest.raises(InputError, match="share 0 coarse pixels"):
        scenes.fuse("cnmf", model, replace(tile, hsi=hsi, msi=msi))
    with pytest.raises(InputError, match="0 pixels with data"):
        scenes.fuse("cnmf", model, replace(tile, hsi=np.full_like(hsi, np.nan)))


def test_tiles_agree_with_the_whole(scenes):
    model, tile = scenes.observe(scenes.landscape(n_bands=12), 4, snr_db=35)
    whole, tiled = (scenes.mosaic("cnmf", model, tile, size) for size in (96, 32))
    assert np.abs(tiled - whole).max() < 1e-5 * whole.std()


def test_the_same_seed_gives_the_same_bytes_and_units_pass_through(scenes):
    model, tile = scenes.observe(scenes.landscape(side=64), 4, snr_db=35)
    first = scenes.fuse("cnmf", model, tile)
    assert np.array_equal(first, scenes.fuse("cnmf", model, tile))
    scaled = replace(tile, hsi=1024 * tile.hsi, msi=1024 * tile.msi)
    assert np.allclose(scenes.fuse("cnmf", model, scaled), 1024 * first, rtol=1e-4)


def test_endmembers_are_learnt_from_half_a_million_pixels_at_most_spread_over_the_scene(scenes):
    _, tile = scenes.observe(scenes.landscape(n_bands=2, side=128), 1)
    samples = [replace(tile, origin=(0, 128 * i)) for i in range(100)]
    chosen = few_pixels(samples)
    assert sum(t.msi[0].size for t in chosen) <= 1 << 19 and len(chosen) == 32
    assert chosen[0].origin == (0, 0) and chosen[-1].origin == (0, 128 * 99)


def test_options_reach_the_factorisation(scenes):
    model, tile = scenes.observe(scenes.landscape(side=32), 4, snr_db=30)
    method = Cnmf(CnmfOptions(endmembers=5, inner=20))
    method.fit(model, [tile], silent)
    assert method.fusing.shape == (30, 5) and method.seen.shape == (4, 5)
