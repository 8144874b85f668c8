"""``geofuse run`` from files to a file: grid, bands, units, masks and quality of what comes out."""

import numpy as np
import pytest
import rasterio
from affine import Affine

METHODS = ("subspace", "bicubic")


def band_tags(path):
    with rasterio.open(path) as dataset:
        return [(dataset.tags(i), dataset.tags(i, ns="IMAGERY"), dataset.descriptions[i - 1]) for i in dataset.indexes]


@pytest.mark.parametrize("method", METHODS)
def test_the_result_lies_on_the_msis_exact_grid_in_its_crs(job, fuse, method):
    fused = fuse(job, method=method)
    with rasterio.open(job.msi_path) as msi:
        assert fused.profile["transform"] == msi.transform and fused.profile["crs"] == msi.crs
        assert (fused.profile["height"], fused.profile["width"]) == msi.shape


def test_wavelengths_are_the_hsis_in_both_conventions(job, fuse, make):
    for (tags, imagery, _), nm in zip(band_tags(fuse(job).path), make.NM, strict=True):
        assert tags["wavelength_units"] == "Nanometers"
        assert float(tags["wavelength"]) == pytest.approx(nm, abs=1e-3) and float(tags["fwhm"]) == pytest.approx(11.23, abs=1e-3)
        assert 1000 * float(imagery["CENTRAL_WAVELENGTH_UM"]) == pytest.approx(nm, abs=1e-3)
        assert 1000 * float(imagery["FWHM_UM"]) == pytest.approx(11.23, abs=1e-3)


def test_the_result_is_stored_as_the_hsi_is(job, fuse, make):
    fused = fuse(job)
    assert fused.profile["dtype"] == "int16" and fused.profile["nodata"] == make.NODATA
    with rasterio.open(fused.path) as dataset:
        assert set(dataset.scales) == {make.SCALE} and set(dataset.offsets) == {0.0}
    assert np.nanmean(fused.values) == pytest.approx(job.truth.mean(), rel=0.01)


def test_dtype_float32_gives_physical_units(job, fuse):
    stored, floats = fuse(job), fuse(job, "--dtype", "float32", name="floats.tif")
    assert floats.profile["dtype"] == "float32" and np.isnan(floats.profile["nodata"])
    np.testing.assert_allclose(floats.stored, stored.values, atol=0.51e-4)


def test_dtype_and_scale_can_be_chosen(job, fuse):
    fused = fuse(job, "--dtype", "uint16", "--scale", "0.00002")
    assert fused.profile["dtype"] == "uint16"
    assert np.nanmean(fused.values) == pytest.approx(job.truth.mean(), rel=0.01)


def test_an_hsi_with_gain_and_offset_keeps_them(job, fuse):
    with rasterio.open(job.hsi_path, "r+") as dataset:
        dataset.write(np.rint(job.hsi / 1e-4 + 1000).astype("int16"))
        dataset.offsets = [-0.1] * dataset.count
    fused = fuse(job)
    with rasterio.open(fused.path) as dataset:
        assert dataset.scales[0] == 1e-4 and dataset.offsets[0] == -0.1
    assert np.mean(fused.stored * 1e-4 - 0.1) == pytest.approx(job.truth.mean(), rel=0.01)


def test_subspace_beats_bicubic_by_8_db_on_a_made_up_scene(job, fuse, psnr):
    assert psnr(job.truth, fuse(job).values) > psnr(job.truth, fuse(job, method="bicubic").values) + 8


def test_the_same_seed_gives_the_same_bytes(job, fuse):
    first = fuse(job, "--tile", "32").path.read_bytes()
    assert fuse(job, "--tile", "32", name="again.tif").path.read_bytes() == first


def test_the_result_is_a_valid_cog_with_overviews(make_job, fuse):
    fused = fuse(make_job(256, 600).write(), "--tile", "256")
    with rasterio.open(fused.path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and dataset.profile["tiled"]
        levels = range(-1, len(dataset.overviews(1)))
        assert len(levels) > 1

        def item(name, level):
            return int(dataset.get_tag_item(name, "TIFF", bidx=1, **({} if level < 0 else {"ovr": level})))

        directories = [item("IFD_OFFSET", level) for level in levels]
        data = [item("BLOCK_OFFSET_0_0", level) for level in levels]
    assert directories == sorted(directories), "the full image's directory comes first"
    assert data == sorted(data, reverse=True) and max(directories) < min(data), "directories, then overviews, then the full image"
    with rasterio.open(fused.path, overview_level=0) as overview:
        seen = overview.read(5) * 1e-4
    assert seen.mean() == pytest.approx(fused.values[4].mean(), rel=0.01)


def test_rioxarray_opens_the_result_on_the_right_spot(job, fuse, make):
    import rioxarray

    fused = fuse(job)
    with rioxarray.open_rasterio(fused.path, masked=True, mask_and_scale=True) as scene:
        assert scene.rio.crs.to_epsg() == 32633
        assert scene.rio.transform() == make.north_up(make.FINE_M)
        np.testing.assert_allclose(scene.values, fused.values, atol=1e-6)
        assert float(scene.x[0]) == pytest.approx(365055 + make.FINE_M / 2)


def test_provenance_says_how_the_result_was_made_and_nothing_that_changes(job, fuse):
    import hashlib

    with rasterio.open(fuse(job).path) as dataset:
        tags = dataset.tags()
    assert (tags["GEOFUSE_METHOD"], tags["GEOFUSE_SEED"], tags["GEOFUSE_RATIO"]) == ("subspace", "0", "4")
    assert '"box"' in tags["GEOFUSE_HSI_PSF"] and tags["GEOFUSE_HSI_PSF_SOURCE"] == "given"
    assert hashlib.sha256(job.hsi_path.read_bytes()).hexdigest() in tags["GEOFUSE_HSI"]
    assert str(job.folder) not in tags["GEOFUSE_HSI"] + tags["GEOFUSE_MSI"]


def test_bands_without_data_are_dropped_and_reported(job, fuse, make):
    job.hsi[[0, 22, 23, 40]] = np.nan
    fused = fuse(job.write())
    assert len(fused.stored) == 37 and any("bands 1, 23-24, 41" in note for note in fused.notes)
    kept = np.delete(make.NM, [0, 22, 23, 40])
    np.testing.assert_allclose([float(tags["wavelength"]) for tags, *_ in band_tags(fused.path)], kept, atol=1e-3)


def test_the_summary_for_people_names_what_was_done(job, geofuse):
    done = geofuse(*job.arguments(job.folder / "fused.tif"))
    assert done.code == 0 and max(map(len, done.out.splitlines())) <= 80
    for word in ("80 x 64", "EPSG:32633", "41 bands", "subspace", "box", "peak", "fused.tif"):
        assert word in done.out
    assert done.err == ""


def test_without_o_the_result_lies_beside_the_msi(job, geofuse):
    arguments = job.arguments("unused")
    at = arguments.index("-o")
    assert geofuse(*arguments[:at], *arguments[at + 2 :]).code == 0
    assert (job.folder / "hsi-fused.tif").is_file()
    done = geofuse(*arguments[:at], *arguments[at + 2 :], "--driver", "envi")
    assert done.code == 2 and "with --driver ENVI give the name of the result with -o" in done.err


@pytest.mark.parametrize("driver", ["GTiff", "ENVI"])
def test_other_drivers_hold_the_same_values(job, fuse, driver):
    name = "fused.tif" if driver == "GTiff" else "fused.dat"
    cog, other = fuse(job, name="cog.tif"), fuse(job, "--driver", driver, name=name)
    np.testing.assert_array_equal(other.stored, cog.stored)
    assert other.profile["driver"] == driver and other.profile["transform"] == cog.profile["transform"]


def test_an_envi_pair_is_fused_as_a_geotiff_pair_is(job, fuse, make, geofuse):
    expected = fuse(job)
    nm, fwhm = ("{" + ", ".join(f"{n:.4f}" for n in numbers) + "}" for numbers in (make.NM, make.FWHM))
    spectral = f"wavelength = {nm}\nwavelength units = Nanometers\nfwhm = {fwhm}\n"
    for name, values, size in (("hsi", job.hsi, make.RATIO * make.FINE_M), ("msi", job.msi, make.FINE_M)):
        path = make.write(job.folder / f"{name}.dat", values, make.north_up(size), driver="ENVI", interleave="BIL")
        header = path.with_suffix(".hdr")
        text = header.read_text() + "reflectance scale factor = 10000\n"
        header.write_text(text + (spectral if name == "hsi" else ""))
        path.with_name(path.name + ".aux.xml").unlink(missing_ok=True)
    output = job.folder / "from-envi.tif"
    done = geofuse(
        *("run", job.folder / "hsi.hdr", job.folder / "msi.dat", "--srf", job.camera),
        *("--psf", "box", "--method", "subspace", "-o", output),
    )
    assert done.code == 0, done.err
    with rasterio.open(output) as dataset:
        assert np.abs(dataset.read().astype(int) - expected.stored).max() <= 1


def test_a_psf_recorded_by_simulate_is_taken_up(job, fuse, geofuse):
    made = geofuse("simulate", fuse(job).path, "--srf", job.camera, "--psf", "gaussian:1.3", "-o", job.folder / "sim")
    assert made.code == 0, made.err
    sim, output = job.folder / "sim", job.folder / "out.tif"
    done = geofuse("run", sim / "hsi.tif", sim / "msi.tif", "--srf", job.camera, "--method", "bicubic", "-o", output)
    assert "FWHM 1.3" in done.out and "recorded" in done.out


@pytest.mark.parametrize(("ratio", "psf"), [(2, "gaussian"), (3, "bicubic"), (10, "box")])
def test_other_ratios_are_fused(make_job, fuse, make, psnr, ratio, psf):
    job = make_job(120, 120)
    job.hsi = make.noisy(make.coarsen(job.truth, ratio), 40, 1)
    job.hsi_changes = {"transform": make.north_up(ratio * make.FINE_M)}
    fused = fuse(job.write(), "--psf", psf)
    assert f"ratio {ratio}" in fused.grid and fused.stored.shape == (41, 120, 120)
    assert psnr(job.truth, fused.values) > psnr(job.truth, fuse(job, name="cubic.tif", method="bicubic").values)


def test_a_grid_that_is_off_by_part_of_a_fine_pixel_is_used_as_it_is_and_said_so(job, fuse, make, psnr):
    job.hsi_changes = {"transform": make.north_up(make.RATIO * make.FINE_M, 0.4, 0.3)}
    fused = fuse(job.write())
    assert any("off the MSI's; the PSF is moved, nothing is resampled" in note for note in fused.notes)
    step = (fused.profile["transform"].c - 365055) / make.FINE_M, (5807085 - fused.profile["transform"].f) / make.FINE_M
    assert step == (round(step[0]), round(step[1])), "the fine image is never resampled"


@pytest.mark.parametrize("shift", [(0, 5), (6, 0), (-3, -7), (9, 2)])
def test_a_partial_overlap_that_cuts_coarse_pixels_gives_the_overlaps_exact_grid(make_job, fuse, make, psnr, shift):
    job = make_job(96, 96)
    down, across = shift
    row0, row1, col0, col1 = max(down, 0), min(96 + down, 96), max(across, 0), min(96 + across, 96)
    moved = np.full(job.msi.shape, 0.123)
    moved[:, row0 - down : row1 - down, col0 - across : col1 - across] = job.msi[:, row0:row1, col0:col1]
    job.msi, job.msi_changes = moved, {"transform": make.north_up(make.FINE_M, down, across)}
    fused = fuse(job.write())
    assert fused.profile["transform"] == make.north_up(make.FINE_M, row0, col0)
    assert fused.stored.shape[1:] == (row1 - row0, col1 - col0)
    assert np.isfinite(fused.values).all()
    truth = job.truth[:, row0:row1, col0:col1]
    cubic = fuse(job, name="cubic.tif", method="bicubic")
    assert psnr(truth, fused.values) > psnr(truth, cubic.values) + 6


def test_paths_with_spaces_and_other_alphabets_work(job, geofuse, tmp_path):
    folder = tmp_path / "mes données été" / "写真 # 1"
    folder.mkdir(parents=True)
    for path in (job.hsi_path, job.msi_path, job.camera):
        path.rename(folder / path.name)
    job.folder = folder
    done = geofuse(*job.arguments(folder / "résultat final.tif"))
    assert done.code == 0, done.err
    with rasterio.open(folder / "résultat final.tif") as dataset:
        assert dataset.count == 41 and dataset.transform == Affine(7.5, 0, 365055, 0, -7.5, 5807085)


def test_a_scene_smaller_than_a_tile_works(make_job, fuse):
    fused = fuse(make_job(16, 20).write(), "--tile", "512")
    assert fused.tiles == 1 and np.isfinite(fused.values).all()


def test_the_command_in_a_process_of_its_own_does_the_same(job, fuse):
    import subprocess
    import sys

    expected = fuse(job).path.read_bytes()
    code = "from geofuse_cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *job.arguments("own.tif")], capture_output=True, text=True, cwd=job.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert (job.folder / "own.tif").read_bytes() == expected


def test_a_fine_image_can_be_averaged_first(job, fuse):
    fused = fuse(job, "--msi-average", "2")
    with rasterio.open(job.msi_path) as msi:
        assert (fused.profile["height"], fused.profile["width"]) == (msi.height // 2, msi.width // 2)
        assert fused.profile["transform"].a == pytest.approx(2 * msi.transform.a)
    halved = job.truth.reshape(len(job.truth), fused.profile["height"], 2, fused.profile["width"], 2).mean(axis=(2, 4))
    assert np.nanstd(fused.values - halved) < 0.1 * halved.std()
