"""Adam and Muon on a one-cycle schedule against torch's own classes."""

import pytest
import torch
from torch import nn

from geofuse.diffusion.optimiser import OneCycleAdam, orthogonal


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


def test_inner_kernels_move_as_by_muon_of_torch():
    torch.manual_seed(0)
    start, target = torch.randn(8, 24), torch.randn(8, 24)
    one, other = nn.Parameter(start.clone()), nn.Parameter(start.view(8, 6, 2, 2).clone())
    ours = OneCycleAdam([], 1e-2, 40, [other])
    reference = torch.optim.Muon([one], weight_decay=0.0)
    for step in range(40):
        rate, memory = ours.schedule(step)
        reference.param_groups[0].update(lr=2 * rate, momentum=memory)
        reference.zero_grad()
        (one - target).pow(2).sum().backward()
        (other - target.view_as(other)).pow(2).sum().backward()
        reference.step()
        ours.step()
    assert other.grad is None
    moved = (one - start).norm()
    assert moved > 1.0
    assert (one.view_as(other) - other).norm() < 0.02 * moved  # torch iterates in bfloat16


def test_orthogonal_keeps_singular_vectors():
    torch.manual_seed(0)
    kernel = torch.randn(6, 3, 2, 2)
    left, _, right = torch.linalg.svd(kernel.flatten(1), full_matrices=False)
    inside = left.T @ orthogonal(kernel).flatten(1) @ right.T
    assert ((inside.diagonal() > 0.6) & (inside.diagonal() < 1.3)).all()
    assert (inside - inside.diagonal().diag()).abs().max() < 1e-4
