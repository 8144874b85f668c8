"""The noise schedule and equations (1)-(4), (11), (12)."""

import math

import numpy as np
import pytest
import torch

from geofuse.diffusion.schedule import add_noise, clean_of, ddim_step, exponential_schedule, noise_of, sampling_times
from geofuse.errors import UsageError


def test_the_schedule_falls_from_one_to_a_thousandth():
    alpha_bar = exponential_schedule()
    assert alpha_bar.shape == (1001,) and alpha_bar.dtype == torch.float64
    assert alpha_bar[0] == 1.0
    assert float(alpha_bar[-1]) == pytest.approx(1e-3, rel=1e-12)
    assert bool((alpha_bar.diff() < 0).all())


def test_the_schedule_is_the_rescaled_reversed_exponential():
    curve = np.flip(1 - np.exp(-10 * np.arange(1001) / 1000))
    expected = 1e-3 + (1 - 1e-3) * (curve - curve.min()) / (curve.max() - curve.min())
    np.testing.assert_allclose(exponential_schedule().numpy(), expected, rtol=1e-10)
    assert float(exponential_schedule()[500]) == pytest.approx(0.993, abs=1e-3)


def test_the_papers_500_steps_are_every_second_level():
    assert sampling_times(1000, 500) == list(range(1000, -1, -2))


@pytest.mark.parametrize(("steps", "start"), [(7, None), (10, 400), (400, 400), (1, 1), (50, 20)])
def test_sampling_times_fall_strictly_from_the_start_to_zero(steps, start):
    times = sampling_times(1000, steps, start)
    assert times[0] == (start or 1000) and times[-1] == 0
    assert all(a > b for a, b in zip(times, times[1:], strict=False))
    assert len(times) == min(steps, times[0]) + 1


def test_impossible_sampling_is_refused():
    for arguments in [(1000, 0), (1000, 5, 1001), (1000, 5, 0)]:
        with pytest.raises(UsageError):
            sampling_times(*arguments)


def test_clean_and_noise_estimates_undo_the_noising():
    generator = torch.Generator().manual_seed(0)
    x_0, noise = (torch.randn(3, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    for level in exponential_schedule()[[1, 10, 500, 999, 1000]].tolist():
        x_t = add_noise(x_0, noise, level)
        torch.testing.assert_close(x_t, math.sqrt(level) * x_0 + math.sqrt(1 - level) * noise)  # (1)
        torch.testing.assert_close(noise_of(x_t, x_0, level), noise, rtol=1e-6, atol=1e-6)  # (2)
        torch.testing.assert_close(clean_of(x_t, noise, level), x_0)  # (11)
        torch.testing.assert_close(ddim_step(x_0, noise, level), x_t)  # (4), (12)


def test_noising_keeps_float32_with_levels_of_float64_for_each_sample():
    x_0, noise = torch.ones(2, 3), torch.full((2, 3), 2.0)
    level = torch.tensor([[1.0], [0.25]], dtype=torch.float64)
    x_t = add_noise(x_0, noise, level)
    assert x_t.dtype == torch.float32
    torch.testing.assert_close(x_t, torch.tensor([[1.0] * 3, [0.5 + 2 * math.sqrt(0.75)] * 3]))


def test_a_ddim_step_with_the_true_noise_lands_on_the_forward_path():
    generator = torch.Generator().manual_seed(1)
    x_0, noise = (torch.randn(4, dtype=torch.float64, generator=generator) for _ in range(2))
    levels = exponential_schedule().tolist()
    estimate = clean_of(add_noise(x_0, noise, levels[800]), noise, levels[800])
    torch.testing.assert_close(ddim_step(estimate, noise, levels[798]), add_noise(x_0, noise, levels[798]))
