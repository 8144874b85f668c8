"""Adam on a one-cycle schedule against torch's own two classes."""

import pytest
import torch
from torch import nn

from geofuse.diffusion.optimiser import OneCycleAdam


@pytest.mark.parametrize("steps", [20, 75, 300])
def test_every_step_is_that_of_torch(steps):
    torch.manual_seed(0)
    target, start = torch.randn(4, 5), torch.randn(4, 5)
    one, other = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    reference, ours = torch.optim.Adam([one], betas=(0.9, 0.99)), OneCycleAdam([other], 1e-2, steps)
    cycle = torch.optim.lr_scheduler.OneCycleLR(reference, 1e-2, total_steps=steps, pct_start=0.1, final_div_factor=100)
    for step in range(steps):
        group = reference.param_groups[0]
        assert ours.schedule(step) == pytest.approx((group["lr"], group["betas"][0]), rel=1e-6)
        reference.zero_grad()
        (one - target).pow(2).sum().backward()
        (other - target).pow(2).sum().backward()
        reference.step()
        ours.step()
        assert torch.allclose(one, other, atol=1e-5)
        if step + 1 < steps:
            cycle.step()


@pytest.mark.parametrize("steps", [1, 2, 10, 11])
def test_no_number_of_steps_divides_by_zero(steps):
    parameter = nn.Parameter(torch.ones(3))
    ours = OneCycleAdam([parameter], 1e-2, steps)
    for _ in range(steps):
        parameter.square().sum().backward()
        ours.step()
    assert parameter.isfinite().all() and (parameter < 1).all() and parameter.grad is None
