"""What EnMAP, DESIS and EMIT mark as cloud becomes no data, unless it is to stay; layers made as the agencies publish them."""

import shutil

import numpy as np
import pytest

from geofuse import open_scene
from geofuse.errors import InputError
from geofuse.io import describe

ENMAP = "ENMAP01-____L2A-DT0000001867_20220724T104526Z_008_V010302_20230628T165614Z"
DESIS = "DESIS-HSI-L2A-DT0485529167_001-20220712T223540-V0220"
SHAPE = (2, 20, 30)


def band_xml(band, number, names):
    values = "".join(f"<{name}>{value}</{name}>" for name, value in zip(names, ("{nm}", 6.5, 1e-4, 0.0), strict=True))
    bands = "".join(f"<{band}{number(i)}{values.format(nm=500 + 100 * i)}</{band.split()[0]}>" for i in range(SHAPE[0]))
    return f"<doc><specific><bandCharacterisation>{bands}</bandCharacterisation></specific></doc>"


@pytest.fixture
def stored():
    return np.random.default_rng(0).integers(1, 9000, SHAPE).astype("int16")


@pytest.fixture
def enmap_folder(tmp_path, stored, files):
    folder = tmp_path / ENMAP
    folder.mkdir()
    files.make_tif(folder / f"{ENMAP}-SPECTRAL_IMAGE.TIF", stored, nodata=-32768)
    names = ("wavelengthCenterOfBand", "FWHMOfBand", "GainOfBand", "OffsetOfBand")
    (folder / f"{ENMAP}-METADATA.XML").write_text(band_xml("bandID ", lambda i: f'number="{i + 1}">', names))
    return folder


@pytest.fixture
def desis_folder(tmp_path, stored, files):
    folder = tmp_path / DESIS
    folder.mkdir()
    files.make_tif(folder / f"{DESIS}-SPECTRAL_IMAGE.tif", stored)
    names = ("wavelengthCenterOfBand", "wavelengthWidthOfBand", "gainOfBand", "offsetOfBand")
    (folder / f"{DESIS}-METADATA.xml").write_text(band_xml("band", lambda i: f"><bandNumber>{i + 1}</bandNumber>", names))
    return folder


def layer(*places):
    """An 8-bit layer that holds ``value`` at (row, col) for each (row, col, value)."""
    made = np.zeros((1, *SHAPE[1:]), "uint8")
    for row, col, value in places:
        made[0, row, col] = value
    return made


def gone(scene):
    """Pixels (row, col) without data, which all bands share."""
    missing = np.isnan(scene.values)
    assert (missing == missing[:1]).all()
    return set(zip(*(axis.tolist() for axis in np.nonzero(missing[0])), strict=True))


def test_enmap_cloud_cirrus_and_cloud_shadow_are_no_data(enmap_folder, files):
    for name, places in {
        "CLOUD": [(1, 2, 1)],
        "CIRRUS": [(3, 4, 1), (5, 6, 2), (7, 8, 3), (9, 9, 255)],  # thin, medium, thick; 255 is no data of the layer
        "CLOUDSHADOW": [(9, 10, 1)],
        "HAZE": [(11, 12, 1)],
        "SNOW": [(13, 14, 1)],
    }.items():
        files.make_tif(enmap_folder / f"{ENMAP}-QL_QUALITY_{name}.TIF", layer(*places), nodata=255 if name == "CIRRUS" else None)
    scene = open_scene(enmap_folder)
    assert gone(scene) == {(1, 2), (3, 4), (5, 6), (7, 8), (9, 10)} and scene.chunks is not None
    assert scene.attrs["notes"] == ["cloud and cirrus and cloud shadow are no data (QL_QUALITY layers)"]
    assert sum("QL_QUALITY" in file for file in scene.attrs["files"]) == 3
    kept = open_scene(enmap_folder, mask_clouds=False)
    assert not gone(kept) and kept.attrs["notes"] == ["clouds are not masked"]
    assert describe(enmap_folder).notes[-1] == scene.attrs["notes"][-1]


@pytest.mark.parametrize("suffix", [".TIF", ".tiff"])
def test_the_quality_layers_of_an_enmap_download_are_found_by_its_names(enmap_folder, files, suffix):
    """EOC Geoservice: every GeoTIFF is a COG and says so in its name."""
    (enmap_folder / f"{ENMAP}-SPECTRAL_IMAGE.TIF").rename(enmap_folder / f"{ENMAP}-SPECTRAL_IMAGE_COG{suffix}")
    files.make_tif(enmap_folder / f"{ENMAP}-QL_QUALITY_CLOUD_COG{suffix}", layer((1, 2, 1)))
    files.make_tif(enmap_folder / f"{ENMAP}-QL_QUALITY_CLOUDSHADOW_COG{suffix}", layer((3, 4, 1)))
    assert gone(open_scene(enmap_folder)) == {(1, 2), (3, 4)}


def test_enmap_without_quality_layers_says_so(enmap_folder, files):
    expected = "clouds are not masked: no QL_QUALITY_CLOUD and QL_QUALITY_CIRRUS and QL_QUALITY_CLOUDSHADOW beside the image"
    assert open_scene(enmap_folder).attrs["notes"] == [expected]
    files.make_tif(enmap_folder / f"{ENMAP}-QL_QUALITY_CLOUD.TIF", layer((1, 2, 1)))
    note = open_scene(enmap_folder).attrs["notes"][-1]
    assert note == "cloud are no data (QL_QUALITY layers; no QL_QUALITY_CIRRUS and QL_QUALITY_CLOUDSHADOW)"


def test_a_quality_layer_on_another_grid_is_refused(enmap_folder, files):
    files.make_tif(enmap_folder / f"{ENMAP}-QL_QUALITY_CLOUD.TIF", layer()[:, :-1])
    with pytest.raises(InputError, match="not on the grid of"):
        open_scene(enmap_folder)


def test_desis_cloud_and_shadow_are_no_data(desis_folder, files):
    layers = np.zeros((10, *SHAPE[1:]), "uint8")
    for number in range(1, 11):
        layers[number - 1, number, 2 * number] = 1
    files.make_tif(desis_folder / f"{DESIS}-QL_QUALITY-2.tif", layers)
    scene = open_scene(desis_folder)
    assert gone(scene) == {(1, 2), (6, 12), (7, 14)}
    assert scene.attrs["notes"] == ["cloud and shadow are no data (QL_QUALITY-2)"]
    assert not gone(open_scene(desis_folder, mask_clouds=False))
    files.make_tif(desis_folder / f"{DESIS}-QL_QUALITY-2.tif", layers[:3])
    with pytest.raises(InputError, match="3 layers; expected 10"):
        open_scene(desis_folder)
    (desis_folder / f"{DESIS}-QL_QUALITY-2.tif").unlink()
    assert open_scene(desis_folder).attrs["notes"] == ["clouds are not masked: no QL_QUALITY-2 beside the image"]


GRANULE = "20230316T045133_2307503_005"
FLAGS_1 = (
    "Cloud flag",
    "Cirrus flag",
    "Water flag",
    "Spacecraft Flag",
    "Dilated Cloud Flag",
    "AOD550",
    "H2O (g cm-2)",
    "Aggregate Flag",
)
FLAGS_3 = ("Cloud Flag", "Cirrus Flag", "Water Flag", "Dilated Cloud Flag", "SpecTf-Cloud Probability", "SpecTf-Cloud Flag")


@pytest.fixture
def emit_file(tmp_path):
    """Reflectance of 12 lines of 10 samples whose map is the image turned upside down."""
    h5py = pytest.importorskip("h5py")
    from rasterio.crs import CRS

    line, sample = np.mgrid[12:0:-1, 1:11]

    def write(name, array, content, names=()):
        with h5py.File(tmp_path / name, "w") as file:
            file[array] = content.astype("float32")
            file["sensor_band_parameters/wavelengths"] = np.array([500.0, 600.0], "float32")
            file["sensor_band_parameters/fwhm"] = np.full(2, 8.5, "float32")
            file["sensor_band_parameters/good_wavelengths"] = np.ones(2, "uint8")
            if names:
                file["sensor_band_parameters/mask_bands"] = [name.encode() for name in names]
            file["location/glt_x"], file["location/glt_y"] = sample.astype("int32"), line.astype("int32")
            file.attrs["geotransform"] = np.array([11.0, 5e-4, 0.0, 48.0, 0.0, -5e-4])
            file.attrs["spatial_ref"] = CRS.from_epsg(4326).to_wkt()
        return tmp_path / name

    def make(version=None, names=()):
        if version:
            flags = np.zeros((12, 10, len(names)))
            for i in range(len(names)):
                flags[i, i] = np.where(np.arange(len(names)) == i, 1.0, 0.0)
            flags[11, 9] = -9999
            write(f"EMIT_L2A_MASK_{version}_{GRANULE}.nc", "mask", flags, names)
        return write(f"EMIT_L2A_RFL_001_{GRANULE}.nc", "reflectance", np.random.default_rng(0).random((12, 10, 2)))

    return make


@pytest.mark.parametrize(("version", "names", "clouded"), [("001", FLAGS_1, (0, 1, 3, 4)), ("003", FLAGS_3, (0, 1, 3, 5))])
def test_emit_flags_are_found_by_name_and_put_on_the_map(emit_file, version, names, clouded):
    path = emit_file(version, names)
    scene = open_scene(path, chunks=5)
    assert gone(scene) == {(11 - i, i) for i in clouded}
    assert scene.attrs["notes"][-1].endswith("are no data: " + ", ".join(names[i] for i in clouded))
    assert not gone(open_scene(path, mask_clouds=False))


def test_emit_without_its_mask_file_says_so_and_takes_no_other_granules(emit_file):
    path = emit_file("001", FLAGS_1)
    mask = path.with_name(f"EMIT_L2A_MASK_001_{GRANULE}.nc")
    shutil.move(mask, mask.with_name("EMIT_L2A_MASK_001_20230316T045145_2307503_006.nc"))
    assert open_scene(path).attrs["notes"][-1] == "clouds are not masked: no EMIT_L2A_MASK file of this granule beside it"


def test_emit_flags_without_a_cloud_flag_are_refused(emit_file):
    with pytest.raises(InputError, match="flags Water flag; expected a Cloud flag"):
        open_scene(emit_file("001", ("Water flag",)))


def test_run_masks_clouds_of_both_images_unless_told_not_to(enmap_folder, files):
    """The command line's flag reaches the readers: seen in the pair that a run starts from."""
    import click

    from geofuse.pipeline import PairOptions
    from geofuse_cli.options import pair_options

    files.make_tif(enmap_folder / f"{ENMAP}-QL_QUALITY_CLOUD.TIF", layer((1, 2, 1)))
    seen = {}

    @click.command()
    @pair_options()
    def command(pair: PairOptions):
        seen["pair"] = pair

    for flag, clouded in (([], True), (["--mask-clouds"], True), (["--no-mask-clouds"], False)):
        command.main(flag, standalone_mode=False)
        assert seen["pair"].mask_clouds is clouded
        assert bool(gone(open_scene(enmap_folder, mask_clouds=seen["pair"].mask_clouds))) is clouded


def test_the_pair_is_opened_with_what_the_option_says(enmap_folder, monkeypatch):
    import geofuse.io.reader as reader
    from geofuse.pipeline import PairOptions

    asked = []

    def note_and_stop(path, **options):
        asked.append((path, options["mask_clouds"]))
        if len(asked) % 2 == 0:
            raise InputError("enough")
        return None

    monkeypatch.setattr(reader, "open_scene", note_and_stop)
    for flag in (True, False):
        with pytest.raises(InputError, match="enough"):
            PairOptions(srf="landsat8", mask_clouds=flag).open("hsi", "msi")
    assert asked == [("hsi", True), ("msi", True), ("hsi", False), ("msi", False)]
