"""Pairs of files made with numpy and rasterio alone, whose truth is known, and ways to run the command line on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from affine import Affine

from geofuse_cli import main as command_line

CORNER = (365055.0, 5807085.0)
CRS = "EPSG:32633"
RATIO = 4
FINE_M = 7.5
NM = np.round(np.linspace(420.37, 1003.51, 41), 4)  # digits that micrometres with three decimals would lose
FWHM = np.full(NM.size, 11.23)
CAMERA = {"blue": 490.0, "green": 560.0, "red": 660.0, "nir": 840.0}
CAMERA_WIDTH = 60.0
SCALE, NODATA = 1e-4, -9999


def bell(nm, centre, width):
    return np.exp(-4 * np.log(2) * ((nm - centre) / width) ** 2)


def camera_csv(path: Path, bands=CAMERA) -> Path:
    """Write the camera's response as a table."""
    nm = np.arange(430.0, 951.0, 5.0)
    lines = ["wavelength_nm," + ",".join(bands)]
    lines += [f"{n:g}," + ",".join(f"{bell(n, c, CAMERA_WIDTH):.6f}" for c in bands.values()) for n in nm]
    path.write_text("\n".join(lines) + "\n")
    return path


def make_truth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Reflectance (41, height, width): four smooth spectra mixed by patches with sharp borders and texture."""
    rng = np.random.default_rng(seed)
    spectra = np.stack([0.15 + 0.3 * np.sin(NM / w + k) ** 2 for k, w in enumerate((70, 110, 160, 240))])
    y, x = np.mgrid[:height, :width]
    patch = rng.integers(0, 4, (height // 11 + 1, width // 13 + 1)).repeat(11, 0).repeat(13, 1)[:height, :width]
    wave = np.sin(y / 9 + 2 * np.cos(x / 31)) * np.sin(x / 7)
    abundance = np.stack([(patch == k) * (1 + 0.15 * wave) + 0.2 * np.sin(x / 17 + k) ** 2 for k in range(4)])
    abundance *= 1 + 0.05 * rng.standard_normal(abundance.shape)
    return np.einsum("kc,kyx->cyx", spectra, abundance)


def coarsen(fine: np.ndarray, ratio: int = RATIO) -> np.ndarray:
    """Mean of the fine pixels in each coarse one (``--psf box``)."""
    n, height, width = fine.shape
    return fine.reshape(n, height // ratio, ratio, width // ratio, ratio).mean((2, 4))


def respond(fine: np.ndarray) -> np.ndarray:
    """What the camera sees of spectra."""
    weights = np.stack([bell(NM, centre, CAMERA_WIDTH) for centre in CAMERA.values()])
    return np.einsum("bc,cyx->byx", weights / weights.sum(1, keepdims=True), fine)


def noisy(image: np.ndarray, snr_db: float, seed: int) -> np.ndarray:
    sigma = np.sqrt(np.nanmean(image**2) / 10 ** (snr_db / 10))
    return image + sigma * np.random.default_rng(seed).standard_normal(image.shape)


def north_up(size: float, row: float = 0, col: float = 0) -> Affine:
    """Transform of square pixels whose corner lies ``row`` and ``col`` fine pixels from the scene's."""
    return Affine(size, 0, CORNER[0] + FINE_M * col, 0, -size, CORNER[1] - FINE_M * row)


def write(
    path: Path, values: np.ndarray, transform: Affine, *, nm=None, dtype="int16", scale=SCALE, nodata=NODATA, **changes
) -> Path:
    """Write a GeoTIFF (or what ``driver`` says); values in physical units, NaN for no data."""
    gone = ~np.isfinite(values)
    stored = np.where(gone, 0, values) / scale
    stored = (np.rint(stored) if np.issubdtype(dtype, np.integer) else stored).astype(dtype)
    if nodata is not None:
        stored[gone] = nodata
    profile = {
        "driver": "GTiff",
        "count": len(stored),
        "height": stored.shape[1],
        "width": stored.shape[2],
        "dtype": dtype,
        "crs": CRS,
        "transform": transform,
        "nodata": nodata,
        "photometric": "MINISBLACK",
    } | changes
    if profile["driver"] != "GTiff":
        del profile["photometric"]
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(stored)
        dataset.scales = [scale] * len(stored)
        for i, centre in enumerate([] if nm is None else nm, 1):
            dataset.update_tags(i, wavelength=f"{centre:.4f}", wavelength_units="Nanometers", fwhm="11.23")
    return path


@dataclass
class Job:
    """A folder with a pair on disk, and what its images hold; change the arrays, then :meth:`write` again."""

    folder: Path
    truth: np.ndarray  # (41, H, W) reflectance
    hsi: np.ndarray
    msi: np.ndarray
    hsi_changes: dict = field(default_factory=dict)
    msi_changes: dict = field(default_factory=dict)

    @property
    def hsi_path(self) -> Path:
        return self.folder / "hsi.tif"

    @property
    def msi_path(self) -> Path:
        return self.folder / "msi.tif"

    @property
    def camera(self) -> Path:
        return self.folder / "camera.csv"

    def grid(self, ratio: int) -> Affine:
        """Transform of the scene in pixels of so many fine ones."""
        return north_up(ratio * FINE_M)

    @property
    def nm(self) -> np.ndarray:
        return NM

    def write(self) -> Job:
        write(self.hsi_path, self.hsi, **({"transform": north_up(RATIO * FINE_M), "nm": NM} | self.hsi_changes))
        write(self.msi_path, self.msi, **({"transform": north_up(FINE_M)} | self.msi_changes))
        camera_csv(self.camera)
        return self

    def arguments(self, output: Path | str, *more: object, method: str = "subspace") -> list[str]:
        """Arguments of ``geofuse run`` on this pair."""
        parts = ["run", self.hsi_path, self.msi_path, "--srf", self.camera, "--psf", "box", "--method", method, "-o", output, *more]
        return [str(part) for part in parts]


@pytest.fixture
def make_job(tmp_path) -> Callable[..., Job]:
    """Make a job in this test's folder."""

    def make(height: int = 64, width: int = 80, seed: int = 0, snr_db: float = 40.0) -> Job:
        truth = make_truth(height, width, seed)
        hsi, msi = noisy(coarsen(truth), snr_db, seed + 1), noisy(respond(truth), snr_db, seed + 2)
        return Job(tmp_path, truth, hsi, msi)

    return make


@pytest.fixture
def job(make_job) -> Job:
    """A small pair, written."""
    return make_job().write()


@pytest.fixture
def geofuse(capsys) -> Callable[..., SimpleNamespace]:
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> SimpleNamespace:
        capsys.readouterr()
        code = command_line.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture(autouse=True)
def quick_argsdiff(request, monkeypatch) -> None:
    """Let the default preset of ARGS-Diff learn for a moment only, but in tests marked slow."""
    if "slow" not in request.keywords:
        from geofuse.methods.argsdiff import ArgsDiff, FastOptions

        quick = FastOptions(spatial_steps=12, spectral_steps=12, width=8, symmetries=1)
        monkeypatch.setattr(ArgsDiff, "presets", ArgsDiff.presets | {"fast": quick, "balanced": quick})


@pytest.fixture
def fuse(geofuse) -> Callable[..., SimpleNamespace]:
    """Run a job that must succeed; returns its summary (a namespace) with the stored values and the dataset's profile."""

    def run(job: Job, *more: object, name: str = "fused.tif", method: str = "subspace") -> SimpleNamespace:
        output = job.folder / name
        done = geofuse(*job.arguments(output, *more, "--json", method=method))
        assert done.code == 0, done.err
        with rasterio.open(output) as dataset:
            stored, profile, scale = dataset.read(), dataset.profile, dataset.scales[0]
        values = np.where(stored == profile["nodata"], np.nan, stored * scale) if profile["nodata"] is not None else stored
        return SimpleNamespace(path=output, stored=stored, values=values, profile=profile, err=done.err, **json.loads(done.out))

    return run


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """What the fixtures are made of."""
    names = ("CRS", "RATIO", "FINE_M", "NM", "FWHM", "SCALE", "NODATA", "CAMERA")
    tools = (camera_csv, make_truth, coarsen, respond, noisy, north_up, write)
    return SimpleNamespace(**{n: globals()[n] for n in names}, **{tool.__name__: tool for tool in tools})


def psnr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Mean over bands of the PSNR with each band's own maximum, over pixels that have data in both."""
    seen = np.isfinite(reference) & np.isfinite(estimate)
    error = np.where(seen, np.nan_to_num(reference) - np.nan_to_num(estimate), 0.0)
    mse = (error**2).sum((1, 2)) / seen.sum((1, 2))
    return float(np.mean(10 * np.log10(np.nanmax(reference, axis=(1, 2)) ** 2 / mse)))


@pytest.fixture(scope="session")
def psnr() -> Callable[[np.ndarray, np.ndarray], float]:
    """An oracle for the PSNR."""
    return psnr_db
