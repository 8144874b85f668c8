"""The sample scene: same seed same bytes, sane spectra, and two images that really come from the reference."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from geofuse.degradation import SpatialOperator
from geofuse.demo import DemoPaths, make_demo
from geofuse.demo.canvas import CELLS, Canvas, Frame
from geofuse.demo.layout import divide, make_plan
from geofuse.demo.pair import MSI_SNR_DB, RATIO, hsi_bands, hsi_snr_db
from geofuse.demo.spectra import WAVELENGTH_NM, SpectralLibrary, band_average, materials, skylight
from geofuse.errors import UsageError
from geofuse.sensors import load_response, response_matrix
from geofuse.sensors.psf import Psf

SIZE = 128
GREEN_PLANTS = ("lawn", "oak", "beech", "birch", "poplar", "willow", "spruce", "pine")
WATERS = ("river deep", "river shallow", "lake deep", "lake green", "lake shallow")
SOILS = ("soil dark", "soil loam", "soil sand", "soil red")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> DemoPaths:
    return make_demo(tmp_path_factory.mktemp("demo"), seed=3, size=SIZE)


def read(path: Path) -> np.ndarray:
    """Physical values (band, y, x), NaN = no data, by rasterio alone."""
    with rasterio.open(path) as dataset:
        values = dataset.read(masked=True).astype(np.float64) * dataset.scales[0] + dataset.offsets[0]
    return values.filled(np.nan)


def hashes(paths: DemoPaths) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in (paths.hsi, paths.msi, paths.reference, paths.mask)]


def at(spectrum: np.ndarray, nm: float) -> float:
    return float(np.interp(nm, WAVELENGTH_NM, spectrum))


# --- files ---------------------------------------------------------------------------------------------------------------


def test_same_seed_gives_the_same_bytes_and_another_seed_other_images(tmp_path: Path) -> None:
    first = hashes(make_demo(tmp_path / "a", seed=7, size=64))
    assert hashes(make_demo(tmp_path / "a", seed=7, size=64)) == first
    other = hashes(make_demo(tmp_path / "c", seed=8, size=64))
    assert all(one != two for one, two in zip(first, other, strict=True))


def test_the_number_of_threads_does_not_change_the_bytes(tmp_path: Path) -> None:
    """At the default size: dense matrix products were seen to differ there, and in smaller scenes not."""
    code = "import sys; from geofuse.demo import make_demo; make_demo(sys.argv[1], seed=3)"
    path = os.pathsep.join(sys.path)
    runs = []
    for threads in ("1", "2"):
        limits = {name: threads for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        command = [sys.executable, "-c", code, str(tmp_path / threads)]
        runs.append(subprocess.Popen(command, env={**os.environ, **limits, "PYTHONPATH": path}))
    assert [run.wait() for run in runs] == [0, 0]
    one, two = (DemoPaths(*(tmp_path / n / f"{name}.tif" for name in ("hsi", "msi", "reference", "mask"))) for n in "12")
    assert hashes(one) == hashes(two)


def test_images_are_scaled_int16_on_nested_utm_grids(paths: DemoPaths) -> None:
    with rasterio.open(paths.hsi) as hsi, rasterio.open(paths.msi) as msi, rasterio.open(paths.reference) as reference:
        for image in (hsi, msi, reference):
            assert image.dtypes[0] == "int16" and image.nodata == -9999
            assert set(image.scales) == {1e-4} and set(image.offsets) == {0.0}
            assert image.crs.to_epsg() == 32633
        assert (reference.width, reference.height) == (msi.width, msi.height) == (SIZE, SIZE)
        assert reference.transform == msi.transform and msi.res == (7.5, 7.5)
        assert hsi.res == (30, 30) and (hsi.width, hsi.height) == (SIZE // RATIO, SIZE // RATIO)
        assert (hsi.transform.c, hsi.transform.f) == (msi.transform.c, msi.transform.f)
        assert hsi.count == reference.count == 201 and msi.count == 7


def test_bands_carry_both_wavelength_conventions(paths: DemoPaths) -> None:
    centre, fwhm = hsi_bands()
    for path in (paths.hsi, paths.reference):
        with rasterio.open(path) as image:
            for i in range(1, image.count + 1):
                tags, imagery = image.tags(i), image.tags(i, ns="IMAGERY")
                assert float(tags["wavelength"]) == pytest.approx(centre[i - 1], abs=1e-3)
                assert float(tags["fwhm"]) == pytest.approx(fwhm[i - 1], abs=1e-3)
                assert tags["wavelength_units"] == "Nanometers" and float(tags["bbl"]) == 1
                assert float(imagery["CENTRAL_WAVELENGTH_UM"]) == pytest.approx(centre[i - 1] / 1000, abs=1e-6)
                assert float(imagery["FWHM_UM"]) == pytest.approx(fwhm[i - 1] / 1000, abs=1e-6)
    with rasterio.open(paths.msi) as image:
        assert image.descriptions == ("B1 coastal", "B2 blue", "B3 green", "B4 red", "B5 nir", "B6 swir1", "B7 swir2")
        assert float(image.tags(5)["wavelength"]) == pytest.approx(865, abs=2)


def test_bands_leave_out_the_water_vapour_gaps_and_reach_the_swir() -> None:
    centre, fwhm = hsi_bands()
    assert len(centre) == 201 and (np.diff(centre) > 0).all()
    assert centre[0] < 410 and centre[-1] > 2480 and (fwhm > 8).all() and (fwhm < 12).all()
    assert not ((centre > 1340) & (centre < 1450)).any() and not ((centre > 1790) & (centre < 1960)).any()


def test_the_corner_without_data_is_declared_and_the_reference_is_whole(paths: DemoPaths) -> None:
    hsi, msi, reference, mask = (read(path) for path in (paths.hsi, paths.msi, paths.reference, paths.mask))
    for image in (hsi, msi, mask):
        gap = np.isnan(image)
        assert (gap == gap[:1]).all()  # the same pixels in every band
        assert gap[0, 0, 0] and not gap[0, -1].any() and not gap[0, :, -1].any()
        assert 0.01 < gap[0].mean() < 0.1
    assert np.isfinite(reference).all()
    assert (np.isnan(mask[0]) == np.isnan(msi[0])).all()
    coarse_gap = np.kron(np.isnan(hsi[0]), np.ones((RATIO, RATIO), bool))
    assert coarse_gap[np.isnan(msi[0])].all()  # the hyperspectral swath ends first


def test_the_mask_marks_what_is_white_in_the_images(paths: DemoPaths) -> None:
    mask, blue = read(paths.mask)[0], read(paths.msi)[1]
    assert set(np.unique(mask[np.isfinite(mask)])) == {0.0, 1.0}
    assert 0.005 < np.nanmean(mask) < 0.06
    assert np.median(blue[mask == 1]) > 4 * np.median(blue[mask == 0])


# --- where the images come from ---------------------------------------------------------------------------------------------


def relative_noise(image: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Root mean square of the difference over that of the clean image, a value a band, where there are data."""
    good = np.isfinite(image[0])
    return np.sqrt(((image - clean)[:, good] ** 2).mean(axis=1) / (clean**2).mean(axis=(1, 2)))


def test_hsi_is_the_blurred_reference_with_the_stated_noise(paths: DemoPaths) -> None:
    with rasterio.open(paths.hsi) as dataset:
        psf = Psf.from_tag(dataset.tags()["GEOFUSE_PSF"])
    assert psf == Psf("gaussian", 1.0)
    clean = SpatialOperator(psf, RATIO, SIZE, SIZE).forward(read(paths.reference))
    noise = relative_noise(read(paths.hsi), clean)
    assert noise == pytest.approx(10 ** (-hsi_snr_db(hsi_bands()[0]) / 20), rel=0.15)


def test_msi_is_the_reference_under_the_sensors_response_with_the_stated_noise(paths: DemoPaths) -> None:
    matrix = response_matrix(load_response("landsat8").reflective(), *hsi_bands())
    clean = np.tensordot(matrix, read(paths.reference), axes=1)
    assert relative_noise(read(paths.msi), clean) == pytest.approx(10 ** (-MSI_SNR_DB / 20), rel=0.05)


def test_the_reference_is_reflectance_and_spans_more_than_ten_spectral_dimensions(paths: DemoPaths) -> None:
    reference = read(paths.reference)
    assert reference.min() > 0 and reference.max() < 1
    pixels = reference.reshape(len(reference), -1)
    strength = np.linalg.svd(pixels - pixels.mean(axis=1, keepdims=True), compute_uv=False)
    deviation = strength / np.sqrt(pixels.shape[1])
    assert (deviation > 1e-3).sum() > 10  # a thousandth of full reflectance
    assert deviation[80] < 2e-4  # what is left is rounding


# --- spectra ----------------------------------------------------------------------------------------------------------------


def test_every_material_is_a_reflectance() -> None:
    for name, spectrum in materials().items():
        assert np.isfinite(spectrum).all() and 0 < spectrum.min() and spectrum.max() < 1, name


@pytest.mark.parametrize("name", GREEN_PLANTS)
def test_green_plants_have_a_green_peak_a_red_edge_and_leaf_water(name: str) -> None:
    plant = materials()[name]
    assert at(plant, 555) > 1.4 * at(plant, 480) and at(plant, 555) > 1.3 * at(plant, 675)
    assert at(plant, 800) > 6 * at(plant, 675)
    edge = WAVELENGTH_NM[np.argmax(np.gradient(plant))]
    assert 690 < edge < 740
    for band, shoulder in ((973, 1060), (1190, 1270), (1450, 1650), (1940, 2200)):
        assert at(plant, band) < at(plant, shoulder)


@pytest.mark.parametrize("name", WATERS)
def test_water_is_dark_in_the_short_wave_infrared(name: str) -> None:
    water = materials()[name]
    assert water[WAVELENGTH_NM > 1000].max() < 0.02 < 0.2 and at(water, 560) > at(water, 850)


@pytest.mark.parametrize("name", SOILS)
def test_soils_rise_and_show_clay_at_2200_nm(name: str) -> None:
    soil = materials()[name]
    assert at(soil, 480) < at(soil, 660) < at(soil, 1600)
    assert at(soil, 2205) < 0.99 * 0.5 * (at(soil, 2145) + at(soil, 2265))


def test_clay_tiles_have_the_iron_edge_and_skylight_is_blue() -> None:
    tile = materials()["tile bright"]
    assert at(tile, 650) > 2.5 * at(tile, 500) and at(tile, 860) < at(tile, 740)
    assert (np.diff(skylight()) <= 0).all() and 0 < skylight().min() and skylight().max() < 1


def test_a_narrow_band_reads_the_spectrum_itself_and_a_constant_stays() -> None:
    ramp = np.stack([np.ones_like(WAVELENGTH_NM), WAVELENGTH_NM / 3000], axis=1)
    seen = band_average(ramp, np.array([500.0, 1500.0]), np.array([10.0, 12.0]))
    assert seen == pytest.approx(np.array([[1, 500 / 3000], [1, 0.5]]), rel=1e-6)


# --- drawing ----------------------------------------------------------------------------------------------------------------


def test_a_pixel_on_a_border_is_mixed_by_area() -> None:
    frame, library = Frame(2 * CELLS, 1.0), SpectralLibrary()
    canvas = Canvas(frame, library, library["lawn"])
    column = np.tile(np.arange(frame.cells), frame.cells)
    canvas.paint(column < 3, library["concrete"])  # three of the four columns of the left pixels
    centre, fwhm = np.array([550.0, 850.0, 1650.0]), np.full(3, 10.0)
    lawn, concrete = library.seen_by(centre, fwhm)[:, [library["lawn"], library["concrete"]]].T
    image = canvas.render(centre, fwhm)
    assert image[:, 0, 0] == pytest.approx(0.75 * concrete + 0.25 * lawn, rel=1e-5)
    assert image[:, 1, 1] == pytest.approx(lawn, rel=1e-5)


def test_a_shadow_falls_away_from_the_sun_and_is_darker_and_bluer() -> None:
    frame, library = Frame(8 * CELLS, 1.875), SpectralLibrary()
    canvas = Canvas(frame, library, library["concrete"])
    tower = np.zeros(frame.shape, bool)
    tower[16:20, 16:20] = True
    canvas.height_m[tower.ravel()] = 12.0
    canvas.cast_shadows()
    image = canvas.render(np.array([450.0, 1650.0]), np.full(2, 10.0))
    north_west, south_east = image[:, 3, 3], image[:, 6, 6]
    ratio = north_west / south_east
    assert ratio[1] < ratio[0] < 0.9


def test_parcels_and_borders_are_disjoint_parts_of_the_land() -> None:
    rng = np.random.default_rng(0)
    plan = make_plan(Frame(200, 3.0), rng)
    land = np.flatnonzero(plan.x > 90)
    parcels, borders = divide(land, plan, 8000.0, lambda depth: ("margin", 6.0), rng)
    parts = np.concatenate([p.cells for p in parcels] + [b.cells for b in borders])
    assert len(np.unique(parts)) == len(parts) and np.isin(parts, land).all()
    assert len(parts) > 0.98 * len(land) and len(parcels) > 15


# --- arguments and the command ----------------------------------------------------------------------------------------------


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        make_demo(tmp_path / "taken")


@pytest.mark.parametrize(("seed", "size"), [(-1, 128), (0, 130), (0, 32), (0, 4096)])
def test_seed_and_size_out_of_range_are_refused_before_anything_is_written(tmp_path: Path, seed: int, size: int) -> None:
    with pytest.raises(UsageError):
        make_demo(tmp_path / "out", seed=seed, size=size)
    assert not (tmp_path / "out").exists()


def test_the_command_replaces_old_files_and_names_the_next_command(tmp_path: Path) -> None:
    from geofuse_cli.commands.demo import command

    folder = tmp_path / "my demo"
    folder.mkdir()
    (folder / "hsi.tif").write_text("old")
    result = CliRunner().invoke(command, [str(folder), "--size", "64"], catch_exceptions=False)
    lines = result.output.splitlines()
    assert result.exit_code == 0 and len(lines) == 4
    assert lines[-1] == f"next: geofuse run '{folder}/hsi.tif' '{folder}/msi.tif' --srf landsat8 -o '{folder}/fused.tif'"
    assert sorted(path.name for path in folder.iterdir()) == ["hsi.tif", "mask.tif", "msi.tif", "reference.tif"]
    assert read(folder / "hsi.tif").shape == (201, 16, 16)
