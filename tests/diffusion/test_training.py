"""Training by eq. (1) and (2)."""

import torch
from torch import nn

from geofuse.diffusion.options import PaperOptions
from geofuse.diffusion.schedule import exponential_schedule
from geofuse.diffusion.training import denoising_loss, train, train_spatial_network, train_spectral_network
from geofuse.diffusion.training_data import SpatialSampler, SpectralSampler

TINY = PaperOptions(
    d=2, spectral_steps=300, train_steps=40, batch=4, patch=16, learning_rate=2e-3, base_channels=8, multipliers=(1, 2)
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Recorder(nn.Module):
    """Estimates zero noise and keeps what it was shown."""

    def forward(self, x_t, t):
        self.x_t, self.t = x_t, t
        return torch.zeros_like(x_t)


def test_the_loss_is_the_mean_squared_noise_error_at_levels_one_to_T():
    network, alpha_bar = Recorder(), exponential_schedule(50)
    x_0 = torch.rand(4000, 3, generator=seeded()) * 2 - 1
    loss = denoising_loss(network, x_0, alpha_bar, seeded(1))
    level = alpha_bar[network.t][:, None]
    noise = (network.x_t - level.sqrt() * x_0) / (1 - level).sqrt()
    torch.testing.assert_close(loss.double(), (noise**2).mean(), rtol=1e-4, atol=1e-4)
    assert set(network.t.tolist()) == set(range(1, 51))
    assert abs(float(noise.mean())) < 0.05 and abs(float(noise.std()) - 1) < 0.05


def test_values_of_weight_zero_do_not_count():
    x_0, weight = torch.zeros(8, 2, 4, 4), torch.zeros(8, 1, 4, 4)
    weight[..., 1:3, 1:3] = 1
    network = Recorder()
    loss = denoising_loss(network, x_0, exponential_schedule(10), seeded(), weight)
    noise = network.x_t / (1 - exponential_schedule(10)[network.t]).sqrt()[:, None, None, None]
    torch.testing.assert_close(loss.double(), (noise[..., 1:3, 1:3] ** 2).mean(), rtol=1e-5, atol=1e-5)
    assert float(denoising_loss(network, x_0, exponential_schedule(10), seeded(), 0 * weight)) == 0


def spectra():
    t = torch.rand(64, 1, generator=seeded())
    return SpectralSampler([(t * torch.linspace(0, 1, 8) + (1 - t) * 0.3).T.reshape(8, 8, 8)])


def patches():
    ramp = torch.linspace(0, 1, 24)
    return SpatialSampler([torch.stack([ramp[:, None].expand(24, 24), ramp[None].expand(24, 24)])], d=2, patch=16, stride=4)


def test_training_lowers_the_loss_of_both_networks_well_below_that_of_a_blind_guess():
    alpha_bar = exponential_schedule()
    spectral = train_spectral_network(spectra(), TINY, seeded())
    spatial = train_spatial_network(patches(), TINY, seeded())
    assert float(denoising_loss(spectral, spectra().draw(2000, seeded(2)), alpha_bar, seeded(3))) < 0.6
    assert float(denoising_loss(spatial, patches().draw(32, seeded(2))[0], alpha_bar, seeded(3))) < 0.7


def test_training_is_a_function_of_the_generator():
    options = PaperOptions(d=2, spectral_steps=5, train_steps=2, batch=2, patch=16, base_channels=8, multipliers=(1, 2))
    for learn, sampler in [(train_spectral_network, spectra()), (train_spatial_network, patches())]:
        torch.manual_seed(1)
        first = learn(sampler, options, seeded(7)).state_dict()
        torch.manual_seed(2)
        second = learn(sampler, options, seeded(7)).state_dict()
        other = learn(sampler, options, seeded(8)).state_dict()
        assert all(torch.equal(first[k], second[k]) for k in first)
        assert any(not torch.equal(first[k], other[k]) for k in first)


def test_training_reports_each_step_and_leaves_the_network_frozen():
    network, seen = nn.Linear(1, 1), []
    train(network, lambda: network(torch.ones(1, 1)).square().sum(), 3, 0.1, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    stages = []
    train_spectral_network(spectra(), PaperOptions(spectral_steps=2), seeded(), lambda *r: stages.append(r))
    assert stages == [("train spectral network", 1, 2), ("train spectral network", 2, 2)]
