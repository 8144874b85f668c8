"""Pieces that were read last are not read again, are given up when there are too many, and never outlive a change of the file."""

from __future__ import annotations

import numpy as np
import pytest

import geofuse.io.reader as reader_module
from geofuse.errors import InputError
from geofuse.io import open_scene
from geofuse.io.recent import Recent


def piece(n_bytes, mask=False):
    return np.zeros((1, 1, n_bytes), np.uint8), np.ones((1, n_bytes), bool) if mask else None


@pytest.fixture
def recent(monkeypatch):
    """An empty store of 40 kB in place of this process's."""
    store = Recent(40_000)
    monkeypatch.setattr(reader_module, "RECENT", store)
    return store


@pytest.fixture
def reads(monkeypatch):
    """Count what is read from files."""
    seen = []
    original = reader_module.ChunkReader._read

    def counted(self, dataset, index, window):
        seen.append(window)
        return original(self, dataset, index, window)

    monkeypatch.setattr(reader_module.ChunkReader, "_read", counted)
    return seen


def test_the_pieces_used_longest_ago_go_first():
    store = Recent(1000)
    for name in "abcd":
        store.put(name, piece(250))
    assert store.get("a") is not None  # used again
    store.put("e", piece(100, mask=True))
    assert [name for name in "abcde" if store.get(name) is not None] == ["a", "c", "d", "e"]


def test_a_piece_larger_than_a_quarter_of_the_room_is_not_kept():
    store = Recent(1000)
    store.put("large", piece(251))
    store.put("with its mask", piece(126, mask=True))
    assert store.get("large") is None and store.get("with its mask") is None


def test_neighbouring_windows_read_a_block_once_and_get_the_same_values(files, tmp_path, recent, reads):
    stored = files.counts((2, 32, 32))
    path = files.make_tif(tmp_path / "a.tif", stored, tiled=True, blockxsize=16, blockysize=16, nodata=-1)
    data = open_scene(path, chunks=16).data
    parts = [data[:, :16, 0:20].compute(), data[:, :16, 12:32].compute()]
    np.testing.assert_array_equal(np.concatenate([parts[0][..., :12], parts[1]], axis=2), stored[:, :16])
    assert sorted(reads) == [((0, 16), (0, 16)), ((0, 16), (16, 32))]
    parts[0][:] = 0  # what a caller does with its values is its own affair
    np.testing.assert_array_equal(data[:, :16, 0:20].compute(), stored[:, :16, :20])
    assert len(reads) == 2


def test_a_mask_comes_back_with_the_values(files, tmp_path, recent, reads):
    import rasterio

    path = files.make_tif(tmp_path / "a.tif", files.counts((2, 16, 16)))
    with rasterio.open(path, "r+") as dataset:
        mask = np.full((16, 16), 255, np.uint8)
        mask[3, 4:] = 0
        dataset.write_mask(mask)
    scene = open_scene(path, chunks=16)
    first, again = scene.data.compute(), scene.data.compute()
    assert len(reads) == 1 and np.isnan(again[:, 3, 4:]).all() and np.isnan(again).sum() == 2 * 12
    np.testing.assert_array_equal(first, again)


def test_a_file_that_changes_after_it_was_read_is_noticed_and_its_new_values_are_read(files, tmp_path, recent):
    path = files.make_tif(tmp_path / "a.tif", files.counts((1, 16, 16)))
    scene = open_scene(path)
    scene.data.compute()
    other = files.counts((1, 16, 20), seed=1)
    files.make_tif(path, other)
    with pytest.raises(InputError, match="changed since it was opened"):
        scene.data.compute()
    np.testing.assert_array_equal(open_scene(path).data.compute(), other)
