"""The generic network: any MSI, what its shipped weights are worth on scenes it has not seen, and how they were made."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from geofuse.diffusion import generic_network, pretrain
from geofuse.diffusion.generated_scenes import LATENTS, fractal, generate, observe
from geofuse.diffusion.generic_network import MOST_COMPONENTS, GenericNetwork, load_generic_network
from geofuse.diffusion.texture_network import TextureNetwork


def noisy(seed, bands=None, size=64):
    """A scene that no training with seeds of one number has drawn: clean components, with noise, spreads."""
    rng = np.random.default_rng([seed, 7, 7])
    clean, spread = (torch.from_numpy(a)[None] for a in observe(rng, generate(rng, size), bands))
    return clean, clean + torch.from_numpy(rng.standard_normal(clean.shape).astype(np.float32)), spread


def awake(network):
    """Give the last layer weights, so that an input matters."""
    torch.nn.init.normal_(network.last.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    return network.eval()


@pytest.mark.parametrize("bands", range(1, 9))
def test_one_network_serves_any_number_of_bands(bands):
    _, state, spread = noisy(bands, bands, size=32)
    with torch.no_grad():
        estimate = load_generic_network()(state, torch.ones(1), spread)
    assert estimate.shape == state.shape and bool(torch.isfinite(estimate).all())


def test_missing_components_have_no_say_and_those_beyond_the_eighth_stay_as_they_are():
    network, state = awake(GenericNetwork(16, 2)), torch.randn(1, 11, 16, 16, generator=torch.Generator().manual_seed(1))
    spread = torch.full((1, 11), 5.0)
    with torch.no_grad():
        all_eleven = network(state, torch.ones(1), spread)
        eight = network(state[:, :8], torch.ones(1), spread[:, :8])
    assert torch.equal(all_eleven[:, :8], eight) and torch.equal(all_eleven[:, 8:], state[:, 8:])
    assert not torch.equal(eight, state[:, :8])


def test_what_is_taken_for_noise_scales_with_the_level():
    network, state = awake(GenericNetwork(16, 2)), torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(network(state, torch.full((1,), 1e-6), torch.ones(1, 3)), state, atol=1e-4)


@pytest.mark.parametrize("size", [(16, 17), (15, 16), (9, 11)])
def test_odd_sizes_are_framed(size):
    network, state = awake(GenericNetwork(16, 2)), torch.randn(1, 2, *size)
    assert network(state, torch.ones(1), torch.ones(1, 2)).shape == state.shape


def test_an_input_matters_as_far_as_its_reach_says_and_no_further():
    network, state = awake(GenericNetwork(8, 2)), torch.zeros(1, 1, 96, 96)
    moved = state.clone()
    moved[..., 48, 48] = 1.0
    with torch.no_grad():
        change = (network(moved, torch.ones(1), torch.ones(1, 1)) - network(state, torch.ones(1), torch.ones(1, 1)))[0, 0]
    rows = torch.nonzero(change.abs().sum(dim=1))
    assert int((rows - 48).abs().max()) <= network.reach


def test_the_shipped_weights_take_noise_off_scenes_they_were_not_taught_on():
    network, before, after = load_generic_network(), 0.0, 0.0
    for seed in range(6):
        clean, state, spread = noisy(seed)
        with torch.no_grad():
            estimate = network(state, torch.ones(1), spread)
        before, after = before + float(((state - clean) ** 2).mean()), after + float(((estimate - clean) ** 2).mean())
    assert after < 0.65 * before


def test_the_scenes_own_network_starts_from_the_generic_estimate():
    _, state, spread = noisy(3)
    generic = load_generic_network()
    network = TextureNetwork(spread[0], 8, 2, generic)
    with torch.no_grad():
        assert torch.equal(network(state, torch.ones(1)), generic(state, torch.ones(1), spread.clamp(min=1.0)))
    assert not any(p.requires_grad for p in network.generic.parameters())


def test_the_shipped_file_says_how_it_was_made_and_is_small():
    from importlib.resources import as_file, files

    with as_file(files("geofuse.diffusion").joinpath(generic_network.WEIGHTS)) as path, safe_open(path, "pt") as opened:
        note = json.loads(opened.metadata()[generic_network.ENTRY])
        assert path.stat().st_size < 2 * 10**6
    assert note["schema"] == generic_network.SCHEMA and note["licence"] == "Apache-2.0"
    assert note["command"].startswith("python -m geofuse.diffusion.pretrain") and "--seed" in note["command"]


def test_teaching_lowers_the_error_and_the_same_seed_writes_the_same_bytes(tmp_path, capsys):
    sizes = ["--scenes", "2", "--width", "16", "--depth", "2", "--learning-rate", "5e-2"]
    for name in ("one", "two"):
        pretrain.main([str(tmp_path / name), *sizes, "--steps", "15", "--seed", "3"])
    pretrain.main([str(tmp_path / "other"), *sizes, "--steps", "1", "--seed", "4"])
    one, two, other = (load_file(tmp_path / name) for name in ("one", "two", "other"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.allclose(one["first.weight"], other["first.weight"], atol=0.05)
    network = GenericNetwork(16, 2)
    network.load_state_dict({name: value.float() for name, value in one.items()})
    batch = pretrain.Batches(2, 3).draw()
    with torch.no_grad():
        assert pretrain.batch_loss(network, *batch) < pretrain.batch_loss(GenericNetwork(16, 2), *batch)


def test_generated_components_are_uncorrelated_sorted_and_as_strong_as_said():
    rng = np.random.default_rng(5)
    scene = generate(rng, 64)
    components, spread = observe(rng, scene, MOST_COMPONENTS)
    covariance = np.cov(components.reshape(MOST_COMPONENTS, -1).astype(float), bias=True)
    assert scene.shape == (LATENTS, 64, 64)
    assert np.allclose(np.diag(covariance) + 1, spread.astype(float) ** 2, rtol=1e-2)
    assert (np.diff(spread) <= 0).all()
    correlation = covariance - np.diag(np.diag(covariance))
    assert np.abs(correlation).max() < 1e-2 * covariance.max()


def test_fractal_noise_has_the_slope_it_was_asked_for():
    field = fractal(np.random.default_rng(0), 256, 2.0)
    power = np.abs(np.fft.rfft2(field)) ** 2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    low, high = (power[(frequency > f) & (frequency < 1.2 * f)].mean() for f in (0.05, 0.2))
    assert np.log(low / high) / np.log(4) == pytest.approx(2.0, abs=0.2)
