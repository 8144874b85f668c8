import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

import geofuse.io.chunking as chunking_module
import geofuse.io.reader as reader_module
from geofuse.align.orient import north_up
from geofuse.errors import InputError
from geofuse.io import describe, open_scene
from geofuse.scene import provenance_of


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_a_geotiff_gives_its_values_scaled_and_nan_for_no_data(files, tmp_path, dtype):
    stored = files.counts(dtype=dtype)
    stored[:, 3, 4] = 121
    path = files.make_tif(tmp_path / "a.tif", stored, nodata=121, scale=0.01, offset=-0.5)
    scene = open_scene(path)
    expected = stored * 0.01 - 0.5
    expected[:, 3, 4] = np.nan
    assert scene.dtype == np.float32
    np.testing.assert_allclose(scene.values, expected, rtol=0, atol=2e-7)
    assert scene.attrs["stored_dtype"] == dtype
    assert (scene.attrs["stored_scale"], scene.attrs["stored_offset"], scene.attrs["stored_nodata"]) == (0.01, -0.5, 121)
    assert scene.rio.transform() == files.GRID and scene.rio.crs == "EPSG:32633"
    np.testing.assert_allclose(scene.x.values[:2], [365070.0, 365100.0])


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}])
def test_tiles_strips_and_interleaving_do_not_change_the_values(files, tmp_path, interleave, layout):
    stored = files.counts()
    path = files.make_tif(tmp_path / "a.tif", stored, interleave=interleave, **layout)
    assert (open_scene(path, chunks=(2, 11, 7)).values == stored).all()
    assert (open_scene(path).values == stored).all()


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("big_endian", [False, True])
def test_every_envi_interleave_and_byte_order_reads_the_same(files, tmp_path, interleave, big_endian):
    stored = files.counts()
    stored[1, 2, 3] = -999
    files.make_envi(
        tmp_path / "a.dat",
        stored,
        interleave=interleave,
        big_endian=big_endian,
        skip=13,
        data_ignore_value=-999,
        reflectance_scale_factor=10000,
    )
    scene = open_scene(tmp_path / "a.dat")
    expected = stored / 10000
    expected[1, 2, 3] = np.nan
    np.testing.assert_allclose(scene.values, expected, rtol=1e-6)
    assert scene.attrs["stored_scale"] == pytest.approx(1e-4) and scene.attrs["stored_nodata"] == -999
    assert scene.rio.crs.to_epsg() == 32633 and scene.rio.transform() == files.GRID


@pytest.mark.parametrize(
    ("data", "header"),
    [
        ("a.dat", "a.hdr"),
        ("a.img", "a.img.hdr"),
        ("HSI_TR", "HSI_TR.HDR"),
        ("a", "a.hdr"),
        ("a.v2.bsq", "a.v2.Hdr"),
        ("b.xyz", "b.HDR"),
    ],
)
def test_an_envi_image_opens_by_its_data_file_or_by_its_header(files, tmp_path, data, header):
    stored = files.counts()
    files.make_envi(tmp_path / data, stored, header_path=tmp_path / header)
    (tmp_path / f"{data}.aux.xml").write_text("<PAMDataset/>")
    (tmp_path / "a.txt").write_text("a note")
    for name in (data, header):
        assert (open_scene(tmp_path / name).values == stored).all()


def test_envi_gain_and_offset_lists_apply_band_by_band(files, tmp_path):
    stored = files.counts((2, 4, 5))
    files.make_envi(tmp_path / "a.dat", stored, data_gain_values="{0.5, 0.25}", data_offset_values="{1, -2}")
    scene = open_scene(tmp_path / "a.dat")
    np.testing.assert_allclose(scene.values, stored * np.array([0.5, 0.25])[:, None, None] + np.array([1, -2])[:, None, None])
    assert scene.attrs["stored_dtype"] == "float32" and scene.attrs["stored_scale"] == 1.0


def test_contradicting_envi_scales_are_refused(files, tmp_path):
    files.make_envi(tmp_path / "a.dat", files.counts((2, 4, 5)), data_gain_values="{0.5, 0.5}", reflectance_scale_factor=10000)
    with pytest.raises(InputError, match="contradicts a gain of 0.5"):
        open_scene(tmp_path / "a.dat")


def test_nan_and_infinity_are_no_data(files, tmp_path):
    stored = files.counts(dtype="float32")
    stored[0, 0, :3] = [np.nan, np.inf, -np.inf]
    values = open_scene(files.make_tif(tmp_path / "a.tif", stored)).values
    assert np.isnan(values[0, 0, :3]).all() and np.isnan(values).sum() == 3


def test_a_no_data_value_beyond_the_type_marks_nothing(files, tmp_path):
    path = files.make_tif(tmp_path / "a.tif", files.counts(dtype="uint16"))
    text = "<PAMDataset><PAMRasterBand band='1'><NoDataValue>-9999</NoDataValue></PAMRasterBand></PAMDataset>"
    (tmp_path / "a.tif.aux.xml").write_text(text)
    assert not np.isnan(open_scene(path).values).any()


def test_an_internal_mask_becomes_nan(files, tmp_path):
    stored, keep = files.counts(), np.ones((40, 30), bool)
    keep[5:9, 2:20] = False
    path = files.make_tif(tmp_path / "a.tif", stored)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(keep)
    values = open_scene(path).values
    assert (np.isnan(values) == ~keep).all() and (values[:, keep] == stored[:, keep]).all()


def test_an_alpha_band_becomes_the_mask(files, tmp_path):
    stored = files.counts((4, 40, 30), "uint8")
    stored[3] = 255
    stored[3, 5:9] = 0
    scene = open_scene(files.make_tif(tmp_path / "a.tif", stored, photometric="RGB", alpha="yes"))
    assert scene.shape == (3, 40, 30) and np.isnan(scene.values[:, 5:9]).all() and np.isnan(scene.values).sum() == 3 * 4 * 30


@pytest.mark.parametrize(("dtype", "opaque"), [("int16", 32767), ("float32", 1), ("float32", 255), ("int32", 255)])
def test_the_alpha_band_that_gdalwarp_writes_becomes_the_mask(files, tmp_path, dtype, opaque):
    stored = files.counts((3, 40, 30), dtype)
    stored[2] = opaque
    stored[2, 5:9] = 0
    path = files.make_tif(tmp_path / "a.tif", stored)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha)
    scene = open_scene(path)
    assert scene.shape == (2, 40, 30) and np.isnan(scene.values[:, 5:9]).all() and np.isnan(scene.values).sum() == 2 * 4 * 30


def test_near_infrared_that_gdal_labels_as_alpha_stays_a_band(files, tmp_path, caplog):
    stored = files.counts((4, 40, 30), "uint8")
    scene = open_scene(files.make_tif(tmp_path / "a.tif", stored, photometric="RGB", alpha="yes"))
    assert (scene.values == stored).all()
    assert "band 4 is labelled as alpha" in caplog.text


def test_ground_control_points_without_a_grid_are_told(files, tmp_path):
    points = [GroundControlPoint(row, col, 500000 + 30 * col, 4000000 - 30 * row) for row in (0, 40) for col in (0, 30)]
    path = files.make_tif(tmp_path / "a.tif", files.counts(), crs=None, transform=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (points, "EPSG:32633")
    with pytest.raises(InputError, match="placed by ground control points only; put it on a grid first, .*gdalwarp"):
        north_up(open_scene(path), "the HSI a.tif")
    assert any("placed by ground control points only" in note for note in describe(path).notes)


def test_opening_reads_no_pixel_and_each_chunk_is_read_once(files, tmp_path, monkeypatch):
    path = files.make_tif(tmp_path / "a.tif", files.counts((5, 64, 48)), tiled=True, blockxsize=16, blockysize=16)
    windows = []
    original = reader_module.ChunkReader.read

    def spy(self, *window):
        windows.append(window)
        return original(self, *window)

    monkeypatch.setattr(reader_module.ChunkReader, "read", spy)
    scene = open_scene(path, chunks={"y": 32, "x": 16})
    assert windows == [] and scene.chunks == ((5,), (32, 32), (16, 16, 16))
    scene.compute()
    assert len(windows) == 6
    windows.clear()
    scene.isel(y=slice(0, 10), x=slice(20, 30)).compute()
    assert len(windows) == 1


def test_default_chunks_hold_all_bands_and_follow_the_blocks(files, tmp_path, monkeypatch):
    monkeypatch.setattr(chunking_module, "CHUNK_BYTES", 5 * 4 * 40 * 40)
    path = files.make_tif(tmp_path / "a.tif", files.counts((5, 100, 90)), tiled=True, blockxsize=16, blockysize=16)
    chunks = open_scene(path).chunks
    assert chunks[0] == (5,) and all(n % 16 == 0 for axis in chunks[1:] for n in axis[:-1])
    assert 16 <= chunks[1][0] < 100 and 16 <= chunks[2][0] < 90


def test_chunks_read_the_same_in_threads_and_processes(files, tmp_path):
    stored = files.counts((3, 60, 50))
    scene = open_scene(files.make_tif(tmp_path / "a.tif", stored, compress="deflate"), chunks=(1, 7, 11))
    assert (scene.compute(scheduler="threads", num_workers=4).values == stored).all()
    assert (open_scene(tmp_path / "a.tif", chunks=30).compute(scheduler="processes", num_workers=2).values == stored).all()


def test_a_file_that_changes_after_opening_is_noticed(files, tmp_path):
    path = files.make_tif(tmp_path / "a.tif", files.counts())
    scene = open_scene(path)
    files.make_tif(path, files.counts((5, 40, 31)))
    with pytest.raises(InputError, match="changed since it was opened"):
        scene.compute()


def test_a_relative_path_still_works_from_another_folder(files, tmp_path, monkeypatch):
    stored = files.counts()
    files.make_tif(tmp_path / "a.tif", stored)
    monkeypatch.chdir(tmp_path)
    scene = open_scene("a.tif")
    monkeypatch.chdir("/")
    assert (scene.values == stored).all() and scene.attrs["source"] == "a.tif"


def test_without_crs_or_grid_the_scene_still_opens(files, tmp_path, recwarn):
    scene = open_scene(files.make_tif(tmp_path / "a.tif", files.counts(), crs=None, transform=None))
    assert scene.rio.crs is None and scene.rio.transform() == Affine.identity()
    files.make_tif(tmp_path / "b.tif", files.counts(), crs=None)
    assert open_scene(tmp_path / "b.tif").rio.transform() == files.GRID


def test_provenance_tags_come_along(files, tmp_path):
    path = files.make_tif(tmp_path / "a.tif", files.counts(), tags={"GEOFUSE_PSF": "gaussian:1", "OTHER": "x"})
    assert provenance_of(open_scene(path).attrs) == {"GEOFUSE_PSF": "gaussian:1"}


def test_chunks_for_an_unknown_dimension_are_refused(files, tmp_path):
    path = files.make_tif(tmp_path / "a.tif", files.counts())
    with pytest.raises(InputError, match="chunks for time"):
        open_scene(path, chunks={"time": 1})


def test_the_enmap_scene_keeps_its_metadata(enmap):
    scene = open_scene(enmap)
    with rasterio.open(enmap) as dataset:
        expected = [float(dataset.tags(i)["wavelength"]) for i in dataset.indexes]
        stored = dataset.read()
    assert scene.sizes["band"] == 224 and scene.rio.crs.to_epsg() == 32633
    np.testing.assert_allclose(scene.wavelength.values, expected, rtol=0, atol=1e-3)
    assert (np.diff(scene.wavelength.values) < 0).any()
    empty = np.isnan(scene.values).all(axis=(1, 2))
    assert list(np.flatnonzero(empty) + 1) == [130, 131, 132, 133, 134, 135]
    assert list(np.flatnonzero(~scene.good_band.values) + 1) == [130, 131, 132, 133, 134, 135]
    assert (scene.values[~empty] == stored[~empty]).all()


def test_a_rotated_grid_opens_and_keeps_its_transform(aviris, caplog):
    scene = open_scene(aviris)
    with rasterio.open(aviris) as dataset:
        assert scene.rio.transform() == dataset.transform and not dataset.transform.is_rectilinear
        assert (scene.values == dataset.read()).all()
    assert "x" not in scene.coords and "y" not in scene.coords
    assert scene.wavelength.values[0] == 394.935486 and scene.band_name.values[0] == "B4"
    assert "without a unit, taken as nm" in caplog.text
