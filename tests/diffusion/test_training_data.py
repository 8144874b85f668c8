"""The self-learning samplers and the range of values."""

import pytest
import torch

from geofuse.diffusion.training_data import SpatialSampler, SpectralSampler, ValueRange, crop_origins
from geofuse.errors import InputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def image(bands, height, width, seed=0):
    return torch.rand(bands, height, width, generator=seeded(seed))


def test_the_value_range_keeps_both_degradations_true_even_if_response_rows_do_not_sum_to_one():
    z, response = 40 * image(5, 4, 4) - 7, torch.rand(2, 5, generator=seeded(1))
    msi = torch.einsum("bc,chw->bhw", response, z)
    values = ValueRange.of([z])
    unit = values.hsi_to_unit(z)
    assert float(unit.min()) == pytest.approx(0, abs=1e-6) and float(unit.max()) == pytest.approx(1)
    torch.testing.assert_close(values.msi_to_unit(msi, response), torch.einsum("bc,chw->bhw", response, unit))
    torch.testing.assert_close(values.from_unit(unit), z)


def test_the_value_range_spans_all_images_and_ignores_no_data():
    nan = torch.tensor(float("nan"))
    assert ValueRange.of([torch.stack([nan, torch.tensor(3.0)]), torch.tensor([-1.0]), nan[None]]) == ValueRange(-1.0, 3.0)
    assert ValueRange.of([torch.ones(3)]) == ValueRange(1.0, 2.0)
    with pytest.raises(InputError, match="no data"):
        ValueRange.of([nan[None]])


def test_spectra_are_real_complete_spectra_in_minus_one_to_one():
    hsi = image(5, 4, 4)
    hsi[2, 0, 0] = hsi[:, 3, 3] = float("nan")
    drawn = 0.5 * (SpectralSampler([hsi, image(5, 2, 3, seed=1)]).draw(200, seeded()) + 1)
    real = torch.cat([hsi.flatten(1).T, image(5, 2, 3, seed=1).flatten(1).T])
    distance = (drawn[:, None] - real.nan_to_num(nan=9.0)).abs().amax(dim=-1)
    assert float(distance.min(dim=1).values.max()) < 1e-5
    assert len(distance.argmin(dim=1).unique()) == 4 * 4 - 2 + 2 * 3
    with pytest.raises(InputError, match="every band"):
        SpectralSampler([torch.full((5, 2, 2), float("nan"))])


def test_patches_are_stacks_of_real_bands_of_one_place():
    msi = image(3, 40, 48)
    sampler = SpatialSampler([msi], d=4, patch=16, stride=8)
    patches, weight = sampler.draw(30, seeded())
    assert patches.shape == (30, 4, 16, 16) and weight.shape == (30, 1, 16, 16) and bool((weight == 1).all())
    windows = torch.stack([msi[:, r : r + 16, c : c + 16] for _, r, c in sampler.origins]).flatten(2)
    repeats = set()
    for stack in (0.5 * (patches + 1)).flatten(2):
        distance = (windows[:, None] - stack[None, :, None]).abs().amax(dim=-1)  # (place, d, band)
        place = int(distance.amin(dim=2).amax(dim=1).argmin())
        assert float(distance[place].amin(dim=1).max()) < 1e-6
        repeats.add(tuple(distance[place].argmin(dim=1).tolist()))
    assert len(repeats) > 10 and any(len(set(bands)) < 4 for bands in repeats)


def test_crops_start_every_stride_and_reach_the_far_border():
    assert crop_origins(256, 128, 32) == [0, 32, 64, 96, 128]
    assert crop_origins(150, 128, 32) == [0, 22]
    assert crop_origins(128, 128, 32) == [0]


@pytest.mark.parametrize(("size", "patch"), [((100, 100), 96), ((100, 300), 96), ((200, 128), 128), ((5, 40), 5)])
def test_patches_shrink_to_what_a_small_scene_holds(size, patch):
    assert SpatialSampler([image(2, *size)], d=2).patch == patch


def test_patches_without_holes_are_preferred():
    msi = image(2, 64, 64)
    msi[:, :10, :10] = float("nan")
    sampler = SpatialSampler([msi], d=2, patch=32, stride=32)
    assert sampler.origins == [(0, 0, 32), (0, 32, 0), (0, 32, 32)]


def test_holes_that_cannot_be_avoided_are_filled_and_weigh_nothing():
    msi = image(2, 16, 16)
    msi[1, 3:6, 4:9] = float("nan")
    patches, weight = SpatialSampler([msi], d=3, patch=16).draw(4, seeded())
    assert bool(patches.isfinite().all())
    assert bool((weight[:, :, 3:6, 4:9] == 0).all()) and float(weight.sum()) == 4 * (16 * 16 - 15)
    with pytest.raises(InputError, match="every band"):
        SpatialSampler([torch.full((2, 8, 8), float("nan"))], d=2)


def test_draws_depend_on_the_generator_alone():
    spectra, patches = SpectralSampler([image(5, 4, 4)]), SpatialSampler([image(3, 24, 24)], d=2, patch=8, stride=4)
    assert torch.equal(spectra.draw(9, seeded(5)), spectra.draw(9, seeded(5)))
    assert torch.equal(patches.draw(9, seeded(5))[0], patches.draw(9, seeded(5))[0])
    assert not torch.equal(patches.draw(9, seeded(5))[0], patches.draw(9, seeded(6))[0])
