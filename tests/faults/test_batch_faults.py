"""What a batch promises when things go wrong: a manifest cannot reach out of its folders, and one broken scene costs one scene."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geofuse_cli.main import run as command_line

NM = np.linspace(420, 1000, 24)


@pytest.fixture
def archive(tmp_path) -> Path:
    """``project/`` with the manifest's images, and beside it ``elsewhere/`` with an image it has no business with."""
    for name in ("project/a.tif", "project/b.tif", "project/camera.csv", "elsewhere/c.tif", "elsewhere/c.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("untouched")
    return tmp_path


def plan(archive: Path, capsys, *options: object, **values: object) -> tuple[int, str]:
    """Plan a manifest of one scene with these values; returns the exit code and the error."""
    row = {"hsi": "a.tif", "msi": "b.tif", "out": "x.tif", **{name.replace("_", "-"): str(v) for name, v in values.items()}}
    with open(archive / "project" / "m.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        writer.writeheader()
        writer.writerow(row)
    capsys.readouterr()
    code = command_line(["batch", str(archive / "project" / "m.csv"), "--dry-run", *map(str, options)])
    return code, capsys.readouterr().err


def test_the_manifest_itself_is_fine(archive, capsys):
    assert plan(archive, capsys) == (0, "")


@pytest.mark.parametrize("column", ["out", "save_prior", "report"])
@pytest.mark.parametrize("path", ["../x.tif", "sub/../../x.tif", "{archive}/x.tif", "{archive}/project/x.tif", "https://h/x.tif"])
def test_an_output_cannot_leave_the_folder_for_outputs(archive, capsys, column, path):
    code, error = plan(archive, capsys, **{column: path.format(archive=archive)})
    assert code == 2 and "expected a path inside" in error


@pytest.mark.parametrize("column", ["out", "save_prior", "report"])
def test_a_symbolic_link_does_not_lead_an_output_away(archive, capsys, column):
    (archive / "project" / "link").symlink_to(archive / "elsewhere")
    (archive / "project" / "x.html").symlink_to(archive / "elsewhere" / "c.tif")
    for path in ("link/x.tif", "x.html"):
        code, error = plan(archive, capsys, **{column: path})
        assert code == 2 and "by a symbolic link" in error


@pytest.mark.parametrize("column", ["hsi", "msi", "prior", "weights", "response", "wavelengths"])
@pytest.mark.parametrize("path", ["../elsewhere/c.tif", "{archive}/elsewhere/c.tif", "link.tif"])
def test_an_input_cannot_leave_the_manifests_folder_unless_the_user_allows_where_it_lies(archive, capsys, column, path):
    (archive / "project" / "link.tif").symlink_to(archive / "elsewhere" / "c.tif")
    path = path.format(archive=archive)
    code, error = plan(archive, capsys, **{column: path})
    assert code == 2 and "outside the manifest's folder" in error and "--data-dir" in error
    assert plan(archive, capsys, "--data-dir", archive / "elsewhere", **{column: path})[0] == 0
    assert plan(archive, capsys, "--data-dir", archive / "other", **{column: path})[0] == 2


@pytest.mark.parametrize("column", ["srf", "psf", "srf_bands"])
def test_neither_can_a_file_in_place_of_a_name(archive, capsys, column):
    code, error = plan(archive, capsys, **{column: "../elsewhere/c.csv"})
    assert code == 2 and "outside the manifest's folder" in error


def test_a_star_does_not_help(archive, capsys):
    code, error = plan(archive, capsys, hsi="../elsewhere/*.tif", out="*.tif")
    assert code == 2 and "outside the manifest's folder" in error


def test_a_manifest_cannot_allow_remote_files_but_the_user_can(archive, capsys):
    assert plan(archive, capsys, allow_remote="yes", hsi="https://example.invalid/a.tif")[0] == 2
    assert plan(archive, capsys, "--set", "allow-remote=yes", hsi="https://example.invalid/a.tif")[0] == 0


def test_values_cannot_become_options_of_their_own(archive, capsys):
    code, error = plan(archive, capsys, method="subspace --output=/tmp/x")
    assert code == 2 and "unknown method" in error
    (archive / "project" / "--help").write_text("")
    assert plan(archive, capsys, hsi="--help")[0] == 0  # a file of that name, handed on with its folder


def test_a_refused_manifest_writes_nothing(archive, capsys):
    before = sorted(archive.rglob("*"))
    plan(archive, capsys)
    code = command_line(["batch", str(archive / "project" / "m.csv"), "--out-dir", str(archive / "out"), "--set", "tile=1"])
    assert code == 2 and sorted(archive.rglob("*")) == sorted([*before, archive / "project" / "m.csv"])
    assert (archive / "elsewhere" / "c.tif").read_text() == "untouched"


# ---- twelve pairs, one of them corrupt


def write(path: Path, values: np.ndarray, pixel_m: float, nm=()) -> None:
    bands, height, width = values.shape
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": "float32"}
    profile |= {"crs": "EPSG:32633", "transform": Affine(pixel_m, 0, 365055, 0, -pixel_m, 5807085)}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values.astype("float32"))
        for i, centre in enumerate(nm, 1):
            dataset.update_tags(i, wavelength=f"{centre:.3f}", wavelength_units="Nanometers", fwhm="25")


@pytest.fixture
def twelve(tmp_path) -> Path:
    """Twelve pairs, ``pairs/<k> hsi.tif`` and ``pairs/<k> msi.tif``, a response, and a manifest of one line."""
    bell = np.exp(-4 * np.log(2) * ((NM - np.array([[490], [560], [660], [840]])) / 60) ** 2)
    lines = [f"{nm:g}," + ",".join(f"{v:.5f}" for v in column) for nm, column in zip(NM, bell.T, strict=True)]
    (tmp_path / "camera.csv").write_text("\n".join(["wavelength_nm,blue,green,red,nir", *lines]) + "\n")
    (tmp_path / "pairs").mkdir()
    for i in range(12):
        rng = np.random.default_rng(i)
        spectra = 0.2 + 0.3 * rng.random((3, 1)) * np.sin(NM / np.array([[80.0], [130.0], [210.0]])) ** 2
        mixed = np.einsum("kb,kyx->byx", spectra, rng.dirichlet([0.7] * 3, (32, 40)).transpose(2, 0, 1))
        write(tmp_path / "pairs" / f"{i:02d} hsi.tif", mixed.reshape(24, 8, 4, 10, 4).mean((2, 4)), 30.0, NM)
        write(tmp_path / "pairs" / f"{i:02d} msi.tif", np.einsum("cb,byx->cyx", bell / bell.sum(1, keepdims=True), mixed), 7.5)
    (tmp_path / "scenes.yaml").write_text(
        "defaults: {srf: camera.csv, psf: box, method: subspace, coregister: off}\n"
        "scenes:\n- {hsi: pairs/* hsi.tif, msi: pairs/* msi.tif, out: scene *.tif}\n"
    )
    return tmp_path


def batch(folder: Path, *options: str) -> tuple[int, dict]:
    start = [sys.executable, "-c", "from geofuse_cli.main import main; main()"]
    command = [*start, "batch", "scenes.yaml", "--out-dir", "fused", "--json", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"GEOFUSE_THREADS": "2"})
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_of_twelve_pairs_one_is_corrupt_and_after_it_is_mended_only_that_one_is_redone(twelve):
    broken = twelve / "pairs" / "07 hsi.tif"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    code, summary = batch(twelve, "--jobs", "2")
    assert code == 3
    outputs = sorted(path.name for path in (twelve / "fused").glob("*.tif"))
    assert outputs == [f"scene {i:02d}.tif" for i in range(12) if i != 7]
    (failed,) = [scene for scene in summary["scenes"] if scene["state"] != "done"]
    assert failed["name"] == "scene 07.tif" and "07 hsi.tif" in failed["cause"] and "truncated" in failed["cause"]
    before = {name: (twelve / "fused" / name).stat().st_mtime_ns for name in outputs}

    broken.write_bytes(whole)
    code, summary = batch(twelve, "--resume", "--jobs", "2")
    assert code == 0
    assert summary["counts"] == {"done": 1, "kept": 11, "failed": 0, "interrupted": 0, "waiting": 0}
    assert summary["scenes"][7]["state"] == "done" and summary["scenes"][7]["note"] == "failed before"
    assert before == {name: (twelve / "fused" / name).stat().st_mtime_ns for name in outputs}
    with rasterio.open(twelve / "fused" / "scene 07.tif") as fused:
        assert fused.shape == (32, 40) and fused.count == 24
    left = {path.name for path in (twelve / "fused").iterdir()}
    expected = {f"scene {i:02d}.tif{end}" for i in range(12) for end in ("", ".log")}
    assert left == expected | {"summary.json"}
