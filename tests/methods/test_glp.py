"""Claims about the generalised Laplacian pyramid."""

import numpy as np
import pytest
import torch

from geofuse.degradation import SpatialOperator
from geofuse.methods.injection import to_fine


@pytest.mark.parametrize("psf", ["gaussian:1", "bicubic"])
def test_its_result_made_coarse_is_the_hsi(scenes, psf):
    fine = scenes.landscape()
    model, tile = scenes.observe(fine, 3, psf=psf)
    spatial = SpatialOperator(model.psf, model.ratio, *fine.shape[1:])
    misfit = [np.std(spatial.forward(scenes.fuse(name, model, tile)) - tile.hsi) for name in ("glp", "bicubic")]
    assert misfit[0] < 0.05 * tile.hsi.std() and misfit[0] < 0.2 * misfit[1]


def test_it_is_the_papers_formula(scenes):
    model, tile = scenes.observe(scenes.landscape(n_bands=5, side=48), 2)
    spatial = SpatialOperator(model.psf, 4, 48, 48)
    low = spatial.forward(tile.msi)
    known = np.vstack([low.reshape(2, -1), np.ones((1, 144))]).T
    for band, fused in zip(tile.hsi, scenes.fuse("glp", model, tile), strict=True):
        w1, w2, w0 = np.linalg.lstsq(known, band.ravel(), rcond=None)[0]
        synthesised = w1 * tile.msi[0] + w2 * tile.msi[1] + w0
        up = [to_fine(torch.as_tensor(image)[None], 4)[0].numpy() for image in (band, spatial.forward(synthesised[None])[0])]
        assert np.allclose(fused, up[0] + synthesised - up[1], atol=1e-4)


def test_a_scene_that_the_msi_determines_is_found_but_for_interpolation(scenes):
    mixing = np.random.default_rng(2).uniform(0.1, 1, (12, 3)).astype(np.float32)
    mixed = np.einsum("kc,chw->khw", mixing, scenes.landscape(n_bands=3))
    model, tile = scenes.observe(mixed, 4)
    assert scenes.psnr(mixed, scenes.fuse("glp", model, tile)) > 40
