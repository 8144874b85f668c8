"""The learning-free method: better than what it is compared with, indifferent to tiles, masks and units."""

import dataclasses

import numpy as np
import pytest

from geofuse.errors import InputError
from geofuse.methods.base import silent
from geofuse.methods.spectral_basis import SubspaceImage, learn_basis
from geofuse.methods.subspace import Subspace, SubspaceOptions


def rmse(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2)))


@pytest.mark.parametrize("n_msi", [1, 4])
@pytest.mark.parametrize("snr_db", [25, 40])
def test_error_is_far_below_interpolation(scenes, n_msi, snr_db):
    fine = scenes.landscape()
    model, tile = scenes.observe(fine, n_msi, snr_db=snr_db)
    assert rmse(scenes.fuse("subspace", model, tile), fine) < (0.8 if n_msi == 1 else 0.4) * rmse(
        scenes.fuse("bicubic", model, tile), fine
    )


def test_result_agrees_with_both_observations_to_their_noise(scenes):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=35)
    again_hsi = scenes.observe(scenes.fuse("subspace", model, tile), 4)[1]
    for name in ("hsi", "msi"):
        noise = np.sqrt((getattr(tile, name) ** 2).mean() * 10**-3.5)
        assert rmse(getattr(again_hsi, name), getattr(tile, name)) < 1.3 * noise


def test_tiles_hardly_differ_from_the_whole(scenes):
    fine = scenes.landscape(side=256)
    model, tile = scenes.observe(fine, 4, snr_db=35)
    whole, tiled = scenes.mosaic("subspace", model, tile, 256), scenes.mosaic("subspace", model, tile, 64)
    assert rmse(whole, tiled) < 0.005 * fine.std()


def test_what_stands_under_a_mask_is_never_seen(scenes):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=35)
    hsi, msi = tile.hsi.copy(), tile.msi.copy()
    hsi[:, 3:6, 4:9], msi[:, 40:57, 30:44] = np.nan, np.nan
    masked = dataclasses.replace(tile, hsi=hsi, msi=msi)
    first = scenes.fuse("subspace", model, masked)
    assert np.isfinite(first).all()
    fine = scenes.landscape()
    seen = np.ones(fine.shape[1:], bool)
    seen[12:24, 16:36], seen[40:57, 30:44] = False, False
    assert rmse(first[:, seen], fine[:, seen]) < 1.3 * rmse(scenes.fuse("subspace", model, tile)[:, seen], fine[:, seen])


def test_the_noise_of_the_msi_is_found_where_the_scene_goes_on_beyond_the_images(scenes):
    """What reflection at the border misses, and half of a PSF in a hole, is not noise."""
    model, tile = scenes.observe(scenes.landscape(side=160), 1, psf="bicubic")
    noisy = tile.msi + 0.001 * np.random.default_rng(2).standard_normal(tile.msi.shape).astype(np.float32)
    cut = dataclasses.replace(tile, hsi=tile.hsi[:, 7:-7, 7:-7], msi=noisy[:, 28:-28, 28:-28].copy())
    cut.msi[:, 50:61, 40:55] = np.nan
    method = Subspace()
    method.fit(model, [cut], silent)
    assert method.state.view.noise[0] == pytest.approx(0.001, rel=0.3)


def test_units_of_the_images_do_not_matter(scenes):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=35)
    scaled = dataclasses.replace(tile, hsi=tile.hsi * 1e4, msi=tile.msi * 1e4)
    assert np.allclose(scenes.fuse("subspace", model, scaled) / 1e4, scenes.fuse("subspace", model, tile), atol=2e-4)


def test_the_same_input_gives_the_same_bytes(scenes):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=30)
    assert scenes.fuse("subspace", model, tile).tobytes() == scenes.fuse("subspace", model, tile).tobytes()


def test_rank_can_be_given_and_is_checked(scenes):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=30)
    method = Subspace(SubspaceOptions(rank=3))
    method.fit(model, [tile], silent)
    assert method.state.basis.rank == 3
    with pytest.raises(InputError, match="rank 99 asked for"):
        learn_basis(tile.hsi.reshape(len(tile.hsi), -1), rank=99)


def test_coefficients_of_the_basis_carry_unit_noise(scenes):
    rng = np.random.default_rng(0)
    clean = scenes.landscape().reshape(30, -1)[:, :4000]
    sigma = np.linspace(0.004, 0.02, 30)[:, None]
    basis = learn_basis(clean + sigma * rng.normal(size=clean.shape))
    noise = basis.coefficients(sigma * rng.normal(size=clean.shape) + basis.mean[:, None])
    assert np.allclose(noise.std(axis=1), 1.0, rtol=0.12)
    assert np.allclose(basis.directions.T @ basis.directions, np.eye(basis.rank), atol=1e-10)


def test_an_image_given_band_by_band_is_the_product_with_its_window_and_its_holes():
    rng = np.random.default_rng(0)
    basis = learn_basis(rng.standard_normal((30, 5)) @ rng.standard_normal((5, 400)) + 3.0, rank=5)
    coefficients = rng.standard_normal((5, 24, 32)).astype(np.float32)
    missing = np.zeros((24, 32), bool)
    missing[4, 7] = True
    image = SubspaceImage(basis, coefficients, missing)
    whole = (basis.vectors @ coefficients.reshape(5, -1) + basis.mean[:, None]).reshape(30, 24, 32)
    whole[:, missing] = np.nan
    assert image.shape == whole.shape and np.allclose(image, whole, atol=1e-4, equal_nan=True)
    part = image[:, 3:20, 5:30]
    assert part.shape == (30, 17, 25) and np.array_equal(part, np.asarray(image)[:, 3:20, 5:30], equal_nan=True)
    bands = list(part)
    assert len(bands) == 30 and np.array_equal(bands[17], np.asarray(image)[17, 3:20, 5:30], equal_nan=True)
    with pytest.raises(IndexError):
        part[:, 1:2, 1:2]
    with pytest.raises(IndexError):
        image[3:4, 1:2, 1:2]


@pytest.mark.parametrize("n_bands", [2, 3, 4])
def test_an_image_of_few_bands_keeps_all_of_them(scenes, n_bands):
    fine = scenes.landscape(n_bands, side=64)
    model, tile = scenes.observe(fine, 1, snr_db=35)
    model = dataclasses.replace(model, response=np.eye(n_bands))
    noise = np.random.default_rng(2).normal(0, 0.01 * fine.std(), fine.shape)
    tile = dataclasses.replace(tile, msi=(fine + noise).astype(np.float32))
    assert learn_basis(tile.hsi.reshape(n_bands, -1)).rank == n_bands
    assert rmse(scenes.fuse("subspace", model, tile), fine) < 0.15 * rmse(scenes.fuse("bicubic", model, tile), fine)
