"""The main job on a real EnMAP scene: simulate, run, evaluate, all through the command line."""

import json

import numpy as np
import pytest
import rasterio


@pytest.fixture(scope="module")
def enmap(shared_data):
    return shared_data / "enmap-potsdam" / "enmap_potsdam_A_64r_128c.tif"


@pytest.fixture
def pair(enmap, geofuse, tmp_path):
    """The folder of the pair that ``simulate`` makes."""
    done = geofuse("simulate", enmap, "--ratio", 4, "--srf", "landsat8", "-o", tmp_path)
    assert done.code == 0, done.err
    assert "dropped 6 of 224 bands that have no data: 130, 131, 132, 133, 134, 135" in done.out
    return tmp_path


@pytest.fixture
def score(pair, geofuse):
    """Fuse the pair by a method and return its PSNR in dB."""

    def psnr(method, *more):
        output = pair / f"{method}.tif"
        done = geofuse("run", pair / "hsi.tif", pair / "msi.tif", "--srf", "landsat8", "--method", method, "-o", output, *more)
        assert done.code == 0, done.err
        measured = geofuse("evaluate", output, "--reference", pair / "reference.tif", "--ratio", 4, "--json")
        assert measured.code == 0, measured.err
        return json.loads(measured.out)["psnr"]

    return psnr


def test_subspace_beats_bicubic_by_8_db(score):
    assert score("subspace") > score("bicubic") + 8


@pytest.mark.slow
def test_argsdiff_fast_is_not_below_subspace(score):
    assert score("argsdiff", "--preset", "fast") >= score("subspace") - 0.02


def test_the_result_keeps_grid_crs_wavelengths_and_the_bands_that_hold_data(pair, score, enmap):
    score("subspace")
    with rasterio.open(pair / "subspace.tif") as fused, rasterio.open(pair / "msi.tif") as msi, rasterio.open(enmap) as scene:
        assert fused.transform == msi.transform == scene.transform and fused.crs.to_epsg() == 32633
        assert fused.count == 218 and fused.shape == msi.shape == (64, 128)
        kept = [i for i in scene.indexes if not 130 <= i <= 135]
        for band, original in zip(fused.indexes, kept, strict=True):
            tags, source = fused.tags(band), scene.tags(original)
            assert float(tags["wavelength"]) == pytest.approx(float(source["wavelength"]), abs=1e-3)
            imagery = fused.tags(band, ns="IMAGERY")
            assert 1000 * float(imagery["CENTRAL_WAVELENGTH_UM"]) == pytest.approx(float(source["wavelength"]), abs=1e-3)
            assert float(tags["fwhm"]) == pytest.approx(float(source["fwhm"]), abs=1e-3)


def test_an_enmap_scene_itself_is_fused_with_its_bands_without_data(enmap, geofuse, tmp_path):
    """The scene as it is stored (int16, six empty bands), with an MSI of its upper left part at a quarter of its pixel size."""
    from geofuse.io import open_scene, write_scene
    from geofuse.scene import BandMetadata, make_scene

    scene = open_scene(enmap)
    names = (490.0, 560.0, 660.0, 840.0)
    nearest = [int(np.abs(scene.wavelength.values - nm).argmin()) for nm in names]
    fine = scene.values[nearest, :24, :32].repeat(4, 1).repeat(4, 2)
    bands = BandMetadata(np.array(names), np.full(4, 12.0), np.ones(4, bool), ("B2", "B3", "B4", "B8"))
    transform = scene.rio.transform() @ type(scene.rio.transform()).scale(0.25)
    write_scene(make_scene(fine, bands, transform, scene.rio.crs), tmp_path / "msi.tif", dtype="float32")
    (tmp_path / "camera.csv").write_text(
        "wavelength_nm,"
        + ",".join(bands.band_name)
        + "\n"
        + "\n".join(f"{nm}," + ",".join(f"{max(0, 1 - abs(nm - c) / 15):.3f}" for c in names) for nm in range(440, 900, 3))
    )
    output = tmp_path / "fused.tif"
    done = geofuse(
        *("run", enmap, tmp_path / "msi.tif", "--srf", tmp_path / "camera.csv", "--psf", "box"),
        *("--method", "subspace", "-o", output, "--json"),
    )
    assert done.code == 0, done.err
    assert any("bands 130-135" in note for note in json.loads(done.out)["notes"])
    with rasterio.open(enmap) as stored, rasterio.open(output) as fused:
        assert fused.dtypes == stored.dtypes[:218] and fused.scales == stored.scales[:218] and fused.nodata == stored.nodata
        assert fused.count == 218
