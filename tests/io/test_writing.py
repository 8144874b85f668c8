import hashlib

import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray

from geofuse.errors import InputError, OutputError, UsageError
from geofuse.io import OutputSpec, default_nodata, describe, open_scene, open_sink, write_scene
from geofuse.io.averaging import average
from geofuse.io.output import encode
from geofuse.io.sink import block_size, choose_driver
from geofuse.io.tiff import directories
from geofuse.scene import BandMetadata, band_metadata, make_scene, provenance_of

DRIVERS = {"COG": "out.tif", "GTiff": "out.tif", "ENVI": "out.dat"}
FORMS = {
    "uint8": {"scale": 0.01, "nodata": 255.0},
    "int16": {"scale": 1e-4, "offset": -0.1, "nodata": -32768.0},
    "uint16": {"scale": 1e-4, "nodata": 0.0},
    "int32": {"scale": 1e-6, "nodata": -1.0},
    "float32": {},
    "float64": {"nodata": -9999.0},
}


def physical(shape=(7, 45, 37), seed=0):
    """Reflectances between 0 and 1 with holes."""
    values = np.random.default_rng(seed).random(shape).astype(np.float32)
    values[:, 10:14, 5:9] = np.nan
    values[2, 30, 30] = np.nan
    return values


def write(path, spec, values, driver="COG", steps=(0, 20, 45)):
    with open_sink(path, spec, driver=driver) as sink:
        for start, stop in zip(steps[:-1], steps[1:], strict=True):
            sink.write(values[:, start:stop], start)
    return path


@pytest.mark.parametrize("dtype", FORMS)
@pytest.mark.parametrize("driver", DRIVERS)
def test_what_is_written_reads_back(files, tmp_path, driver, dtype):
    values = physical()
    spec = files.spec_for(values.shape, dtype, **FORMS[dtype])
    path = write(tmp_path / DRIVERS[driver], spec, values, driver)
    scene = open_scene(path)
    rounding = spec.scale / 2 if spec.is_integer else 0
    np.testing.assert_allclose(scene.values, values, rtol=0, atol=rounding + 1e-7)
    assert (np.isnan(scene.values) == np.isnan(values)).all()
    assert scene.attrs["stored_dtype"] == dtype and provenance_of(scene.attrs) == dict(spec.tags)
    assert scene.attrs["stored_scale"] == pytest.approx(spec.scale, rel=1e-9)
    assert scene.attrs["stored_offset"] == pytest.approx(spec.offset, rel=1e-9)
    assert str(scene.attrs["stored_nodata"]) == str(spec.nodata_value)
    assert scene.rio.transform() == spec.transform and scene.rio.crs.to_epsg() == 32633
    found = band_metadata(scene)
    np.testing.assert_allclose(found.wavelength_nm, spec.bands.wavelength_nm, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.fwhm_nm, spec.bands.fwhm_nm, rtol=0, atol=1e-6)
    assert (found.good_band == spec.bands.good_band).all()
    expected = [name.replace(",", ";") if driver == "ENVI" else name for name in spec.bands.band_name]
    assert list(found.band_name) == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == (["out.dat", "out.hdr"] if driver == "ENVI" else ["out.tif"])


@pytest.mark.parametrize("driver", ["COG", "GTiff"])
def test_both_wavelength_conventions_are_in_the_file(files, tmp_path, driver):
    values = physical()
    spec = files.spec_for(values.shape, "int16", **FORMS["int16"])
    with rasterio.open(write(tmp_path / "a.tif", spec, values, driver)) as dataset:
        for i in range(1, len(spec.bands)):
            tags, imagery = dataset.tags(i), dataset.tags(i, ns="IMAGERY")
            assert float(tags["wavelength"]) == pytest.approx(spec.bands.wavelength_nm[i - 1], abs=1e-6)
            assert tags["wavelength_units"] == "Nanometers" and tags["bbl"] == str(int(spec.bands.good_band[i - 1]))
            assert float(tags["fwhm"]) == pytest.approx(spec.bands.fwhm_nm[i - 1], abs=1e-6)
            assert float(imagery["CENTRAL_WAVELENGTH_UM"]) == pytest.approx(spec.bands.wavelength_nm[i - 1] / 1000, rel=1e-6)
            assert float(imagery["FWHM_UM"]) == pytest.approx(spec.bands.fwhm_nm[i - 1] / 1000, rel=1e-6)
            assert dataset.descriptions[i - 1] == spec.bands.band_name[i - 1]
        assert "wavelength" not in dataset.tags(len(spec.bands))  # unknown stays unknown
        assert dataset.tags()["GEOFUSE_VERSION"] == "1.2.3"
        assert set(dataset.scales) == {1e-4} and set(dataset.offsets) == {-0.1} and dataset.nodata == -32768


def test_envi_fields_are_in_the_header_itself(files, tmp_path):
    values = physical()
    write(tmp_path / "a.dat", files.spec_for(values.shape, "uint16", **FORMS["uint16"]), values, "ENVI")
    text = (tmp_path / "a.hdr").read_text()
    for field in (
        "wavelength = {",
        "wavelength units = Nanometers",
        "fwhm = {",
        "bbl = {",
        "data ignore value = 0",
        "band names = {",
    ):
        assert field in text
    assert "reflectance scale factor = 10000\n" in text and "interleave = bil" in text


def test_a_cog_is_laid_out_as_one(files, tmp_path):
    values = physical((7, 700, 900))
    spec = files.spec_for(values.shape, "float32")
    path = write(tmp_path / "a.tif", spec, values, steps=(0, 300, 700))
    with rasterio.open(path) as dataset:
        structure = dataset.tags(ns="IMAGE_STRUCTURE")
        assert structure["LAYOUT"] == "COG" and structure["COMPRESSION"] == "DEFLATE" and structure["PREDICTOR"] == "3"
        assert dataset.block_shapes == [(512, 512)] * 7 and dataset.is_tiled
        assert dataset.overviews(1) == [2]
    images = list(directories(path))
    assert [len(image.block_offsets) for image in images] == [4, 1]
    first_block = min(int(image.block_offsets.min()) for image in images)
    assert all(image.offset < first_block for image in images)  # directories first
    assert images[1].block_offsets.max() < images[0].block_offsets.min()  # then overviews, the smallest first
    assert (np.diff(images[0].block_offsets.astype(int)) > 0).all()
    assert describe(path).is_cog


def test_overviews_are_averages_that_leave_no_data_out(files, tmp_path):
    values = np.full((1, 600, 600), 0.25, np.float32)
    values[:, :301, :301] = np.nan
    values[:, :, 500:] = 0.75
    spec = files.spec_for(values.shape, "int16", scale=1e-4, nodata=-9999.0)
    with rasterio.open(write(tmp_path / "a.tif", spec, values, steps=(0, 600)), overview_level=0) as overview:
        small = overview.read(1)
    assert small.shape == (300, 300)
    assert small[0, 0] == -9999 and small[150, 150] == 2500 and small[200, 250] == 7500
    assert set(np.unique(small)) == {-9999, 2500, 7500}


def test_rioxarray_opens_the_cog_on_the_right_spot(files, tmp_path):
    values = physical()
    write(tmp_path / "a.tif", files.spec_for(values.shape, "int16", **FORMS["int16"]), values)
    with rioxarray.open_rasterio(tmp_path / "a.tif", mask_and_scale=True) as image:
        np.testing.assert_allclose(image.values, values, rtol=0, atol=6e-5)
        assert image.rio.transform() == files.GRID and image.rio.crs.to_epsg() == 32633


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_same_image_gives_the_same_bytes_wherever_and_however_it_comes(files, tmp_path, driver):
    values = physical((7, 300, 90))
    spec = files.spec_for(values.shape, "int16", **FORMS["int16"])
    digests = set()
    for folder, steps in (("a", (0, 300)), ("b", (0, 128, 256, 300)), ("c", (0, 7, 13, 200, 300))):
        (tmp_path / folder).mkdir()
        path = write(tmp_path / folder / DRIVERS[driver], spec, values, driver, steps)
        digests.add(tuple(hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(path.parent.iterdir())))
    assert len(digests) == 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_rows_may_come_in_any_order(files, tmp_path, driver):
    values = physical()
    spec = files.spec_for(values.shape)
    path = tmp_path / DRIVERS[driver]
    with open_sink(path, spec, driver=driver) as sink:
        for row in np.random.default_rng(1).permutation(45):
            sink.write(values[:, row : row + 1], int(row))
    np.testing.assert_array_equal(open_scene(path).values, values)


def test_four_bytes_bands_do_not_turn_into_an_alpha_channel(files, tmp_path):
    values = np.random.default_rng(0).integers(1, 200, (4, 20, 20)).astype(np.float32)
    spec = files.spec_for(values.shape, "uint8", nodata=0.0)
    for driver in ("COG", "GTiff"):
        path = write(tmp_path / f"{driver}.tif", spec, values, driver, (0, 20))
        assert (open_scene(path).values == values).all() and open_scene(path).sizes["band"] == 4


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_image_without_crs_or_with_nan_wavelengths_is_written(tmp_path, files, driver):
    spec = OutputSpec(6, 5, BandMetadata.unknown(2), files.GRID, None)
    values = physical()[:2, :6, :5]
    path = write(tmp_path / DRIVERS[driver], spec, values, driver, (0, 6))
    scene = open_scene(path)
    assert scene.rio.crs is None and np.isnan(scene.wavelength.values).all() and scene.rio.transform() == files.GRID


def test_a_rotated_grid_survives_a_cog(aviris, tmp_path):
    scene = open_scene(aviris)
    write_scene(scene, tmp_path / "a.tif")
    again = open_scene(tmp_path / "a.tif")
    assert again.rio.transform() == scene.rio.transform() and (again.values == scene.values).all()


def test_blocks_hold_a_few_megabytes_however_many_bands(files):
    assert block_size(files.spec_for((7, 10, 10), "int16")) == 512
    assert block_size(files.spec_for((48, 10, 10), "int16")) == 256
    assert block_size(files.spec_for((224, 10, 10), "float32")) == 128


def test_every_16_bit_value_survives_decoding_and_encoding(files):
    every = np.arange(-32767, 32768, dtype=np.int16).reshape(1, 1, -1)
    for scale, offset in ((1e-4, 0.0), (1e-4, -0.1), (0.0000275, -0.2)):
        spec = files.spec_for(every.shape, "int16", nodata=-32768.0, scale=scale, offset=offset)
        values = (every * np.float32(scale) + np.float32(offset)).astype(np.float32)
        assert (encode(values, spec) == every).all()
        between = (every[..., :-1] + 0.4) * scale + offset
        assert (
            encode(between.astype(np.float32), files.spec_for(between.shape, "int16", scale=scale, offset=offset))
            == every[..., :-1]
        ).all()


def test_values_too_large_for_the_type_or_even_for_float32_are_clipped(files):
    spec = files.spec_for((1, 1, 3), "int16", nodata=-32768.0, scale=1e-4)
    assert encode(np.array([[[3e38, -3e38, 1.0]]], np.float32), spec).tolist() == [[[32767, -32767, 10000]]]


def test_rounding_clipping_and_the_no_data_value(files):
    spec = files.spec_for((1, 1, 7), "uint8", nodata=0.0)
    values = np.array([[[np.nan, -5, 0.2, 0.5, 1.5, 254.6, 300]]], np.float32)
    assert encode(values, spec).tolist() == [[[0, 1, 1, 1, 2, 255, 255]]]
    spec = files.spec_for((1, 1, 4), "int16", nodata=100.0)
    assert encode(np.array([[[99.9, 100.2, np.inf, 101]]], np.float32), spec).tolist() == [[[99, 101, 100, 101]]]
    spec = files.spec_for((1, 1, 3), "uint8", nodata=255.0)
    assert encode(np.array([[[255, 999, np.nan]]], np.float32), spec).tolist() == [[[254, 254, 255]]]
    spec = files.spec_for((1, 1, 3), "float32", nodata=-9999.0)
    stored = encode(np.array([[[-9999, np.nan, 1]]], np.float32), spec)
    assert stored[0, 0, 1] == -9999 and stored[0, 0, 0] != -9999 and stored[0, 0, 0] == pytest.approx(-9999)


def test_missing_pixels_need_a_no_data_value_in_integer_output(files):
    spec = files.spec_for((1, 1, 2), "int16")
    assert encode(np.ones((1, 1, 2), np.float32), spec).tolist() == [[[1, 1]]]
    with pytest.raises(OutputError, match="declare a no-data value"):
        encode(np.array([[[1, np.nan]]], np.float32), spec)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "complex64"}, "output type 'complex64'"),
        ({"dtype": "uint8", "nodata": -1.0}, "uint8 cannot hold the no-data value -1"),
        ({"dtype": "int16", "nodata": float("nan")}, "int16 cannot hold"),
        ({"scale": 0.0}, "scale 0.0"),
    ],
)
def test_impossible_forms_are_refused(files, changes, words):
    with pytest.raises(UsageError, match=words):
        files.spec_for((2, 3, 4), **changes)


def test_rows_that_do_not_fit_or_come_twice_are_refused(files, tmp_path):
    values = physical()
    spec = files.spec_for(values.shape)
    for bad, offset in ((values[:3], 0), (values, 1), (values.repeat(2, axis=2), 0), (values[0], 0), (values[:, :5], -1)):
        with pytest.raises(InputError, match="expected"), open_sink(tmp_path / "a.tif", spec) as sink:
            sink.write(bad, offset)
    with pytest.raises(InputError, match="a second time"), open_sink(tmp_path / "a.tif", spec) as sink:
        sink.write(values[:, :5], 0)
        sink.write(values[:, 4:6], 4)
    assert not list(tmp_path.iterdir())


def test_a_scene_goes_back_to_the_form_it_came_in(files, tmp_path):
    stored = files.counts((3, 70, 50), "uint16")
    stored[:, :9] = 0
    tags = {"GEOFUSE_PSF": "gaussian:1"}
    files.make_tif(tmp_path / "a.tif", stored, nodata=0, scale=1e-4, tags=tags)
    scene = open_scene(tmp_path / "a.tif", chunks=(3, 16, 20))
    write_scene(scene, tmp_path / "b.tif", tags={"GEOFUSE_SEED": "0"})
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert (dataset.read() == stored).all() and dataset.dtypes[0] == "uint16" and dataset.nodata == 0
    again = open_scene(tmp_path / "b.tif")
    assert provenance_of(again.attrs) == tags | {"GEOFUSE_SEED": "0"}
    write_scene(again, tmp_path / "c.tif", dtype="float32")
    assert open_scene(tmp_path / "c.tif").attrs["stored_scale"] == 1.0
    np.testing.assert_array_equal(open_scene(tmp_path / "c.tif").values, scene.values)


@pytest.mark.parametrize(
    ("by_hand", "expected"),
    [
        (lambda scene: scene[:, 10:, 4:], (30, 0, 365055 + 120, 0, -30, 5807085 - 300)),
        (lambda scene: scene[:, ::-1], (30, 0, 365055, 0, 30, 5807085 - 40 * 30)),
        (lambda scene: scene[:, ::2, ::2], (60, 0, 365055 - 15, 0, -60, 5807085 + 15)),
        (lambda scene: scene.coarsen(y=2, x=2).mean(), (60, 0, 365055, 0, -60, 5807085)),
    ],
    ids=["cut", "turned", "thinned", "averaged"],
)
def test_a_scene_changed_by_hand_is_written_where_its_coordinates_say(files, tmp_path, by_hand, expected):
    scene = by_hand(open_scene(files.make_tif(tmp_path / "in.tif", files.counts())))
    write_scene(scene, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert tuple(dataset.transform)[:6] == pytest.approx(expected)
    again = average(scene, 2)
    np.testing.assert_allclose(again.x, scene.x.values[: again.sizes["x"] * 2].reshape(-1, 2).mean(axis=1))
    np.testing.assert_allclose(again.y, scene.y.values[: again.sizes["y"] * 2].reshape(-1, 2).mean(axis=1))


def test_a_scene_is_computed_strip_by_strip_each_chunk_once(files, tmp_path):
    seen = []

    def chunk(block, block_info=None):
        seen.append(block_info[None]["chunk-location"])
        return block

    data = da.zeros((2, 640, 64), chunks=(2, 64, 64), dtype=np.float32).map_blocks(
        chunk, dtype=np.float32, meta=np.empty((0, 0, 0))
    )
    scene = make_scene(data, BandMetadata.unknown(2), files.GRID, "EPSG:32633")
    seen.clear()
    write_scene(scene, tmp_path / "a.tif")
    assert sorted(seen) == [(0, i, 0) for i in range(10)]
    assert not open_scene(tmp_path / "a.tif").values.any()


def test_the_enmap_scene_survives_every_driver(enmap, tmp_path):
    scene = open_scene(enmap)
    for driver, name in DRIVERS.items():
        path = tmp_path / driver / name
        path.parent.mkdir()
        write_scene(scene, path, driver=driver)
        again = open_scene(path)
        np.testing.assert_array_equal(again.values, scene.values)
        np.testing.assert_allclose(again.wavelength.values, scene.wavelength.values, rtol=0, atol=1e-3)
        np.testing.assert_allclose(again.fwhm.values, scene.fwhm.values, rtol=0, atol=1e-3)
        assert (again.good_band.values == scene.good_band.values).all()
        assert again.rio.transform() == scene.rio.transform() and again.rio.crs == scene.rio.crs


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_every_type_can_hold_its_default_no_data_value(files, dtype):
    spec = files.spec_for((1, 1, 1), dtype, nodata=default_nodata(dtype))
    stored = encode(np.full((1, 1, 1), np.nan, np.float32), spec)
    assert str(float(stored[0, 0, 0])) == str(default_nodata(dtype))


@pytest.mark.parametrize("driver", DRIVERS)
def test_overridden_wavelengths_are_the_only_ones_in_the_output(files, tmp_path, driver):
    path = files.make_tif(tmp_path / "a.tif", files.counts((3, 6, 5)), names=["a (460 Nanometers)", "b (550 nm)", "c (650 nm)"])
    write_scene(open_scene(path, wavelengths=[900.0, 550.4, np.nan]), tmp_path / f"b{DRIVERS[driver]}", driver=driver)
    scene = open_scene(tmp_path / f"b{DRIVERS[driver]}")
    np.testing.assert_allclose(scene.wavelength.values, [900, 550.4, np.nan])
    assert list(scene.band_name.values) == ["a", "b (550 nm)", "c"]


@pytest.mark.parametrize("crs", ["EPSG:32733", "EPSG:3035", "EPSG:2154", "EPSG:4326"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_the_crs_survives(files, tmp_path, driver, crs):
    spec = OutputSpec(6, 5, BandMetadata.unknown(2), files.GRID, crs)
    path = write(tmp_path / DRIVERS[driver], spec, physical()[:2, :6, :5], driver, (0, 6))
    assert open_scene(path).rio.crs == crs


@pytest.mark.parametrize("driver", ["COG", "GTiff", "ENVI"])
def test_windows_written_by_several_threads_give_the_same_bytes(files, tmp_path, driver):
    from concurrent.futures import ThreadPoolExecutor

    stored = files.counts((3, 1100, 600))
    spec = files.spec_for(stored.shape, "int16", nodata=-1.0)
    for name, threads in (("one.tif", 1), ("many.tif", 8)):
        with open_sink(tmp_path / name, spec, driver=driver) as sink, ThreadPoolExecutor(threads) as pool:
            rows, cols = sink.block
            corners = [(row, col) for row in range(0, 1100, max(rows, 100)) for col in range(0, 600, cols)]

            def put(corner, sink=sink):
                row, col = corner
                height = max(sink.block[0], 100)
                return sink.write(stored[:, row : row + height, col : col + sink.block[1]].astype(np.float32), row, col)

            receipts = list(pool.map(put, reversed(corners) if threads > 1 else corners))
            assert all(receipts)
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "many.tif").read_bytes()
    with rasterio.open(tmp_path / "many.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), stored)


@pytest.mark.parametrize("name", ["fused.nc", "fused.IMG", "fused.jpg", "fused.h5"])
def test_a_name_of_another_format_is_refused_unless_the_driver_is_told(name):
    assert choose_driver("fused.tif") == choose_driver("fused") == choose_driver("fused.v2") == "COG"
    with pytest.raises(UsageError, match=r"says neither GeoTIFF nor Zarr; end it in \.tif or \.zarr, or say the driver"):
        choose_driver(name)
    assert choose_driver(name, "ENVI") == "ENVI"
