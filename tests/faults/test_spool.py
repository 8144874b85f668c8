"""Fused tiles on disk come back as they were, also from a file that held a larger one before, and damage shows."""

from __future__ import annotations

import numpy as np
import pytest

from geofuse.errors import OutputError
from geofuse.flow.spool import TileSpool
from geofuse.tiling import Window

WHOLE = Window(10, 18, 20, 32)


def tile(seed, whole=WHOLE, bands=3):
    return np.random.default_rng(seed).standard_normal((bands, whole.height, whole.width)).astype(np.float32)


def test_a_part_of_a_band_comes_back(tmp_path):
    spool, values = TileSpool(tmp_path / "tiles"), tile(0)
    assert spool.is_intact(4, spool.put(4, values))
    with spool.open(4) as file:
        np.testing.assert_array_equal(spool.read(file, 2, WHOLE, Window(12, 15, 21, 30)), values[2, 2:5, 1:10])
        np.testing.assert_array_equal(spool.read(file, 0, WHOLE, WHOLE), values[0])


def test_the_file_of_a_dropped_tile_is_written_again_and_nothing_of_it_is_left(tmp_path):
    spool = TileSpool(tmp_path / "tiles")
    first = spool.put(0, tile(0))
    number = (spool.folder / "tile-000000.bin").stat().st_ino
    spool.drop(0)
    assert not spool.is_intact(0, first)
    small = Window(0, 4, 0, 5)
    again = spool.put(7, tile(1, small))
    assert spool.is_intact(7, again) and (spool.folder / "tile-000007.bin").stat().st_ino == number
    assert (spool.folder / "tile-000007.bin").stat().st_size == 3 * 4 * 5 * 4


def test_of_many_dropped_tiles_few_files_stay(tmp_path):
    spool = TileSpool(tmp_path / "tiles")
    for index in range(6):
        spool.put(index, tile(index))
    for index in range(6):
        spool.drop(index)
    assert len(list(spool.folder.iterdir())) == 2


def test_two_processes_share_a_folder(tmp_path):
    ours, theirs = TileSpool(tmp_path / "tiles"), TileSpool(tmp_path / "tiles")
    values = tile(3)
    checksum = theirs.put(3, values)
    with ours.open(3) as file:
        np.testing.assert_array_equal(ours.read(file, 1, WHOLE, WHOLE), values[1])
    assert ours.is_intact(3, checksum)


def test_damage_and_missing_ends_are_noticed(tmp_path):
    spool = TileSpool(tmp_path / "tiles")
    checksum, path = spool.put(0, tile(0)), tmp_path / "tiles" / "tile-000000.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    assert not spool.is_intact(0, checksum)
    with spool.open(0) as file, pytest.raises(OutputError, match="ends too early"):
        spool.read(file, 2, WHOLE, WHOLE)
    path.write_bytes(content[:50] + b"x" + content[51:])
    assert not spool.is_intact(0, checksum)


def test_a_tile_that_cannot_be_written_is_one_line(tmp_path):
    spool = TileSpool(tmp_path / "tiles")
    (spool.folder / "tile-000001.bin").mkdir()
    with pytest.raises(OutputError, match="a tile cannot be written .*; make room"):
        spool.put(1, tile(0))
