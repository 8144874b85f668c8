"""NEON AOP reflectance, on files built to the published layout and on a real one."""

import numpy as np
import pytest

from geofuse.errors import InputError
from geofuse.io import open_scene
from geofuse.io.products import neon
from geofuse.io.products.detect import find_product

h5py = pytest.importorskip("h5py", reason="h5py (extra [hdf]) is not installed")
NAME = "NEON_D17_SJER_DP3_257000_4112000_reflectance.h5"
MAP_INFO = "UTM,  1.000,  1.000,    257000.00,    4112000.0,    1.0000000,    1.0000000,  11,  North,  WGS-84,  units=Meters, 0"
WAVELENGTH = np.linspace(1300.0, 2000.0, 8)


def write(path, stored, *, map_info=MAP_INFO, epsg="32611", windows=True, drop=()):
    with h5py.File(path, "w") as file:
        base = file.create_group("SJER/Reflectance")
        if windows:
            base.attrs["Band_Window_1_Nanometers"] = np.array([1340, 1445])
            base.attrs["Band_Window_2_Nanometers"] = np.array([1790, 1955])
        data = base.create_dataset("Reflectance_Data", data=stored, chunks=(5, 5, 4))
        data.attrs["Scale_Factor"] = np.array([10000.0])
        data.attrs["Data_Ignore_Value"] = np.array([-9999.0])
        base["Metadata/Spectral_Data/Wavelength"] = WAVELENGTH
        base["Metadata/Spectral_Data/FWHM"] = np.full(8, 5.8)
        base["Metadata/Coordinate_System/Map_Info"] = map_info
        base["Metadata/Coordinate_System/EPSG Code"] = epsg
        for name in drop:
            del base[name]
    return path


@pytest.fixture
def stored():
    values = np.random.default_rng(0).integers(0, 9000, (12, 9, 8)).astype(np.int16)
    values[3, 4] = -9999
    values[0, 0, 2] = -9999
    return values


def test_values_are_reflectance_in_band_row_column_order_and_no_data_is_nan(tmp_path, stored):
    scene = open_scene(write(tmp_path / NAME, stored))
    expected = np.where(stored == -9999, np.nan, stored / 10000).transpose(2, 0, 1)
    np.testing.assert_allclose(scene.values, expected, rtol=1e-6)
    assert scene.attrs["product"] == "NEON AOP reflectance"
    assert (scene.attrs["stored_dtype"], scene.attrs["stored_scale"], scene.attrs["stored_nodata"]) == ("int16", 1e-4, -9999)


def test_chunks_do_not_change_values(tmp_path, stored):
    path = write(tmp_path / NAME, stored)
    scene = open_scene(path, chunks=(3, 5, 4))
    assert scene.data.numblocks == (3, 3, 3)
    np.testing.assert_array_equal(scene.values, open_scene(path).values)


def test_grid_wavelengths_and_bad_bands_are_those_of_the_file(tmp_path, stored):
    scene = open_scene(write(tmp_path / NAME, stored))
    assert tuple(scene.rio.transform())[:6] == (1, 0, 257000, 0, -1, 4112000)
    assert scene.rio.crs.to_epsg() == 32611
    np.testing.assert_array_equal(scene.wavelength, WAVELENGTH)
    np.testing.assert_array_equal(scene.fwhm, 5.8)
    inside = ((WAVELENGTH >= 1340) & (WAVELENGTH <= 1445)) | ((WAVELENGTH >= 1790) & (WAVELENGTH <= 1955))
    np.testing.assert_array_equal(scene.good_band, ~inside)
    assert any("1340 to 1445 nm" in note for note in scene.attrs["notes"])


def test_the_reference_pixel_of_the_map_info_counts_from_one(tmp_path, stored):
    moved = MAP_INFO.replace("1.000,  1.000,", "3.5,  2.5,", 1)
    scene = open_scene(write(tmp_path / NAME, stored, map_info=moved))
    assert tuple(scene.rio.transform())[:6] == (1, 0, 257000 - 2.5, 0, -1, 4112000 + 1.5)


def test_without_an_epsg_code_the_utm_zone_decides(tmp_path, stored):
    south = MAP_INFO.replace("North", "South")
    path = write(tmp_path / NAME, stored, map_info=south, drop=["Metadata/Coordinate_System/EPSG Code"])
    assert open_scene(path).rio.crs.to_epsg() == 32711


def test_another_name_is_known_by_its_layout_and_another_h5_file_is_not(tmp_path, stored):
    assert find_product(write(tmp_path / "plot.h5", stored)) is neon
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a/b"] = np.zeros(3)
    assert not neon.matches(tmp_path / "other.h5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": ["Metadata/Spectral_Data/Wavelength"]}, "Wavelength"),
        ({"drop": ["Metadata/Coordinate_System/Map_Info"]}, "Map_Info"),
        ({"map_info": MAP_INFO + ", rotation=30.0"}, "rotated by 30 degrees"),
    ],
)
def test_what_lacks_is_named(tmp_path, stored, change, message):
    with pytest.raises(InputError, match=message) as error:
        open_scene(write(tmp_path / NAME, stored, **change))
    assert NAME in str(error.value) and "\n" not in str(error.value)


def test_values_kept_in_another_file_are_refused(tmp_path, stored):
    write(tmp_path / "secret.h5", stored)
    path = write(tmp_path / NAME, stored)
    with h5py.File(path, "a") as file:
        del file["SJER/Reflectance/Reflectance_Data"]
        file["SJER/Reflectance/Reflectance_Data"] = h5py.ExternalLink("secret.h5", "SJER/Reflectance/Reflectance_Data")
    with pytest.raises(InputError, match="link"):
        open_scene(path)


def test_a_truncated_file_is_refused(tmp_path, stored):
    path = write(tmp_path / NAME, stored)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="copy or download"):
        open_scene(path)


def test_a_real_file_opens(shared_data):
    path = shared_data / "neon-ex-h5" / "ex.h5"
    scene = open_scene(path)
    assert scene.shape == (426, 30, 30) and scene.rio.crs.to_epsg() == 32611
    assert scene.rio.bounds() == (257000, 4111970, 257030, 4112000)
    assert 383 < scene.wavelength[0] < 385 and 2511 < scene.wavelength[-1] < 2513
    with h5py.File(path) as file:
        stored = file["SJER/Reflectance/Reflectance_Data"][7, 11]
    np.testing.assert_allclose(scene.values[:, 7, 11], np.where(stored == -9999, np.nan, stored / 1e4), rtol=1e-6)
