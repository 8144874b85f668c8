"""Claims about smoothing filter-based intensity modulation."""

import numpy as np
import torch

from geofuse.degradation import SpatialOperator
from geofuse.methods.base import SceneModel
from geofuse.methods.injection import to_fine


def test_its_result_made_coarse_is_close_to_the_hsi(scenes):
    fine = scenes.landscape()
    model, tile = scenes.observe(fine, 3)
    spatial = SpatialOperator(model.psf, model.ratio, *fine.shape[1:])
    misfit = [np.std(spatial.forward(scenes.fuse(name, model, tile)) - tile.hsi) for name in ("sfim", "bicubic")]
    assert misfit[0] < 0.06 * tile.hsi.std() and misfit[0] < 0.3 * misfit[1]


def test_it_is_the_papers_quotient(scenes):
    model, tile = scenes.observe(scenes.landscape(n_bands=5, side=48), 1)
    spatial = SpatialOperator(model.psf, 4, 48, 48)
    low = spatial.forward(tile.msi)[0]
    for band, fused in zip(tile.hsi, scenes.fuse("sfim", model, tile), strict=True):
        slope, intercept = np.polyfit(low.ravel(), band.ravel(), 1)
        up, smooth = (to_fine(torch.as_tensor(image)[None], 4)[0].numpy() for image in (band, slope * low + intercept))
        expected = up * np.where(smooth > 0, np.clip((slope * tile.msi[0] + intercept) / smooth, 1 / 5, 5), 1)
        assert np.allclose(fused, expected, atol=1e-4)


def test_bands_around_zero_stay_finite_and_small(scenes):
    fine = scenes.landscape()
    model, tile = scenes.observe(fine, 3, snr_db=35)
    tile.hsi[4] = np.random.default_rng(5).normal(0, 0.01, tile.hsi[4].shape)
    fused = scenes.fuse("sfim", SceneModel(model.response, model.psf, 4, model.wavelength_nm), tile)
    assert np.isfinite(fused).all() and np.abs(fused[4]).max() < 0.3
