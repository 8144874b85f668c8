"""A pair of many small tiles, and ways to run it in this process or in one that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geofuse.pipeline import ExecutionOptions, FusionSettings, OutputOptions, PairOptions, run

NM = np.linspace(420.0, 1000.0, 12)
RATIO, TILE = 4, 32

CHILD = """
import sys
from pathlib import Path
from tests.faults.conftest import fuse
def report(stage, done, total):
    print(stage.replace(" ", "-"), done, flush=True)
fuse(Path(sys.argv[1]), report=report, resume=sys.argv[2] == "resume", driver=sys.argv[3])
"""


def write(path: Path, values: np.ndarray, size: float, nm: np.ndarray | None = None) -> None:
    profile = {
        "crs": "EPSG:32633",
        "transform": Affine(size, 0, 365055, 0, -size, 5807085),
        "dtype": "float32",
        "count": len(values),
    }
    shape = {"height": values.shape[1], "width": values.shape[2], "tiled": True, "blockxsize": 16, "blockysize": 16}
    with rasterio.open(path, "w", driver="GTiff", photometric="MINISBLACK", **profile, **shape) as dataset:
        dataset.write(values.astype(np.float32))
        for i, centre in enumerate(NM if nm is None else nm, 1):
            dataset.update_tags(i, wavelength=f"{centre:.3f}", wavelength_units="Nanometers")


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with ``hsi.tif`` (12 bands), ``msi.tif`` (3 bands, 128 x 160) and the response; 20 tiles of 32 pixels."""
    rng = np.random.default_rng(0)
    abundance = rng.random((3, 32, 40)).repeat(RATIO, 1).repeat(RATIO, 2) + 0.2 * rng.random((3, 128, 160))
    truth = np.einsum("kc,kyx->cyx", np.stack([0.2 + 0.1 * np.sin(NM / w) for w in (70, 150, 300)]), abundance)
    centres = np.array([480.0, 600.0, 800.0])
    rows = np.exp(-4 * np.log(2) * ((NM - centres[:, None]) / 120) ** 2)
    fine = np.einsum("bc,cyx->byx", rows / rows.sum(1, keepdims=True), truth)
    coarse = truth.reshape(12, 32, RATIO, 40, RATIO).mean((2, 4))
    write(tmp_path / "hsi.tif", coarse + 0.002 * rng.standard_normal(coarse.shape), 30.0)
    write(tmp_path / "msi.tif", fine + 0.002 * rng.standard_normal(fine.shape), 7.5, centres)
    nm = np.arange(400.0, 1041.0, 5.0)
    table = [",".join(f"{v:.5f}" for v in (n, *np.exp(-4 * np.log(2) * ((n - centres) / 120) ** 2))) for n in nm]
    (tmp_path / "camera.csv").write_text("\n".join(["wavelength_nm,a,b,c", *table]) + "\n")
    return tmp_path


def fuse(folder: Path, *, name: str = "out.tif", report=lambda *_: None, driver: str = "COG", seed: int = 0, **execution):
    """Fuse the pair of a folder by ``subspace``."""
    return run(
        folder / "hsi.tif",
        folder / "msi.tif",
        folder / name,
        pair_options=PairOptions(folder / "camera.csv", psf="box", min_coverage=0.5),
        settings=FusionSettings("subspace", tile=TILE, overlap=16, seed=seed),
        output_options=OutputOptions(driver),
        execution=ExecutionOptions(**execution),
        report=report,
    )


@pytest.fixture
def names() -> Callable[[Path], set[str]]:
    """What is in a folder besides the inputs."""

    def list_names(folder: Path) -> set[str]:
        return {path.name for path in folder.iterdir()} - {"hsi.tif", "msi.tif", "camera.csv"}

    return list_names


def start(folder: Path, *, resume: bool = False, driver: str = "COG") -> subprocess.Popen:
    """Start :func:`fuse` in a process of its own, which prints its progress."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", CHILD, str(folder), "resume" if resume else "new", driver]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ, "PYTHONPATH": "."})
