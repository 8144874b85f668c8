"""The paper's settings, and what is refused."""

import pytest

from geofuse.diffusion.options import PaperOptions
from geofuse.errors import UsageError


def test_the_defaults_are_the_papers():
    o = PaperOptions()
    assert (o.d, o.timesteps, o.sampling_steps, o.train_steps, o.batch, o.patch, o.patch_stride) == (
        8,
        1000,
        500,
        30_000,
        16,
        128,
        32,
    )
    assert (o.rho, o.r, o.lambda1, o.lambda2, o.learning_rate, o.argm, o.update) == (0.05, 10, 1, 1, 1e-4, True, "both")
    assert (o.base_channels, o.multipliers) == (64, (1, 2, 3, 4))


@pytest.mark.parametrize(
    "wrong",
    [{"d": 0}, {"rho": -1}, {"update": "a"}, {"sampling_steps": 2000}, {"multipliers": ()}, {"hidden": (4, 0)}, {"lambda1": -1}],
)
def test_impossible_settings_are_refused_by_name(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        PaperOptions(**wrong)
