"""DDPM-Fus against what the paper says of it, and in tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geofuse.errors import UsageError
from geofuse.methods.base import SceneModel, TileData, silent
from geofuse.methods.ddpmfus import TIMESTEPS, DdpmFus, DdpmFusOptions, conditions, linear_schedule
from geofuse.methods.ddpmfus_network import ConditionalUNet
from geofuse.methods.trainable import Plan
from geofuse.methods.weights import Card, load_weights, save_weights
from geofuse.sensors.psf import Psf
from geofuse.tiling import Edges
from geofuse.training import PatchSampler, TrainingScene

MIB = 1e6


def card(bands=5, msi_bands=2, width=8, ratio=4):
    wavelength = np.linspace(450.0, 700.0, bands)
    return Card("ddpmfus", bands, msi_bands, ratio, wavelength, np.ones((msi_bands, bands)) / bands, "s", {"width": width}, ("a",))


def weighty(network, seed=0):
    """Give every weight a random value, so that every path matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize(("bands", "msi_bands", "millions"), [(31, 3, 1.69), (128, 4, 1.93), (102, 4, 1.86)])
def test_parameters_are_those_of_table_4_within_ten_percent(bands, msi_bands, millions):
    count = sum(p.numel() for p in ConditionalUNet(bands, msi_bands).parameters()) / MIB
    assert count == pytest.approx(millions, rel=0.1)


def test_the_schedule_is_that_of_the_paper():
    betas = np.linspace(0.0, 0.01, TIMESTEPS)
    assert linear_schedule()[1:].numpy() == pytest.approx(np.cumprod(1.0 - betas))
    assert float(linear_schedule()[0]) == 1.0
    assert float(linear_schedule()[-1]) ** -0.5 == pytest.approx(150.9, rel=0.01)


def test_shapes_along_the_network():
    network = ConditionalUNet(5, 2, 8)
    seen = {}
    for name in ("first", "down_1", "half_1", "down_2", "half_2", "down_3", "middle", "up_3", "up_2", "up_1", "last"):
        getattr(network, name).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: tuple(out.shape[1:])}))
    network(torch.zeros(1, 5, 64, 32), torch.zeros(1, 4, 64, 32), torch.zeros(1, 5, 64, 32), torch.ones(1))
    full, half, quarter = (64, 32), (32, 16), (16, 8)
    assert seen == {
        "first": (8, *full), "down_1": (8, *full), "half_1": (8, *half), "down_2": (8, *half), "half_2": (8, *quarter),
        "down_3": (16, *quarter), "middle": (16, *quarter), "up_3": (16, *quarter), "up_2": (8, *half), "up_1": (8, *full),
        "last": (5, *full),
    }  # fmt: skip


def test_an_untrained_network_is_the_interpolation():
    method = DdpmFus()
    network = method.make_network(card(), torch.Generator().manual_seed(0))
    hsi, msi = torch.rand(1, 5, 9, 7), torch.rand(1, 2, 36, 28)
    fused = method.predict(network, hsi, msi, torch.Generator().manual_seed(0))
    assert torch.allclose(fused, 0.5 * (conditions(hsi, msi)[0] + 1.0), atol=1e-5)


def test_the_reach_is_what_it_says():
    network = weighty(ConditionalUNet(2, 1, 8))
    state = torch.zeros(1, 2, 288, 288, requires_grad=True)
    out = network(state, torch.zeros(1, 2, 288, 288), torch.zeros(1, 2, 288, 288), torch.tensor([0.5]))
    farthest = 0
    for centre in range(128, 160, 3):
        (gradient,) = torch.autograd.grad(out[0, :, centre, centre].sum(), state, retain_graph=True)
        rows = torch.nonzero(gradient.abs().sum((0, 1, 3))).flatten()
        farthest = max(farthest, centre - int(rows.min()), int(rows.max()) - centre)
    assert farthest <= ConditionalUNet.reach
    assert farthest > ConditionalUNet.reach - 12  # and no wastefully larger


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_the_loss_is_the_error_of_the_clean_image(name):
    rng = np.random.default_rng(0)
    reference = rng.random((5, 32, 32), np.float32)
    scene = TrainingScene("s", reference[:, ::4, ::4].copy(), reference[:2].copy(), reference)
    method = DdpmFus(DdpmFusOptions(loss=name, width=8))
    recipe = method.recipe(Plan(PatchSampler([scene], 32), 10, 2, 1e-3, card().response, "cpu"))
    network = method.make_network(card(), torch.Generator().manual_seed(0))  # returns the interpolation
    loss = float(recipe.loss(network, torch.Generator().manual_seed(3)).detach())
    batch = PatchSampler([scene], 32).sample(2, torch.Generator().manual_seed(3))
    error = conditions(batch.hsi, batch.msi)[0] - (2.0 * batch.reference - 1.0)
    assert loss == pytest.approx(float((error.abs() if name == "l1" else error**2).mean()), rel=1e-5)


def test_the_learning_rate_falls_along_five_cosines():
    recipe = DdpmFus().recipe(Plan(None, 250_000, 1, 1e-4, None, "cpu"))
    rates = [recipe.learning_rate(step) for step in range(250_000)]
    assert rates[0] == rates[50_000] == rates[200_000] == pytest.approx(1e-4, rel=1e-3)
    assert max(rates[49_999], rates[249_999]) < 1e-6
    assert rates[25_000] == pytest.approx(0.5e-4, rel=1e-2)


def test_the_learning_rate_of_a_short_training_falls_once():
    recipe = DdpmFus().recipe(Plan(None, 1000, 1, 1e-3, None, "cpu"))
    rates = [recipe.learning_rate(step) for step in range(1000)]
    assert rates == sorted(rates, reverse=True)
    assert rates[500] == pytest.approx(0.5e-3, rel=1e-2)


def fused(path, rows, cols, steps=2):
    """Fuse the window of a scene that these fine rows and columns cut out."""
    rng = np.random.default_rng(1)
    hsi, msi = rng.random((5, 80, 20), np.float32), rng.random((2, 320, 80), np.float32)
    model = SceneModel(card().response, Psf.parse("bicubic"), 4, card().wavelength_nm, 7)
    whole = TileData(hsi, msi, (0, 0), Edges(True, True, True, True))
    cut = TileData(
        hsi[:, rows.start // 4 : rows.stop // 4, cols.start // 4 : cols.stop // 4],
        msi[:, rows, cols],
        (rows.start, cols.start),
        Edges(rows.start == 0, rows.stop == 320, True, True),
    )
    method = DdpmFus(DdpmFusOptions(sampling_steps=steps))
    method.adopt_weights(path, *load_weights(path))
    method.fit(model, [whole], silent)
    return method.fuse(cut, silent)


@pytest.fixture
def path(tmp_path):
    save_weights(tmp_path / "w.safetensors", card(), weighty(ConditionalUNet(5, 2, 8)))
    return tmp_path / "w.safetensors"


def test_a_tile_with_its_halo_gives_what_the_whole_scene_gives(path):
    whole = fused(path, slice(0, 320), slice(0, 80))
    halo = DdpmFus().halo * 4
    core = slice(160, 200)
    tile = fused(path, slice(core.start - halo, core.stop + min(halo, 320 - core.stop)), slice(0, 80))
    inside = tile[:, halo : halo + 40]
    assert np.abs(inside - whole[:, core]).max() < 1e-4 * whole.std()


def test_the_same_seed_gives_the_same_bytes(path):
    one, two = (fused(path, slice(0, 64), slice(0, 80)) for _ in range(2))
    assert one.tobytes() == two.tobytes()


def test_options_that_are_none_are_refused():
    with pytest.raises(UsageError, match="neither l1 nor l2"):
        DdpmFusOptions(loss="l3")
    with pytest.raises(UsageError, match="from 1 to 1000, found 0"):
        DdpmFusOptions(sampling_steps=0)
