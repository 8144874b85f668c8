"""Claims about MIAE."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geofuse.degradation import SpatialOperator
from geofuse.errors import InputError
from geofuse.methods.base import TileData, silent
from geofuse.methods.bicubic import Bicubic
from geofuse.methods.miae import Miae, MiaeNetwork, MiaeOptions, fidelity
from geofuse.methods.miae_patches import Patches, fill_holes
from geofuse.tiling import Edges

TINY = MiaeOptions(spectra=12, steps=400, step_pixels=1600)
ALL_SIDES, NO_SIDES = Edges(True, True, True, True), Edges(False, False, False, False)


def fitted(model, *samples, **changes):
    method = Miae(replace(TINY, **changes))
    method.fit(model, samples, silent)
    return method


@pytest.fixture(scope="module")
def case(scenes):
    fine = scenes.landscape(n_bands=12, side=64)
    return (fine, *scenes.observe(fine, 4, snr_db=45))


@pytest.fixture(scope="module")
def method(case):
    return fitted(*case[1:])


def random_network(bands, msi_bands, spectra=5, stages=3, seed=0):
    """A network all of whose parameters are random."""
    generator = torch.Generator().manual_seed(seed)
    network = MiaeNetwork(bands, msi_bands, MiaeOptions(spectra=spectra, stages=stages), generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.4)
    return network


def unit_patches(model, hsi, msi, edges=ALL_SIDES, core=3):
    patches = Patches(model, core)
    patches.add(torch.as_tensor(hsi), torch.as_tensor(msi), edges, torch.zeros(len(hsi)))
    return patches


@pytest.mark.parametrize(("bands", "msi_bands", "p", "stages"), [(102, 4, 80, 3), (191, 4, 30, 3), (20, 3, 7, 1)])
def test_the_network_has_the_papers_layers(bands, msi_bands, p, stages):
    network = MiaeNetwork(bands, msi_bands, MiaeOptions(spectra=p, stages=stages), torch.Generator().manual_seed(0))
    encoder = (bands + 1) * p + (p + 1) * p + (msi_bands + 1) * p + (2 * p + 1) * p + (stages - 1) * ((p + 1) * p + (3 * p + 1) * p)
    assert sum(parameter.numel() for parameter in network.parameters()) == encoder + bands * p
    assert bool((network.spectra == 1 / p).all())
    for layer in (*network.from_hsi, network.from_msi, network.start):
        assert not layer.bias.any()
        assert float(layer.weight.detach().std()) == pytest.approx(layer.in_features**-0.5, rel=0.25)


def test_the_network_is_the_iteration_written_out_in_numpy():
    network = random_network(9, 4)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(13, 9)).astype(np.float32), rng.normal(size=(13, 4)).astype(np.float32)

    def layer(made, *inputs):
        out = np.hstack(inputs) @ made.weight.detach().numpy().T + made.bias.detach().numpy()
        return np.maximum(out, 0.2 * out)

    f = layer(network.from_hsi[1], layer(network.from_hsi[0], x))
    g = layer(network.from_msi, y)
    s = layer(network.start, f, g)
    for alone, together in network.updates:
        s = layer(together, layer(alone, s), f, g)
    assert s.min() < 0 and s.max() > 1  # so that the clamp matters
    expected = np.clip(np.clip(s, 0, 1) @ network.spectra.detach().numpy(), 0, 1)
    assert np.allclose(network(torch.as_tensor(x), torch.as_tensor(y)).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("psf", ["gaussian:1", "bicubic", "box"])
@pytest.mark.parametrize(("height", "width", "core"), [(24, 36, 3), (20, 28, 3), (12, 8, 5)])
def test_the_loss_over_all_patches_is_that_of_the_whole_scene(scenes, psf, height, width, core):
    fine = scenes.landscape(n_bands=8, side=40)[:, :height, :width]
    model, tile = scenes.observe(fine, 3, psf=psf, snr_db=30)
    network, response = random_network(8, 3), torch.as_tensor(model.response, dtype=torch.float32)
    patches = unit_patches(model, tile.hsi, tile.msi, core=core)
    found = fidelity(network, patches, patches.gather(range(len(patches))), response)
    # The same by the operator of the whole image.
    up = torch.nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False)(torch.as_tensor(tile.hsi)[None])[0]
    z = network(up.permute(1, 2, 0), torch.as_tensor(tile.msi).permute(1, 2, 0)).detach().numpy().transpose(2, 0, 1)
    of_hsi = np.abs(SpatialOperator(model.psf, 4, height, width).forward(z) - tile.hsi).sum()
    of_msi = np.abs(np.einsum("ck,khw->chw", model.response, z) - tile.msi).sum()
    assert float(found.detach()) == pytest.approx(of_hsi + of_msi, rel=1e-4)


def test_each_patch_shows_what_lies_around_its_core(scenes):
    fine = scenes.landscape(n_bands=8, side=48)
    model, tile = scenes.observe(fine, 3, psf="gaussian:1")
    patches = unit_patches(model, tile.hsi, tile.msi)
    m, side = patches.margin, patches.side
    assert side == 4 * (3 + 2 * m) and len(patches) == 16
    batch = patches.gather([5])  # the second of the second row: its core starts at coarse pixel (3, 3)
    first = 4 * (3 - m)
    assert np.array_equal(batch.msi[0].numpy().transpose(2, 0, 1), tile.msi[:, first : first + side, first : first + side])
    assert np.array_equal(batch.hsi[0].numpy().transpose(2, 0, 1), tile.hsi[:, 3:6, 3:6])
    assert np.array_equal(batch.msi_core, patches.inside(batch.msi))


def test_the_reach_of_the_authors_kernel_gives_their_patches(scenes):
    model, _ = scenes.observe(scenes.landscape(n_bands=4, side=16), 2, psf="gaussian:0.6")
    patches = Patches(model, MiaeOptions().core)
    assert patches.side == 20 and MiaeOptions().step_pixels // patches.side**2 == 100


def test_pixels_without_data_and_those_whose_psf_reaches_them_weigh_nothing(scenes):
    fine = scenes.landscape(n_bands=6, side=48)
    model, tile = scenes.observe(fine, 3, psf="gaussian:1")
    hsi, msi = tile.hsi.copy(), tile.msi.copy()
    hsi[2, 6, 7], msi[1, 10, 30] = np.nan, np.nan
    network, response = random_network(6, 3), torch.as_tensor(model.response, dtype=torch.float32)
    patches = unit_patches(model, hsi, msi)
    reach = SpatialOperator(model.psf, 4, 48, 48).reach
    reached = [abs(4 * i + 1.5 - r) <= 1.5 + reach for i in range(12) for r in [10]]
    sees_hole = np.outer(reached, [abs(4 * j + 1.5 - 30) <= 1.5 + reach for j in range(12)])
    rows, cols = ([lo - reach <= 4 * i + 3 and 4 * i <= lo + 3 + reach for i in range(12)] for lo in (24, 28))
    sees_hole |= np.outer(rows, cols)
    assert patches.weighed == [144 - sees_hole.sum(), 48 * 48 - 16 - 1]
    everything = patches.gather(range(len(patches)))
    loss = fidelity(network, patches, everything, response).detach()
    assert bool(torch.isfinite(loss))
    msi[1, 10, 30] = 1e6  # were it seen, it would be seen now
    spoilt = unit_patches(model, hsi, np.where((np.arange(48) == 30) & (np.arange(48) == 10)[:, None], np.nan, msi))
    assert float(fidelity(network, spoilt, spoilt.gather(range(len(spoilt))), response).detach()) == float(loss)


def test_coarse_pixels_at_a_cut_through_the_scene_weigh_nothing(scenes):
    model, tile = scenes.observe(scenes.landscape(n_bands=6, side=48), 3, psf="gaussian:1")
    patches = unit_patches(model, tile.hsi, tile.msi, edges=Edges(True, False, True, False))
    assert patches.weighed == [(12 - patches.margin) ** 2, 48 * 48]


def test_holes_are_filled_from_their_neighbours_and_else_by_the_default():
    image = torch.arange(50, dtype=torch.float32).reshape(2, 5, 5)
    image[0, 2, 2] = image[0, 2, 1] = torch.nan
    image[1] = torch.nan
    filled = fill_holes(image, torch.tensor([-1.0, -2.0]))
    around = [6.0, 7, 8, 13, 16, 17, 18]
    assert float(filled[0, 2, 2]) == pytest.approx(np.mean(around))
    assert bool((filled[1] == -2).all()) and bool((filled[0, 0] == image[0, 0]).all())


def test_training_lowers_the_loss_and_the_result_beats_interpolation(case, method, scenes):
    fine, model, tile = case
    assert np.mean(method.losses[-5:]) < 0.1 * method.losses[0]
    fused = method.fuse(tile, silent)
    assert fused.shape == fine.shape and fused.dtype == np.float32
    floor = Bicubic()
    floor.fit(model, [tile], silent)
    assert scenes.psnr(fine, fused) > scenes.psnr(fine, floor.fuse(tile, silent)) + 5


def test_the_spectra_of_the_decoder_stay_between_0_and_1(method):
    assert 0 <= float(method.network.spectra.min()) < float(method.network.spectra.max()) <= 1


def test_a_tile_with_its_halo_agrees_with_the_whole(case, method):
    _, _, tile = case
    hsi = tile.hsi.copy()
    hsi[:, 7, 7], hsi[4, 4, 9] = np.nan, np.nan
    tile = TileData(hsi, tile.msi, tile.origin, tile.edges)
    whole = method.fuse(tile, silent)
    halo = method.halo
    part = TileData(tile.hsi[:, 5 - halo : 10 + halo, 6 - halo :], tile.msi[:, 4 * (5 - halo) : 4 * (10 + halo), 4 * (6 - halo) :],
                    (4 * (5 - halo), 4 * (6 - halo)), Edges(False, False, False, True))  # fmt: skip
    fused = method.fuse(part, silent)
    assert np.allclose(fused[:, 4 * halo : -4 * halo, 4 * halo :], whole[:, 20:40, 24:], atol=1e-5)


def test_the_rows_that_go_through_the_network_together_do_not_matter(case, method, monkeypatch):
    whole = method.fuse(case[2], silent)
    monkeypatch.setattr("geofuse.methods.miae._FUSED_AT_ONCE", 3 * 64 * 4)
    assert np.allclose(method.fuse(case[2], silent), whole, atol=1e-5)


def test_no_data_gives_finite_values_and_spreads_no_further_than_the_interpolation(case, method):
    _, _, tile = case
    hsi, msi = tile.hsi.copy(), tile.msi.copy()
    hsi[:, 5, 5], hsi[0, 9, 9], msi[1, 30, 31] = np.nan, np.nan, np.nan
    fused, expected = method.fuse(TileData(hsi, msi, tile.origin, tile.edges), silent), method.fuse(tile, silent)
    assert np.isfinite(fused).all()
    changed = ~np.isclose(fused, expected, atol=1e-6).all(axis=0)
    near = np.zeros_like(changed)
    for row, column in ((5, 5), (9, 9)):
        near[4 * row - 2 : 4 * row + 6, 4 * column - 2 : 4 * column + 6] = True
    near[30, 31] = True
    assert not (changed & ~near).any()


def test_units_come_back(case):
    _, model, tile = case
    plain = fitted(model, tile, steps=20).fuse(tile, silent)
    other = TileData(40 * tile.hsi + 300, 40 * tile.msi + 300, tile.origin, tile.edges)
    assert np.allclose(fitted(model, other, steps=20).fuse(other, silent), 40 * plain + 300, atol=0.1)


def test_without_common_ground_it_says_so(case):
    _, model, tile = case
    with pytest.raises(InputError, match="no pixel of the HSI has data in both images"):
        fitted(model, TileData(tile.hsi, np.full_like(tile.msi, np.nan), tile.origin, tile.edges))


def test_a_scene_smaller_than_a_patch_is_fused(scenes):
    fine = scenes.landscape(n_bands=6, side=8)
    model, tile = scenes.observe(fine, 3, psf="bicubic")
    assert np.isfinite(fitted(model, tile, steps=3).fuse(tile, silent)).all()


def test_the_same_seed_gives_the_same_bytes_whatever_torchs_own_generator_holds(case):
    _, model, tile = case
    torch.manual_seed(1)
    first = fitted(model, tile, steps=5).fuse(tile, silent)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = fitted(model, tile, steps=5).fuse(tile, silent)
    assert torch.equal(torch.random.get_rng_state(), state)
    other = fitted(replace(model, seed=1), tile, steps=5).fuse(tile, silent)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_every_patch_is_seen_once_before_any_is_seen_again(case):
    _, model, tile = case
    patches = unit_patches(model, tile.hsi, tile.msi)
    numbers = patches.shuffled(4, torch.Generator().manual_seed(0))
    seen = sum((next(numbers) for _ in range(27)), [])
    assert len(patches) == 36 and all(sorted(seen[i : i + 36]) == list(range(36)) for i in (0, 36, 72))


def test_progress_is_reported_to_the_end(case):
    _, model, tile = case
    told = []
    Miae(replace(TINY, steps=4)).fit(model, [tile], lambda *said: told.append(said))
    assert told == [("training", i, 4) for i in range(1, 5)]


def test_presets_and_defaults_are_the_papers_on_a_gpu():
    assert Miae.default_preset("cuda:0") == "paper" and Miae.default_preset("cpu") == "fast"
    assert Miae.presets["paper"] == MiaeOptions(80, 3, 10_000, 5e-3, 1e-3, 40_000, 3)
