"""EMIT L2A as LP DAAC publishes it, made from arrays; the table is undone by a loop."""

import numpy as np
import pytest
from rasterio.crs import CRS

import geofuse.io.products.emit as emit
from geofuse import open_scene
from geofuse.errors import InputError
from geofuse.io import describe

h5py = pytest.importorskip("h5py")

NAME = "EMIT_L2A_RFL_001_20230316T045133_2307503_005.nc"
LINES, SAMPLES, BANDS = 40, 30, 6
HEIGHT, WIDTH = 50, 60
NM = np.array([381.0, 700.0, 1380.0, 1900.0, 2100.0, 2490.0])
GEOTRANSFORM = np.array([11.0, 0.000542232520256367, 0.0, 48.0, 0.0, -0.000542232520256367])


def rotated_table():
    """For each pixel of the map the sensor's pixel that lies there after a rotation, from 1; 0 outside the swath."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    angle = np.radians(25)
    u, v = x - WIDTH / 2, y - HEIGHT / 2
    line = np.rint(LINES / 2 - np.sin(angle) * u + np.cos(angle) * v).astype("int32") + 1
    sample = np.rint(SAMPLES / 2 + np.cos(angle) * u + np.sin(angle) * v).astype("int32") + 1
    inside = (line >= 1) & (line <= LINES) & (sample >= 1) & (sample <= SAMPLES)
    return np.where(inside, sample, 0), np.where(inside, line, 0)


def write(path, image, glt, **changes):
    good = np.array([1, 1, 0, 0, 1, 1], changes.pop("good_dtype", "uint8"))
    with h5py.File(path, "w") as file:
        cube = file.create_dataset("reflectance", data=image, chunks=(8, SAMPLES, 3), compression="gzip")
        cube.attrs["_FillValue"] = np.array([-9999], "float32")
        file["sensor_band_parameters/wavelengths"] = NM.astype("float32")
        file["sensor_band_parameters/fwhm"] = np.full(BANDS, 8.5, "float32")
        file["sensor_band_parameters/good_wavelengths"] = good
        for name, values in zip(("glt_x", "glt_y"), glt, strict=True):
            file.create_dataset(f"location/{name}", data=values.astype("int32"), chunks=(20, 20), compression="gzip")
        file.attrs.update({"geotransform": GEOTRANSFORM, "spatial_ref": CRS.from_epsg(4326).to_wkt()} | changes)
    return path


@pytest.fixture
def image():
    values = np.random.default_rng(0).random((LINES, SAMPLES, BANDS)).astype("float32")
    values[10:13, 5:9] = -9999
    values[:, :, 2] = -0.01  # what EMIT holds in bands of water vapour
    return values


@pytest.fixture
def product(tmp_path, image):
    return write(tmp_path / NAME, image, rotated_table())


def expected(image):
    sample, line = rotated_table()
    out = np.full((BANDS, HEIGHT, WIDTH), np.nan)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            if sample[y, x] and line[y, x]:
                out[:, y, x] = image[line[y, x] - 1, sample[y, x] - 1]
    out[out == -9999] = np.nan
    return out


@pytest.mark.parametrize("chunks", [None, 16, (2, 7, 60)])
def test_every_pixel_of_the_map_is_the_sensors_pixel_that_the_table_names(product, image, chunks):
    scene = open_scene(product, chunks=chunks)
    assert scene.attrs["product"] == "EMIT L2A" and scene.dtype == np.float32 and scene.chunks is not None
    np.testing.assert_array_equal(scene.values, expected(image).astype("float32"))


def test_strips_of_the_sensors_image_do_not_show(product, image, monkeypatch):
    monkeypatch.setattr(emit, "STRIP_BYTES", 3 * SAMPLES * BANDS * 4)
    np.testing.assert_array_equal(open_scene(product).values, expected(image).astype("float32"))


def test_the_sensors_first_row_and_column_are_number_one(tmp_path, image):
    sample, line = np.zeros((2, HEIGHT, WIDTH), int)
    sample[0, 0], line[0, 0], sample[0, 1], line[0, 1] = 1, 1, SAMPLES, LINES
    values = open_scene(write(tmp_path / NAME, image, (sample, line))).values
    np.testing.assert_array_equal(values[:, 0, 0], image[0, 0])
    np.testing.assert_array_equal(values[:, 0, 1], image[-1, -1])
    assert np.isnan(values[:, 1:]).all()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_grid_and_bands_are_the_products(tmp_path, image, dtype):
    scene = open_scene(write(tmp_path / NAME, image, rotated_table(), good_dtype=dtype))
    assert scene.rio.transform().to_gdal() == tuple(GEOTRANSFORM) and scene.rio.crs.to_epsg() == 4326
    np.testing.assert_allclose(scene.wavelength, NM, rtol=1e-6)
    assert (scene.fwhm == 8.5).all() and scene.good_band.values.tolist() == [True, True, False, False, True, True]


def test_a_window_reads_only_the_lines_it_needs(product, monkeypatch):
    seen = []
    gather = emit._gather

    def spy(dataset, line, sample, bands, background):
        seen.append((int(line.min()), int(line.max())))
        return gather(dataset, line, sample, bands, background)

    monkeypatch.setattr(emit, "_gather", spy)
    open_scene(product, chunks=10).isel(y=slice(20, 30), x=slice(30, 40)).values  # noqa: B018
    assert len(seen) == 1 and seen[0][1] - seen[0][0] < 16


def test_info_names_the_product_without_reading_pixels(product, monkeypatch):
    monkeypatch.setattr(emit, "_gather", None)
    info = describe(product)
    assert (info.product, info.driver, info.width, info.height) == ("EMIT L2A", "HDF5", WIDTH, HEIGHT)


def test_a_table_that_points_outside_the_image_is_refused(tmp_path, image):
    sample, line = rotated_table()
    for wrong in (LINES + 1, -3):
        line[25, 30] = wrong
        with pytest.raises(InputError, match="GLT points outside the 40 x 30 image"):
            open_scene(write(tmp_path / NAME, image, (sample, line))).values  # noqa: B018


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spatial_ref": "nowhere"}, "spatial_ref is not a CRS"),
        ({"geotransform": np.zeros(5)}, "geotransform .*expected 6 numbers"),
    ],
)
def test_attributes_that_cannot_be_used_are_refused_in_one_line(tmp_path, image, changes, message):
    with pytest.raises(InputError, match=message) as error:
        open_scene(write(tmp_path / NAME, image, rotated_table(), **changes))
    assert "\n" not in str(error.value)
