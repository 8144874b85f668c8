"""How much of the MSI's texture lies inside coarse pixels, found beneath its noise."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from geofuse.degradation.spatial import SpatialOperator
from geofuse.methods.local_regression import CoarseMsi, texture_gain
from geofuse.sensors.psf import Psf


def gain(width, noise=0.0, side=128):
    rng = np.random.default_rng(0)
    image = np.stack([ndimage.gaussian_filter(rng.normal(size=(side, side)), width) for _ in range(3)])
    image = 3.0 * image / image.std() + noise * rng.normal(size=image.shape)
    spatial = SpatialOperator(Psf.parse("box"), 4, side, side)
    msi = CoarseMsi.of(torch.as_tensor(image, dtype=torch.float32), spatial)
    return texture_gain([(msi, torch.ones(spatial.coarse_shape))], torch.full((3,), noise or 1e-3))


def test_it_is_larger_for_finer_texture():
    assert gain(1.0) > 2 * gain(2.0) > 4 * gain(4.0)


def test_noise_does_not_count_as_texture():
    assert gain(1.5, noise=1.0) == pytest.approx(gain(1.5), rel=0.2)


def test_a_window_without_weight_says_nothing():
    msi = CoarseMsi.of(torch.randn(2, 16, 16), SpatialOperator(Psf.parse("box"), 4, 16, 16))
    assert texture_gain([(msi, torch.zeros(4, 4))], torch.ones(2)) == 1.0
