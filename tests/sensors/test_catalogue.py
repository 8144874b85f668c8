"""The built-in sensors: names, kinds, curves against independent tables."""

import json
import re
import sys
from pathlib import Path
from subprocess import run

import numpy as np
import pytest

from geofuse.errors import InputError, UnknownNameError
from geofuse.registry import simplify
from geofuse.sensors import ResponseBand, list_sensors, load_response, sensor_names
from geofuse.sensors.catalogue import SENSORS
from geofuse.sensors.response import flat_topped_band, gaussian_band

SRF = Path(__file__).parents[3] / "shared/data/srf"
TABLES = {
    "landsat4": ("landsat_tm.geojson", ("B1", "B2", "B3", "B4", "B5", "B7")),
    "landsat7": ("landsat_etm.geojson", ("B1", "B2", "B3", "B4", "B5", "B7")),
    "landsat8": ("landsat_oli.geojson", ("B2", "B3", "B4", "B5", "B6", "B7")),
    "sentinel2a": ("sentinel2a_msi.geojson", None),
    "sentinel2b": ("sentinel2b_msi.geojson", None),
}


def reference_curves(file, names):
    """Read EnMAP-Box's tables: name -> (wavelength in nm, response)."""
    if not (SRF / file).is_file():
        pytest.skip(f"reference table {SRF / file} is absent")
    features = [feature["properties"] for feature in json.loads((SRF / file).read_text())["features"]]
    found = names or [re.match(r"B\d+A?", feature["name"]).group() for feature in features]
    assert len(found) == len(features)
    return {
        name: (np.array(feature["response"]["x"], float), np.array(feature["response"]["y"], float))
        for name, feature in zip(found, features, strict=True)
    }


@pytest.mark.parametrize("sensor", TABLES)
def test_built_in_curves_agree_with_an_independent_table(sensor):
    bands = {band.name: band for band in load_response(sensor).bands}
    for name, (wavelength, response) in reference_curves(*TABLES[sensor]).items():
        other, ours = ResponseBand(name, wavelength, response), bands[name]
        assert ours.center_nm == pytest.approx(other.center_nm, abs=1.0), name
        assert ours.fwhm_nm == pytest.approx(other.fwhm_nm, abs=2.0), name
        grid = np.arange(300, 2600, 0.5)
        shared = np.minimum(ours.at(grid) / ours.at(grid).sum(), other.at(grid) / other.at(grid).sum()).sum()
        assert shared > 0.97, (name, shared)


@pytest.mark.parametrize(
    ("sensor", "centers"),
    [
        # Published band centres: USGS for Landsat, ESA for Sentinel-2A, NASA's specification for MODIS 1-7.
        ("landsat8", {"B1": 443, "B2": 482, "B3": 561.4, "B4": 654.6, "B5": 864.7, "B6": 1608.9, "B7": 2200.7, "B9": 1373.4}),
        ("landsat9", {"B1": 443, "B2": 482, "B3": 561, "B4": 654, "B5": 865, "B6": 1608, "B7": 2201, "B10": 10800, "B11": 12000}),
        ("sentinel2a", {"B1": 442.7, "B2": 492.7, "B5": 704.1, "B8": 832.8, "B8A": 864.7, "B11": 1613.7, "B12": 2202.4}),
        ("modis", {"B1": 645, "B2": 858.5, "B3": 469, "B4": 555, "B5": 1240, "B6": 1640, "B7": 2130}),
        ("rapideye", {"B1": 475, "B2": 555, "B3": 657, "B4": 710, "B5": 805}),
        ("aster", {"B1": 560, "B2": 660, "B3N": 810, "B4": 1650, "B6": 2205, "B9": 2395}),
    ],
)
def test_centres_are_those_published(sensor, centers):
    bands = {band.name: band for band in load_response(sensor).bands}
    for name, center in centers.items():
        assert bands[name].center_nm == pytest.approx(center, rel=0.01), name


@pytest.mark.parametrize(
    "name", ["landsat8", "Landsat-8", "LANDSAT 8", "oli", "OLI", "l8", "LC08", "landsat8_oli", "Landsat 8 OLI/TIRS"]
)
def test_landsat8_answers_to_many_names_and_its_reflective_bands_are_oli_1_to_7(name):
    response = load_response(name)
    assert response.name == "landsat8"
    assert response.reflective().band_names == ("B1", "B2", "B3", "B4", "B5", "B6", "B7")
    assert [band.kind for band in response.bands[7:]] == ["pan", "cirrus", "thermal", "thermal"]


@pytest.mark.parametrize(
    ("name", "sensor"),
    [
        *[(name, "sentinel2a") for name in ("sentinel2a", "Sentinel-2A", "s2a", "S2", "sentinel-2")],
        *[("wv2", "worldview2"), ("WorldView-3", "worldview3"), ("QuickBird", "quickbird"), ("GeoEye-1", "geoeye1")],
        *[("planetscope", "superdove"), ("GF-2", "gaofen2"), ("S2C", "sentinel2c"), ("rgb-gaussian", "rgb"), ("LE07", "landsat7")],
    ],
)
def test_sensors_answer_to_their_aliases(name, sensor):
    assert load_response(name).name == sensor


def test_no_two_sensors_share_a_name():
    names = [simplify(name) for entry in SENSORS for name in {simplify(n) for n in (entry.name, *entry.aliases)}]
    assert len(names) == len(set(names))


def test_an_unknown_sensor_is_refused_with_near_matches():
    with pytest.raises(UnknownNameError, match="landast8.*landsat8"):
        load_response("landast8")
    with pytest.raises(UnknownNameError, match="known: .*sentinel2a"):
        load_response("xyzzy")


def test_a_file_in_the_working_folder_does_not_hide_a_sensor_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "oli").write_text("not a table")
    monkeypatch.chdir(tmp_path)
    assert load_response("oli").name == "landsat8"


@pytest.mark.parametrize("name", sensor_names())
def test_every_sensor_loads_with_sane_curves(name):
    response = load_response(name)
    assert len(set(response.band_names)) == len(response)
    for band in response.bands:
        assert band.response.max() == 1 and band.response.min() >= 0
        low, high = band.range_nm
        assert 300 < low < band.half_maximum_nm[0] <= band.center_nm <= band.half_maximum_nm[1] < high < 14_100
        assert 5 < band.fwhm_nm < 2500
        assert (band.kind == "thermal") == (band.center_nm > 3000)
    assert len(response.reflective()) >= 3
    assert response.source


def test_approximate_sensors_say_so_and_tabulated_ones_name_their_table():
    for summary in list_sensors():
        response = load_response(summary.name)
        assert (
            summary.approximate
            == response.approximate
            == response.title.endswith("(approximate)")
            == ("pyrsr" not in response.source)
        )
        assert summary.band_names == response.reflective().band_names
        assert set(summary.band_names) | set(summary.other_band_names) == set(response.band_names)


def test_listing_sensors_reads_no_table():
    heavy = "{'pyrsr', 'scipy', 'matplotlib', 'rasterio', 'torch'}"
    code = f"import sys; from geofuse.sensors import list_sensors; list_sensors(); print(sorted({heavy} & set(sys.modules)))"
    out = run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert out.stdout.strip() == "[]"


def test_gaussian_and_flat_topped_bands_have_the_width_asked_for():
    gaussian, flat = gaussian_band("g", 550, 70), flat_topped_band("f", 450.0, 515.5)
    assert (gaussian.center_nm, gaussian.fwhm_nm) == pytest.approx((550, 70), rel=1e-3)
    assert flat.half_maximum_nm == pytest.approx((450, 515.5), abs=0.1)


def test_a_flat_topped_band_stands_in_for_measured_ones_better_than_a_gaussian_or_a_box(spectra):
    def error(make):
        worst = []
        for name in ("landsat5", "landsat7", "landsat8", "landsat9", "sentinel2a", "rapideye", "spot5", "aster"):
            bands = load_response(name).reflective().bands
            true, found = spectra.seen_by(bands), spectra.seen_by([make(band) for band in bands])
            worst.append(np.sqrt(((found / true - 1) ** 2).mean(axis=0)))
        return np.median(np.concatenate(worst))

    def box(band):
        low, high = band.half_maximum_nm
        return ResponseBand(band.name, np.array([low - 0.01, low, high, high + 0.01]), np.array([0, 1, 1, 0]))

    flat = error(lambda band: flat_topped_band(band.name, *band.half_maximum_nm))
    assert flat < 0.004
    assert flat < 0.7 * error(box)
    assert flat < 0.15 * error(lambda band: gaussian_band(band.name, band.center_nm, band.fwhm_nm))


@pytest.mark.parametrize(
    ("wavelength", "response", "says"),
    [
        ([400, 500, 450], [0, 1, 0], "increasing"),
        ([400, 450, 500], [0, np.nan, 0], "finite"),
        ([400, 450, 500], [0, 0, 0], "zero"),
        ([400, 450], [1, 1], "at least 3"),
        ([400, 450, 500], [1, 1], "one value each"),
    ],
)
def test_a_band_that_cannot_be_a_response_is_refused(wavelength, response, says):
    with pytest.raises(InputError, match=says):
        ResponseBand("b", np.array(wavelength, float), np.array(response, float))
