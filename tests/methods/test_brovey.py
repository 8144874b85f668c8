"""Claims about the Brovey transform."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geofuse.errors import InputError, UsageError
from geofuse.methods.injection import to_fine


def test_it_keeps_the_angle_of_the_interpolated_spectrum(scenes):
    model, tile = scenes.observe(scenes.landscape(), 1)
    fused, up = scenes.fuse("brovey", model, tile), to_fine(torch.as_tensor(tile.hsi), 4).numpy()
    cosine = (fused * up).sum(0) / np.sqrt((fused**2).sum(0) * (up**2).sum(0))
    assert cosine.min() > 1 - 1e-6


def test_the_fused_intensity_is_the_panchromatic_band(scenes):
    model, tile = scenes.observe(scenes.landscape(), 1)
    fused = scenes.fuse("brovey", model, tile)
    intensity = np.tensordot(model.response[0], fused, 1)
    scale = (tile.msi[0] / intensity).mean()
    assert np.allclose(scale * intensity, tile.msi[0], rtol=1e-4) and abs(scale - 1) < 0.01


def test_more_than_one_band_is_refused(scenes):
    with pytest.raises(UsageError, match="one panchromatic band, and the MSI has 3 bands; use gsa"):
        scenes.fuse("brovey", *scenes.observe(scenes.landscape(), 3))


def test_a_panchromatic_band_of_another_sign_is_refused(scenes):
    model, tile = scenes.observe(scenes.landscape(), 1)
    with pytest.raises(InputError, match="nowhere positive"):
        scenes.fuse("brovey", model, replace(tile, msi=-tile.msi))


def test_dark_pixels_stay_as_they_are(scenes):
    model, tile = scenes.observe(scenes.landscape(), 1)
    tile.hsi[:, 10, 10] = -0.5
    fused = scenes.fuse("brovey", model, tile)
    up = to_fine(torch.as_tensor(tile.hsi), 4).numpy()
    assert np.isfinite(fused).all() and np.array_equal(fused[:, 41:43, 41:43], up[:, 41:43, 41:43])
