"""A run that was stopped goes on where it stopped, and nobody can tell from the result."""

from __future__ import annotations

import json
import random
import resource
import time

import numpy as np
import pytest
import rasterio

import geofuse.fusion as fusion_module
from geofuse.errors import GeofuseError, InputError, OutputError, UsageError
from geofuse_cli import main as command_line
from tests.faults.conftest import fuse, start

WORK = ".out.tif.geofuse"


@pytest.fixture
def count_tiles(monkeypatch):
    """Count the tiles that are fused."""
    seen = []
    original = fusion_module.Fusion.fuse_data

    def counted(self, data, *more):
        seen.append(data.origin)
        return original(self, data, *more)

    monkeypatch.setattr(fusion_module.Fusion, "fuse_data", counted)
    return seen


def killed_at(folder, tiles, delay_s=0.0, **how):
    """Start a run and kill it some time after so many tiles are fused; returns whether it was still running."""
    child = start(folder, **how)
    for line in child.stdout:
        if line.split() == ["fusing-tiles", str(tiles)]:
            break
    time.sleep(delay_s)
    running = child.poll() is None
    child.kill()
    child.wait()
    child.stdout.close()
    return running


@pytest.mark.parametrize(("driver", "tiles"), [("COG", 11), ("ENVI", 7)])
def test_after_kill_minus_nine_the_rest_is_done_and_the_bytes_are_those_of_an_uninterrupted_run(
    pair, names, count_tiles, driver, tiles
):
    fuse(pair, name="whole.tif", driver=driver)
    assert len(count_tiles) == 20 and names(pair) >= {"whole.tif"}
    if not killed_at(pair, tiles, driver=driver):
        pytest.skip("the run ended before it could be killed")
    assert not (pair / "out.tif").exists() and WORK in names(pair)
    count_tiles.clear()
    fuse(pair, driver=driver, resume=True)
    assert 0 < len(count_tiles) <= 20 - tiles + 3  # what was between fusing and the journal is lost
    assert (pair / "out.tif").read_bytes() == (pair / "whole.tif").read_bytes()
    assert not [name for name in names(pair) if name.startswith(".")]


@pytest.mark.slow
def test_twenty_kills_at_random_moments_each_resumed(pair, names):
    fuse(pair, name="whole.tif")
    expected = (pair / "whole.tif").read_bytes()
    moment = random.Random(1)
    for _ in range(20):
        (pair / "out.tif").unlink(missing_ok=True)
        killed_at(pair, moment.randint(1, 20), moment.uniform(0, 0.2))
        if moment.random() < 0.3 and not (pair / "out.tif").exists():
            killed_at(pair, moment.randint(10, 20), moment.uniform(0, 0.2), resume=True)  # and killed again
        fuse(pair, resume=True)
        assert (pair / "out.tif").read_bytes() == expected
        assert names(pair) == {"out.tif", "whole.tif"}


def test_a_disk_that_fills_up_is_one_error_and_the_run_goes_on_when_there_is_room(pair, names, count_tiles):
    fuse(pair, name="whole.tif")
    count_tiles.clear()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up(stage, done, total):
        if (stage, done) == ("fusing tiles", 6):
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    try:
        with pytest.raises(OutputError, match="make room") as caught:
            fuse(pair, report=fill_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value) and not (pair / "out.tif").exists()
    before = len(count_tiles)
    fuse(pair, resume=True)
    assert before < 20 and len(count_tiles) <= 20 + 3
    assert (pair / "out.tif").read_bytes() == (pair / "whole.tif").read_bytes() and names(pair) == {"out.tif", "whole.tif"}


def stopped(folder, tiles=8):
    """Stop a run after some tiles, as Ctrl-C does."""

    def stop(stage, done, total):
        if (stage, done) == ("fusing tiles", tiles):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fuse(folder, report=stop)


def test_another_setting_or_a_changed_input_is_refused_and_starting_anew_is_not(pair, names):
    stopped(pair)
    with pytest.raises(UsageError, match='GEOFUSE_SEED was "0" and is "1"; put it back, or start anew without --resume'):
        fuse(pair, seed=1, resume=True)
    with rasterio.open(pair / "msi.tif", "r+") as dataset:
        dataset.write(dataset.read(1) * 1.001, 1)
    with pytest.raises(UsageError, match="GEOFUSE_MSI was .*msi.tif sha256:.* and is ") as caught:
        fuse(pair, resume=True)
    assert "\n" not in str(caught.value) and WORK in names(pair)
    fuse(pair)
    assert names(pair) == {"out.tif"}


def test_with_nothing_to_continue_it_simply_starts(pair, names, count_tiles):
    fuse(pair, resume=True)
    assert len(count_tiles) == 20 and names(pair) == {"out.tif"}


def test_learning_that_comes_out_differently_is_noticed(pair, monkeypatch):
    stopped(pair)
    import geofuse.methods.fingerprint as module

    monkeypatch.setattr(module, "fingerprint", lambda method: "something else")
    with pytest.raises(UsageError, match="learning came out differently"):
        fuse(pair, resume=True)


@pytest.mark.parametrize("what", ["tiles", "output"])
def test_damaged_leftovers_are_done_again(pair, what):
    fuse(pair, name="whole.tif")
    stopped(pair, 12)
    for file in (pair / WORK / what).iterdir():
        content = bytearray(file.read_bytes())
        if content:
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
    fuse(pair, resume=True)
    assert (pair / "out.tif").read_bytes() == (pair / "whole.tif").read_bytes()


def test_a_journal_whose_last_line_was_cut_off_is_read_up_to_there(pair):
    fuse(pair, name="whole.tif")
    stopped(pair, 12)
    journal = pair / WORK / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    fuse(pair, resume=True)
    assert (pair / "out.tif").read_bytes() == (pair / "whole.tif").read_bytes()


def spoil_block(path):
    """Make one compressed block in the middle of a TIFF unreadable."""
    with rasterio.open(path) as dataset:
        profile, values, tags = dict(dataset.profile), dataset.read(), [dataset.tags(i) for i in dataset.indexes]
    with rasterio.open(path, "w", **{**profile, "compress": "DEFLATE", "interleave": "pixel"}) as dataset:
        dataset.write(values)
        for i, tag in enumerate(tags, 1):
            dataset.update_tags(i, **tag)
    from geofuse.io.tiff import directories

    image = next(iter(directories(path)))
    with open(path, "r+b") as file:
        file.seek(int(image.block_offsets[43]))  # row 4, column 3 of 8 x 10 blocks
        file.write(b"\xff" * 20)


def test_a_read_error_in_the_middle_ends_the_run_in_one_line_that_names_the_file(pair, names):
    spoil_block(pair / "msi.tif")
    with pytest.raises(InputError, match="msi.tif: cannot be read .*damaged") as caught:
        fuse(pair)
    assert "\n" not in str(caught.value) and "out.tif" not in names(pair)


def keep_going(pair, monkeypatch, fails):
    """Let some tiles of every run fail."""
    original = fusion_module.Fusion.fuse_data

    def fuse_data(self, data, *more):
        if data.origin in fails:
            raise RuntimeError("a cosmic ray")
        return original(self, data, *more)

    monkeypatch.setattr(fusion_module.Fusion, "fuse_data", fuse_data)


def test_keep_going_leaves_failed_tiles_as_no_data_lists_them_and_exits_with_3(pair, names, monkeypatch, capsys):
    arguments = ["run", pair / "hsi.tif", pair / "msi.tif", "--srf", pair / "camera.csv", "--psf", "box"]
    more = [
        "--min-coverage",
        0.5,
        "--method",
        "subspace",
        "--tile",
        32,
        "--overlap",
        16,
        "--coregister",
        "off",
        "--keep-going",
        "--json",
    ]
    assert command_line.run([str(a) for a in (*arguments, *more, "-o", pair / "whole.tif")]) == 0
    keep_going(pair, monkeypatch, {(16, 16)})
    capsys.readouterr()
    code = command_line.run([str(a) for a in (*arguments, *more, "-o", pair / "out.tif")])
    summary = json.loads(capsys.readouterr().out)
    assert code == 3 and summary["failed_tiles"] == {"6": "a cosmic ray"} and names(pair) == {"out.tif", "whole.tif"}
    with rasterio.open(pair / "whole.tif") as whole, rasterio.open(pair / "out.tif") as out:
        expected, found = whole.read(), out.read()
    gone = np.zeros(expected.shape[1:], bool)
    gone[24:72, 24:72] = True  # the core of the tile and what of its halo is blended
    np.testing.assert_array_equal(found[:, ~gone], expected[:, ~gone])
    assert np.isnan(found[:, gone]).all() and np.isfinite(expected).all()


def test_without_keep_going_a_failing_tile_ends_the_run_and_resume_tries_it_again(pair, monkeypatch):
    fuse(pair, name="whole.tif")
    with monkeypatch.context() as patch:
        keep_going(pair, patch, {(16, 16)})
        with pytest.raises(RuntimeError, match="a cosmic ray"):
            fuse(pair)
    fuse(pair, resume=True)
    assert (pair / "out.tif").read_bytes() == (pair / "whole.tif").read_bytes()


def test_if_all_tiles_fail_nothing_is_written_even_with_keep_going(pair, names, monkeypatch):
    keep_going(pair, monkeypatch, {(row, col) for row in range(0, 128, 4) for col in range(0, 160, 4)})
    with pytest.raises(GeofuseError, match="all 20 tiles failed, the first because: a cosmic ray"):
        fuse(pair, keep_going=True)
    assert not names(pair)
