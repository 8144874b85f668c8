"""Landsat Collection 2 Level-2 folders, built to the published layout."""

import numpy as np
import pytest

from geofuse.errors import InputError, OutputError
from geofuse.io import open_scene
from geofuse.io.products import landsat
from geofuse.io.products.detect import find_product
from geofuse.pipeline import refuse_overwriting_input
from geofuse.sensors import load_response, match_bands

L8 = "LC08_L2SP_020039_20150804_20200908_02_T1"
L7 = "LE07_L2SP_020039_20020804_20200908_02_T1"
SHAPE = (1, 40, 30)


def write(folder, files, product=L8, numbers=(1, 2, 3, 4, 5, 6, 7), quality=None, **profile):
    folder.mkdir(exist_ok=True)
    stored = {}
    for number in numbers:
        values = np.random.default_rng(number).integers(7273, 43636, SHAPE).astype("uint16")
        values[0, 0, number] = 0
        stored[number] = values
        files.make_tif(folder / f"{product}_SR_B{number}.TIF", values, nodata=0, **profile)
    if quality is not None:
        files.make_tif(folder / f"{product}_QA_PIXEL.TIF", quality, nodata=1)
    files.make_tif(folder / f"{product}_ST_B10.TIF", stored[1], nodata=0)
    files.make_tif(folder / f"{product}_SR_QA_AEROSOL.TIF", stored[1].astype("uint8"))
    (folder / f"{product}_MTL.txt").write_text("GROUP = LANDSAT_METADATA_FILE\nEND\n")
    return stored


def clear():
    return np.full(SHAPE, 21824, "uint16")  # clear land, low confidences


def test_values_are_reflectance_and_fill_is_nan(tmp_path, files):
    stored = write(tmp_path / "scene", files, quality=clear())
    scene = open_scene(tmp_path / "scene")
    expected = np.stack([np.where(v[0] == 0, np.nan, v[0] * 0.0000275 - 0.2) for v in stored.values()])
    np.testing.assert_allclose(scene.values, expected, atol=1e-6)
    assert scene.attrs["product"] == landsat.TITLE
    assert tuple(scene.rio.transform()) == tuple(files.GRID) and scene.rio.crs.to_epsg() == 32633
    assert len(scene.attrs["files"]) == 8


@pytest.mark.parametrize(("product", "sensor"), [(L8, "landsat8"), (L7, "landsat7")])
def test_bands_are_those_of_the_sensor(tmp_path, files, product, sensor):
    numbers = (1, 2, 3, 4, 5, 6, 7) if sensor == "landsat8" else (1, 2, 3, 4, 5, 7)
    write(tmp_path / "scene", files, product, numbers)
    scene = open_scene(tmp_path / "scene")
    response = load_response(sensor)
    match = match_bands(response, tuple(scene.band_name.values), scene.wavelength.values, scene.sizes["band"])
    assert match.msi_index == tuple(range(len(numbers)))
    assert [band.name for band in match.response.bands] == [f"B{n}" for n in numbers]
    center = np.array([band.center_nm for band in match.response.bands])
    assert (np.abs(scene.wavelength.values - center) < 15).all()


@pytest.mark.parametrize(("bit", "is_cloud"), [(0, False), (1, True), (2, True), (3, True), (4, True), (5, None), (7, None)])
def test_each_quality_bit_masks_what_it_should(tmp_path, files, bit, is_cloud):
    quality = clear()
    quality[0, 20, 10] |= 1 << bit
    write(tmp_path / "scene", files, quality=quality)
    default, with_clouds = (landsat.open_product(tmp_path / "scene", mask_clouds=flag)[:, 20, 10].values for flag in (True, False))
    assert np.isnan(default).all() == (is_cloud is not None)
    assert np.isnan(with_clouds).all() == (is_cloud is False)


def test_without_a_quality_file_nothing_is_masked_and_it_is_said(tmp_path, files):
    write(tmp_path / "scene", files)
    scene = open_scene(tmp_path / "scene")
    assert np.isfinite(scene.values[:, 20, 10]).all()
    assert any("clouds are not masked" in note for note in scene.attrs["notes"])


def test_the_metadata_file_names_the_product_too(tmp_path, files):
    write(tmp_path / "scene", files, quality=clear())
    path = tmp_path / "scene" / f"{L8}_MTL.txt"
    assert find_product(path) is landsat
    np.testing.assert_array_equal(open_scene(path).values, open_scene(tmp_path / "scene").values)


def test_chunks_do_not_change_values(tmp_path, files):
    write(tmp_path / "scene", files, quality=clear())
    scene = open_scene(tmp_path / "scene", chunks={"y": 16, "x": 7})
    assert scene.data.chunksize == (7, 16, 7)
    np.testing.assert_array_equal(scene.values, open_scene(tmp_path / "scene").values)


def test_a_missing_band_is_named(tmp_path, files):
    write(tmp_path / "scene", files, numbers=(1, 2, 3, 4, 5, 7))
    with pytest.raises(InputError, match="no SR_B6 of LC08"):
        open_scene(tmp_path / "scene")


def test_two_products_in_one_folder_are_refused(tmp_path, files):
    write(tmp_path / "scene", files)
    write(tmp_path / "scene", files, L7, (1, 2, 3, 4, 5, 7))
    with pytest.raises(InputError, match="2 Landsat products"):
        open_scene(tmp_path / "scene")


def test_a_band_of_another_grid_is_refused(tmp_path, files):
    write(tmp_path / "scene", files)
    files.make_tif(tmp_path / "scene" / f"{L8}_SR_B4.TIF", np.ones((1, 40, 31), "uint16"))
    with pytest.raises(InputError, match="SR_B4.TIF: not on the grid"):
        open_scene(tmp_path / "scene")


def test_a_truncated_band_is_refused(tmp_path, files):
    write(tmp_path / "scene", files)
    path = tmp_path / "scene" / f"{L8}_SR_B4.TIF"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match="SR_B4.TIF: truncated"):
        open_scene(tmp_path / "scene")


def test_other_folders_are_not_taken_for_landsat(tmp_path, files):
    files.make_tif(tmp_path / "LC08_B4.TIF", np.ones(SHAPE, "uint16"))
    assert not landsat.matches(tmp_path)


def test_no_band_of_an_input_is_written_over(tmp_path, files):
    write(tmp_path / "scene", files)
    metadata, band = tmp_path / "scene" / f"{L8}_MTL.txt", tmp_path / "scene" / f"{L8}_SR_B4.TIF"
    with pytest.raises(OutputError, match="is an input of this run"):
        refuse_overwriting_input(band, [metadata])
    refuse_overwriting_input(tmp_path / "scene" / "fused.tif", [metadata])
