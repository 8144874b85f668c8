"""ARGS-Diff's fast preset: it earns its learning, and keeps every promise of the pilot."""

import dataclasses

import numpy as np
import pytest
import torch

from geofuse.diffusion.options import PaperOptions
from geofuse.methods import argsdiff
from geofuse.methods.argsdiff import ArgsDiff, FastOptions, calibration_windows
from geofuse.methods.argsdiff_paper import PaperArgsDiff
from geofuse.methods.base import silent

QUICK = FastOptions(spatial_steps=120, spectral_steps=60, width=16, patch=48)


def learnt(model, tile, options=QUICK):
    method = ArgsDiff(options)
    method.fit(model, [tile], silent)
    return method


def rmse(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2)))


def test_learning_beats_the_pilot_where_noise_is_what_limits_it(scenes):
    fine = scenes.landscape(side=128)
    model, tile = scenes.observe(fine, 4, snr_db=25)
    assert rmse(learnt(model, tile).fuse(tile, silent), fine) < 0.93 * rmse(scenes.fuse("subspace", model, tile), fine)


def test_without_training_it_is_the_pilot(scenes):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=35)
    untaught = learnt(model, tile, dataclasses.replace(QUICK, spatial_steps=0, spectral_steps=0, reverse_levels=(1.0,)))
    assert np.allclose(untaught.fuse(tile, silent), scenes.fuse("subspace", model, tile), atol=2e-3)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(scenes):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=30)
    short = dataclasses.replace(QUICK, spatial_steps=20, spectral_steps=20)
    first = learnt(model, tile, short).fuse(tile, silent)
    torch.manual_seed(123)  # the global generator has no say
    assert first.tobytes() == learnt(model, tile, short).fuse(tile, silent).tobytes()
    other = dataclasses.replace(model, seed=1)
    assert first.tobytes() != learnt(other, tile, short).fuse(tile, silent).tobytes()


def test_an_image_estimated_in_strips_is_the_image_estimated_at_once(scenes, monkeypatch):
    model, tile = scenes.observe(scenes.landscape(side=96), 4, snr_db=30)
    method = learnt(model, tile, dataclasses.replace(QUICK, spatial_steps=20, spectral_steps=20))
    with torch.no_grad():
        observed = method.pilot.prepare(tile).data.fine
        at_once = method.unguided(observed)
        monkeypatch.setattr(argsdiff, "_STRIP_PIXELS", 96 * 20)
        assert torch.allclose(method.unguided(observed), at_once, atol=1e-4 * float(observed.std()))


def test_errors_are_estimated_on_all_of_a_small_scene_and_on_evenly_spread_windows_of_a_large_one():
    small = [(torch.zeros(2, 256, 256), torch.ones(256, 256))]
    assert calibration_windows(small)[0][0] is small[0][0]
    place = torch.arange(512.0)[:, None] * torch.ones(512) / 512
    parts = calibration_windows([(place[None], torch.ones(512, 512)), (place[None] + 1.0, torch.ones(512, 512))])
    assert sum(weight.numel() for _, weight in parts) <= 2**16
    assert {image.shape for image, _ in parts} == {(1, 64, 64)}
    assert float(torch.stack([image.mean() for image, _ in parts]).mean()) == pytest.approx(1.0, abs=0.05)  # both, top to bottom


def test_errors_are_estimated_where_the_msi_has_data():
    weight = torch.zeros(512, 512)
    weight[300:310, 40:50] = 1.0
    parts = calibration_windows([(torch.zeros(1, 512, 512), weight)])
    assert len(parts) == 1 and float(parts[0][1].sum()) == 100.0
    weight = torch.zeros(300, 300)
    weight[290:, 290:] = 1.0  # beyond the last whole window
    assert float(calibration_windows([(torch.zeros(1, 300, 300), weight)])[0][1].sum()) == 100.0


def test_estimated_error_is_near_the_true_one(scenes):
    fine = scenes.landscape(side=128)
    model, tile = scenes.observe(fine, 4, snr_db=25)
    method = learnt(model, tile)
    clean = dataclasses.replace(tile, msi=scenes.observe(fine, 4)[1].msi)
    truth = method.pilot.prepare(clean).data.fine
    with torch.no_grad():
        found = method.unguided(method.pilot.prepare(tile).data.fine)
    true_error = float(((found - truth) ** 2).mean())
    assert float(method.error.mean()) == pytest.approx(true_error, rel=0.5)


def test_masked_pixels_are_not_learnt_from(scenes):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=30)
    short = dataclasses.replace(QUICK, spatial_steps=20, spectral_steps=20)
    hsi, msi = tile.hsi.copy(), tile.msi.copy()
    hsi[:, :6, :6], msi[:, 50:70, 50:70] = np.nan, np.nan
    masked = dataclasses.replace(tile, hsi=hsi, msi=msi)
    assert np.isfinite(learnt(model, masked, short).fuse(masked, silent)).all()


def test_presets_are_what_they_are_called():
    assert ArgsDiff.default_preset("cpu") == "fast" and ArgsDiff.default_preset("cuda:0") == "balanced"
    assert isinstance(ArgsDiff(ArgsDiff.presets["paper"]), PaperArgsDiff)
    assert ArgsDiff.presets["paper"] == PaperOptions()


def test_parameters_are_counted_after_learning(scenes):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=30)
    method = learnt(model, tile, dataclasses.replace(QUICK, spatial_steps=1, spectral_steps=1))
    assert 10_000 < method.parameter_count < 200_000


def test_tiles_leave_no_seam(scenes):
    fine = scenes.landscape(side=192)
    model, tile = scenes.observe(fine, 4, snr_db=30)
    quick = dataclasses.asdict(dataclasses.replace(QUICK, spatial_steps=60, spectral_steps=30))
    whole, tiled = (scenes.mosaic("argsdiff", model, tile, size, **quick) for size in (192, 48))

    def border_gradient(image):
        steps = np.abs(np.diff(image, axis=2)).mean(axis=(0, 1))
        at_border = np.isin(np.arange(191), [47, 95, 143])
        return steps[at_border].mean() / steps[~at_border].mean()

    assert border_gradient(tiled) == pytest.approx(border_gradient(whole), rel=0.05)
    assert rmse(whole, tiled) < 0.01 * fine.std()
