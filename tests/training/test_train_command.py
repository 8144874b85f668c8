"""``geofuse train``, from scenes to a fused image; killed and resumed."""

from __future__ import annotations

import csv
import json
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from geofuse_cli.commands.train import setting
from geofuse_cli.main import run as geofuse

BANDS, CENTRES = 6, np.linspace(440.0, 680.0, 6)
QUICK = ["--set", "width=8", "--batch", "2", "--patch", "32", "--learning-rate", "0.002", "--patience", "0"]


def write(path, data, *, pixel, wavelength=None):
    with rasterio.open(
        path, "w", driver="GTiff", width=data.shape[2], height=data.shape[1], count=len(data), dtype="float32", crs="EPSG:32633",
        transform=from_origin(500_000, 5_000_000, pixel, pixel),
    ) as target:  # fmt: skip
        target.write(data.astype(np.float32))
        for k, nm in enumerate(wavelength if wavelength is not None else ()):
            target.update_tags(k + 1, wavelength=str(nm), wavelength_units="Nanometers", fwhm="40")


def texture(seed, bands, side):
    rng = np.random.default_rng(seed)
    field = rng.normal(size=(3, side, side)).cumsum(1).cumsum(2)
    field = (field - field.min((1, 2), keepdims=True)) / np.ptp(field, axis=(1, 2))[:, None, None]
    return np.einsum("bk,kij->bij", rng.random((bands, 3)) + 0.1, field)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("train")
    for name in range(2):
        write(path / f"s{name}.tif", texture(name, BANDS, 64), pixel=2.0, wavelength=CENTRES)
    ms = texture(5, 4, 48)
    write(path / "ms.tif", ms, pixel=4.0)
    write(path / "pan.tif", ms.mean(0, keepdims=True).repeat(2, 1).repeat(2, 2), pixel=2.0)
    grid = np.arange(400.0, 721.0, 10.0)
    rows = [f"{nm:g}," + ",".join(f"{np.exp(-(((nm - c) / 40) ** 2)):.6f}" for c in (470, 560, 640)) for nm in grid]
    (path / "rgb.csv").write_text("wavelength_nm,B,G,R\n" + "\n".join(rows) + "\n")
    return path


def command(folder, *more):
    return ["train", "ddpmfus", str(folder / "s0.tif"), "--srf", str(folder / "rgb.csv"), *QUICK, *more]


@pytest.fixture
def invoke(capsys):
    def call(args, code=0):
        found = geofuse([str(a) for a in args])
        said = capsys.readouterr()
        assert found == code, said.err
        return said.out if code == 0 else " ".join(said.err.split())

    return call


def test_from_scene_to_fused_image(invoke, folder, tmp_path):
    out = tmp_path / "w.safetensors"
    said = invoke(command(folder, "--steps", "4", "--validate-every", "2", "--val", folder / "s1.tif", "-o", out))
    assert "trained 4 steps" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.metrics.csv", "w.png", "w.safetensors"]
    invoke(["simulate", folder / "s1.tif", "--srf", folder / "rgb.csv", "-o", tmp_path / "pair"])
    run = ["run", tmp_path / "pair/hsi.tif", tmp_path / "pair/msi.tif", "--srf", folder / "rgb.csv", "--method", "ddpmfus"]
    invoke([*run, "--weights", out, "-o", tmp_path / "fused.tif"])
    with rasterio.open(tmp_path / "fused.tif") as fused:
        assert fused.count == BANDS
        assert np.isfinite(fused.read()).all()
    assert "needs trained networks: give --weights" in invoke([*run, "-o", tmp_path / "no.tif"], 2)
    assert not (tmp_path / "no.tif").exists()
    subspace = [*run[:-1], "subspace", "--weights", out, "-o", tmp_path / "no.tif"]
    assert "uses no trained networks" in invoke(subspace, 2)


def test_pansharpening_from_a_pair_at_reduced_resolution(invoke, folder, tmp_path):
    pair = [folder / "ms.tif", folder / "pan.tif"]
    out = tmp_path / "w.safetensors"
    said = invoke(["train", "ssdiff", "--pair", *pair, *QUICK, "--steps", "3", "-o", out, "--json"])
    assert json.loads(said.splitlines()[-1])["steps"] == 3
    invoke(["run", *pair, "--method", "ssdiff", "--weights", out, "-o", tmp_path / "sharp.tif"])
    with rasterio.open(tmp_path / "sharp.tif") as sharp, rasterio.open(folder / "pan.tif") as pan:
        assert sharp.shape == pan.shape
        assert sharp.count == 4


def test_it_warns_before_it_replaces_the_checkpoint_of_a_training_that_was_stopped(folder, tmp_path, capsys):
    told = command(folder, "--steps", "4", "--validate-every", "2", "-o", str(tmp_path / "w.safetensors"))
    left = tmp_path / "w.checkpoint"

    def said(*more):
        assert geofuse([*told, *more]) == 0
        return capsys.readouterr().err

    assert "--resume" not in said()
    left.write_bytes(b"hours of work")
    (line,) = (line for line in said().splitlines() if "--resume" in line)
    assert line.startswith("geofuse: warning: ")
    assert f"{left}, of a training that was stopped, will be replaced after step 2" in line
    assert not left.exists()
    assert "--resume" not in said("--resume")


@pytest.mark.parametrize("method", ["ddpmfus", "ssdiff"])
def test_patches_need_not_be_whole_windows_of_the_network(invoke, folder, tmp_path, method):
    small = ["--set", "width=8", "--batch", "1", "--steps", "1", "-o", tmp_path / "w.safetensors"]  # sides of 48, 36 at ratio 3
    for ratio in (4, 3):
        invoke(["train", method, folder / "s0.tif", "--srf", folder / "rgb.csv", "--ratio", ratio, *small])


def test_weights_that_do_not_fit_or_are_none_are_refused_in_one_line(invoke, folder, tmp_path):
    out = tmp_path / "w.safetensors"
    invoke(["train", "ssdiff", "--pair", folder / "ms.tif", folder / "pan.tif", *QUICK, "--steps", "1", "-o", out])
    write(tmp_path / "ms3.tif", texture(5, 3, 48), pixel=4.0)
    whole = out.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pickled.safetensors").write_bytes(pickle.dumps({"x": 1}))
    for ms, weights, message in (
        (tmp_path / "ms3.tif", out, "for 4 bands and a fine image of 1, this pair has 3 and 1"),
        (folder / "ms.tif", tmp_path / "cut.safetensors", "not a safetensors file"),
        (folder / "ms.tif", tmp_path / "pickled.safetensors", "never opened"),
    ):
        run = ["run", ms, folder / "pan.tif", "--method", "ssdiff", "--weights", weights, "-o", tmp_path / "no.tif"]
        assert message in invoke(run, 2)
    assert not (tmp_path / "no.tif").exists()


@pytest.mark.parametrize(
    ("text", "value"), [("a=False", False), ("a=true", True), ("a=2", 2), ("a=1e-3", 1e-3), ("a=l2", "l2"), ("a=b=c", "b=c")]
)
def test_settings_are_numbers_truths_or_text(text, value):
    found = setting(text)
    assert found == ("a", value)
    assert type(found[1]) is type(value)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "subspace", "s0.tif", "--srf", "rgb.csv"], "is not trained beforehand; ddpmfus, ssdiff"),
        (["train", "ddpmfus"], "nothing to train on"),
        (["train", "ddpmfus", "s0.tif"], "no --srf"),
        (["train", "ddpmfus", "absent.tif", "--srf", "rgb.csv"], "absent.tif does not exist"),
        (["train", "ddpmfus", "s0.tif", "--srf", "rgb.csv", "--set", "loss=l7"], "neither l1 nor l2"),
        (["train", "ddpmfus", "s0.tif", "--srf", "rgb.csv", "--set", "nonsense=1"], "has no option 'nonsense'"),
        (["train", "ddpmfus", "s0.tif", "--srf", "rgb.csv", "--set", "nonsense"], "is not NAME=VALUE"),
        (["train", "ddpmfus", "s0.tif", "--srf", "rgb.csv", "--set", "width=wide"], "must be a whole number, found 'wide'"),
        (["train", "ssdiff", "s0.tif", "--srf", "rgb.csv", "--set", "width=7"], "width must be an even number"),
        (["train", "ssdiff", "s0.tif", "--srf", "rgb.csv", "--ratio", "16", "--patch", "8"], "less than one coarse pixel"),
        (["train", "ddpmfus", "s0.tif", "--srf", "rgb.csv", "--pair", "ms.tif", "pan.tif"], "name the file's bands in order"),
        (["train", "ssdiff", "--pair", "ms.tif", "pan.tif", "--pair", "s0.tif", "pan.tif"], "expected 2 to 40"),
    ],
)
def test_bad_input_gets_one_line_and_nothing_is_written(invoke, folder, tmp_path, args, message):
    args = [str(folder / a) if a.endswith((".tif", ".csv")) else a for a in args]
    assert message in invoke([*args, "-o", tmp_path / "w.safetensors"], 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_killed_and_resumed_it_gives_the_same_curve_and_weights(folder, tmp_path):
    def run(name, *more):
        args = command(folder, "--steps", "60", "--validate-every", "10", "-o", tmp_path / f"{name}.safetensors", *more)
        return [sys.executable, "-c", "import sys; from geofuse_cli.main import main; main()", *map(str, args)]

    subprocess.run(run("whole"), check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    process = subprocess.Popen(run("broken"), env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not (tmp_path / "broken.checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "broken.safetensors").exists()
    subprocess.run(run("broken", "--resume"), check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    curves = []
    for name in ("whole", "broken"):
        with open(tmp_path / f"{name}.metrics.csv", newline="") as stream:
            curves.append([{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)])
    assert curves[0] == curves[1]
    assert len(curves[0]) == 6
    from geofuse.methods.weights import load_weights

    one, other = (load_weights(tmp_path / f"{name}.safetensors")[1] for name in ("whole", "broken"))
    assert all(np.array_equal(one[k].numpy(), other[k].numpy()) for k in one)
