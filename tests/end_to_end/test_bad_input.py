"""What cannot be fused: one clear line on stderr, exit code 2, nothing written, and what stood at the output as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from affine import Affine

OLD = b"what stood here before"


def contents(folder):
    """Every file below a folder and its bytes."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def refused(geofuse):
    """Check that a run is refused, with an old output in place and without; returns the line on stderr."""

    def check(job, *more, words="", output="fused.tif", code=2, arguments=None):
        path = job.folder / output
        lines = []
        for old in (None, OLD):
            if old is not None and path.parent.is_dir() and not path.exists():
                path.write_bytes(old)
            before = contents(job.folder)
            done = geofuse(*(arguments or job.arguments(path, *more)))
            assert done.code == code, done.err
            assert done.out == ""
            assert done.err.startswith("geofuse: error: ") and done.err.count("\n") == 1, done.err
            assert contents(job.folder) == before
            lines.append(done.err)
        assert lines[0] == lines[1]
        assert words in lines[0], lines[0]
        return lines[0]

    return check


# ---- files that are not what they should be


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def text(path):
    path.write_text("Dear reader,\nthis is no image.\n")


def empty(path):
    path.write_bytes(b"")


def missing(path):
    path.unlink()


def folder(path):
    path.unlink()
    path.mkdir()


def vrt(path):
    path.write_text(
        '<VRTDataset rasterXSize="5" rasterYSize="6"><VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        '<SourceFilename relativeToVRT="0">/etc/passwd</SourceFilename></VRTRasterBand></VRTDataset>'
    )


def zipped(path):
    path.write_bytes(b"PK\x03\x04" + bytes(200))


@pytest.mark.parametrize("which", ["hsi", "msi"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (missing, "no such file"),
        (empty, "empty (0 bytes)"),
        (cut_short, "truncated"),
        (text, "not a GeoTIFF"),
        (folder, "a folder"),
        (vrt, "a VRT, which can point at any file"),
        (zipped, "a zip archive"),
    ],
)
def test_a_file_that_cannot_be_read(job, refused, which, spoil, words):
    path = job.hsi_path if which == "hsi" else job.msi_path
    spoil(path)
    assert path.name in refused(job, words=words)


def test_a_damaged_block_in_the_middle_of_a_file(make_job, refused):
    job = make_job(256, 256)
    job.msi_changes = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", "transform": job.grid(1)}
    job.write()
    with rasterio.open(job.msi_path) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_2_2", "TIFF", bidx=1))
    data = bytearray(job.msi_path.read_bytes())
    data[offset : offset + 60] = b"\xff" * 60
    job.msi_path.write_bytes(data)
    assert "msi.tif" in refused(job, "--tile", "64", words="it is damaged")


@pytest.mark.parametrize("given", ["hsi.dat", "hsi.hdr"])
def test_a_truncated_envi_file(job, refused, make, given):
    path = make.write(job.folder / "hsi.dat", job.hsi, job.grid(4), driver="ENVI")
    path.write_bytes(path.read_bytes()[:-100])
    arguments = job.arguments(job.folder / "fused.tif")
    arguments[1] = str(job.folder / given)
    refused(job, arguments=arguments, words="truncated ENVI file, 100 bytes fewer than its header says")


def test_a_url(job, refused):
    arguments = job.arguments(job.folder / "fused.tif")
    arguments[2] = "http://127.0.0.1:9/msi.tif"
    refused(job, arguments=arguments, words="not a local file; download it first")


# ---- grids


@pytest.mark.parametrize("which", ["hsi", "msi"])
def test_no_crs(job, refused, which):
    (job.hsi_changes if which == "hsi" else job.msi_changes).update(crs=None)
    refused(job.write(), words=f"{which}.tif has no CRS; set the right one")


@pytest.mark.parametrize("which", ["hsi", "msi"])
def test_a_rotated_grid(job, refused, which):
    size = 30.0 if which == "hsi" else 7.5
    turned = Affine.translation(365055, 5807085) @ Affine.rotation(20) @ Affine.scale(size, -size)
    (job.hsi_changes if which == "hsi" else job.msi_changes).update(transform=turned)
    refused(job.write(), words="is rotated by 20 degrees")


def test_no_overlap(job, refused):
    job.hsi_changes["transform"] = Affine(30, 0, 500000, 0, -30, 5807085)
    refused(job.write(), words="the images do not overlap: the HSI covers x 500000")


def test_an_overlap_of_less_than_two_coarse_pixels(job, refused, make):
    job.msi_changes["transform"] = make.north_up(7.5, 0, 74)
    refused(job.write(), words="overlap by 64 x 6 fine pixels only")


def test_a_crs_on_the_other_side_of_the_world(job, refused):
    job.hsi_changes["crs"] = "EPSG:32733"
    refused(job.write(), words="do not overlap")


@pytest.mark.parametrize(("size", "words"), [(7.5 * 41, "41 times as large"), (7.5, "1 times as large"), (3.75, "look swapped")])
def test_a_ratio_out_of_range(make_job, refused, size, words):
    job = make_job(96, 96)
    job.hsi = np.resize(job.hsi, (41, 96, 96))
    job.hsi_changes["transform"] = Affine(size, 0, 365055, 0, -size, 5807085)
    refused(job.write(), words=words)


def test_hsi_and_msi_swapped(job, refused):
    arguments = job.arguments(job.folder / "fused.tif")
    arguments[1:3] = arguments[2:0:-1]
    refused(
        job, arguments=arguments, words="the HSI has 4 bands and the MSI 41; they look swapped: give the hyperspectral image first"
    )


# ---- bands


def test_an_hsi_without_wavelengths(job, refused):
    job.hsi_changes["nm"] = None
    refused(job.write(), words="has no wavelengths, and the response camera.csv needs them; give them with --wavelengths file.csv")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("wavelength_nm\n400\n500\n", "2 wavelengths"),
        ("nm\n400\n", "wavelength_nm"),
        ("", "w.csv"),
        ("wavelength_nm\n" + "hello\n" * 41, "w.csv"),
        (None, "w.csv"),
    ],
)
def test_a_wavelength_table_that_does_not_fit(job, refused, table, words):
    if table is not None:
        (job.folder / "w.csv").write_text(table)
    refused(job, "--wavelengths", job.folder / "w.csv", words=words)


def test_an_msi_with_another_band_count_than_the_response(job, refused):
    job.msi = np.concatenate([job.msi, job.msi])
    refused(job.write(), words="8 bands")


def test_a_response_that_the_hsi_does_not_cover(job, refused):
    job.msi = np.resize(job.msi, (7, *job.msi.shape[1:]))
    arguments = job.write().arguments(job.folder / "fused.tif")
    arguments[4] = "landsat8"
    line = refused(job, arguments=arguments, words="at least 90 % is needed")
    assert "B6" in line and "B7" in line and "--msi-bands B1,B2,B3,B4,B5" in line


@pytest.mark.parametrize(
    ("srf", "words"),
    [
        ("landsat88", "did you mean landsat"),
        ("absent.csv", "absent.csv"),
        ("hsi.tif", "hsi.tif"),
        ("empty.csv", "empty.csv"),
        ("", "srf"),
    ],
)
def test_a_response_that_is_none(job, refused, srf, words):
    (job.folder / "empty.csv").touch()
    arguments = job.arguments(job.folder / "fused.tif")
    arguments[4] = str(job.folder / srf) if "." in srf else srf
    refused(job, arguments=arguments, words=words)


@pytest.mark.parametrize("bands", ["blue,green,red,purple", "blue,blue,red,nir", "blue,,red"])
def test_msi_bands_that_do_not_fit(job, refused, bands):
    refused(job, "--msi-bands", bands)


# ---- values


@pytest.mark.parametrize(("which", "words"), [("hsi", "holds no data where the images overlap"), ("msi", "no pixel with data")])
def test_all_no_data(job, refused, which, words):
    getattr(job, which)[:] = np.nan
    refused(job.write(), words=words)


def test_data_in_both_but_nowhere_together(job, refused):
    job.hsi[:, :, :10] = np.nan
    job.msi[:, :, 40:] = np.nan
    refused(job.write(), words="data")


# ---- options


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--method", "subspce"), "did you mean subspace"),
        (("--preset", "paper"), "subspace has no preset 'paper'"),
        (("--device", "tpu"), "unknown device 'tpu'"),
        (("--device", "cuda:77"), "cuda:77 is not available here"),
        (("--psf", "lens"), "unknown PSF 'lens'"),
        (("--psf", "gaussian:99"), "FWHM from 0.05 to 5"),
        (("--psf", "absent.npy"), "absent.npy does not exist"),
        (("--dtype", "int17"), "'int17'; expected one of"),
        (("--dtype", "uint8"), "uint8 holds less: give --scale"),
        (("--scale", "0"), "scale"),
        (("--scale", "nan"), "scale"),
        (("--tile", "4"), "--tile"),
        (("--overlap", "-1"), "--overlap"),
        (("--seed", "-1"), "--seed"),
        (("--min-coverage", "1.5"), "--min-coverage"),
        (("--driver", "JPEG"), "--driver"),
        (("--frobnicate",), "--frobnicate"),
    ],
)
def test_options_out_of_range_or_unknown(job, refused, option, words):
    refused(job, *option, words=words)


def test_a_psf_kernel_that_does_not_fit(job, refused):
    np.save(job.folder / "psf.npy", np.ones((5, 5)))
    refused(job, "--psf", job.folder / "psf.npy", words="ratio 4 needs even sizes")


# ---- where to write


def test_an_output_folder_that_does_not_exist(job, refused):
    refused(job, output="absent/fused.tif", words="absent")


def test_an_output_that_is_a_folder(job, refused):
    (job.folder / "fused.tif").mkdir()
    refused(job, words="fused.tif")


@pytest.mark.parametrize("which", ["hsi.tif", "msi.tif", "link.tif", "../{}/hsi.tif"])
def test_an_output_that_is_an_input(job, refused, which):
    (job.folder / "link.tif").symlink_to(job.msi_path)
    refused(job, output=which.format(job.folder.name), words="is an input of this run; choose another name with -o")


@pytest.mark.parametrize("which", ["camera.csv", "psf.csv", "nm.csv"])
def test_an_output_that_is_a_table_of_this_run(job, refused, which):
    np.savetxt(job.folder / "psf.csv", np.ones((4, 4)), delimiter=",")
    (job.folder / "nm.csv").write_text("wavelength_nm\n" + "\n".join(f"{nm:g}" for nm in job.nm) + "\n")
    tables = ("--psf", job.folder / "psf.csv", "--wavelengths", job.folder / "nm.csv")
    refused(job, *tables, output=which, words="is an input of this run; choose another name with -o")


@pytest.mark.parametrize(
    ("given", "output"),
    [
        ("hsi.dat", "hsi.dat"),
        ("hsi.dat", "hsi.hdr"),
        ("hsi.dat", "hsi.img"),
        ("hsi.hdr", "hsi.dat"),
        ("hsi.hdr", "hsi.hdr"),
        ("hsi.hdr", "hsi.img"),
    ],
)
def test_an_envi_output_in_the_place_of_an_envi_input(job, refused, make, given, output):
    make.write(job.folder / "hsi.dat", job.hsi, job.grid(4), driver="ENVI", nm=make.NM)
    arguments = job.arguments(job.folder / output, "--driver", "ENVI")
    arguments[1] = str(job.folder / given)
    refused(job, arguments=arguments, output="unrelated.tif")


@pytest.mark.parametrize(
    ("page", "words"),
    [("msi.tif", "an input of this run"), ("camera.csv", "an input of this run"), ("fused.tif", "as the result and as the page")],
)
def test_a_page_in_the_place_of_an_input_or_of_the_result(job, refused, page, words):
    refused(job, "--report", job.folder / page, words=words)


def test_a_page_of_a_result_in_the_place_of_the_result(job, refused):
    arguments = ["report", str(job.hsi_path), "-o", str(job.hsi_path)]
    refused(job, arguments=arguments, output="hsi.tif", words="is an input of this run")


def test_an_output_in_the_place_of_the_header_of_an_input(job, refused, make):
    make.write(job.folder / "hsi.dat", job.hsi, job.grid(4), driver="ENVI", nm=make.NM)
    arguments = job.arguments(job.folder / "hsi.hdr")
    arguments[1] = str(job.folder / "hsi.dat")
    refused(job, arguments=arguments, output="unrelated.tif", words="is an input of this run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_write_permission(job, refused):
    (job.folder / "locked").mkdir(mode=0o500)
    refused(job, output="locked/fused.tif", words="locked")


# ---- a process of its own


@pytest.mark.parametrize("spoil", [missing, cut_short])
def test_a_process_of_its_own_says_one_line_too(job, spoil):
    spoil(job.msi_path)
    before = contents(job.folder)
    code = "from geofuse_cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *job.arguments("fused.tif")], capture_output=True, text=True, cwd=job.folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert contents(job.folder) == before


@pytest.mark.parametrize("command", ["info", "simulate", "evaluate"])
@pytest.mark.parametrize("spoil", [missing, empty, cut_short, text, vrt])
def test_the_other_commands_refuse_such_files_too(job, geofuse, command, spoil):
    spoil(job.hsi_path)
    out = job.folder / "out"
    arguments = {
        "info": ["info", job.hsi_path],
        "simulate": ["simulate", job.hsi_path, "--srf", job.camera, "-o", out],
        "evaluate": ["evaluate", job.hsi_path, "--reference", job.msi_path, "--ratio", "4"],
    }
    done = geofuse(*arguments[command])
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert "hsi.tif" in done.err and not (out.exists() and any(out.iterdir()))


@pytest.mark.parametrize("name", ["hsi.tif", "msi.tif", "reference.tif"])
def test_simulate_does_not_write_over_its_scene(job, geofuse, name):
    scene = job.folder / "out" / name
    scene.parent.mkdir()
    shutil.copy(job.hsi_path, scene)
    before = contents(job.folder)
    done = geofuse("simulate", scene, "--srf", job.camera, "--ratio", 2, "-o", scene.parent)
    assert (done.code, done.err.count("\n")) == (2, 1), (done.out, done.err)
    assert contents(job.folder) == before


def test_evaluate_does_not_write_its_table_over_an_image(job, geofuse):
    before = contents(job.folder)
    done = geofuse("evaluate", job.hsi_path, "--reference", job.hsi_path, "--ratio", "4", "--per-band", job.hsi_path)
    assert (done.code, done.err.count("\n")) == (2, 1), (done.out, done.err)
    assert contents(job.folder) == before
