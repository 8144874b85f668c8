"""Claims that every detail injection method makes good."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch

from geofuse.degradation import SpatialOperator
from geofuse.errors import InputError
from geofuse.methods.injection import HALO, INTERPOLATION_REACH, fill_gaps, regress, shared_pixels, to_fine
from geofuse.sensors import Psf
from geofuse.tiling import Edges

CASES = [("gsa", 3), ("sfim", 3), ("glp", 3), ("gsa", 1), ("sfim", 1), ("glp", 1), ("brovey", 1)]
every_method = pytest.mark.parametrize(("name", "n_msi"), CASES)


@every_method
def test_a_constant_scene_stays_constant(scenes, name, n_msi):
    fine = np.broadcast_to(np.linspace(0.1, 0.9, 12, dtype=np.float32)[:, None, None], (12, 32, 40))
    fused = scenes.fuse(name, *scenes.observe(fine, n_msi))
    assert fused.dtype == np.float32 and np.allclose(fused, fine, rtol=1e-5)


@every_method
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_an_msi_without_detail_changes_next_to_nothing(scenes, name, n_msi, ratio):
    y, x = np.mgrid[:30, :36]
    hsi = np.stack([0.5 + 0.2 * np.sin(y / 9 + 0.3 * k) * np.cos(x / 8 - 0.2 * k) for k in range(12)]).astype(np.float32)
    interpolated = to_fine(torch.as_tensor(hsi), ratio).numpy()
    model, tile = scenes.observe(interpolated, n_msi, ratio)
    fused = scenes.fuse(name, model, replace(tile, hsi=hsi))
    assert np.sqrt(((fused - interpolated) ** 2).mean()) < 0.01 * interpolated.std()


@every_method
def test_units_are_the_hsis_whatever_the_msis(scenes, name, n_msi):
    model, tile = scenes.observe(scenes.landscape(), n_msi, snr_db=35)
    fused = scenes.fuse(name, model, tile)
    assert np.allclose(scenes.fuse(name, model, replace(tile, hsi=tile.hsi * 1e4)), fused * 1e4, rtol=1e-3, atol=1)
    assert np.allclose(scenes.fuse(name, model, replace(tile, msi=tile.msi * 300)), fused, rtol=1e-3, atol=1e-4)


@every_method
@pytest.mark.parametrize("psf", ["gaussian:1", "bicubic", "box"])
def test_it_beats_interpolation(scenes, name, n_msi, psf):
    fine = scenes.landscape()
    model, tile = scenes.observe(fine, n_msi, psf=psf, snr_db=35)
    gain = scenes.psnr(fine, scenes.fuse(name, model, tile)) - scenes.psnr(fine, scenes.fuse("bicubic", model, tile))
    assert gain > (6 if n_msi > 1 else 1.5)


@every_method
def test_no_data_stays_where_it_is(scenes, name, n_msi):
    fine = scenes.landscape()
    model, tile = scenes.observe(fine, n_msi)
    hsi, msi = tile.hsi.copy(), tile.msi.copy()
    hsi[:, 4:6, 5:8], hsi[3, 15, 15], msi[:, 50:61, 40:55], msi[0, 80, 10] = np.nan, np.nan, np.nan, np.nan
    holed = replace(tile, hsi=hsi, msi=msi)
    fused, whole = scenes.fuse(name, model, holed, learn_from=tile), scenes.fuse(name, model, tile)
    valid = holed.msi_valid & holed.hsi_valid.repeat(4, 0).repeat(4, 1)
    assert np.isfinite(fused).all()
    near = valid.copy()
    for rows, cols in ((slice(16, 24), slice(20, 32)), (slice(60, 64), slice(60, 64)), (slice(50, 61), slice(40, 55)), (80, 10)):
        reach = 4 * (2 * INTERPOLATION_REACH)
        rows, cols = (slice(s, s + 1) if isinstance(s, int) else s for s in (rows, cols))
        near[max(rows.start - reach, 0) : rows.stop + reach, max(cols.start - reach, 0) : cols.stop + reach] = False
    assert near.sum() > 500 and np.array_equal(fused[:, near], whole[:, near])
    close = valid & ~near
    error, usual = (np.sqrt(((z[:, close] - fine[:, close]) ** 2).mean()) for z in (fused, whole))
    assert error < 1.5 * usual


@every_method
def test_learning_survives_no_data(scenes, name, n_msi):
    fine = scenes.landscape()
    model, tile = scenes.observe(fine, n_msi)
    hsi, msi = tile.hsi.copy(), tile.msi.copy()
    hsi[:, :6], msi[:, :, 70:] = np.nan, np.nan
    fused = scenes.fuse(name, model, replace(tile, hsi=hsi, msi=msi))
    part = (slice(None), slice(32, None), slice(0, 60))
    assert scenes.psnr(fine[part], fused[part]) > scenes.psnr(fine[part], scenes.fuse(name, model, tile)[part]) - 1


@every_method
@pytest.mark.parametrize("holes", [False, True])
def test_tiles_make_the_same_image_as_the_whole(scenes, name, n_msi, holes):
    model, tile = scenes.observe(scenes.landscape(n_bands=8, side=256), n_msi)
    if holes:
        hsi, msi = tile.hsi.copy(), tile.msi.copy()
        hsi[:, 15:17, 14:18], hsi[2, 40, 31], msi[:, 120:137, 60:69], msi[:, 10, 190:196] = np.nan, np.nan, np.nan, np.nan
        tile = replace(tile, hsi=hsi, msi=msi)
    whole, tiled = scenes.mosaic(name, model, tile, 256), scenes.mosaic(name, model, tile, 64)
    assert np.array_equal(np.isnan(whole), np.isnan(tiled)) and np.isnan(whole).any() == holes
    assert np.nanmax(np.abs(whole - tiled)) < 1e-5 * np.nanstd(whole)


@every_method
def test_images_that_share_no_pixel_are_refused(scenes, name, n_msi):
    model, tile = scenes.observe(scenes.landscape(n_bands=6, side=32), n_msi)
    with pytest.raises(InputError, match="share 0 coarse pixels with data"):
        scenes.fuse(name, model, replace(tile, msi=np.full_like(tile.msi, np.nan)))


@pytest.mark.parametrize("scene", ["abu-airport-1", "abu-beach-4", "jasper-ridge"])
def test_they_beat_interpolation_on_real_scenes(scenes, shared_data, scene):
    with rasterio.open(shared_data / "scenes" / f"{scene}.tif") as file:
        fine = file.read(window=((4, 100), (4, 100))).astype(np.float32)
    model, tile = scenes.observe(fine, 4, psf="bicubic", snr_db=35)
    floor = scenes.psnr(fine, scenes.fuse("bicubic", model, tile))
    assert all(scenes.psnr(fine, scenes.fuse(name, model, tile)) > floor + 3 for name in ("gsa", "sfim", "glp"))


@pytest.mark.parametrize("ratio", [2, 3, 4, 7])
def test_interpolation_keeps_pixels_in_their_place(ratio):
    y, x = np.mgrid[:10, :12]
    ramp = torch.as_tensor(2.0 * y - 3.0 * x)[None]
    fine_y, fine_x = np.mgrid[: 10 * ratio, : 12 * ratio]
    expected = 2.0 * ((fine_y + 0.5) / ratio - 0.5) - 3.0 * ((fine_x + 0.5) / ratio - 0.5)
    inner = (slice(2 * ratio, -2 * ratio),) * 2
    assert np.allclose(to_fine(ramp, ratio)[0].numpy()[inner], expected[inner])
    averaged = SpatialOperator(Psf("box"), ratio, *fine_y.shape).forward(to_fine(ramp, ratio).numpy())
    assert np.allclose(averaged[0, 2:-2, 2:-2], ramp[0, 2:-2, 2:-2])


def test_gaps_are_filled_from_neighbours_only():
    image = torch.full((1, 9, 9), torch.nan)
    image[0, :, 0] = 2.0
    filled = fill_gaps(image, torch.tensor([7.0]))[0]
    assert (filled[:, : INTERPOLATION_REACH + 1] == 2).all() and (filled[:, INTERPOLATION_REACH + 1 :] == 7).all()


def test_regression_is_least_squares(scenes):
    rng = np.random.default_rng(0)
    source, target = rng.normal(3, 1, (4, 50)), rng.normal(size=(6, 50))
    slope, intercept = regress(target, source)
    expected = np.linalg.lstsq(np.vstack([source, np.ones(50)]).T, target.T, rcond=None)[0]
    assert np.allclose(slope, expected[:4].T) and np.allclose(intercept, expected[4])
    assert np.allclose(regress(target, np.ones((1, 50)))[0], 0)


def test_only_pixels_that_both_images_see_whole_are_learnt_from(scenes):
    model, tile = scenes.observe(scenes.landscape(n_bands=6, side=64), 2)
    assert shared_pixels(model, [tile])[0].shape == (6, 256)
    cut = replace(tile, edges=Edges(False, True, False, True))
    assert shared_pixels(model, [cut])[0].shape == (6, 14 * 14)  # the PSF reaches two coarse pixels far
    hsi, msi = tile.hsi.copy(), tile.msi.copy()
    hsi[5, 3, 3], msi[1, 0, 0] = np.nan, np.nan
    assert shared_pixels(replace(model, psf=Psf("box")), [replace(tile, hsi=hsi, msi=msi)])[0].shape == (6, 254)


def test_the_halo_holds_all_that_a_fine_pixel_depends_on(scenes):
    psf_reach = -(-SpatialOperator(Psf("bicubic"), 4, 64, 64).reach // 4)
    assert HALO // 2 >= psf_reach + 2 * INTERPOLATION_REACH


def test_shared_pixels_see_nothing_of_a_hole(scenes):
    model, tile = scenes.observe(scenes.landscape(), 3, psf="bicubic")
    msi = tile.msi.copy()
    msi[:, 50:61, 40:55] = np.nan
    complete = SpatialOperator(model.psf, model.ratio, *msi.shape[1:]).forward(tile.msi.astype(float))
    _, blurred = shared_pixels(model, [replace(tile, msi=msi)])
    for pixel in blurred.T:
        assert np.abs(complete - pixel[:, None, None]).max(axis=0).min() < 1e-3
