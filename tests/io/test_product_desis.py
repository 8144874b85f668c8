"""DESIS L2A as DLR publishes it, made from arrays."""

import numpy as np
import pytest

from geofuse import open_scene
from geofuse.errors import InputError
from geofuse.io import describe

STEM = "DESIS-HSI-L2A-DT0485529167_001-20220712T223540-V0220"
NM, FWHM, GAIN, OFFSET = [401.3, 552.1, 703.9, 999.5], [3.5, 3.6, 3.7, 3.8], [1e-4, 1e-4, 2e-4, 1e-4], [0.0, 0.1, 0.0, -0.2]
FIELDS = ("wavelengthCenterOfBand", "wavelengthWidthOfBand", "gainOfBand", "offsetOfBand")
LISTS = {"wavelength": NM, "fwhm": FWHM, "data gain values": GAIN, "data offset values": OFFSET}


def xml(fields=FIELDS):
    values = {**dict(zip(FIELDS, (NM, FWHM, GAIN, OFFSET), strict=True))}
    bands = "".join(
        f"<band><bandNumber>{i + 1}</bandNumber>"
        + "".join(f"<{f}>{values[f][i]}</{f}>" for f in fields)
        + "<wavelengths>400,401,402</wavelengths><response>0.1,1,0.1</response></band>"
        for i in range(4)
    )
    return f"<hsi_doc><specific><bandCharacterisation>{bands}</bandCharacterisation></specific></hsi_doc>"


def header(lists=LISTS):
    texts = "".join(f"{key} = {{\n" + ",\n".join(map(str, values)) + " }\n" for key, values in lists.items())
    return f"ENVI\nsamples = 30\nlines = 20\nbands = 4\ndata type = 2\nfile type = TIFF\ninterleave = bip\n{texts}"


@pytest.fixture
def stored():
    values = np.random.default_rng(0).integers(0, 9000, (4, 20, 30)).astype("int16")
    values[:, 3:6, 4] = -32768
    return values


@pytest.fixture
def product(tmp_path, stored, files):
    folder = tmp_path / STEM
    folder.mkdir()
    files.make_tif(folder / f"{STEM}-SPECTRAL_IMAGE.tif", stored, interleave="pixel", compress="deflate")
    files.make_tif(folder / f"{STEM}-QL_QUALITY-2.tif", np.zeros((10, 20, 30), "uint8"))
    (folder / f"{STEM}-METADATA.xml").write_text(xml())
    (folder / f"{STEM}-SPECTRAL_IMAGE.hdr").write_text(header())
    return folder


def physical(stored):
    gain, offset = (np.array(v)[:, None, None] for v in (GAIN, OFFSET))
    return np.where(stored == -32768, np.nan, stored * gain + offset)


@pytest.mark.parametrize("suffix", ["", "-SPECTRAL_IMAGE.tif", "-METADATA.xml", "-SPECTRAL_IMAGE.hdr"])
def test_folder_image_metadata_and_header_open_the_same_scene_in_reflectance(product, stored, suffix):
    scene = open_scene(product / (STEM + suffix) if suffix else product)
    assert scene.attrs["product"] == "DESIS L2A" and scene.chunks is not None
    np.testing.assert_allclose(scene.values, physical(stored), rtol=1e-6, atol=1e-7)
    assert scene.wavelength.values.tolist() == NM and scene.fwhm.values.tolist() == FWHM


@pytest.mark.parametrize("fields", [(), FIELDS[:2], FIELDS[2:]])
def test_the_headers_lists_stand_in_for_what_the_xml_lacks(product, stored, fields):
    (product / f"{STEM}-METADATA.xml").write_text(xml(fields))
    scene = open_scene(product)
    np.testing.assert_allclose(scene.values, physical(stored), rtol=1e-6, atol=1e-7)
    assert scene.wavelength.values.tolist() == NM and scene.fwhm.values.tolist() == FWHM


def test_without_gains_anywhere_it_is_refused(product):
    (product / f"{STEM}-SPECTRAL_IMAGE.hdr").unlink()
    (product / f"{STEM}-METADATA.xml").write_text(xml(FIELDS[:2]))
    with pytest.raises(InputError, match="without a usable gain and offset"):
        open_scene(product)


def test_info_names_the_product(product):
    info = describe(product)
    assert info.product == "DESIS L2A" and info.bands == 4 and info.wavelength_source == "DESIS L2A metadata"
