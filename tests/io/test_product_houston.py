"""DFC2018 Houston, on files built to the published layout."""

import numpy as np
import pytest
from affine import Affine

from geofuse.errors import InputError, UsageError
from geofuse.io import open_scene
from geofuse.io.averaging import average
from geofuse.io.products import houston
from geofuse.io.products.detect import find_product

NAME = "2018_IEEE_GRSS_DFC_HSI_TR"
MAP_INFO = "{UTM, 1, 1, 271460, 3290891, 1, 1, 15, North, North America 1983}"
PIXEL = 0.05
TILE = (60, 40)  # rows, columns


def write_hsi(folder, files, n_bands=50, **fields):
    stored = np.random.default_rng(1).integers(100, 9000, (n_bands, 12, 20)).astype("uint16")
    path = folder / NAME
    files.make_envi(path, stored, header_path=folder / f"{NAME}.HDR", map_info=MAP_INFO, **fields)
    return path, stored


def write_tiles(folder, files, positions, shape=TILE):
    """Write tiles at (row, column) positions of a grid of tiles; return the mosaic (3, rows, columns), 0 where there is none."""
    folder.mkdir()
    n_down, n_across = (1 + max(p[axis] for p in positions) for axis in (0, 1))
    whole = np.zeros((3, n_down * shape[0], n_across * shape[1]), "uint8")
    for row, column in positions:
        values = np.random.default_rng(10 * row + column).integers(1, 255, (3, *shape)).astype("uint8")
        values[:, 5:8, 5:9] = 0  # a hole
        values[0, 20, 20] = 0  # dark in one band only
        whole[:, row * shape[0] : (row + 1) * shape[0], column * shape[1] : (column + 1) * shape[1]] = values
        x, y = 271460 + column * shape[1] * PIXEL, 3290290 - row * shape[0] * PIXEL
        grid = Affine(PIXEL, 0, x, 0, -PIXEL, y)
        name = folder / f"UH_NAD83_{271460 + 596 * column}_{3290290 - 601 * row}.tif"
        files.make_tif(name, values, crs="EPSG:26915", transform=grid, photometric="RGB")
    return whole


def expected_rgb(whole):
    return np.where((whole == 0).all(axis=0), np.nan, whole.astype(np.float32))


@pytest.mark.parametrize("suffix", ["", ".HDR"])
def test_either_file_of_the_pair_opens_the_48_spectral_bands_and_says_what_was_dropped(tmp_path, files, suffix):
    _, stored = write_hsi(tmp_path, files)
    scene = open_scene(tmp_path / f"{NAME}{suffix}")
    np.testing.assert_array_equal(scene.values, stored[:48].astype(np.float32))
    assert scene.attrs["product"] == "DFC2018 Houston (hyperspectral)"
    assert any("last two of 50 bands are not spectral and are dropped" in note for note in scene.attrs["notes"])
    assert tuple(scene.rio.transform())[:6] == (1, 0, 271460, 0, -1, 3290891)


def test_wavelengths_of_the_header_decide(tmp_path, files):
    wavelength = [*np.linspace(400, 1000, 48).round(2), 0, 0]
    listed = "{" + ", ".join(map(str, wavelength)) + "}"
    write_hsi(tmp_path, files, wavelength=listed, wavelength_units="Nanometers")
    scene = open_scene(tmp_path / NAME)
    np.testing.assert_allclose(scene.wavelength, wavelength[:48])
    assert not any("approximate" in note for note in scene.attrs["notes"])


def test_without_wavelengths_they_are_spread_over_the_published_range_and_called_approximate(tmp_path, files):
    write_hsi(tmp_path, files)
    scene = open_scene(tmp_path / NAME)
    np.testing.assert_allclose(np.diff(scene.wavelength), 670 / 48)
    assert scene.wavelength.values[0] - 670 / 96 == pytest.approx(380) and scene.wavelength.values[-1] + 670 / 96 == pytest.approx(
        1050
    )
    assert any("approximate" in note for note in scene.attrs["notes"])
    assert open_scene(tmp_path / NAME, wavelengths=np.linspace(400, 900, 48)).wavelength.values[0] == 400


def test_a_file_of_that_name_with_other_bands_is_refused(tmp_path, files):
    write_hsi(tmp_path, files, n_bands=49)
    with pytest.raises(InputError, match="49 bands; expected the 50"):
        open_scene(tmp_path / NAME)


def test_a_truncated_image_is_refused(tmp_path, files):
    path, _ = write_hsi(tmp_path, files)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated"):
        open_scene(path)


def test_tiles_lie_side_by_side_black_is_no_data_and_so_is_a_missing_tile(tmp_path, files):
    whole = write_tiles(tmp_path / "Final RGB HR Imagery", files, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)])
    scene = open_scene(tmp_path / "Final RGB HR Imagery")
    np.testing.assert_array_equal(scene.values, expected_rgb(whole))
    assert tuple(scene.rio.transform())[:6] == pytest.approx((PIXEL, 0, 271460, 0, -PIXEL, 3290290))
    assert scene.rio.crs.to_epsg() == 26915 and tuple(scene.band_name.values) == ("red", "green", "blue")
    assert scene.attrs["product"] == "DFC2018 Houston (RGB tiles)" and len(scene.attrs["files"]) == 5


def test_chunks_do_not_change_the_mosaic(tmp_path, files):
    whole = write_tiles(tmp_path / "rgb", files, [(0, 0), (1, 1)])
    np.testing.assert_array_equal(open_scene(tmp_path / "rgb", chunks=33).values, expected_rgb(whole))


def test_opening_the_tiles_reads_no_pixel(tmp_path, files, monkeypatch):
    from geofuse.io.reader import ChunkReader

    def refuse(*_):
        raise AssertionError("read")

    write_tiles(tmp_path / "rgb", files, [(0, 0), (0, 1)])
    monkeypatch.setattr(ChunkReader, "read", refuse)
    assert open_scene(tmp_path / "rgb").shape == (3, 60, 80)


def test_the_rgb_is_averaged_to_the_pixel_size_asked_for(tmp_path, files):
    whole = write_tiles(tmp_path / "rgb", files, [(0, 0), (0, 1)])
    scene = houston.open_product(tmp_path / "rgb", average_to_m=0.5)
    assert scene.shape == (3, 6, 8) and scene.rio.resolution() == pytest.approx((0.5, -0.5))
    blocks = expected_rgb(whole).reshape(3, 6, 10, 8, 10)
    np.testing.assert_allclose(scene.values, np.nanmean(blocks, axis=(2, 4)), rtol=1e-6)
    assert scene.x.values[0] == pytest.approx(271460.25)
    assert any("averaged to 0.5 m, 10 x 10 pixels" in note for note in scene.attrs["notes"])


@pytest.mark.parametrize("metres", [0.12, 0.01, 0.0, -0.5])
def test_a_pixel_size_that_is_no_multiple_is_refused(tmp_path, files, metres):
    write_tiles(tmp_path / "rgb", files, [(0, 0)])
    with pytest.raises(UsageError, match="not a multiple"):
        houston.open_product(tmp_path / "rgb", average_to_m=metres)


def test_a_mean_of_too_few_pixels_is_no_data(tmp_path, files):
    stored = np.full((1, 4, 6), 8, "int16")
    stored[0, :2, 0] = -1  # half of the first block
    stored[0, :2, 2:4] = -1
    stored[0, 0, 2] = 5  # a quarter of the second
    stored[0, 0, 4] = 0
    scene = average(open_scene(files.make_tif(tmp_path / "a.tif", stored, nodata=-1)), 2)
    np.testing.assert_array_equal(scene.values[0], [[8, np.nan, 6], [8, 8, 8]])
    assert tuple(scene.rio.transform())[:6] == (60, 0, 365055, 0, -60, 5807085)


@pytest.mark.parametrize("n", [0, -2, 1.5])
def test_blocks_to_average_are_whole(tmp_path, files, n):
    scene = open_scene(files.make_tif(tmp_path / "a.tif", files.counts()))
    with pytest.raises(UsageError, match="whole number"):
        average(scene, n)


def test_tiles_of_another_grid_are_refused(tmp_path, files):
    write_tiles(tmp_path / "rgb", files, [(0, 0)])
    shifted = Affine(PIXEL, 0, 271460 + 40.5 * PIXEL, 0, -PIXEL, 3290290)
    values = np.ones((3, *TILE), "uint8")
    files.make_tif(tmp_path / "rgb" / "UH_NAD83_272056_3290290.tif", values, crs="EPSG:26915", transform=shifted)
    with pytest.raises(InputError, match="expected whole pixels"):
        open_scene(tmp_path / "rgb")


def test_other_folders_and_files_are_not_taken_for_houston(tmp_path, files):
    files.make_tif(tmp_path / "rgb.tif", files.counts())
    assert find_product(tmp_path) is None and find_product(tmp_path / "rgb.tif") is None
