"""Which sensor band each file band is: by name, by wavelength, by order, by request; and what is refused."""

import numpy as np
import pytest

from geofuse.errors import InputError, UnknownNameError, UsageError
from geofuse.sensors import load_response, match_bands, sensor_names
from geofuse.sensors.band_names import read_label

OLI = ("B1", "B2", "B3", "B4", "B5", "B6", "B7")
S2_L2A = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")


def unnamed(n):
    return tuple(f"band {i + 1}" for i in range(n))


def match(sensor, names=None, wavelength=None, requested=None, n=None):
    n = n or len(names if names is not None else wavelength)
    names = unnamed(n) if names is None else names
    wavelength = np.full(n, np.nan) if wavelength is None else np.array(wavelength, float)
    return match_bands(load_response(sensor), names, wavelength, n, requested)


def said(found, text):
    return any(text in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "number", "word"),
    [
        ("B2", "2", None),
        ("B02", "2", None),
        ("b8a", "8a", None),
        ("B08A", "8a", None),
        ("Band 2", "2", None),
        ("band_2 (482 nm)", "2", None),
        ("SR_B2", "2", None),
        ("sur_refl_b03", "3", None),
        ("LC08_L1TP_193024_20200101_20200101_01_T1_B4", "4", None),
        ("T33UUP_20200101T100319_B8A_20m", "8a", None),
        ("3", "3", None),
        ("blue", None, "blue"),
        ("B2 blue", "2", "blue"),
        ("Blue (450-520 Nanometers)", None, "blue"),
        ("Near Infrared (NIR)", None, "nir"),
        ("Band 6 - Shortwave Infrared 1", "6", "swir1"),
        ("Thermal Infrared 1", None, "thermal1"),
        ("Vegetation red edge", None, "rededge"),
        ("Red Edge 2", None, "rededge2"),
        ("NIR-1", None, "nir1"),
        ("green_i", None, "greeni"),
        ("R", None, "red"),
        ("BAND_N2", None, "nir2"),
        ("QA_PIXEL", None, None),
        ("infrared camera blue channel", None, "nir"),
        ("class", None, None),
        ("0.482 um", None, None),
    ],
)
def test_names_are_read_for_a_number_and_a_colour(name, number, word):
    label = read_label(name)
    assert (label.number, label.word) == (number, word)


@pytest.mark.parametrize(
    "names",
    [
        OLI,
        [f"B{i:02}" for i in range(1, 8)],
        [f"SR_B{i}" for i in range(1, 8)],
        [f"LC08_L2SP_193024_20200101_20200113_02_T1_SR_B{i}" for i in range(1, 8)],
        ["coastal", "blue", "green", "red", "nir08", "swir16", "swir22"],
        ["Coastal aerosol", "Blue", "Green", "Red", "Near Infrared (NIR)", "SWIR 1", "SWIR 2"],
        ["B1 coastal", "B2 blue", "B3 green", "B4 red", "B5 NIR", "B6 SWIR1", "B7 SWIR2"],
        unnamed(7),
        ["Layer_1", "Layer_2", "Layer_3", "Layer_4", "Layer_5", "Layer_6", "Layer_7"],
        list("1234567"),
    ],
)
def test_seven_landsat_bands_are_oli_1_to_7_however_they_are_named(names):
    found = match("landsat8", names)
    assert found.response.band_names == OLI
    assert found.msi_index == tuple(range(7))
    assert said(found, "B8 (pan), B9 (cirrus), B10 (thermal), B11 (thermal) left out")


def test_the_files_order_is_kept_whatever_the_sensors():
    found = match("sentinel2a", ["B8", "B4", "B3", "B2"])
    assert found.response.band_names == ("B8", "B4", "B3", "B2")
    assert found.msi_index == (0, 1, 2, 3)


@pytest.mark.parametrize("what", ["names and wavelengths", "names", "wavelengths", "all bands by wavelength"])
@pytest.mark.parametrize("sensor", sensor_names())
def test_a_file_that_lists_a_sensors_bands_holds_those_bands(sensor, what):
    response = load_response(sensor)
    bands = response.reflective().bands if "all" not in what else response.bands
    if "all" in what and sensor in ("spot4", "spot4-2"):
        pytest.skip("its panchromatic band is its red one at twice the resolution")
    names = [band.name for band in bands] if what.startswith("names") else None
    found = match(sensor, names, None if what == "names" else [round(band.center_nm) for band in bands], n=len(bands))
    assert found.response.band_names == response.reflective().band_names


def test_thermal_cirrus_and_pan_bands_of_the_file_are_left_out():
    names = ["SR_B2", "B8", "SR_B3", "B9", "B10", "SR_B4", "B11"]
    found = match("landsat8", names)
    assert found.response.band_names == ("B2", "B3", "B4")
    assert found.msi_index == (0, 2, 5)
    assert match("landsat7", ["B1", "B2", "B6_VCID_1", "B6_VCID_2", "B7"]).response.band_names == ("B1", "B2", "B7")


def test_bands_that_are_no_spectral_bands_are_left_out_and_said():
    found = match("landsat8", ["SR_B2", "SR_B3", "QA_PIXEL", "SR_QA_AEROSOL", "SR_B4"])
    assert found.msi_index == (0, 1, 4)
    assert said(found, "MSI bands not used: band 3 ('QA_PIXEL'), band 4 ('SR_QA_AEROSOL')")


@pytest.mark.parametrize(
    ("sensor", "n", "expected"),
    [
        ("landsat8", 7, OLI),
        ("landsat8", 11, OLI),
        ("sentinel2a", 12, S2_L2A),
        ("sentinel2a", 13, S2_L2A),
        ("landsat7", 6, None),
        ("rgb", 3, None),
    ],
)
def test_bands_without_names_are_taken_in_order_when_their_number_fits(sensor, n, expected):
    found = match(sensor, n=n, names=unnamed(n))
    assert found.response.band_names == (expected or load_response(sensor).reflective().band_names)
    assert said(found, "in order")


def test_a_level_1c_stack_in_order_leaves_out_its_cirrus_band():
    assert match("sentinel2a", n=13, names=unnamed(13)).msi_index == (*range(10), 11, 12)


def test_b1_to_b12_that_only_count_are_not_taken_for_sentinel_names():
    found = match("sentinel2a", [f"B{i}" for i in range(1, 13)])
    assert found.response.band_names == S2_L2A


def test_names_of_a_subset_in_the_sensors_own_numbering_are_names():
    assert match("landsat8", ["B1", "B2", "B3"]).response.band_names == ("B1", "B2", "B3")


def test_wavelengths_decide_where_names_do_not():
    found = match("landsat8", wavelength=[482, 655, 561.4, 865])
    assert found.response.band_names == ("B2", "B4", "B3", "B5")
    assert said(found, "by wavelength")
    found = match("sentinel2a", wavelength=[490, 560, 665, 705, 740, 783, 842, 865, 1610, 2190])
    assert found.response.band_names == ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")


def test_wavelengths_tell_a_pan_band_from_the_green_one_inside_it():
    found = match("landsat8", wavelength=[482, 561, 590, 655, 1373, 10_900])
    assert found.response.band_names == ("B2", "B3", "B4")
    assert found.msi_index == (0, 1, 3)


def test_a_wavelength_between_two_bands_or_in_none_is_refused():
    with pytest.raises(InputError, match=r"MSI band 2 \('band 2', 750 nm\) lies in no band of Landsat 8.*--msi-bands"):
        match("landsat8", wavelength=[482, 750])
    with pytest.raises(InputError, match="lies between"):
        match("worldview2", wavelength=[885])


def test_two_bands_of_the_same_wavelength_are_refused():
    with pytest.raises(InputError, match="MSI band 1 .* and MSI band 2 .* both look like B2"):
        match("landsat8", wavelength=[480, 485])


def test_requested_bands_decide_when_the_file_does_not_say():
    found = match("landsat8", names=unnamed(3), requested=["B4", "blue", "band 3"])
    assert found.response.band_names == ("B4", "B2", "B3")
    assert said(found, "by --msi-bands: 1 = B4, 2 = B2, 3 = B3")


def test_a_dash_leaves_a_file_band_out():
    found = match("landsat8", names=unnamed(4), requested=["B2", "-", "B3", "-"])
    assert found.response.band_names == ("B2", "B3")
    assert found.msi_index == (0, 2)


@pytest.mark.parametrize("names", [OLI, unnamed(7)])
def test_fewer_requested_bands_select_among_those_the_file_holds(names):
    found = match("landsat8", names, requested=["B4", "B2", "B3"])
    assert found.response.band_names == ("B2", "B3", "B4")
    assert found.msi_index == (1, 2, 3)


def test_requested_bands_override_names_that_mean_something_else():
    assert match("landsat8", ["B1", "B2", "B3"], requested=["B2", "B3", "B4"]).response.band_names == ("B2", "B3", "B4")


def test_a_request_in_another_order_than_the_files_names_is_refused():
    with pytest.raises(UsageError, match="B2,B3,B4 is not the order of the file, whose band names say B4,B3,B2"):
        match("landsat8", ["red", "green", "blue"], requested=["B2", "B3", "B4"])


def test_a_request_that_the_files_wavelengths_contradict_is_refused():
    with pytest.raises(InputError, match=r"MSI band 1 .*665 nm\) would be B2 .* centred at 482 nm"):
        match("landsat8", wavelength=[665, 560, 490], requested=["B2", "B3", "B4"])


def test_names_that_the_files_wavelengths_contradict_are_refused():
    # A Sentinel-2 file taken for a Landsat one: B8 is near infrared there, panchromatic here.
    with pytest.raises(InputError, match=r"MSI band 4 \('B8', 842 nm\) would be B8 of Landsat 8.*check --srf"):
        match("landsat8", ["B2", "B3", "B4", "B8"], [490, 560, 665, 842])


@pytest.mark.parametrize("name", ["B8A", "red edge", "B13", "B3 blue"])
def test_a_band_name_that_the_sensor_does_not_have_is_refused(name):
    with pytest.raises(InputError, match=f"MSI band 2 .'{name}'. does not name one band of Landsat 8.*--srf"):
        match("landsat8", ["B2", name])


@pytest.mark.parametrize(("sensor", "n"), [("landsat8", 4), ("landsat8", 8), ("sentinel2a", 4), ("worldview2", 4), ("rgb", 4)])
def test_a_count_that_does_not_fit_is_refused_with_both_counts_names_and_the_remedy(sensor, n):
    reflective = load_response(sensor).reflective()
    with pytest.raises(InputError, match=f"the MSI has {n} bands.* has {len(reflective)} reflective bands.*--msi-bands") as caught:
        match(sensor, names=unnamed(n))
    assert all(name in str(caught.value) for name in reflective.band_names)


@pytest.mark.parametrize(
    ("n", "requested", "error", "says"),
    [
        (3, ["B2", "B3", "B99"], UnknownNameError, "unknown band of Landsat 8.*'B99'"),
        (3, ["B2", "B3", "B3"], UsageError, "names B3 .* twice"),
        (3, ["B2", "B3", "B4", "B5"], UsageError, "names 4 bands.*MSI has 3"),
        (4, ["B2", "B3"], UsageError, "names 2 bands, the MSI has 4, and the file does not say"),
        (7, ["B2", "B8"], UsageError, "the file does not hold B8"),
        (2, ["-", "-"], UsageError, "leaves out every band"),
        (2, ["B10", "B9"], InputError, "no reflective band"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(n, requested, error, says):
    with pytest.raises(error, match=says) as caught:
        match("landsat8", names=unnamed(n), requested=requested)
    assert "\n" not in str(caught.value)


def test_a_pan_band_is_used_only_when_it_alone_is_asked_for():
    found = match("landsat8", names=unnamed(1), requested=["B8"])
    assert found.response.bands[0].kind == "pan"
    assert match("ali", names=unnamed(1), requested=["pan"]).response.band_names == ("B1",)
    assert match("landsat8", names=unnamed(2), requested=["B8", "B3"]).response.band_names == ("B3",)
    with pytest.raises(InputError, match="panchromatic band is used when --msi-bands names it"):
        match("landsat8", ["B8"])


def test_approximate_responses_are_noted():
    assert said(match("wv2", names=unnamed(8)), "response of WorldView-2 is approximate")
    assert not said(match("landsat8", OLI), "approximate")


def test_columns_of_a_response_file_match_by_any_name(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("wavelength_nm,Cam A,Cam B\n400,0,0\n450,1,0\n500,0,1\n550,0,0\n")
    found = match(path, ["cam_b", "cam_a"])
    assert found.response.band_names == ("Cam B", "Cam A")


def test_numbers_in_the_file_do_not_matter_to_a_response_file_without_numbers(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("wavelength_nm,blue,green\n400,0,0\n450,1,0\n500,0,1\n550,0,0\n")
    assert match(path, ["B2", "B3"]).response.band_names == ("blue", "green")
    with pytest.raises(InputError, match=r"'red'\) does not name one band of mine.csv"):
        match(path, ["red", "green"])


def test_a_lone_band_of_another_sensor_is_refused_by_its_name():
    with pytest.raises(InputError, match=r"'B8A'\) does not name one band of Landsat 8"):
        match("landsat8", ["B8A"])


def test_counts_that_disagree_with_each_other_are_refused():
    with pytest.raises(InputError, match="3 bands but 2 band names"):
        match_bands(load_response("rgb"), ["a", "b"], np.full(3, np.nan), 3)
