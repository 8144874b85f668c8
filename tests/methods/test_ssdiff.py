"""SSDiff against what the paper says of it, and in tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geofuse.degradation import SpatialOperator
from geofuse.errors import UsageError
from geofuse.methods.base import SceneModel, TileData, silent
from geofuse.methods.ssdiff import SsDiff, SsDiffOptions, upsampled
from geofuse.methods.ssdiff_network import (
    LOW_PASS,
    SpatialSpectralNetwork,
    high_frequencies,
    projection_onto_spatial,
    projection_onto_spectral,
)
from geofuse.methods.trainable import Plan
from geofuse.methods.weights import Card, load_weights, save_weights
from geofuse.sensors.psf import Psf
from geofuse.tiling import Edges
from geofuse.training import PatchSampler, TrainingScene


def card(bands=4, width=8):
    wavelength = np.linspace(450.0, 850.0, bands)
    options = {"width": width, "modulate": True}
    return Card("ssdiff", bands, 1, 2, wavelength, np.ones((1, bands)) / bands, "pan", options, ("a",))


def weighty(network, seed=0):
    """Give every weight a random value, so that every path matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


def test_parameters_are_the_papers_within_ten_percent():
    assert sum(p.numel() for p in SpatialSpectralNetwork(8, 1).parameters()) / 1e6 == pytest.approx(1.42, rel=0.1)


def test_projections_against_plain_linear_algebra():
    """Theorem 1, written out pixel by pixel and channel by channel."""
    rng = np.random.default_rng(0)
    pixels, size = 6, 3
    a, b = rng.normal(size=(2, pixels, size))
    c, d = rng.normal(size=(2, size, pixels))
    spatial, spectral = np.zeros((pixels, size)), np.zeros((size, pixels))
    for p in range(pixels):
        weights = np.array([np.exp(sum(a[p, s] * b[q, s] for s in range(size)) / np.sqrt(size)) for q in range(pixels)])
        for s in range(size):
            spatial[p, s] = sum(weights[q] / weights.sum() * c[s, q] for q in range(pixels))
    for s in range(size):
        scores = np.array([sum(c[s, p] * d[r, p] for p in range(pixels)) for r in range(size)]) / (np.sqrt(size**3) / pixels)
        weights = np.exp(scores) / np.exp(scores).sum()
        for p in range(pixels):
            spectral[s, p] = sum(weights[r] * a[p, r] for r in range(size))
    tensors = [torch.from_numpy(m) for m in (a, b, c, d)]
    assert projection_onto_spatial(*tensors[:3]).numpy() == pytest.approx(spatial)
    assert projection_onto_spectral(tensors[2], tensors[3], tensors[0]).numpy() == pytest.approx(spectral)


def test_the_projection_of_lemma_1_is_a_projection():
    """With one pixel that all look at, the softmax is one and T_spa is T_c itself: what lies in the subspace stays."""
    a, c = torch.full((5, 1), 0.0), torch.arange(5.0).view(1, 5)
    assert torch.allclose(projection_onto_spatial(a, a, c), torch.full((5, 1), 2.0))


def test_the_frequency_modulation_is_its_fourier_mask():
    rng = np.random.default_rng(1)
    image = rng.normal(size=(32, 32))
    kernel = np.zeros(32)
    kernel[[-2, -1, 0, 1, 2]] = np.array(LOW_PASS) / sum(LOW_PASS)
    transfer = np.fft.fft(kernel).real
    mask = 1.0 - 0.5 * np.outer(transfer, transfer)
    expected = np.fft.ifft2(np.fft.fft2(image) * mask).real
    found = high_frequencies(torch.from_numpy(image)[None, None])[0, 0].numpy()
    assert found[2:-2, 2:-2] == pytest.approx(expected[2:-2, 2:-2], abs=1e-12)


def test_shapes_along_both_branches():
    network, seen = SpatialSpectralNetwork(4, 1, 8), {}
    for branch in ("spatial", "spectral"):
        for index, stage in enumerate(getattr(network, f"{branch}_stages")):
            stage.register_forward_hook(lambda _m, _i, out, key=(branch, index): seen.update({key: tuple(out.shape[1:])}))
    network(torch.zeros(1, 4, 64, 32), torch.zeros(1, 1, 64, 32), torch.zeros(1, 4, 64, 32), torch.ones(1))
    sizes = [(8, 64, 32), (16, 32, 16), (32, 16, 8), (16, 32, 16), (8, 64, 32)]
    assert seen == {(branch, i): size for branch in ("spatial", "spectral") for i, size in enumerate(sizes)}


def test_branches_share_nothing_and_are_all():
    network = SpatialSpectralNetwork(4, 1, 8)
    spatial, spectral = ({id(p) for p in network.branch_parameters(b)} for b in ("spatial", "spectral"))
    assert not spatial & spectral
    assert spatial | spectral == {id(p) for p in network.parameters()}


def test_an_untrained_network_is_the_interpolation():
    method = SsDiff(SsDiffOptions(sampling_steps=3))
    network = method.make_network(card(), torch.Generator().manual_seed(0))
    hsi, msi = torch.rand(1, 4, 9, 7), torch.rand(1, 1, 18, 14)
    fused = method.predict(network, hsi, msi, torch.Generator().manual_seed(0))
    assert torch.allclose(fused, upsampled(hsi, msi), atol=1e-5)


def test_the_reach_is_what_it_says():
    network = weighty(SpatialSpectralNetwork(2, 1, 8)).double()  # in float32, fast convolutions leave traces of 1e-33 beyond it
    state, pan = torch.zeros(1, 2, 288, 288, dtype=torch.float64, requires_grad=True), torch.zeros(1, 1, 288, 288).double()
    out = network(state, pan, torch.zeros_like(state), torch.tensor([0.5]).double())
    farthest = 0
    for centre in range(128, 160, 3):
        (gradient,) = torch.autograd.grad(out[0, :, centre, centre].sum(), state, retain_graph=True)
        rows = torch.nonzero(gradient.abs().sum((0, 1, 3))).flatten()
        farthest = max(farthest, centre - int(rows.min()), int(rows.max()) - centre)
    assert SpatialSpectralNetwork.reach - 12 < farthest <= SpatialSpectralNetwork.reach


def test_the_loss_is_the_l1_error_of_the_difference():
    rng = np.random.default_rng(0)
    reference = rng.random((4, 32, 32), np.float32)
    scene = TrainingScene("s", reference[:, ::2, ::2].copy(), reference[:1].copy(), reference)
    method = SsDiff(SsDiffOptions(width=8))
    network = method.make_network(card(), torch.Generator().manual_seed(0))  # says that there is no difference
    recipe = method.recipe(Plan(PatchSampler([scene], 32), 10, 2, 1e-3, card().response, "cpu"))
    loss = float(recipe.loss(network, torch.Generator().manual_seed(3)).detach())
    batch = PatchSampler([scene], 32).sample(2, torch.Generator().manual_seed(3))
    assert loss == pytest.approx(float((batch.reference - upsampled(batch.hsi, batch.msi)).abs().mean()) / 0.05, rel=1e-5)


def test_fine_tuning_takes_the_branches_in_turn_at_a_tenth_of_the_rate():
    recipe = SsDiff(SsDiffOptions(finetune=0.25)).recipe(Plan(None, 100, 1, 1e-3, None, "cpu"))
    network = SpatialSpectralNetwork(4, 1, 8)
    assert not list(recipe.frozen(network, 74))
    frozen = [{id(p) for p in recipe.frozen(network, step)} for step in (76, 77)]
    assert frozen[0] == {id(p) for p in network.branch_parameters("spatial")}
    assert frozen[1] == {id(p) for p in network.branch_parameters("spectral")}
    assert recipe.learning_rate(0) == pytest.approx(1e-3, rel=1e-3)
    assert recipe.learning_rate(75) == pytest.approx(1e-4, rel=1e-3)


def fused(path, rows, **options):
    """Fuse the rows of a scene, 360 fine rows in all."""
    rng = np.random.default_rng(1)
    hsi, msi = rng.random((4, 180, 32), np.float32), rng.random((1, 360, 64), np.float32)
    model = SceneModel(card().response, Psf.parse("gaussian"), 2, card().wavelength_nm, 7)
    whole = TileData(hsi, msi, (0, 0), Edges(True, True, True, True))
    cut = TileData(
        hsi[:, rows.start // 2 : rows.stop // 2],
        msi[:, rows],
        (rows.start, 0),
        Edges(rows.start == 0, rows.stop == 360, True, True),
    )
    method = SsDiff(SsDiffOptions(sampling_steps=2, **options))
    method.adopt_weights(path, *load_weights(path))
    method.fit(model, [whole], silent)
    return method.fuse(cut, silent)


def test_a_tile_with_its_halo_gives_what_the_whole_scene_gives(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, card(), weighty(SpatialSpectralNetwork(4, 1, 8)))
    halo, core = SsDiff().halo * 2, slice(180, 200)
    tile = fused(path, slice(core.start - halo, core.stop + halo))
    whole = fused(path, slice(0, 360))
    assert np.abs(tile[:, halo : halo + 20] - whole[:, core]).max() < 2e-4 * whole.std()


def test_the_result_is_moved_towards_the_coarse_image(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, card(), SpatialSpectralNetwork(4, 1, 8))  # untrained: the interpolation
    hsi = np.random.default_rng(1).random((4, 180, 32), np.float32)
    seen = SpatialOperator(Psf.parse("gaussian"), 2, 360, 64)
    misses = [np.abs(seen.forward(fused(path, slice(0, 360), back_projections=n)) - hsi).mean() for n in (0, 1, 3)]
    assert misses[1] < 0.7 * misses[0]
    assert misses[2] < 0.4 * misses[0]


def test_the_preset_for_a_cpu_asks_the_network_once():
    method = SsDiff(SsDiff.presets[SsDiff.default_preset("cpu")])
    network, calls = method.make_network(card(width=32), torch.Generator()), []
    network.register_forward_hook(lambda *_: calls.append(1))
    method.predict(network, torch.rand(1, 4, 8, 8), torch.rand(1, 1, 16, 16), torch.Generator())
    assert len(calls) == 1


def test_options_that_are_none_are_refused():
    for bad in ({"sampling_steps": 0}, {"finetune": 1.5}):
        with pytest.raises(UsageError, match="from"):
            SsDiffOptions(**bad)
    with pytest.raises(UsageError, match="back_projections must be 0 or more"):
        SsDiffOptions(back_projections=-1)
