"""The final path never holds an unfinished file, and what stood there before survives every failure."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
import rasterio

import geofuse.io.bodies as bodies_module
from geofuse.errors import OutputError, UsageError
from geofuse.io import check_output_path, open_scene, open_sink

DRIVERS = {"COG": "out.tif", "GTiff": "out.tif", "ENVI": "out.dat"}
OLD = {
    "out.tif": b"old image",
    "out.dat": b"old data",
    "out.hdr": b"ENVI\nold header",
    "out.tif.aux.xml": b"old",
    "out.tif.ovr": b"old",
}


@pytest.fixture
def old_files(tmp_path):
    for name, content in OLD.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def untouched(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()} == OLD


def random_values(shape=(5, 300, 100)):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_midway_leaves_the_old_output(files, old_files, driver, error):
    values = random_values()
    with pytest.raises(error), open_sink(old_files / DRIVERS[driver], files.spec_for(values.shape), driver=driver) as sink:
        sink.write(values[:, :100], 0)
        raise error
    assert untouched(old_files)


@pytest.mark.parametrize("driver", DRIVERS)
def test_rows_left_out_leave_the_old_output(files, old_files, driver):
    values = random_values()
    path = old_files / DRIVERS[driver]
    with pytest.raises(OutputError, match="100 of 300 rows were never written .first: row 200"):
        with open_sink(path, files.spec_for(values.shape), driver=driver) as sink:
            sink.write(values[:, :200], 0)
    assert untouched(old_files)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_failure_while_finishing_leaves_the_old_output(files, old_files, driver, monkeypatch):
    values = random_values()

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    for place in ("verify", "publish", "check_complete"):
        with monkeypatch.context() as patch:
            patch.setattr(bodies_module, place, fail)
            with pytest.raises(OutputError, match="No space left on device.*untouched") as caught:
                with open_sink(old_files / DRIVERS[driver], files.spec_for(values.shape), driver=driver) as sink:
                    sink.write(values, 0)
        assert "\n" not in str(caught.value) and untouched(old_files)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_failed_rename_brings_everything_back(files, old_files, driver, monkeypatch):
    values = random_values()
    replace, final = os.replace, old_files / DRIVERS[driver]

    def fail(source, target):
        if os.fspath(target) == os.fspath(final):
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with (
        pytest.raises(OutputError, match="Input/output error"),
        open_sink(final, files.spec_for(values.shape), driver=driver) as sink,
    ):
        sink.write(values, 0)
    assert untouched(old_files)


@pytest.mark.parametrize("driver", ["COG", "GTiff"])
def test_a_flipped_bit_on_the_way_to_the_final_file_is_noticed(files, old_files, driver, monkeypatch):
    values = random_values()
    assemble = bodies_module.assemble

    def corrupt(path, *args, **kwargs):
        assemble(path, *args, **kwargs)
        with rasterio.open(path, "r+", driver="GTiff", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
            window = ((123, 124), (45, 46))
            dataset.write(-dataset.read(3, window=window), 3, window=window)

    monkeypatch.setattr(bodies_module, "assemble", corrupt)
    with pytest.raises(OutputError, match="1 rows read back differently .*first: row 123"):
        with open_sink(old_files / "out.tif", files.spec_for(values.shape), driver=driver) as sink:
            sink.write(values, 0)
    assert untouched(old_files)


@pytest.mark.parametrize("driver", DRIVERS)
def test_success_replaces_the_output_and_its_stale_sidecars(files, old_files, driver):
    values = random_values()
    path = old_files / DRIVERS[driver]
    with open_sink(path, files.spec_for(values.shape), driver=driver) as sink:
        assert path.read_bytes() == OLD[path.name]
        sink.write(values, 0)
        assert path.read_bytes() == OLD[path.name]
    np.testing.assert_array_equal(open_scene(path).values, values)
    left = {p.name for p in old_files.iterdir()}
    assert left == (set(OLD) if driver == "ENVI" else {"out.tif", "out.dat", "out.hdr"})


CHILD = """
import resource, sys, time
import numpy as np
from affine import Affine
from geofuse.io import OutputSpec, open_sink
from geofuse.scene import BandMetadata
path, driver, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
values = np.random.default_rng(0).random((20, 300, 100), dtype=np.float32)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
spec = OutputSpec(300, 100, BandMetadata.unknown(20), Affine(1, 0, 0, 0, -1, 9), None)
with open_sink(path, spec, driver=driver) as sink:
    for row in range(0, 300, 10):
        sink.write(values[:, row : row + 10], row)
        if not limit:
            print(row, flush=True)
            time.sleep(0.01)
"""


@pytest.mark.parametrize("driver", DRIVERS)
def test_kill_minus_nine_leaves_the_old_output_and_the_next_writer_clears_up(files, old_files, driver):
    path = old_files / DRIVERS[driver]
    child = subprocess.Popen([sys.executable, "-c", CHILD, path, driver, "0"], stdout=subprocess.PIPE, text=True)
    while child.stdout.readline().strip() != "100":
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    leftovers = [p for p in old_files.iterdir() if p.name not in OLD]
    assert [p.name for p in leftovers] == [f".{path.name}.geofuse-{child.pid}.tmp"]
    assert all((old_files / name).read_bytes() == content for name, content in OLD.items())
    values = random_values()
    with open_sink(path, files.spec_for(values.shape), driver=driver) as sink:
        sink.write(values, 0)
    assert not [p for p in old_files.iterdir() if p.name.endswith(".tmp")]
    np.testing.assert_array_equal(open_scene(path).values, values)


@pytest.mark.slow
@pytest.mark.parametrize("driver", DRIVERS)
def test_kill_minus_nine_at_any_moment_leaves_a_whole_image_or_the_old_one(tmp_path, driver):
    path = tmp_path / DRIVERS[driver]

    def finishing_seconds(kill_after: float | None) -> float:
        """Start a writer over an old file, kill it so long after its last rows; return how long it lived after them."""
        for name in OLD:
            (tmp_path / name).unlink(missing_ok=True)
        path.write_bytes(b"old")
        child = subprocess.Popen([sys.executable, "-c", CHILD, path, driver, "0"], stdout=subprocess.PIPE, text=True)
        while child.stdout.readline().strip() not in ("290", ""):
            pass
        start = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            child.wait(kill_after)
        child.kill()
        child.wait()
        return time.monotonic() - start

    whole = 0
    whole_time = finishing_seconds(None)
    assert open_scene(path).values.shape == (20, 300, 100)
    for share in np.linspace(0.0, 1.0, 12):  # of the time that finishing takes on this machine
        finishing_seconds(share * whole_time)
        if path.read_bytes() != b"old":
            whole += 1
            assert open_scene(path).values.shape == (20, 300, 100)
    assert whole < 12  # some were killed in time


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("limit", [50_000, 1_000_000, 2_000_000])
def test_a_full_disk_is_one_error_and_leaves_the_old_output(old_files, driver, limit):
    path = old_files / DRIVERS[driver]
    child = subprocess.run([sys.executable, "-c", CHILD, path, driver, str(limit)], capture_output=True, text=True)
    last = child.stderr.strip().splitlines()[-1]
    assert child.returncode == 1 and last.startswith("geofuse.errors.OutputError: ") and path.name in last
    assert "make room or write elsewhere; what stood there before is untouched" in last
    assert untouched(old_files)


@pytest.mark.parametrize("megabytes", [2, 4])
def test_a_small_disk_that_fills_up_while_the_cog_is_made(tmp_path, megabytes):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a small file system here")
    try:
        (tmp_path / "out.tif").write_bytes(b"old")
        child = subprocess.run([sys.executable, "-c", CHILD, tmp_path / "out.tif", "COG", "0"], capture_output=True, text=True)
        assert "geofuse.errors.OutputError: " in child.stderr.strip().splitlines()[-1]
        assert [p.name for p in tmp_path.iterdir()] == ["out.tif"] and (tmp_path / "out.tif").read_bytes() == b"old"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_too_little_space_is_told_before_anything_is_computed(files, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10_000))
    with pytest.raises(OutputError, match="takes at least .* MB, but .* has 0.01 MB free; make room or write elsewhere"):
        with open_sink(tmp_path / "a.tif", files.spec_for((5, 300, 100))):
            pytest.fail("nothing may be computed")
    assert not list(tmp_path.iterdir())


def test_output_paths_are_checked_early(files, tmp_path, monkeypatch):
    check_output_path(tmp_path / "a.tif")
    for path, words in (
        (tmp_path / "no" / "a.tif", "does not exist; create it first"),
        (tmp_path, "a folder; give the name of a file"),
        ("/vsimem/a.tif", "must be a local file"),
        ("s3://bucket/a.tif", "must be a local file"),
        ("", "no file name"),
    ):
        with pytest.raises(OutputError, match=words):
            check_output_path(path)
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(OutputError, match="is not writable"):
        check_output_path(tmp_path / "a.tif")
    with pytest.raises(UsageError, match="output driver 'PNG'"):
        open_sink(tmp_path / "a.tif", files.spec_for((1, 2, 3)), driver="PNG")


def test_an_envi_output_does_not_take_the_header_of_another_image(files, tmp_path):
    (tmp_path / "scene.hdr").write_text("ENVI\n")
    (tmp_path / "scene.bsq").write_bytes(b"data")
    with pytest.raises(OutputError, match="scene.hdr in that folder belongs to another image"):
        open_sink(tmp_path / "scene.dat", files.spec_for((1, 2, 3)), driver="ENVI")
    with pytest.raises(OutputError, match="name the ENVI data file, not its header"):
        open_sink(tmp_path / "new.hdr", files.spec_for((1, 2, 3)), driver="ENVI")


def test_an_output_link_keeps_pointing_where_it_did(files, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "real.tif").write_bytes(b"old")
    (tmp_path / "out.tif").symlink_to(tmp_path / "disk" / "real.tif")
    values = random_values()
    with open_sink(tmp_path / "out.tif", files.spec_for(values.shape)) as sink:
        sink.write(values, 0)
    assert (tmp_path / "out.tif").is_symlink() and open_scene(tmp_path / "disk" / "real.tif").shape == values.shape
