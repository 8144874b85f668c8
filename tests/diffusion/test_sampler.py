"""Algorithm 1 against an independent restatement, and on a small scene end to end."""

import numpy as np
import pytest
import torch
from torch import nn

from geofuse.degradation import SpatialOperator
from geofuse.diffusion.guidance import Observation
from geofuse.diffusion.options import PaperOptions
from geofuse.diffusion.sampler import Component, reverse_diffusion
from geofuse.diffusion.schedule import exponential_schedule, sampling_times
from geofuse.sensors.psf import Psf

D, C, B, H, W, RATIO = 2, 4, 2, 8, 8, 2
F64 = torch.float64


class Denoiser(nn.Module):
    """A fixed smooth function of sample and level, in place of a trained network."""

    def __init__(self, seed, size):
        super().__init__()
        self.mix = 0.3 * torch.randn(size, size, dtype=F64, generator=torch.Generator().manual_seed(seed))

    def forward(self, x, t):
        scale = (t.to(F64) / 1000).reshape(-1, *[1] * (x.ndim - 1))
        return torch.tanh(torch.einsum("ij,nj...->ni...", self.mix, x) + scale) + 0.8 * scale * x


def setting():
    generator = torch.Generator().manual_seed(0)
    a_t, e_t = torch.randn(D, H, W, dtype=F64, generator=generator), torch.randn(D, C, dtype=F64, generator=generator)
    hsi, msi = (
        torch.rand(C, H // RATIO, W // RATIO, dtype=F64, generator=generator),
        torch.rand(B, H, W, dtype=F64, generator=generator),
    )
    response = torch.rand(B, C, dtype=F64, generator=generator)
    return a_t, e_t, hsi, msi, response, Denoiser(1, D), Denoiser(2, C)


def restated(times, rho, r, lambda1, lambda2, argm):
    """Algorithm 1 in one function: Z formed whole, torch's own Adam for (13)-(15)."""
    a, e, hsi, msi, response, s, c = setting()
    ((v, u),) = SpatialOperator(Psf("box"), RATIO, H, W).axis_matrices()
    v, u = torch.as_tensor(v), torch.as_tensor(u)
    alpha = torch.as_tensor(1e-3 + (1 - 1e-3) * (1 - np.exp(-10 * (1 - np.arange(1001) / 1000))) / (1 - np.exp(-10)))

    def loss(a, e, weight):
        z = torch.einsum("dhw,dc->chw", (a + 1) / 2, (e + 1) / 2)
        return (v @ z @ u.T - hsi).norm() + weight * (torch.einsum("bc,chw->bhw", response, z) - msi).norm()

    a, e = nn.Parameter(a), nn.Parameter(e)
    optimiser = torch.optim.Adam([a, e], lr=rho)
    for t, following in zip(times[:-1], times[1:], strict=True):
        now, then, level = alpha[t], alpha[following], torch.tensor([t])
        a_0 = ((a - (1 - now).sqrt() * s(a[None], level)[0]) / now.sqrt()).clamp(-1, 1)
        e_0 = ((e - (1 - now).sqrt() * c(e, level.expand(D))) / now.sqrt()).clamp(-1, 1)
        if following == 0:
            return (a_0.detach() + 1) / 2, (e_0.detach() + 1) / 2
        optimiser.zero_grad()
        loss(a_0, e_0, lambda1).backward()
        with torch.no_grad():
            a.copy_(then.sqrt() * a_0 + (1 - then).sqrt() * (a - now.sqrt() * a_0) / (1 - now).sqrt())
            e.copy_(then.sqrt() * e_0 + (1 - then).sqrt() * (e - now.sqrt() * e_0) / (1 - now).sqrt())
        optimiser.step()
        if argm:
            gradients = torch.autograd.grad(loss(a, e, lambda2), [a, e])
            with torch.no_grad():
                a -= rho / r * gradients[0]
                e -= rho / r * gradients[1]


def run(times, options, *, moving=("A", "E"), report=lambda *_: None):
    a_t, e_t, hsi, msi, response, s, c = setting()
    observation = Observation.of(hsi, msi, SpatialOperator(Psf("box"), RATIO, H, W), response)
    spatial = Component(s if "A" in moving else None, a_t, as_batch=True)
    spectral = Component(c if "E" in moving else None, e_t, as_batch=False)
    return reverse_diffusion(spatial, spectral, observation, exponential_schedule(), times, options, report)


@pytest.mark.parametrize("argm", [True, False])
@pytest.mark.parametrize("start", [None, 300])
def test_every_step_agrees_with_a_restatement_of_algorithm_1(argm, start):
    options = PaperOptions(d=D, rho=0.04, r=3.0, lambda1=0.6, lambda2=1.7, argm=argm)
    times = sampling_times(1000, 12, start)
    found, (a_0, e_0) = run(times, options), restated(times, 0.04, 3.0, 0.6, 1.7, argm)
    torch.testing.assert_close(found.spatial, a_0, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found.spectral, e_0, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found.image(), torch.einsum("dhw,dc->chw", a_0, e_0), rtol=1e-6, atol=1e-8)


def test_a_single_step_is_the_clamped_clean_estimate():
    found = run([1000, 0], PaperOptions(d=D))
    assert found.hsi_residual.shape == (1,)
    assert bool(((found.spatial >= 0) & (found.spatial <= 1)).all())
    torch.testing.assert_close(found.spatial, restated([1000, 0], 0.05, 10, 1, 1, True)[0])


def test_a_component_without_a_network_stays_as_it_was():
    a_t, e_t = setting()[:2]
    times = sampling_times(1000, 6)
    torch.testing.assert_close(run(times, PaperOptions(d=D), moving="A").spectral, (e_t + 1) / 2)
    torch.testing.assert_close(run(times, PaperOptions(d=D), moving="E").spatial, (a_t + 1) / 2)
    both = run(times, PaperOptions(d=D))
    assert not torch.allclose(both.spatial, (a_t + 1) / 2) and not torch.allclose(both.spectral, (e_t + 1) / 2)


def test_progress_and_residuals_are_reported_for_each_step():
    seen = []
    found = run(sampling_times(1000, 4), PaperOptions(d=D), report=lambda *r: seen.append(r))
    assert seen == [("reverse diffusion", done, 4) for done in (1, 2, 3, 4)]
    assert found.hsi_residual.shape == found.msi_residual.shape == (4,)


def test_nothing_random_happens_during_sampling():
    torch.manual_seed(0)
    first, state = run(sampling_times(1000, 5), PaperOptions(d=D)), torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(first.spatial, run(sampling_times(1000, 5), PaperOptions(d=D)).spatial)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)
