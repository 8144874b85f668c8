"""EnMAP L2A as DLR publishes it, made from arrays."""

import numpy as np
import pytest

from geofuse import open_scene
from geofuse.errors import InputError, MissingFileError
from geofuse.io import describe
from geofuse_cli.main import run as command_line

STEM = "ENMAP01-____L2A-DT0000001867_20220724T104526Z_008_V010302_20230628T165614Z"
NM = [900.0, 955.0, 990.0, 905.0, 960.0, 1010.0]  # three VNIR bands, then three SWIR bands that begin before VNIR ends
GAIN, OFFSET = [1e-4, 1e-4, 2e-4, 1e-4, 1e-4, 1e-4], [0.0, 0.01, 0.0, 0.0, -0.02, 0.0]


def xml(nm=NM, gain=GAIN, offset=OFFSET, expected="1,2,3,4,6", extra=""):
    bands = "".join(
        f'<bandID number="{i}"><wavelengthCenterOfBand>{w}</wavelengthCenterOfBand><FWHMOfBand>{6.5 + i}</FWHMOfBand>'
        f"<GainOfBand>{g}</GainOfBand><OffsetOfBand>{o}</OffsetOfBand></bandID>"
        for i, (w, g, o) in reversed(list(enumerate(zip(nm, gain, offset, strict=True), 1)))  # the order of the file says nothing
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{extra}<level_X><specific><bandCharacterisation>{bands}</bandCharacterisation>'
        f"<vnirProductQuality><expectedChannelsList>{expected}</expectedChannelsList></vnirProductQuality></specific></level_X>"
    )


@pytest.fixture
def stored():
    values = np.random.default_rng(0).integers(-50, 9000, (6, 40, 50)).astype("int16")
    values[:, :5, :7] = -32768
    values[4] = -32768
    return values


@pytest.fixture
def product(tmp_path, stored, files):
    folder = tmp_path / STEM
    folder.mkdir()
    files.make_tif(folder / f"{STEM}-SPECTRAL_IMAGE.TIF", stored, nodata=-32768, tiled=True, blockxsize=16, blockysize=16)
    files.make_tif(folder / f"{STEM}-QL_PIXELMASK.TIF", stored[:2])
    (folder / f"{STEM}-METADATA.XML").write_text(xml())
    return folder


def physical(stored):
    gain, offset = (np.array(v)[:, None, None] for v in (GAIN, OFFSET))
    return np.where(stored == -32768, np.nan, stored * gain + offset)


@pytest.mark.parametrize("name", ["", f"{STEM}-SPECTRAL_IMAGE.TIF", f"{STEM}-METADATA.XML"])
def test_folder_image_and_metadata_open_the_same_scene_in_reflectance(product, stored, name):
    scene = open_scene(product / name)
    assert scene.dtype == np.float32 and scene.chunks is not None and scene.attrs["product"] == "EnMAP L2A"
    np.testing.assert_allclose(scene.values, physical(stored), rtol=1e-6, atol=1e-7)
    assert scene.rio.crs.to_epsg() == 32633


def test_bands_of_the_overlap_are_all_kept_in_the_order_of_the_file(product):
    scene = open_scene(product)
    assert scene.wavelength.values.tolist() == NM and scene.fwhm.values.tolist() == [7.5, 8.5, 9.5, 10.5, 11.5, 12.5]
    assert "905-990 nm" in scene.attrs["notes"][0]


def test_channels_without_data_are_marked_as_bad(product):
    assert open_scene(product).good_band.values.tolist() == [True, True, True, True, False, True]


def test_equal_gains_become_the_stored_form_and_different_ones_float32(product):
    assert open_scene(product).attrs["stored_dtype"] == "float32"
    (product / f"{STEM}-METADATA.XML").write_text(xml(gain=[1e-4] * 6, offset=[0.0] * 6))
    attrs = open_scene(product).attrs
    assert (attrs["stored_dtype"], attrs["stored_scale"], attrs["stored_nodata"]) == ("int16", 1e-4, -32768)


def test_no_data_is_known_without_the_tag_of_the_image(product, stored, files):
    files.make_tif(product / f"{STEM}-SPECTRAL_IMAGE.TIF", stored)
    assert np.isnan(open_scene(product).values[:, :5, :7]).all()


def test_info_names_the_product(product, capsys):
    info = describe(product)
    assert info.product == "EnMAP L2A" and info.wavelength_source == "EnMAP L2A metadata" and info.driver == "GTiff"
    assert command_line(["info", str(product)]) == 0
    printed = capsys.readouterr().out
    assert "Product       EnMAP L2A" in printed and "905-990 nm" in printed


def test_given_wavelengths_decide_over_the_product(product):
    given = np.array([500.0, 510, 520, 530, 540, 550])
    scene = open_scene(product, wavelengths=given)
    assert scene.wavelength.values.tolist() == given.tolist() and scene.fwhm.values[0] == 7.5


def test_wavelengths_of_the_image_that_contradict_the_metadata_are_an_error_with_a_way_out(product, stored, files):
    tags = [{"wavelength": str(w + 5), "wavelength_units": "Nanometers"} for w in NM]
    files.make_tif(product / f"{STEM}-SPECTRAL_IMAGE.TIF", stored, band_tags=tags)
    with pytest.raises(InputError, match="centre wavelength of band 1 is 900 nm by the EnMAP L2A metadata but 905 nm"):
        open_scene(product)
    assert open_scene(product, wavelengths=np.array(NM)).sizes["band"] == 6
    assert any("905 nm" in note for note in describe(product).notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (xml(nm=NM[:5], gain=GAIN[:5], offset=OFFSET[:5]), "describes 5 bands, but the image has 6"),
        (xml(gain=[0.0] * 6), "without a usable gain"),
        (xml().replace("bandID", "band"), "lists 0 bands"),
        (xml()[:300], "damaged XML"),
        (xml(extra='<!DOCTYPE x [<!ENTITY a "aaaa">]>'), "defines its own entities"),
    ],
)
def test_metadata_that_cannot_be_used_are_refused_in_one_line(product, text, message):
    (product / f"{STEM}-METADATA.XML").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        open_scene(product)
    assert "\n" not in str(error.value) and "METADATA.XML" in str(error.value)


def test_a_missing_half_is_told(product):
    (product / f"{STEM}-METADATA.XML").unlink()
    with pytest.raises(MissingFileError, match="without its .*METADATA.XML"):
        open_scene(product / f"{STEM}-SPECTRAL_IMAGE.TIF")


def test_of_two_products_in_one_folder_the_file_decides(product, stored, files):
    other = STEM.replace("1867", "1868")
    files.make_tif(product / f"{other}-SPECTRAL_IMAGE.TIF", stored[:, :20])
    (product / f"{other}-METADATA.XML").write_text(xml())
    with pytest.raises(InputError, match="holds 2 EnMAP L2A images; name the one"):
        open_scene(product)
    assert open_scene(product / f"{other}-SPECTRAL_IMAGE.TIF").sizes["y"] == 20
    assert open_scene(product / f"{STEM}-METADATA.XML").sizes["y"] == 40


def test_a_truncated_image_is_refused(product):
    image = product / f"{STEM}-SPECTRAL_IMAGE.TIF"
    image.write_bytes(image.read_bytes()[:-2000])
    with pytest.raises(InputError, match="truncated"):
        open_scene(product)
