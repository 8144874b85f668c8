"""The matrix R: sums, invariances, coverage, and accuracy on spectra that no weight rule has seen."""

from pathlib import Path

import numpy as np
import pytest

from geofuse.errors import InputError
from geofuse.sensors import coverage, load_response, noise_gain, response_matrix
from geofuse.sensors.response import SensorResponse, gaussian_band

DATA = Path(__file__).parents[3] / "shared/data"
AVIRIS = np.arange(375.0, 2505.0, 10.0)


def width(value, center=AVIRIS):
    return np.full(len(center), float(value))


def one_band(center, fwhm):
    return SensorResponse("one", "One", (gaussian_band("only", center, fwhm),), True, "test")


def weights_by_overlap(response, center, fwhm, spacing):
    """The plain rule: overlap of response and HSI band, times the spacing."""
    grid = np.arange(350, 2600, 0.5)
    exponent = (grid - center[:, None]) / fwhm[:, None]
    bands = np.exp(-4 * np.log(2) * exponent**2) / fwhm[:, None]
    weights = np.array([np.trapezoid(band.at(grid) * bands, grid, axis=1) for band in response.bands]) * spacing
    return weights / weights.sum(axis=1, keepdims=True)


def without_gaps(center):
    """AVIRIS-like: water bands and a few others dropped."""
    gaps = [(1350, 1420), (1800, 1950), (755, 765), (600, 610)]
    return center[~np.any([(center > low) & (center < high) for low, high in gaps], axis=0)]


def grids():
    """Name, centres, FWHM, spacing of HSIs unlike each other."""
    gappy = without_gaps(AVIRIS)
    coarse, fine = np.arange(380.0, 2500.0, 15.0), np.arange(380.0, 2500.0, 5.0)
    yield "fwhm = spacing", AVIRIS, width(10), 10.0
    yield "fwhm = 2 spacings", AVIRIS, width(20), 10.0
    yield "fwhm = half a spacing", AVIRIS, width(5), 10.0
    yield "gaps", gappy, width(10, gappy), 10.0
    yield "coarse", coarse, width(15, coarse), 15.0
    yield "fine", fine, width(6, fine), 5.0


@pytest.mark.parametrize(
    ("name", "center", "fwhm", "spacing"), list(grids()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_weights_predict_the_msi_of_smooth_spectra_better_than_the_overlap_integral(spectra, name, center, fwhm, spacing):
    response = load_response("landsat8").reflective()
    s2 = load_response("sentinel2a").reflective()
    bands = (*response.bands, *(band for band in s2.bands if band.name not in ("B9",)))
    both = SensorResponse("both", "Both", bands, False, "test")
    truth, hsi = spectra.seen_by(bands), spectra.seen_by_gaussians(center, fwhm)

    def rms(matrix):
        return np.sqrt(np.mean((hsi @ matrix.T / truth - 1) ** 2))

    matrix = response_matrix(both, center, fwhm)
    plain = weights_by_overlap(both, center, fwhm, spacing)
    assert rms(matrix) < 0.01
    assert rms(matrix) < 0.62 * rms(plain)
    assert noise_gain(matrix).mean() < 2.5 * noise_gain(plain).mean()
    assert noise_gain(matrix).max() <= 1


@pytest.mark.parametrize("sensor", ["landsat8", "sentinel2b", "modis", "worldview2", "rgb"])
def test_rows_sum_to_one_are_not_negative_and_keep_a_constant(sensor):
    response = load_response(sensor).reflective()
    matrix = response_matrix(response, AVIRIS, width(10))
    assert matrix.shape == (len(response), len(AVIRIS)) and matrix.dtype == np.float64
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(matrix @ np.full(len(AVIRIS), 0.37), 0.37, rtol=1e-12)


def test_no_weight_is_too_small_to_matter():
    matrix = response_matrix(load_response("modis"), AVIRIS, width(10))
    assert matrix[matrix > 0].min() > 1e-4


def test_weights_stay_near_the_bands_own_wavelengths():
    response = load_response("landsat8").reflective()
    matrix = response_matrix(response, AVIRIS, width(10))
    for row, band in zip(matrix, response.bands, strict=True):
        low, high = band.range_nm
        assert row[(AVIRIS < low - 15) | (AVIRIS > high + 15)].sum() < 0.01
        assert row @ AVIRIS == pytest.approx(band.center_nm, abs=6)


@pytest.mark.parametrize("fwhm", [10.0, np.nan])
def test_permuting_the_hsi_bands_permutes_the_columns(fwhm):
    response = load_response("landsat8").reflective()
    center = np.sort(np.concatenate([AVIRIS, np.arange(902.0, 1000.0, 8.0)]))
    good = np.ones(len(center), bool)
    good[[20, 90]] = False
    order = np.random.default_rng(3).permutation(len(center))
    matrix = response_matrix(response, center, width(fwhm, center), good, min_coverage=0.8)
    permuted = response_matrix(response, center[order], width(fwhm, center), good[order], min_coverage=0.8)
    np.testing.assert_allclose(permuted, matrix[:, order], atol=1e-9)
    np.testing.assert_allclose(
        coverage(response, center[order], width(fwhm, center)), coverage(response, center, width(fwhm, center))
    )


def test_the_scale_of_a_response_does_not_matter():
    band = gaussian_band("only", 700, 60)
    scaled = type(band)("only", band.wavelength_nm, 1000 * band.response)
    other = SensorResponse("one", "One", (scaled,), True, "test")
    np.testing.assert_allclose(response_matrix(other, AVIRIS, width(10)), response_matrix(one_band(700, 60), AVIRIS, width(10)))


def test_bands_that_see_the_same_share_their_weight():
    twice = np.concatenate([AVIRIS, AVIRIS])
    once = response_matrix(one_band(700, 60), AVIRIS, width(10))[0]
    first, second = np.split(response_matrix(one_band(700, 60), twice, width(10, twice))[0], 2)
    np.testing.assert_allclose(first, second, atol=1e-9)
    np.testing.assert_allclose(first + second, once, atol=0.02)


def test_an_hsi_band_equal_to_the_msi_band_gets_nearly_all_the_weight():
    center, fwhm = np.array([500.0, 520.0, 540.0]), np.array([20.0, 20.0, 20.0])
    assert response_matrix(one_band(520, 20), center, fwhm)[0, 1] > 0.97


def test_bad_bands_get_no_weight_and_cover_nothing():
    response = load_response("landsat8").reflective()
    good = (AVIRIS < 850) | (AVIRIS > 880)
    with pytest.raises(InputError, match="B5"):
        response_matrix(response, AVIRIS, width(10), good)
    assert coverage(response, AVIRIS, width(10), good)[4] < 0.3
    good = np.arange(len(AVIRIS)) % 7 != 3
    matrix = response_matrix(response, AVIRIS, width(10), good, min_coverage=0.3)
    assert (matrix[:, ~good] == 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1)


def test_bad_bands_may_lack_a_wavelength():
    center = AVIRIS.copy()
    good = np.ones(len(center), bool)
    center[[0, 150]], good[[0, 150]] = (np.nan, 0.0), False
    assert np.isfinite(response_matrix(load_response("rgb"), center, width(np.nan), good)).all()


def test_coverage_is_the_share_of_the_response_near_good_bands():
    band = one_band(700, 40)
    assert coverage(band, np.arange(600.0, 801.0, 10.0), np.full(21, 10.0)) == pytest.approx([1.0], abs=1e-6)
    assert coverage(band, np.arange(605.0, 700.0, 10.0), np.full(10, 10.0)) == pytest.approx([0.5], abs=1e-6)
    gap = np.concatenate([np.arange(600.0, 681.0, 10.0), np.arange(720.0, 801.0, 10.0)])
    sigma = 40 / 2.3548
    outside = 1 - 0.6232  # the share of a Gaussian beyond 15 nm from its centre, sigma 16.99
    assert sigma == pytest.approx(16.99, abs=0.01)
    assert coverage(band, gap, np.full(18, 10.0)) == pytest.approx([outside], abs=0.01)


def test_where_fwhm_is_unknown_the_spacing_stands_in():
    response = load_response("landsat8").reflective()
    np.testing.assert_allclose(response_matrix(response, AVIRIS, width(np.nan)), response_matrix(response, AVIRIS, width(10)))


def test_narrow_bands_far_apart_cover_what_lies_between_them():
    response = load_response("landsat8").reflective()
    assert coverage(response, AVIRIS, width(2)).min() > 0.99


def test_a_band_that_is_not_covered_is_refused_by_name_with_the_remedy():
    response = load_response("landsat8").reflective()
    vnir = np.arange(400.0, 868.0, 5.0)
    with pytest.raises(InputError) as caught:
        response_matrix(response, vnir, width(5, vnir))
    text = str(caught.value)
    assert "B5 (865 nm) to" in text and "B6 (1609 nm) to 0 %" in text and "Landsat 8" in text and "90 %" in text
    assert "--msi-bands B1,B2,B3,B4" in text and "B4," not in text.split("--msi-bands")[1]
    first = response.select(range(5))
    with pytest.raises(InputError, match=r"or relax with --min-coverage 0\.\d+"):
        response_matrix(first, vnir, width(5, vnir))
    assert response_matrix(first, vnir, width(5, vnir), min_coverage=0.5).shape == (5, len(vnir))


def test_a_band_that_no_hsi_band_sees_is_refused_even_with_coverage_zero():
    with pytest.raises(InputError, match="B6"):
        response_matrix(load_response("landsat8").reflective(), np.arange(400.0, 1000.0, 5.0), np.full(120, 5.0), min_coverage=0.0)


@pytest.mark.parametrize(
    ("center", "says"),
    [
        (np.full(5, np.nan), "no wavelengths.*--wavelengths file.csv"),
        (np.zeros(5), "no wavelengths"),
        (np.array([400, 500, np.nan, 600, 700.0]), "1 of the HSI's 5 good bands have no wavelength.*--wavelengths"),
        (np.linspace(0.4, 2.5, 5), "micrometres"),
    ],
)
def test_missing_wavelengths_are_refused_with_the_remedy(center, says):
    with pytest.raises(InputError, match=says) as caught:
        response_matrix(load_response("rgb"), center, np.full(5, 10.0))
    assert "\n" not in str(caught.value)


def test_no_good_band_is_refused():
    with pytest.raises(InputError, match="no good bands"):
        response_matrix(load_response("rgb"), AVIRIS, width(10), np.zeros(len(AVIRIS), bool))


def test_a_single_hsi_band_works_when_its_width_is_known():
    band = one_band(550, 40)
    assert response_matrix(band, np.array([550.0]), np.array([60.0])).tolist() == [[1.0]]
    with pytest.raises(InputError, match="no FWHM"):
        response_matrix(band, np.array([550.0]), np.array([np.nan]))


@pytest.mark.parametrize("count", [193, 198, 204, 205])
def test_the_wald_benchmark_scenes_are_covered(count):
    center = np.linspace(400.0, 2450.0, count)
    response = load_response("landsat8").reflective()
    assert coverage(response, center, np.full(count, 10.0)).min() > 0.99


def band_tags(path):
    rasterio = pytest.importorskip("rasterio")
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    with rasterio.open(path) as source:
        tags = [source.tags(i) for i in source.indexes]
    return np.array([float(tag["wavelength"]) for tag in tags]), np.array([float(tag["fwhm"]) for tag in tags])


@pytest.mark.parametrize(
    ("scene", "sensor"),
    [
        ("scenes/abu-airport-1.tif", "landsat8"),
        ("scenes/jasper-ridge.tif", "landsat8"),
        ("enmap-potsdam/enmap_potsdam_A_64r_128c.tif", "landsat8"),
        ("enmap-potsdam/enmap_potsdam_A_64r_128c.tif", "sentinel2a"),
        ("scenes/abu-beach-4.tif", "srf/vnir4.csv"),
        ("scenes/cave-balloons.tif", "rgb"),
    ],
)
def test_real_scenes_have_usable_weights(scene, sensor):
    center, fwhm = band_tags(DATA / scene)
    response = load_response(DATA / sensor if sensor.endswith(".csv") else sensor).reflective()
    matrix = response_matrix(response, center, fwhm)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert noise_gain(matrix).max() < 0.9
