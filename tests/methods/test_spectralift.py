"""Claims about SpectraLift."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geofuse.errors import InputError
from geofuse.methods.base import TileData, silent
from geofuse.methods.bicubic import Bicubic
from geofuse.methods.spectralift import SpectraLift, SpectraLiftOptions, SpectralInversion, learning_rate
from geofuse.tiling import Edges

TINY = SpectraLiftOptions(hidden=16, steps=300)


def fitted(model, *samples, **changes):
    method = SpectraLift(replace(TINY, **changes))
    method.fit(model, samples, silent)
    return method


@pytest.fixture(scope="module")
def case(scenes):
    fine = scenes.landscape(n_bands=12, side=64)
    return (fine, *scenes.observe(fine, 4, snr_db=45))


@pytest.fixture(scope="module")
def method(case):
    return fitted(*case[1:])


def test_the_network_has_the_papers_layers():
    network = SpectralInversion(4, 102, SpectraLiftOptions().hidden, torch.Generator().manual_seed(0))
    shapes = [tuple(p.shape) for p in network.parameters() if p.ndim == 2]
    assert shapes == [(64, 4), *[(64, 64)] * 5, (102, 64)]
    assert sum(p.numel() for p in network.parameters()) == (4 + 1) * 64 + 5 * 65 * 64 + 65 * 102
    for weight, bias in zip(*[iter(network.parameters())] * 2, strict=True):
        limit = (6 / sum(weight.shape)) ** 0.5
        assert not bias.any() and 0.9 * limit < float(weight.detach().abs().max()) <= limit


def test_the_network_is_the_formula_written_out_in_numpy():
    network = SpectralInversion(3, 7, 5, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    layers = [(p.weight.detach().numpy(), p.bias.detach().numpy()) for p in (*network.hidden, network.output)]
    y = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)

    def leaky(k, x):
        x = x @ layers[k][0].T + layers[k][1]
        return np.where(x > 0, x, 0.3 * x)

    h1 = leaky(0, y)
    h2 = leaky(1, h1) + h1
    h4 = leaky(3, leaky(2, h2)) + h2
    h6 = leaky(5, leaky(4, h4)) + h4
    expected = h6 @ layers[6][0].T + layers[6][1]
    assert np.allclose(network(torch.as_tensor(y)).detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_learning_rate_rises_for_three_tenths_of_the_steps_and_falls_to_the_last():
    options = SpectraLiftOptions()
    rates = np.array([learning_rate(step, options) for step in range(1, options.steps + 1)])
    assert rates.argmax() + 1 == 750 and rates.max() == pytest.approx(1e-2)
    assert rates[0] == pytest.approx(1e-4 + (1e-2 - 1e-4) / 750) and rates[-1] == pytest.approx(1e-6)
    assert np.allclose(np.diff(rates, 2)[np.r_[:747, 751:2498]], 0, atol=1e-12)  # two straight lines


def test_the_first_loss_is_the_mean_absolute_error_of_the_untrained_network(case):
    _, model, tile = case
    method = fitted(model, tile, steps=1, first_rate=0.0, peak_rate=0.0, last_rate=0.0)
    low, high = min(tile.hsi.min(), tile.msi.min()), max(tile.hsi.max(), tile.msi.max())
    target = (tile.hsi.reshape(len(tile.hsi), -1).T - low) / (high - low)
    found = method.network(torch.as_tensor((target @ model.response.T).astype(np.float32))).numpy()
    assert method.losses == [pytest.approx(np.abs(found - target).mean(), rel=1e-4)]


def test_training_lowers_the_loss_and_the_result_beats_interpolation(case, method, scenes):
    fine, model, tile = case
    assert method.losses[-1] < 0.2 * method.losses[0]
    fused = method.fuse(tile, silent)
    assert fused.shape == fine.shape and fused.dtype == np.float32
    floor = Bicubic()
    floor.fit(model, [tile], silent)
    assert scenes.psnr(fine, fused) > scenes.psnr(fine, floor.fuse(tile, silent)) + 5


def test_a_pixels_spectrum_depends_on_its_own_msi_values_alone(case, method):
    _, _, tile = case
    whole = method.fuse(tile, silent)
    corner = TileData(tile.hsi[:, 4:9, 2:8] * np.nan, tile.msi[:, 16:36, 8:32], (16, 8), Edges(False, False, False, False))
    assert np.allclose(method.fuse(corner, silent), whole[:, 16:36, 8:32], atol=1e-5)


def test_units_come_back(case):
    _, model, tile = case
    short = {"steps": 20}
    plain = fitted(model, tile, **short).fuse(tile, silent)
    other = TileData(40 * tile.hsi + 300, 40 * tile.msi + 300, tile.origin, tile.edges)
    assert np.allclose(fitted(model, other, **short).fuse(other, silent), 40 * plain + 300, atol=0.05)


def test_no_data_is_not_learnt_from_and_spreads_to_no_other_pixel(case):
    _, model, tile = case
    hsi, msi = tile.hsi.copy(), tile.msi.copy()
    hsi[3, 5, 5], hsi[:, 0, 0], msi[1, 30, 31] = np.nan, np.nan, np.nan
    holed = TileData(hsi, msi, tile.origin, tile.edges)
    method = fitted(model, holed, steps=20)
    fused = method.fuse(holed, silent)
    assert np.isfinite(fused).all()
    expected = method.fuse(tile, silent)
    expected[:, 30, 31] = fused[:, 30, 31]
    assert np.allclose(fused, expected, atol=1e-6)
    spoilt = TileData(np.where(np.isnan(hsi).any(axis=0), np.nan, hsi), msi, tile.origin, tile.edges)
    assert np.array_equal(fitted(model, spoilt, steps=20).fuse(holed, silent), fused)


def test_without_a_complete_spectrum_it_says_so(case):
    _, model, tile = case
    hsi = tile.hsi.copy()
    hsi[3] = np.nan
    with pytest.raises(InputError, match="no pixel of the hyperspectral image has data in every band"):
        fitted(model, TileData(hsi, tile.msi, tile.origin, tile.edges))


@pytest.mark.parametrize("step_pixels", [1 << 16, 64])
def test_the_same_seed_gives_the_same_bytes_whatever_torchs_own_generator_holds(case, step_pixels):
    _, model, tile = case
    torch.manual_seed(1)
    first = fitted(model, tile, steps=5, step_pixels=step_pixels).fuse(tile, silent)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = fitted(model, tile, steps=5, step_pixels=step_pixels).fuse(tile, silent)
    assert torch.equal(torch.random.get_rng_state(), state)
    other = fitted(replace(model, seed=1), tile, steps=5, step_pixels=step_pixels).fuse(tile, silent)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_progress_is_reported_to_the_end(case):
    _, model, tile = case
    told = []
    SpectraLift(replace(TINY, steps=4)).fit(model, [tile], lambda *said: told.append(said))
    assert told == [("training", i, 4) for i in range(1, 5)]


def test_presets_and_defaults_are_the_papers_on_a_gpu():
    assert SpectraLift.default_preset("cuda:0") == "paper" and SpectraLift.default_preset("cpu") == "fast"
    assert SpectraLift.presets["paper"] == SpectraLiftOptions(64, 2500, 1e-4, 1e-2, 1e-6)
