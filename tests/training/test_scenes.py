"""Patches: cut alike from all images, only where nothing is missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geofuse.errors import InputError
from geofuse.training import PatchSampler, Scales, TrainingScene


def scene(height=12, width=10, ratio=4, hole=None):
    """A scene whose fine values tell their own position: reference = row + column / 1000, the HSI the block's first value."""
    rows, cols = np.mgrid[: height * ratio, : width * ratio]
    fine = (rows + cols / 1000.0).astype(np.float32)[None]
    msi = fine.copy()
    if hole:
        msi[0, hole[0], hole[1]] = np.nan
    return TrainingScene("s", fine[:, ::ratio, ::ratio].copy(), msi, fine)


def test_all_images_of_a_patch_show_the_same_place_turned_alike():
    sampler = PatchSampler([scene()], patch=16)
    batch = sampler.sample(32, torch.Generator().manual_seed(0))
    assert batch.hsi.shape == (32, 1, 4, 4)
    assert batch.msi.shape == batch.reference.shape == (32, 1, 16, 16)
    assert torch.equal(batch.msi, batch.reference)
    blocks = batch.reference.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    assert torch.equal(blocks.amin(dim=-1), batch.hsi)  # a block's first value is its least, however it is turned
    assert len({float(patch.min()) for patch in batch.reference}) > 8  # of many places


def test_no_patch_touches_a_hole():
    sampler = PatchSampler([scene(hole=(21, 13))], patch=16)
    batch = sampler.sample(200, torch.Generator().manual_seed(0))
    assert torch.isfinite(batch.msi).all()


def test_noise_has_the_power_asked_for():
    sampler = PatchSampler([scene(40, 40)], patch=64, snr_db=20.0)
    batch = sampler.sample(8, torch.Generator().manual_seed(0))
    noise = (batch.msi - batch.reference).square().mean()
    assert float(10 * torch.log10(batch.reference.square().mean() / noise)) == pytest.approx(20.0, abs=0.5)


def test_a_scene_full_of_holes_is_refused():
    bad = scene()
    bad.msi[:] = np.nan
    with pytest.raises(InputError, match="lower --patch"):
        PatchSampler([bad], patch=16)


def test_scales_are_percentiles_and_need_data():
    values = np.linspace(0, 1000, 1001, dtype=np.float32).reshape(1, 7, 143)
    assert Scales.of([values], [values / 10]).hsi == pytest.approx(999.0, abs=1e-3)
    with pytest.raises(InputError, match="no values above zero"):
        Scales.of([values], [np.full((1, 4, 4), np.nan)])
