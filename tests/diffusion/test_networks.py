"""The two denoisers: the paper's sizes, shapes, and weights from a generator."""

import pytest
import torch

from geofuse.diffusion.initialisation import build
from geofuse.diffusion.options import PaperOptions
from geofuse.diffusion.spatial_network import SpatialNetwork
from geofuse.diffusion.spectral_network import SpectralNetwork, hidden_widths, time_width


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_networks_have_the_papers_numbers_of_parameters_within_5_percent():
    options = PaperOptions()
    with torch.device("meta"):
        spatial = count(SpatialNetwork(options.d, options.base_channels, options.multipliers))
        spectral = count(SpectralNetwork(103, options.hidden, options.timesteps))
    assert spatial == pytest.approx(21.46e6, rel=0.05)
    assert spatial == pytest.approx(20.7e6, rel=0.005)
    assert spectral == pytest.approx(0.39e6, rel=0.05)
    assert spatial + spectral == pytest.approx(21.85e6, rel=0.05)


@pytest.mark.parametrize(("bands", "widths"), [(48, (128, 256, 128)), (103, (256, 512, 256)), (176, (400, 800, 400))])
def test_hidden_widths_meet_the_published_sizes(bands, widths):
    assert hidden_widths(bands) == widths


def test_widths_grow_with_the_bands():
    widths = [hidden_widths(bands)[0] for bands in range(1, 430)]
    assert widths == sorted(widths) and all(w % 16 == 0 for w in widths)
    assert [time_width(bands) for bands in (48, 103, 176, 4)] == [30, 60, 100, 10]


@pytest.mark.parametrize("size", [(16, 16), (13, 21), (5, 9), (2, 3)])
def test_the_spatial_network_takes_any_size(size):
    network = build(lambda: SpatialNetwork(3, 8, (1, 2, 3, 4)), seeded())
    x = torch.randn(2, 3, *size, generator=seeded())
    assert network(x, torch.tensor([1, 1000])).shape == x.shape


def test_a_size_that_needs_no_extension_is_extended_by_nothing():
    network = awake(build(lambda: SpatialNetwork(2, 8, (1, 2)), seeded()))
    x, t = torch.randn(1, 2, 9, 8, generator=seeded()), torch.tensor([7])
    by_hand = torch.cat((x, x[:, :, 7:8]), dim=2)
    torch.testing.assert_close(network(x, t), network(by_hand, t)[:, :, :9])


def test_networks_start_from_the_generator_and_leave_torchs_global_state_alone():
    before = torch.get_rng_state()
    first = build(lambda: SpatialNetwork(2, 8, (1, 2)), seeded(3)).state_dict()
    again = build(lambda: SpatialNetwork(2, 8, (1, 2)), seeded(3)).state_dict()
    other = build(lambda: SpatialNetwork(2, 8, (1, 2)), seeded(4)).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["first.weight"], other["first.weight"])
    assert all(bool(v.isfinite().all()) for v in first.values())


def test_the_spatial_network_starts_with_an_estimate_of_zero():
    network = build(lambda: SpatialNetwork(2, 8, (1, 2)), seeded())
    assert network(torch.ones(1, 2, 8, 8), torch.tensor([5])).abs().max() == 0


def awake(network):
    """Give the layers that start at zero some weights."""
    generator = seeded(9)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


def test_the_noise_level_matters_to_both_networks():
    spatial = awake(build(lambda: SpatialNetwork(2, 8, (1, 2)), seeded()))
    spectral = build(lambda: SpectralNetwork(6), seeded())
    for network, x in [(spatial, torch.ones(1, 2, 8, 8)), (spectral, torch.ones(1, 6))]:
        assert not torch.allclose(network(x, torch.tensor([1])), network(x, torch.tensor([1000])))


def test_each_sample_is_treated_by_itself():
    spatial = awake(build(lambda: SpatialNetwork(2, 8, (1, 2)), seeded()))
    spectral = build(lambda: SpectralNetwork(6), seeded())
    t = torch.tensor([3, 900, 40])
    for network, shape in [(spatial, (3, 2, 8, 8)), (spectral, (3, 6))]:
        x = torch.randn(shape, generator=seeded())
        one_by_one = torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(network(x, t), one_by_one)
