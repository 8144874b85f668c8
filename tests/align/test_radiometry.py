"""Gain and offset between the two images: found where they are, left alone where they are not, and undone exactly."""

import json

import numpy as np
import pytest

from geofuse.align import make_pair
from geofuse.align.encoding import decode, encode, linear_light
from geofuse.align.radiometry import fit_band, match_radiometry
from geofuse.degradation import SpatialOperator
from geofuse.errors import InputError, UsageError
from geofuse.fusion import Fusion, FusionSettings
from geofuse.sensors import Psf

RATIO = 4
GAIN, OFFSET = np.array([0.8, 1.1, 1.25]), np.array([0.05, -0.02, 0.0])


def truth(height=96, width=96, seed=0):
    """Reflectance (30, height, width): four smooth spectra mixed by patches and waves."""
    rng = np.random.default_rng(seed)
    nm = np.arange(400.0, 700.0, 10.0)
    spectra = np.stack([0.2 + 0.3 * np.sin(nm / w + k) ** 2 for k, w in enumerate((70, 110, 160, 240))])
    y, x = np.mgrid[:height, :width]
    patch = rng.integers(0, 4, (height // 7 + 1, width // 9 + 1)).repeat(7, 0).repeat(9, 1)[:height, :width]
    abundance = np.stack([(patch == k) * (1 + 0.2 * np.sin(y / 9 + x / 5)) + 0.2 * np.sin(x / 17 + k) ** 2 for k in range(4)])
    return np.einsum("kc,kyx->cyx", spectra, abundance)


@pytest.fixture(scope="module")
def images(build, rgb):
    """The truth, and a function that makes a pair whose MSI is changed by it."""
    z = truth()
    operator = SpatialOperator(Psf("bicubic"), RATIO, *z.shape[1:])
    rng = np.random.default_rng(1)
    coarse = operator.forward(z) + 0.004 * rng.standard_normal((30, 24, 24))
    hsi = build.scene(coarse, build.north_up(300000, 4000000, 40.0), wavelengths=build.wavelengths)
    empty = build.scene(np.ones((3, 96, 96)), build.north_up(300000, 4000000, 10.0))
    matrix = make_pair(hsi, empty, srf=rgb, psf="bicubic")["response"].values
    fine = np.einsum("ck,kyx->cyx", matrix, z) + 0.004 * rng.standard_normal((3, 96, 96))

    def make(change=lambda y: y):
        msi = build.scene(change(fine), build.north_up(300000, 4000000, 10.0))
        return make_pair(hsi, msi, srf=rgb, psf="bicubic")

    return z, fine, make


def spoil(fine, scale=1.0):
    return scale * (GAIN[:, None, None] * fine + OFFSET[:, None, None])


def psnr(pair, z):
    fusion = Fusion(pair, FusionSettings("subspace"))
    fusion.fit()
    error = ((fusion.fuse(fusion.grid[0]) - z) ** 2).mean(axis=(1, 2))
    return float(np.mean(10 * np.log10(z.max(axis=(1, 2)) ** 2 / error)))


def test_a_pair_that_agrees_is_left_alone(images):
    pair = images[2]()
    matched = match_radiometry(pair)
    assert "radiometry" not in matched.attrs
    np.testing.assert_array_equal(matched["msi"].values, pair["msi"].values)


@pytest.mark.parametrize("scale", [1.0, 10_000.0], ids=["same unit", "digital numbers"])
def test_gains_and_offsets_cost_no_more_than_a_trace(images, scale):
    z, fine, make = images
    matched = match_radiometry(make(lambda y: spoil(y, scale)))
    assert psnr(matched, z) > psnr(make(), z) - 0.3
    notes = " ".join(matched.attrs["notes"])
    assert "radiometry: gain" in notes and ("different units" in notes) == (scale > 1)
    np.testing.assert_allclose(json.loads(matched.attrs["radiometry"])["gain"], scale * GAIN, rtol=0.05)


def test_the_correction_can_be_undone(images):
    z, fine, make = images
    spoilt = make(spoil)
    matched = match_radiometry(spoilt)
    tag = json.loads(matched.attrs["radiometry"])
    gain, offset = (np.array(tag[name])[:, None, None] for name in ("gain", "offset"))
    np.testing.assert_allclose(matched["msi"].values * gain + offset, spoilt["msi"].values, rtol=1e-5, atol=1e-5)


def test_clouds_and_change_have_little_say(images):
    z, fine, make = images

    def cloudy(y):
        y = spoil(y)
        y[:, :32, :40] = 3.0  # an eighth of the scene
        return y

    gain = json.loads(match_radiometry(make(cloudy)).attrs["radiometry"])["gain"]
    np.testing.assert_allclose(gain, GAIN, rtol=0.12)


def test_images_that_have_nothing_to_do_with_each_other_are_left_alone(images):
    matched = match_radiometry(images[2](lambda y: 5 * np.random.default_rng(3).random(y.shape)))
    assert "radiometry" not in matched.attrs
    assert "go together too little" in " ".join(matched.attrs["notes"])


def test_off_changes_nothing_and_other_words_are_refused(images):
    pair = images[2](spoil)
    assert match_radiometry(pair, "off") is pair
    with pytest.raises(UsageError, match="unknown radiometry 'on'; expected auto or off"):
        match_radiometry(pair, "on")


def test_a_band_fit_finds_what_it_was_made_with_among_outliers():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 0.9, 2000)
    y = 1.2 * x + 0.05 + 0.01 * rng.standard_normal(2000)
    y[:300] = 2.0
    fit = fit_band(x, y, np.arange(2000) % 9)
    assert abs(fit.gain - 1.2) < 0.02 and abs(fit.offset - 0.05) < 0.02 and not fit.why


def test_decoding_is_undone_by_encoding():
    values = np.arange(256, dtype=np.float32)
    np.testing.assert_allclose(encode(decode(values)), values, atol=1e-3)
    assert decode(values)[[0, 255]].tolist() == [0.0, 255.0] and (np.diff(decode(values)) > 0).all()


def picture(build, fine, encoded):
    """An 8-bit scene of what the fine image shows, as it is or encoded."""
    light = 255 * fine / fine.max()
    stored = np.rint(encode(light) if encoded else light)
    return build.scene(stored, build.north_up(300000, 4000000, 10.0), stored_dtype="uint8")


@pytest.mark.parametrize("encoded", [True, False])
def test_a_picture_made_for_display_is_told_from_a_linear_one(build, images, encoded):
    z, fine, make = images
    coarse = z.reshape(30, 24, RATIO, 24, RATIO).mean(axis=(2, 4))
    hsi = build.scene(coarse, build.north_up(300000, 4000000, 40.0), wavelengths=build.wavelengths)
    found = linear_light(hsi, picture(build, fine, encoded))
    assert ("encoding" in found.attrs) == encoded
    assert ("decoded from sRGB" in " ".join(found.attrs.get("notes", ()))) == encoded


def test_only_eight_bits_can_be_decoded(build):
    with pytest.raises(InputError, match="sRGB pictures hold whole numbers from 0 to 255"):
        linear_light(build.hsi(), build.msi(), "srgb")
    with pytest.raises(UsageError, match="unknown encoding 'gamma'"):
        linear_light(build.hsi(), build.msi(), "gamma")
