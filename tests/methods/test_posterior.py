"""Uncertainty: the true error lies where the samples say, they belong to pixels and not to tiles, and need no reference."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from geofuse.diffusion.options import PaperOptions
from geofuse.errors import UsageError
from geofuse.methods import METHODS
from geofuse.methods.argsdiff import ArgsDiff, FastOptions
from geofuse.methods.base import silent
from geofuse.methods.posterior import PosteriorSampler
from geofuse.methods.subspace import Subspace
from geofuse.pipeline import Fusion, FusionSettings

QUICK = FastOptions(spatial_steps=50, spectral_steps=30, width=16, patch=32, symmetries=2)


def method_of(name, **options):
    return Subspace() if name == "subspace" else ArgsDiff(dataclasses.replace(QUICK, **options))


def fused_with_spread(method, model, tile, count=16):
    method.fit(model, [tile], silent)
    posterior = PosteriorSampler(method, count)
    posterior.fit(model, [tile])
    return method.fuse(tile, silent), posterior.spread(tile, silent), posterior


@pytest.mark.parametrize("snr_db", [35, 25])
@pytest.mark.parametrize("name", ["subspace", "argsdiff"])
def test_the_true_error_lies_within_two_sigma_for_nine_in_ten_values_and_more(scenes, name, snr_db):
    fine = scenes.landscape(side=96)
    fused, spread, _ = fused_with_spread(method_of(name), *scenes.observe(fine, 4, snr_db=snr_db))
    assert 0.90 <= (np.abs(fused - fine) <= 2 * spread).mean() <= 0.98


def test_few_samples_are_widened_so_that_they_cover_as_much_as_many(scenes):
    fine = scenes.landscape(side=96)
    for count in (2, 32):
        fused, spread, posterior = fused_with_spread(Subspace(), *scenes.observe(fine, 4, snr_db=30), count)
        assert 0.90 <= (np.abs(fused - fine) <= 2 * spread).mean() <= 0.98, count
        assert f"widened {posterior.widening:.2f} times" in posterior.note


def test_more_noise_is_more_uncertainty(scenes):
    fine = scenes.landscape()
    spreads = [fused_with_spread(Subspace(), *scenes.observe(fine, 4, snr_db=snr_db))[1].mean() for snr_db in (35, 20)]
    assert spreads[0] < 0.5 * spreads[1]


@pytest.mark.parametrize("name", ["subspace", "argsdiff"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(scenes, name):
    model, tile = scenes.observe(scenes.landscape(), 4, snr_db=30)
    runs = [model, model, dataclasses.replace(model, seed=1)]
    first, again, other = (fused_with_spread(method_of(name, spatial_steps=5), m, tile, 2)[1].tobytes() for m in runs)
    assert first == again != other


def pair_of(model, tile):
    return xr.Dataset(
        {
            "hsi": (("band", "y_hsi", "x_hsi"), tile.hsi),
            "msi": (("band_msi", "y", "x"), tile.msi),
            "response": (("band_msi", "band"), model.response),
        },
        coords={"wavelength": ("band", model.wavelength_nm)},
        attrs={"ratio": model.ratio, "psf": model.psf.to_tag(), "output_window": (0, *tile.msi.shape[1:2], 0, tile.msi.shape[2])},
    ).chunk()


def test_tiles_agree_with_the_whole_and_keep_its_mask(scenes):
    model, tile = scenes.observe(scenes.landscape(side=160), 4, snr_db=30)
    tile.msi[:, 40:50, 70:90] = np.nan
    results = []
    for size in (512, 64):
        fusion = Fusion(pair_of(model, tile), FusionSettings("subspace", tile=size, device="cpu", uncertainty=4))
        fusion.fit()
        results.append(np.concatenate([rows for _, rows in fusion.rows()], axis=1))
    whole, tiled = (result[len(tile.hsi) :] for result in results)
    assert whole.shape == (len(tile.hsi), *tile.msi.shape[1:])
    assert np.array_equal(np.isnan(whole), np.isnan(tiled)) and np.array_equal(np.isnan(whole), np.isnan(results[0][: len(whole)]))
    kept = ~np.isnan(whole)
    assert np.abs(tiled - whole)[kept].max() < 0.05 * whole[kept].mean()


def test_where_the_msi_is_not_trusted_the_result_is_less_certain(scenes):
    fine = scenes.landscape(side=96)
    model, tile = scenes.observe(fine, 4, snr_db=35)
    trust = np.ones(tile.msi.shape[1:], np.float32)
    trust[:, 48:] = 0
    fused, spread, _ = fused_with_spread(Subspace(), model, dataclasses.replace(tile, msi_weight=trust))
    assert spread[:, :, 56:].mean() > 3 * spread[:, :, :40].mean()
    assert (np.abs(fused - fine) <= 2 * spread)[:, :, 56:].mean() > 0.85


def test_the_gain_from_coarse_to_fine_is_larger_the_finer_the_texture_that_bands_do_not_share(scenes):
    rng, frequency = np.random.default_rng(0), np.fft.fftfreq(128)
    fine, gains = scenes.landscape(n_bands=24, side=128), []
    for scale in (0.02, np.inf):  # smooth texture, white texture; each band of the MSI sees one of its own
        low_pass = np.exp(-0.5 * (frequency[:, None] ** 2 + frequency**2) / scale**2)
        own = np.repeat(np.fft.ifft2(np.fft.fft2(rng.normal(size=(4, 128, 128))) * low_pass).real, 6, axis=0)
        textured = (fine + 0.05 * own / own.std()).astype(np.float32)
        gains.append(fused_with_spread(Subspace(), *scenes.observe(textured, 4, snr_db=40), 2)[2].prediction.gain)
    assert 1.0 <= gains[0] < 0.5 * gains[1] < 20


def test_what_has_no_posterior_or_too_few_samples_is_refused_in_one_line():
    for method in (METHODS.get("bicubic")(), ArgsDiff(PaperOptions())):
        with pytest.raises(UsageError, match="gives? no uncertainty; use subspace, or argsdiff with preset fast or balanced"):
            PosteriorSampler(method, 8)
    with pytest.raises(UsageError, match="at least 2 posterior samples, found 1"):
        PosteriorSampler(Subspace(), 1)


def test_one_band_is_enough(scenes):
    model, tile = scenes.observe(scenes.landscape(), 1, snr_db=35)
    assert np.isfinite(fused_with_spread(Subspace(), model, tile, 2)[1]).all()
