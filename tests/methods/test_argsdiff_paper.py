"""The paper preset on a small synthetic pair by Wald's protocol, with tiny networks."""

from dataclasses import replace

import numpy as np
import pytest

from geofuse.degradation import SpatialOperator
from geofuse.diffusion.options import PaperOptions
from geofuse.methods.argsdiff_paper import PaperArgsDiff
from geofuse.methods.base import SceneModel, TileData
from geofuse.sensors.psf import Psf
from geofuse.tiling import Edges

C, SIZE, RATIO = 12, 32, 4
TINY = {
    "d": 3, "train_steps": 120, "spectral_steps": 1200, "sampling_steps": 300, "batch": 4, "spectral_batch": 64,
    "base_channels": 8, "multipliers": (1, 2), "patch": 16, "patch_stride": 8, "learning_rate": 2e-3,
}  # fmt: skip


def wald_pair(offset=5.0, gain=20.0):
    """Three materials, mixed; values in [5, 25], as radiances might be."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    share = np.exp([2 * np.sin(6 * x + k) + 2 * np.cos((5 + k) * y) + 0.5 * rng.standard_normal(x.shape) for k in range(3)])
    band = np.linspace(0, 1, C)
    spectra = np.stack([0.45 + 0.35 * np.sin(2 * np.pi * (band * (1 + 0.5 * k) + 0.2 * k)) for k in range(3)])
    reference = offset + gain * np.einsum("khw,kc->chw", share / share.sum(axis=0), spectra)
    response = np.stack([np.exp(-(((band - m) / 0.15) ** 2)) for m in (0.1, 0.4, 0.75)])
    response /= response.sum(axis=1, keepdims=True)
    hsi = SpatialOperator(Psf("bicubic"), RATIO, SIZE, SIZE).forward(reference)
    msi = np.einsum("bc,chw->bhw", response, reference)
    model = SceneModel(response, Psf("bicubic"), RATIO, 400 + 100 * band)
    return reference, model, TileData(hsi.astype("f4"), msi.astype("f4"), (0, 0), Edges(True, True, True, True))


def fitted(model, tile, **changes):
    method = PaperArgsDiff(PaperOptions(**{**TINY, **changes}))
    method.fit(model, [tile])
    return method


@pytest.fixture(scope="module")
def pair():
    return wald_pair()


@pytest.fixture(scope="module")
def method(pair):
    return fitted(*pair[1:])


def blocky(hsi):
    """Repeat each coarse pixel over its fine pixels."""
    return np.repeat(np.repeat(hsi, RATIO, axis=1), RATIO, axis=2)


def relative_error(estimate, reference):
    return np.linalg.norm(estimate - reference) / np.linalg.norm(reference - reference.mean())


def test_sampling_drives_both_residuals_down_and_finds_the_scene(pair, method):
    reference, _, tile = pair
    found = method.reconstruct(tile)
    for norm in (found.hsi_residual, found.msi_residual):
        assert float(norm[-1]) < 0.1 * float(norm[0])
    fused = method.range.from_unit(found.image()).numpy()
    assert fused.shape == reference.shape and fused.dtype == np.float32 and bool(np.isfinite(fused).all())
    assert relative_error(fused, reference) < 0.6 * relative_error(blocky(tile.hsi), reference)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(pair):
    _, model, tile = pair
    short = {"train_steps": 3, "spectral_steps": 3, "sampling_steps": 4}
    first, again = (fitted(model, tile, **short).fuse(tile) for _ in range(2))
    other = fitted(replace(model, seed=1), tile, **short).fuse(tile)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_starting_noise_belongs_to_absolute_positions(pair, method):
    _, _, tile = pair
    msi = method._tensor(tile.msi)
    whole, part = method._spatial_start(msi, (64, 128)), method._spatial_start(msi[:, :16, :20], (72, 132))
    assert np.array_equal(whole[:, 8:24, 4:24], part)


def test_no_data_in_either_image_stays_out_of_the_rest(pair, method):
    reference, model, tile = pair
    holed = replace(tile, hsi=tile.hsi.copy(), msi=tile.msi.copy())
    holed.hsi[:, 6:, 6:] = np.nan
    holed.msi[:, 24:, 24:] = np.nan
    fused = method.fuse(holed)  # with the networks of the whole scene
    assert bool(np.isfinite(fused).all())
    kept = np.s_[:, :20, :20]
    assert relative_error(fused[kept], reference[kept]) < 0.6 * relative_error(blocky(tile.hsi)[kept], reference[kept])
    trained = fitted(model, holed, train_steps=2, spectral_steps=2)
    weights = [*trained.spatial_network.parameters(), *trained.spectral_network.parameters()]
    assert all(bool(weight.isfinite().all()) for weight in weights)


@pytest.mark.parametrize("update", ["A", "E"])
def test_either_component_may_be_held_fixed_and_the_other_still_fits(pair, update):
    _, model, tile = pair
    method = fitted(model, tile, update=update, train_steps=20, sampling_steps=120)
    assert (method.spectral_network is None, method.spatial_network is None) == (update == "A", update == "E")
    found = method.reconstruct(tile)
    assert float(found.hsi_residual[-1]) < 0.2 * float(found.hsi_residual[0])
    assert bool(found.image().isfinite().all())


def test_stages_are_reported(pair):
    _, model, tile = pair
    seen = []
    method = PaperArgsDiff(PaperOptions(**{**TINY, "train_steps": 1, "spectral_steps": 2, "sampling_steps": 3}))
    method.fit(model, [tile], lambda *r: seen.append(r))
    method.fuse(tile, lambda *r: seen.append(r))
    stages = ["train spectral network"] * 2 + ["train spatial network"] + ["reverse diffusion"] * 3
    assert [stage for stage, _, _ in seen] == stages and seen[-1][1:] == (3, 3)
