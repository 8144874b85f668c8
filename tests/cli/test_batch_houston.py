"""The contest's files are found by name, and each RGB tile that the hyperspectral image covers is a scene."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geofuse.batch import plan_houston
from geofuse.errors import InputError, MissingFileError
from geofuse.io import open_scene

HSI, FULL = "2018_IEEE_GRSS_DFC_HSI_TR", "20170218_UH_CASI_S4_NAD83"
X, Y = 272056, 3289689


def write_hsi(folder: Path, name: str = HSI, header: str = f"{HSI}.HDR", shape=(24, 40)) -> None:
    """Write 50 bands of ``shape`` pixels of 1 m whose lower left corner is (X, Y)."""
    folder.mkdir(parents=True, exist_ok=True)
    np.arange(50 * shape[0] * shape[1], dtype="uint16").tofile(folder / name)
    fields = {"samples": shape[1], "lines": shape[0], "bands": 50, "data type": 12, "interleave": "bsq", "byte order": 0}
    fields["map info"] = f"{{UTM, 1, 1, {X}, {Y + shape[0]}, 1, 1, 15, North, North America 1983}}"
    (folder / header).write_text("ENVI\n" + "".join(f"{key} = {value}\n" for key, value in fields.items()))


def write_tile(path: Path, column: int, row: int, *, metres: int = 20, pixel_m: float = 0.25) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = Affine(pixel_m, 0, X + column * metres, 0, -pixel_m, Y + (row + 1) * metres)
    n = round(metres / pixel_m)
    profile = {"driver": "GTiff", "count": 3, "height": n, "width": n, "dtype": "uint8", "crs": "EPSG:26915", "transform": grid}
    with rasterio.open(path, "w", **profile) as tile:
        tile.write(np.full((3, n, n), 9, "uint8"))


@pytest.fixture
def contest(tmp_path) -> Path:
    """Phase 1 with two tiles inside the image, one beside it and one of which 4 m are inside."""
    write_hsi(tmp_path / "Phase1" / "HSI")
    for name, place in {
        "272056_3289689": (0, 0),
        "272652_3289689": (1, 0),
        "272056_3290290": (0, 1),
        "275036_3289689": (9, 0),
    }.items():
        write_tile(tmp_path / "Phase1" / "VHR - RGB" / f"UH_NAD83_{name}.tif", *place)
    return tmp_path


def test_each_tile_inside_is_a_scene_and_the_rest_is_left_out_and_said(contest):
    found = plan_houston(contest)
    assert [row.values["out"] for row in found.rows] == ["UH_NAD83_272056_3289689_fused.tif", "UH_NAD83_272652_3289689_fused.tif"]
    first = dict(found.rows[0].values)
    assert first["hsi"] == f"Phase1/HSI/{HSI}" and first["msi"] == "Phase1/VHR - RGB/UH_NAD83_272056_3289689.tif"
    assert {name: first[name] for name in ("srf", "srf-bands", "psf")} == {"srf": "estimate", "srf-bands": "rgb", "psf": "estimate"}
    assert "2 RGB tiles, one scene each" in found.notes[0] and "ratio 4" in found.notes[0]
    assert sum("is left out: outside" in note for note in found.notes) == 2


@pytest.mark.parametrize(("pixel_m", "average", "ratio"), [(0.05, 5, 4), (0.125, 2, 4), (0.25, 1, 4), (0.5, 1, 2), (0.2, 1, 5)])
def test_the_rgb_is_averaged_to_ratio_4_or_the_nearest(tmp_path, pixel_m, average, ratio):
    write_hsi(tmp_path)
    write_tile(tmp_path / "UH_NAD83_272056_3289689.tif", 0, 0, pixel_m=pixel_m)
    found = plan_houston(tmp_path)
    assert found.rows[0].values["msi-average"] == str(average) and found.notes[0].endswith(f"ratio {ratio}")


def test_the_whole_campaign_is_taken_where_it_is_there_and_can_be_read(contest):
    write_hsi(contest / "FullHSIDataset", f"{FULL}.pix", f"{FULL}.hdr", shape=(48, 40))
    found = plan_houston(contest)
    assert len(found.rows) == 3 and found.rows[0].values["hsi"] == f"FullHSIDataset/{FULL}.pix"
    assert found.rows[0].place == "UH_NAD83_272056_3290290.tif"  # the northern row first
    for name in (f"{FULL}.pix", f"{FULL}.hdr"):
        scene = open_scene(contest / "FullHSIDataset" / name)
        assert scene.shape == (48, 48, 40) and scene.attrs["product"].startswith("DFC2018 Houston")


def test_a_tile_that_is_there_twice_counts_once(contest):
    write_tile(contest / "Phase2" / "UH_NAD83_272056_3289689.tif", 0, 0)
    found = plan_houston(contest)
    assert len(found.rows) == 2 and any("has its name" in note for note in found.notes)


def test_what_is_missing_is_named(tmp_path, contest):
    with pytest.raises(MissingFileError, match="no such folder"):
        plan_houston(tmp_path / "none")
    with pytest.raises(MissingFileError, match="neither"):
        plan_houston(contest / "Phase1" / "VHR - RGB")
    with pytest.raises(MissingFileError, match="no RGB tiles"):
        plan_houston(contest / "Phase1" / "HSI")


def test_tiles_elsewhere_are_refused(tmp_path):
    write_hsi(tmp_path)
    write_tile(tmp_path / "UH_NAD83_275036_3289689.tif", 9, 0)
    with pytest.raises(InputError, match="no RGB tile overlaps"):
        plan_houston(tmp_path)


def test_the_command_plans_it_with_what_is_set(geofuse, contest, tmp_path):
    done = geofuse("batch", "--dfc2018", contest, "--out-dir", tmp_path / "out", "--set", "method=subspace", "--dry-run", "--json")
    assert done.code == 0, done.err
    plan = json.loads(done.out)
    assert len(plan["scenes"]) == 2 and len(plan["notes"]) == 3
    arguments = plan["scenes"][0]["arguments"]
    assert {"--method=subspace", "--srf=estimate", "--srf-bands=rgb", "--psf=estimate", "--msi-average=1"} <= set(arguments)
    shown = geofuse("batch", "--dfc2018", contest, "--out-dir", tmp_path / "out", "--dry-run")
    assert "ratio 4" in " ".join(shown.out.split()) and max(map(len, shown.out.splitlines())) <= 80


@pytest.mark.slow
def test_the_example_fuses_a_made_up_city(root, tmp_path):
    command = [sys.executable, root / "examples" / "houston" / "houston.py", "--out-dir", tmp_path / "out", "--size", "256"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fused = sorted((tmp_path / "out").glob("UH_NAD83_*_fused.tif"))
    assert len(fused) == 4 and "4 scenes: 4 done" in done.stdout and "4 scenes: 4 kept" in done.stdout
    for path in fused:
        with rasterio.open(path) as image:
            assert (image.count, image.width, image.height, image.res) == (48, 128, 128, (0.25, 0.25))
            assert image.crs.to_epsg() == 26915
