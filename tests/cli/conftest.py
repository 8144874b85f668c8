"""Manifests and pairs for tests of ``geofuse batch``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from affine import Affine

from geofuse.batch import BatchPlan, Roots, Row, make_plan
from geofuse_cli import main as command_line
from geofuse_cli.commands.batch import option_forms

NM = np.linspace(420, 1000, 24)

# Stands for `geofuse`: takes the arguments of `geofuse run`, fails where the HSI says so, and says how many threads it was given.
STAND_IN = """
import json, os, sys, time
hsi, options = sys.argv[2], dict(a.removeprefix("--").split("=", 1) for a in sys.argv[4:] if "=" in a)
text = open(hsi).read()
print("geofuse: info: reading", file=sys.stderr)
print("geofuse: fusing tiles 3/4, about 2 s left", file=sys.stderr, flush=True)
if "slow" in text:
    open(options["output"] + ".began", "w").close()
    time.sleep(60)
if "begun" in text and "--resume" in sys.argv:
    if "other" in text:
        sys.exit("geofuse: error: cannot resume " + hsi + ": it was another; start anew without --resume")
    text += " resumed"
if "tiles" in text:
    print(json.dumps({"failed_tiles": {"7": "no memory", "9": "no memory"}}))
    sys.exit(3)
if "corrupt" in text:
    sys.exit("geofuse: error: " + hsi + " is corrupt")
if "killed" in text:
    os.kill(os.getpid(), 9)
if "prior" in options:
    text += open(options["prior"]).read()
if "save-prior" in options:
    open(options["save-prior"], "w").write("learnt")
open(options["output"], "w").write(text)
print(json.dumps({"peak_memory_bytes": 2**28, "threads": os.environ["GEOFUSE_THREADS"]}))
"""


@pytest.fixture
def stand_in(tmp_path_factory) -> list[str]:
    """Command that stands for ``geofuse`` and needs no libraries."""
    path = tmp_path_factory.mktemp("command") / "stand_in.py"
    path.write_text(STAND_IN)
    return [sys.executable, "-S", str(path)]


@pytest.fixture
def geofuse(capsys) -> Callable[..., SimpleNamespace]:
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> SimpleNamespace:
        capsys.readouterr()
        code = command_line.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def plan(tmp_path) -> Callable[..., BatchPlan]:
    """Make a plan of scenes ``name: text of its HSI``; ``more`` gives options by scene, with outputs in ``out``."""

    def make(hsi: dict[str, str], *, more: dict[str, dict[str, str]] | None = None, learn_once: bool = False) -> BatchPlan:
        rows = []
        for name, text in hsi.items():
            path = tmp_path / f"{name}.hsi"
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
            (tmp_path / f"{name}.msi").touch()
            rows.append(Row(name, {"hsi": path.name, "msi": f"{name}.msi", "out": f"{name}.tif", **(more or {}).get(name, {})}))
        roots = Roots(tmp_path, tmp_path / "out")
        return make_plan(tmp_path / "m.csv", rows, roots, option_forms(), lambda arguments: None, learn_once=learn_once)

    return make


def states(summary) -> dict[str, str]:
    return {scene.name.removesuffix(".tif"): scene.state for scene in summary.scenes}


@pytest.fixture
def pairs(tmp_path) -> Callable[[int], Path]:
    """Write so many small pairs ``s00/hsi.tif``, ``s00/msi.tif`` ... and ``camera.csv``; returns the folder."""

    def make(n: int) -> Path:
        bell = np.exp(-4 * np.log(2) * ((NM - np.array([[490], [560], [660], [840]])) / 60) ** 2)
        lines = [f"{nm:g}," + ",".join(f"{v:.5f}" for v in column) for nm, column in zip(NM, bell.T, strict=True)]
        (tmp_path / "camera.csv").write_text("\n".join(["wavelength_nm,blue,green,red,nir", *lines]) + "\n")
        for i in range(n):
            rng = np.random.default_rng(i)
            spectra = 0.2 + 0.3 * rng.random((3, 1)) * np.sin(NM / np.array([[80.0], [130.0], [210.0]])) ** 2
            mixed = np.einsum("kb,kyx->byx", spectra, rng.dirichlet([0.7] * 3, (32, 40)).transpose(2, 0, 1))
            folder = tmp_path / f"s{i:02d}"
            folder.mkdir()
            coarse = mixed.reshape(len(NM), 8, 4, 10, 4).mean((2, 4))
            write(folder / "hsi.tif", coarse, 30.0, NM)
            write(folder / "msi.tif", np.einsum("cb,byx->cyx", bell / bell.sum(1, keepdims=True), mixed), 7.5)
        return tmp_path

    return make


def write(path: Path, values: np.ndarray, pixel_m: float, nm=()) -> None:
    profile = {
        "driver": "GTiff",
        "count": values.shape[0],
        "height": values.shape[1],
        "width": values.shape[2],
        "dtype": "float32",
        "crs": "EPSG:32633",
        "transform": Affine(pixel_m, 0, 365055, 0, -pixel_m, 5807085),
    }
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values.astype("float32"))
        for i, centre in enumerate(nm, 1):
            dataset.update_tags(i, wavelength=f"{centre:.3f}", wavelength_units="Nanometers", fwhm="25")


def cut(path: Path) -> bytes:
    """Cut a file in the middle; returns what it held."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return whole


def read_summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="session")
def tools() -> SimpleNamespace:
    return SimpleNamespace(states=states, cut=cut, read_summary=read_summary)
