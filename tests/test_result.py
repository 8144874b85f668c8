"""Hashes of inputs, and outputs that would destroy one."""

import hashlib

import pytest

from geofuse.errors import OutputError
from geofuse.pipeline import PairOptions, refuse_overwriting_input
from geofuse.result import file_hash


def test_a_files_hash_is_its_sha256(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"pixels")
    assert file_hash(tmp_path / "a.tif") == hashlib.sha256(b"pixels").hexdigest()


def test_a_folders_hash_changes_with_any_byte_or_name(tmp_path):
    (tmp_path / "scene" / "inner").mkdir(parents=True)
    band = tmp_path / "scene" / "inner" / "b1.tif"
    band.write_bytes(b"one")
    first = file_hash(tmp_path / "scene")
    band.write_bytes(b"two")
    second = file_hash(tmp_path / "scene")
    band.rename(band.with_name("b2.tif"))
    assert len({first, second, file_hash(tmp_path / "scene")}) == 3


def test_what_is_not_local_has_no_hash():
    assert file_hash("https://example.org/scene.tif") == "unknown"


def test_an_output_inside_an_input_folder_is_refused(tmp_path):
    (tmp_path / "product").mkdir()
    with pytest.raises(OutputError, match="inside the input folder"):
        refuse_overwriting_input(tmp_path / "product" / "fused.tif", [tmp_path / "product"])
    refuse_overwriting_input(tmp_path / "fused.tif", [tmp_path / "product", None, "estimate"])


@pytest.mark.parametrize("name", ["landsat8", ""])
def test_a_sensors_name_is_no_input_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "landsat8").mkdir()
    refuse_overwriting_input("landsat8/fused.tif", PairOptions(srf=name, psf=name).files)
    (tmp_path / "landsat8" / "srf.csv").touch()
    with pytest.raises(OutputError, match="is an input of this run"):
        refuse_overwriting_input("landsat8/srf.csv", PairOptions(srf="landsat8/srf.csv").files)
