"""Claims about Gram-Schmidt adaptive."""

import numpy as np
import torch

from geofuse.degradation import SpatialOperator
from geofuse.methods.gsa import assign_bands
from geofuse.methods.injection import to_fine


def test_every_band_goes_with_the_msi_band_it_correlates_with_best():
    rng = np.random.default_rng(0)
    msi = rng.normal(size=(3, 400))
    hsi = np.stack([3 * msi[2] + 5, -msi[0] + 0.3 * msi[1], msi[1] + 0.5 * rng.normal(size=400), 1e-3 * msi[0]])
    assert assign_bands(hsi, msi).tolist() == [2, 0, 1, 0]
    expected = [np.argmax([abs(np.corrcoef(band, y)[0, 1]) for y in msi]) for band in hsi]
    assert assign_bands(hsi, msi).tolist() == expected


def test_a_constant_msi_band_gets_no_band():
    rng = np.random.default_rng(1)
    msi = np.stack([np.ones(50), rng.normal(size=50)])
    assert assign_bands(rng.normal(size=(6, 50)), msi).tolist() == [1] * 6


def test_with_one_band_it_is_the_papers_formula(scenes):
    model, tile = scenes.observe(scenes.landscape(n_bands=4, side=64), 1, snr_db=40)
    low = SpatialOperator(model.psf, 4, 64, 64).forward(tile.msi)[0].ravel()
    spectra = tile.hsi.reshape(4, -1)
    *w, w0 = np.linalg.lstsq(np.vstack([spectra, np.ones(256)]).T, low, rcond=None)[0]
    intensity = w @ spectra + w0
    gains = np.array([np.cov(band, intensity)[0, 1] / np.var(intensity, ddof=1) for band in spectra])
    up = to_fine(torch.as_tensor(tile.hsi), 4).numpy()
    expected = up + gains[:, None, None] * (tile.msi[0] - np.tensordot(w, up, 1) - w0)
    assert np.allclose(scenes.fuse("gsa", model, tile), expected, atol=1e-3)


def test_the_substituted_intensity_is_the_msi_band(scenes):
    # sum_k w_k g_k = var(I) / var(I) = 1, so the same combination of the fused bands is the fine image itself.
    model, tile = scenes.observe(scenes.landscape(n_bands=6, side=64), 1, snr_db=40)
    low = SpatialOperator(model.psf, 4, 64, 64).forward(tile.msi)[0].ravel()
    *w, w0 = np.linalg.lstsq(np.vstack([tile.hsi.reshape(6, -1), np.ones(256)]).T, low, rcond=None)[0]
    assert np.allclose(np.tensordot(w, scenes.fuse("gsa", model, tile), 1) + w0, tile.msi[0], atol=2e-3)
