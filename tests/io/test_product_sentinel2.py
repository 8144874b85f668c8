"""Sentinel-2 Level-2A: SAFE folders with JPEG 2000 bands, built to the published layout (lossless, so values are known)."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from geofuse.errors import InputError
from geofuse.io import open_scene
from geofuse.io.products import sentinel2
from geofuse.io.products.band_files import twice_as_fine
from geofuse.io.products.detect import find_product
from geofuse.sensors import load_response, match_bands

TILE = "T33UUU_20240830T100559"
FINE, COARSE = ("B02", "B03", "B04", "B08"), ("B05", "B06", "B07", "B8A", "B11", "B12")
IDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
CENTERS = (442.7, 492.4, 559.8, 664.6, 704.1, 740.5, 782.8, 832.8, 864.7, 945.1, 1373.5, 1613.7, 2202.4)  # nm
N = 40  # rows and columns at 10 m


def write_jp2(path, values, resolution):
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "JP2OpenJPEG", "count": 1, "height": len(values), "width": len(values), "dtype": values.dtype.name}
    grid = {"crs": "EPSG:32633", "transform": Affine(resolution, 0, 300000, 0, -resolution, 5800020)}
    with rasterio.open(path, "w", **profile, **grid, QUALITY="100", REVERSIBLE="YES") as dataset:
        dataset.write(values, 1)
    path.with_name(path.name + ".aux.xml").unlink(missing_ok=True)


def metadata_xml(baseline, offset):
    bands = "".join(
        f'<Spectral_Information bandId="{i}" physicalBand="{name}"><RESOLUTION>10</RESOLUTION><Wavelength><MIN unit="nm">1</MIN>'
        f'<MAX unit="nm">2</MAX><CENTRAL unit="nm">{CENTERS[i] + 0.25}</CENTRAL></Wavelength>'
        "</Spectral_Information>"
        for i, name in enumerate(IDS)
    )
    offsets = "".join(f'<BOA_ADD_OFFSET band_id="{i}">{offset}</BOA_ADD_OFFSET>' for i in range(13))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/L2A.xsd">'
        f"<n1:General_Info><Product_Info><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE></Product_Info>"
        '<Product_Image_Characteristics><QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit="none">10000'
        "</BOA_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>"
        + (f"<BOA_ADD_OFFSET_VALUES_LIST>{offsets}</BOA_ADD_OFFSET_VALUES_LIST>" if offset is not None else "")
        + f"<Spectral_Information_List>{bands}</Spectral_Information_List></Product_Image_Characteristics></n1:General_Info>"
        "</n1:Level-2A_User_Product>"
    )


def write(root, *, baseline="05.11", offset=-1000, classes=None, coarse=COARSE):
    images = root / "GRANULE" / "L2A_T33UUU_A038765_20240830T100558" / "IMG_DATA"
    stored = {}
    for name in (*FINE, *coarse):
        resolution, folder = (10, "R10m") if name in FINE else (20, "R20m")
        size = N * 10 // resolution
        values = np.random.default_rng(len(stored)).integers(1001, 9000, (size, size)).astype("uint16")
        values[0, 0], values[0, 1] = 0, 65535
        stored[name] = values
        write_jp2(images / folder / f"{TILE}_{name}_{resolution}m.jp2", values, resolution)
    if classes is not None:
        write_jp2(images / "R20m" / f"{TILE}_SCL_20m.jp2", classes, 20)
    (root / "MTD_MSIL2A.xml").write_text(metadata_xml(baseline, offset))
    return stored


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    root = tmp_path_factory.mktemp("s2") / "S2B_MSIL2A_20240830T100559_N0511_R022_T33UUU_20240830T141033.SAFE"
    root.mkdir()
    classes = np.full((N // 2, N // 2), 4, "uint8")
    classes[10, :12] = np.arange(12)
    stored = write(root, classes=classes)
    return root, stored, classes


def test_metadata_of_before_2018_name_the_scale_otherwise(tmp_path):
    text = metadata_xml("02.06", None).replace("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE")
    (tmp_path / "MTD_MSIL2A.xml").write_text(text.replace(">10000<", ">1000<"))
    metadata = sentinel2.read_metadata(tmp_path / "MTD_MSIL2A.xml")
    assert (metadata.quantification, metadata.offset["B02"], metadata.baseline) == (1000, 0, "02.06")


def test_fine_bands_are_reflectance_as_stored_and_special_values_are_nan(product):
    root, stored, _ = product
    scene = sentinel2.open_product(root, mask_clouds=False)
    for i, name in enumerate(FINE):
        special = np.isin(stored[name], (0, 65535))
        expected = np.where(special, np.nan, (stored[name].astype(float) - 1000) / 10000)
        np.testing.assert_allclose(scene[i], expected, atol=1e-6)
    assert tuple(scene.rio.transform())[:6] == (10, 0, 300000, 0, -10, 5800020) and scene.rio.crs.to_epsg() == 32633
    assert (scene.attrs["stored_scale"], scene.attrs["stored_offset"]) == (1e-4, -0.1)


def test_coarse_bands_follow_and_are_interpolated_with_a_note(product):
    root, stored, _ = product
    scene = sentinel2.open_product(root, mask_clouds=False)
    assert tuple(scene.band_name.values) == FINE + COARSE
    for i, name in enumerate(COARSE, len(FINE)):
        coarse = (stored[name].astype(float) - 1000) / 10000
        centre, beside = coarse[10, 10], coarse[10, 11]
        corner = coarse[11, 10], coarse[11, 11]
        expected = 0.75 * (0.75 * centre + 0.25 * beside) + 0.25 * (0.75 * corner[0] + 0.25 * corner[1])
        assert scene[i].values[21, 21] == pytest.approx(expected, abs=1e-6)
        assert np.isnan(scene[i].values[:2, :4]).all() and np.isfinite(scene[i].values[2:, 4:]).all()
    assert any("20 m bands interpolated to 10 m" in note and "B11" in note for note in scene.attrs["notes"])


def test_interpolation_keeps_planes_and_constants_and_does_not_depend_on_chunks():
    import dask.array as da

    rows, columns = np.mgrid[:12, :10].astype(np.float32)
    plane = (3 + 2 * rows - columns)[None]
    plane[0, 5, 5] = np.nan
    whole = twice_as_fine(da.from_array(plane, chunks=(1, 12, 10))).compute()
    pieces = twice_as_fine(da.from_array(plane, chunks=(1, 5, 4))).compute()
    np.testing.assert_array_equal(whole, pieces)
    fine_rows, fine_columns = np.mgrid[:24, :20] / 2 - 0.25
    inside = np.zeros((24, 20), bool)
    inside[1:-1, 1:-1] = True
    inside[9:13, 9:13] = False  # next to the hole there is nothing to interpolate with
    np.testing.assert_allclose(whole[0][inside], (3 + 2 * fine_rows - fine_columns)[inside], atol=1e-4)
    hole = np.isnan(whole[0])
    assert hole[10:12, 10:12].all() and hole.sum() == 4
    flat = np.where(np.isnan(plane), np.nan, np.float32(0.3))
    np.testing.assert_allclose(np.nan_to_num(twice_as_fine(da.from_array(flat)).compute(), nan=0.3), 0.3, rtol=1e-6)


def test_scene_classes_without_surface_are_no_data(product):
    root, _, classes = product
    scene, kept = open_scene(root), sentinel2.open_product(root, mask_clouds=False)
    unusable = np.isin(classes, (0, 1, 3, 8, 9, 10)).repeat(2, 0).repeat(2, 1)
    assert np.isnan(scene.values[:, unusable]).all()
    np.testing.assert_array_equal(scene.values[:, ~unusable], kept.values[:, ~unusable])


def test_bands_are_those_of_the_sensor(product):
    scene = open_scene(product[0])
    match = match_bands(load_response("sentinel2b"), tuple(scene.band_name.values), scene.wavelength.values, scene.sizes["band"])
    assert [band.name for band in match.response.bands] == ["B2", "B3", "B4", "B8", "B5", "B6", "B7", "B8A", "B11", "B12"]
    assert match.msi_index == tuple(range(10))
    assert scene.wavelength.values[0] == 492.65, "the centre is the metadata's"


def test_the_folder_and_its_metadata_file_are_the_same_product(product):
    root = product[0]
    assert find_product(root) is sentinel2 and find_product(root / "MTD_MSIL2A.xml") is sentinel2
    scene = open_scene(root / "MTD_MSIL2A.xml", chunks=(2, 16, 16))
    np.testing.assert_array_equal(scene.values, open_scene(root).values)
    assert scene.attrs["product"] == "Sentinel-2 L2A" and scene.data.chunksize == (2, 16, 16)


def test_before_baseline_4_there_is_no_offset(tmp_path):
    stored = write(tmp_path, baseline="03.01", offset=None)
    assert open_scene(tmp_path).values[0, 20, 20] == pytest.approx(stored["B02"][20, 20] / 10000, abs=1e-6)


def test_without_20_m_bands_the_10_m_bands_are_read_alone(tmp_path):
    write(tmp_path, coarse=())
    scene = open_scene(tmp_path)
    assert tuple(scene.band_name.values) == FINE
    assert any("no R20m folder" in note for note in scene.attrs["notes"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "MTD_MSIL2A.xml").write_text(metadata_xml("05.11", None)), "no BOA_ADD_OFFSET for B02"),
        (lambda root: (root / "MTD_MSIL2A.xml").write_text(metadata_xml("?", None)), "PROCESSING_BASELINE is '\\?'"),
        (lambda root: (root / "MTD_MSIL2A.xml").write_text("<a>"), "damaged XML"),
        (lambda root: next(root.rglob("*_B03_10m.jp2")).unlink(), r"no \*_B03_10m.jp2"),
        (lambda root: (root / "GRANULE" / "L2A_other" / "IMG_DATA").mkdir(parents=True), "2 granules"),
        (
            lambda root: next(root.rglob("*_B04_10m.jp2")).write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 40),
            "B04_10m.jp2: cannot be",
        ),
    ],
)
def test_what_lacks_is_named(tmp_path, change, message):
    write(tmp_path, coarse=())
    change(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        open_scene(tmp_path)
    assert "\n" not in str(error.value)


def test_a_truncated_band_is_an_error_not_zeros(tmp_path):
    write(tmp_path, coarse=())
    path = next(tmp_path.rglob("*_B02_10m.jp2"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="B02_10m.jp2"):
        open_scene(tmp_path).values  # noqa: B018


def test_a_pair_tells_what_its_user_should_know_of_the_product(product, tmp_path, files):
    from geofuse.align import make_pair

    nm = np.linspace(430, 2350, 60)
    tags = [{"wavelength": f"{w:.2f}", "wavelength_units": "Nanometers", "fwhm": "32"} for w in nm]
    grid = Affine(20, 0, 300000, 0, -20, 5800020)
    hsi = open_scene(files.make_tif(tmp_path / "hsi.tif", files.counts((60, 20, 20)), band_tags=tags, transform=grid))
    pair = make_pair(hsi, open_scene(product[0]), srf="sentinel2b")
    assert pair.sizes["band_msi"] == 10 and pair.attrs["ratio"] == 2
    assert any(note.startswith("MSI: B05") and "interpolated to 10 m" in note for note in pair.attrs["notes"])
