"""PRISMA L2D as ASI publishes it, made from arrays."""

import pickle
import sys

import numpy as np
import pytest

from geofuse import open_scene
from geofuse.errors import InputError
from geofuse.io import describe

h5py = pytest.importorskip("h5py")

NAME = "PRS_L2D_STD_20201107101404_20201107101408_0001.he5"
FIELDS = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"
LINES, SAMPLES = 30, 25
CW = {"Vnir": [0, 0, 1000.0, 950.0, 500.0], "Swir": [2400.0, 1500.0, 960.0, 0]}  # descending, 0 where a channel is not used
LEFT, TOP = 500000.0, 4600000.0


def write(path, cubes, *, corners="centres", **changes):
    steps = {"centres": 1, "outer": 0, "odd": 3}[corners]
    right, bottom = LEFT + 30 * (SAMPLES - steps), TOP - 30 * (LINES - steps)
    attrs = {
        "Epsg_Code": np.int32(32633),
        "Product_ULcorner_easting": LEFT,
        "Product_ULcorner_northing": TOP,
        "Product_LRcorner_easting": right,
        "Product_LRcorner_northing": bottom,
        "L2ScaleVnirMin": np.float32(0.0),
        "L2ScaleVnirMax": np.float32(0.8),
        "L2ScaleSwirMin": np.float32(-0.1),
        "L2ScaleSwirMax": np.float32(1.2),
    }
    for name, cw in CW.items():
        attrs[f"List_Cw_{name}"] = np.array(cw, "float32")
        attrs[f"List_Fwhm_{name}"] = np.array([12.0 * (w > 0) for w in cw], "float32")
    with h5py.File(path, "w") as file:
        for name, cube in cubes.items():
            file.create_dataset(f"{FIELDS}/{name.upper()}_Cube", data=cube, chunks=(10, 1, SAMPLES), compression="gzip")
        file.attrs.update({key: value for key, value in (attrs | changes).items() if value is not None})
    return path


@pytest.fixture
def cubes():
    rng = np.random.default_rng(0)
    made = {name: rng.integers(1, 65536, (LINES, len(cw), SAMPLES)).astype("uint16") for name, cw in CW.items()}
    for cube in made.values():
        cube[:4, :, :6] = 0
    made["Swir"][10:20, 1] = made["Vnir"][8, 3, 3] = 0  # negative after the atmospheric correction
    return made


@pytest.fixture
def product(tmp_path, cubes):
    return write(tmp_path / NAME, cubes)


def expected(cubes):
    """Bands 500, 950, 1000 of VNIR, then 960, 1500, 2400 of SWIR, as (band, line, sample)."""
    planes = [(cubes["Vnir"][:, i], 0.0, 0.8) for i in (4, 3, 2)] + [(cubes["Swir"][:, i], -0.1, 1.2) for i in (2, 1, 0)]
    outside = np.all([p == 0 for p, _, _ in planes], axis=0)
    return np.stack([np.where(outside, np.nan, low + p / 65535 * (high - low)) for p, low, high in planes])


def test_bands_ascend_are_scaled_and_channels_without_a_wavelength_are_gone(product, cubes):
    scene = open_scene(product)
    assert scene.attrs["product"] == "PRISMA L2D" and scene.dtype == np.float32 and scene.chunks is not None
    assert scene.wavelength.values.tolist() == [500, 950, 1000, 960, 1500, 2400] and (scene.fwhm.values == 12).all()
    np.testing.assert_allclose(scene.values, expected(cubes), rtol=1e-5, atol=1e-6)
    assert scene.band.values.tolist() == [5, 4, 3, 8, 7, 6] and scene.band_name.values[0] == "VNIR 5"
    assert any("3 channels" in note for note in scene.attrs["notes"])


def test_a_zero_in_one_band_is_the_least_value_and_zeros_in_all_are_no_data(product):
    missing = np.isnan(open_scene(product).values)
    assert (missing == missing[:1]).all() and missing[0].sum() == 4 * 6
    assert open_scene(product).values[4, 12, 3] == pytest.approx(-0.1)


@pytest.mark.parametrize("chunks", [(1, 7, 9), (4, 30, 25), {"y": 8}])
def test_any_chunks_give_the_same_values(product, cubes, chunks):
    np.testing.assert_allclose(open_scene(product, chunks=chunks).values, expected(cubes), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("corners", "shift"), [("centres", 15.0), ("outer", 0.0)])
def test_the_distance_of_the_corners_tells_centres_from_outer_corners(tmp_path, cubes, corners, shift):
    scene = open_scene(write(tmp_path / NAME, cubes, corners=corners))
    assert tuple(scene.rio.transform())[:6] == (30, 0, LEFT - shift, 0, -30, TOP + shift)
    assert scene.rio.crs.to_epsg() == 32633 and any("co-register" in note for note in scene.attrs["notes"])


def test_corners_that_fit_neither_are_refused(tmp_path, cubes):
    with pytest.raises(InputError, match="corners are 22.0 x 27.0 pixels of 30 m apart for 25 x 30"):
        open_scene(write(tmp_path / NAME, cubes, corners="odd"))


def test_nothing_is_read_before_it_is_computed_and_chunks_travel_to_other_processes(product, cubes):
    scene = pickle.loads(pickle.dumps(open_scene(product)))
    np.testing.assert_allclose(scene.isel(y=slice(5, 9)).values, expected(cubes)[:, 5:9], rtol=1e-5, atol=1e-6)
    product.write_bytes(b"gone")
    with pytest.raises(InputError, match="changed since it was opened"):
        scene.values  # noqa: B018


def test_info_names_the_product(product):
    info = describe(product)
    assert (info.product, info.driver, info.width, info.height, info.bands) == ("PRISMA L2D", "HDF5", 25, 30, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Epsg_Code": None}, "no attribute Epsg_Code"),
        ({"Epsg_Code": 0}, "Epsg_Code 0 is no CRS"),
        ({"List_Cw_Vnir": np.array([500.0])}, "List_Cw_Vnir.*expected 5 numbers"),
        ({"L2ScaleVnirMax": 0.0}, "expected Max above Min"),
        ({"L2ScaleSwirMin": "low"}, "L2ScaleSwirMin is 'low'"),
    ],
)
def test_attributes_that_cannot_be_used_are_refused_in_one_line(tmp_path, cubes, changes, message):
    with pytest.raises(InputError, match=message) as error:
        open_scene(write(tmp_path / NAME, cubes, **changes))
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_refused(product):
    product.write_bytes(product.read_bytes()[:-5000])
    with pytest.raises(InputError, match="not a whole HDF5 file"):
        open_scene(product)


@pytest.mark.parametrize("how", ["external link", "soft link", "external storage", "virtual"])
def test_values_that_lie_in_another_file_are_not_followed(product, tmp_path, how):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.ones((LINES, 5, SAMPLES), "uint16")
    with h5py.File(product, "a") as file:
        fields = file[FIELDS]
        del fields["VNIR_Cube"]
        if how == "external link":
            fields["VNIR_Cube"] = h5py.ExternalLink(str(secret), "/x")
        elif how == "soft link":
            fields["VNIR_Cube"] = h5py.SoftLink(f"/{FIELDS}/SWIR_Cube")
        elif how == "external storage":
            fields.create_dataset("VNIR_Cube", (LINES, 5, SAMPLES), "uint16", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        else:
            layout = h5py.VirtualLayout((LINES, 5, SAMPLES), "uint16")
            layout[:] = h5py.VirtualSource(str(secret), "x", (LINES, 5, SAMPLES))
            fields.create_virtual_dataset("VNIR_Cube", layout)
    with pytest.raises(InputError, match="not followed"):
        open_scene(product)


def test_a_file_that_claims_more_than_it_holds_is_refused(product):
    with h5py.File(product, "a") as file:
        fields = file[FIELDS]
        del fields["VNIR_Cube"]
        fields.create_dataset("VNIR_Cube", (400_000, 5, 400_000), "uint16", chunks=(10, 1, 100))
    with pytest.raises(InputError, match="cannot hold"):
        open_scene(product)


def test_without_h5py_one_line_says_what_to_install(product, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install 'geofuse\[hdf\]'"):
        open_scene(product)
