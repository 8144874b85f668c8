"""The scenes and measurements of docs/scale.md.

    python tests/benchmarks/large_scenes.py make 1024 SCENE              # SCENE/hsi.tif and SCENE/msi.tif, 150 + 8 bands, ratio 4
    python tests/benchmarks/large_scenes.py run SCENE fused.tif --method subspace --tile 512
    python tests/benchmarks/large_scenes.py run SCENE fused.tif --method copy     # a method that only copies ...
    python tests/benchmarks/large_scenes.py copy fused.tif copy.tif               # ... and rasterio's copy of its result

``make`` mixes eight made-up spectra (rank 7) by smooth fields with texture down to the pixel, strip by strip, and adds noise.
``run`` is ``geofuse run`` with the options that follow; it prints one line of JSON: the peak resident set and when it was, the
processor time of the process, and of those that it started and did not wait for, the seconds of each stage. ``--trace`` also
prints the resident set over time; ``--threads N`` computes with N threads on fewer cores, to measure memory; ``--steps N`` lets
argsdiff fast learn in N steps in place of 300; ``--limit S`` ends the run after S seconds and prints the peak so far.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine

from geofuse.methods.base import Report, SceneModel, TileData

BANDS, RATIO, MATERIALS, STRIP = 150, 4, 8, 256
MSI_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8A", "B11")  # of Sentinel-2A
SCALE = 1e-4
STAGES = ("reading", "learning", "fusing", "writing")


def make(size: int, folder: Path, seed: int = 0) -> None:
    """Write a pair of ``size`` x ``size`` fine pixels as COGs, int16 reflectance."""
    from geofuse.degradation.spatial import SpatialOperator
    from geofuse.io import OutputSpec, open_sink
    from geofuse.scene import BandMetadata
    from geofuse.sensors import load_response, match_bands, response_matrix
    from geofuse.sensors.psf import Psf

    rng = np.random.default_rng(seed)
    nm = np.linspace(420.0, 2400.0, BANDS)
    fwhm = np.full(BANDS, 14.0)
    centres, widths = rng.uniform(400, 2400, (MATERIALS, 6, 1)), rng.uniform(60, 500, (MATERIALS, 6, 1))
    spectra = 0.1 + 0.15 * (rng.uniform(0, 1, (MATERIALS, 6, 1)) * np.exp(-(((nm - centres) / widths) ** 2))).sum(axis=1)
    names = list(MSI_BANDS)
    match = match_bands(load_response("sentinel2a"), names, np.full(len(names), np.nan), len(names))
    response = response_matrix(match.response, nm, fwhm)
    mixing = _fractions(size, rng)
    hsi_bands = BandMetadata(nm, fwhm, np.ones(BANDS, bool), tuple(f"{value:.0f} nm" for value in nm))
    unknown = np.full(len(names), np.nan)
    msi_bands = BandMetadata(unknown, unknown, np.ones(len(names), bool), MSI_BANDS)
    folder.mkdir(parents=True, exist_ok=True)

    def spec(side: int, bands: BandMetadata, step_m: float, tags: dict[str, str]) -> OutputSpec:
        place = Affine(step_m, 0.0, 4e5, 0.0, -step_m, 5.8e6)
        return OutputSpec(side, side, bands, place, "EPSG:32633", "int16", SCALE, 0.0, -9999.0, tags)

    with open_sink(folder / "msi.tif", spec(size, msi_bands, 7.5, {})) as sink:
        seen = response @ spectra.T
        for row in range(0, size, STRIP):
            strip = np.tensordot(seen, mixing[:, row : row + STRIP], 1)
            sink.write((strip + 0.002 * rng.standard_normal(strip.shape)).astype(np.float32), row)
    psf = Psf("gaussian", 1.0)
    coarse = SpatialOperator(psf, RATIO, size, size).forward(mixing)
    with open_sink(folder / "hsi.tif", spec(size // RATIO, hsi_bands, 30.0, {"GEOFUSE_PSF": psf.to_tag()})) as sink:
        for row in range(0, size // RATIO, STRIP):
            strip = np.tensordot(spectra.T, coarse[:, row : row + STRIP], 1)
            sink.write((strip + 0.004 * rng.standard_normal(strip.shape)).astype(np.float32), row)


def _fractions(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return fractions (material, size, size) float32 that add up to one."""
    from scipy.ndimage import zoom

    out = np.empty((MATERIALS, size, size), np.float32)
    for plane in out:
        plane[:] = 0.0
        for cell in (1, 2, 8, 32, 128):
            coarse = rng.standard_normal((size // cell + 2,) * 2).astype(np.float32)
            plane += 0.35 * cell**0.35 * (zoom(coarse, cell, order=1) if cell > 1 else coarse)[:size, :size]
    np.exp(out, out=out)
    out /= out.sum(axis=0)
    return out


def measure(command: list[str], trace: bool, limit_s: float) -> dict[str, object]:
    """Run a command, watch its resident set, and return what it took; its last line of output is the summary of ``geofuse run``."""
    start, peak, seen, spent = time.perf_counter(), (0.0, 0.0), [], {}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        now, held = time.perf_counter() - start, _resident(process.pid)
        peak = max(peak, (held, now))
        seen.append((round(now, 1), round(held)))
        if len(seen) % 10 == 0:
            spent.update(_spent_by_descendants(process.pid))
        time.sleep(0.05)
        if now > limit_s:
            process.kill()
            process.wait()
            return {"ended_after_s": limit_s, "sampled_peak_MB_at_s": (round(peak[0]), round(peak[1], 1))}
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = json.loads(process.stdout.read())
    if trace:
        print(*(f"{now} {held}" for now, held in seen[::10]), sep="\n", file=sys.stderr)
    return {
        "peak_MB": round(summary["peak_memory_bytes"] / 1e6),
        "sampled_peak_MB_at_s": (round(peak[0]), round(peak[1], 1)),
        "processor_s": round(used.ru_utime + used.ru_stime, 1),
        "processor_s_of_descendants": round(sum(spent.values()), 1),
        "clock_s": round(time.perf_counter() - start, 1),
        "seconds": {stage: round(summary["seconds"].get(stage, 0.0), 1) for stage in STAGES},
        "bottleneck": summary["bottleneck"],
    }


class Copy:
    """A method that repeats the HSI's pixels and adds the MSI's first band, to measure reading and writing."""

    @dataclass(frozen=True)
    class Options:
        """No options."""

    presets = {"default": Options()}
    halo = 0

    def __init__(self, options: Options | None = None) -> None:
        """Take the options, of which there are none."""
        self.options = options

    @staticmethod
    def default_preset(device: str) -> str:
        """Return the only preset."""
        return "default"

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Learn nothing."""

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the tile (C, H, W)."""
        return tile.hsi.repeat(RATIO, axis=1).repeat(RATIO, axis=2) + tile.msi[:1]


def copy(source: Path, target: Path) -> dict[str, float]:
    """Copy an image block by block with rasterio, in one thread and with the same compression; return what it took."""
    import rasterio
    from rasterio.windows import Window

    start, before = time.perf_counter(), time.process_time()
    with rasterio.open(source) as image:
        side = image.block_shapes[0][0]
        form = {"driver": "GTiff", "tiled": True, "blockxsize": side, "blockysize": side, "compress": "DEFLATE", "predictor": 2}
        with rasterio.open(target, "w", **{**image.profile, **form, "interleave": "pixel", "BIGTIFF": "IF_SAFER"}) as copied:
            for row in range(0, image.height, side):
                for col in range(0, image.width, side):
                    window = Window(col, row, min(side, image.width - col), min(side, image.height - row))
                    copied.write(image.read(window=window), window=window)
    return {"processor_s": round(time.process_time() - before, 1), "clock_s": round(time.perf_counter() - start, 1)}


def _spent_by_descendants(pid: int) -> dict[int, float]:
    """Return the processor time so far of each process below this one; a fork server's children are never waited for by it."""
    import psutil

    spent = {}
    with suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                spent[process.pid] = sum(process.cpu_times()[:2])
    return spent


def _resident(pid: int) -> float:
    """Return the resident set of a process in MB, 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError):
        return 0.0


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("size", type=int)
    making.add_argument("folder", type=Path)
    running = commands.add_parser("run")
    running.add_argument("--trace", action="store_true")
    running.add_argument("--threads", type=int)
    running.add_argument("--steps", type=int)
    running.add_argument("--limit", type=float, default=float("inf"))
    running.add_argument("folder", type=Path)
    running.add_argument("output", type=Path)
    copying = commands.add_parser("copy")
    copying.add_argument("source", type=Path)
    copying.add_argument("target", type=Path)
    told, more = parser.parse_known_args()
    if told.command == "copy":
        print(json.dumps(copy(told.source, told.target)))
        return
    if told.command == "make":
        make(told.size, told.folder)
        return
    pair = [str(told.folder / "hsi.tif"), str(told.folder / "msi.tif"), "-o", str(told.output)]
    threads = f"from geofuse.threads import fix_threads; fix_threads({told.threads}); "
    here = f"import sys; sys.path.append({os.path.dirname(os.path.abspath(__file__))!r}); "
    known = "from geofuse.methods import METHODS; METHODS._entries['copy'] = 'large_scenes:Copy'; "
    if told.steps:
        fast = f"FastOptions(spatial_steps={told.steps}, spectral_steps={told.steps})"
        known += f"from geofuse.methods.argsdiff import ArgsDiff, FastOptions; ArgsDiff.presets['fast'] = {fast}; "
    program = here + known + (threads if told.threads else "") + "from geofuse_cli.main import main; main()"
    fixed = ["--srf", "sentinel2a", "--coregister", "off", "--radiometry", "off", "--change", "off", "--json"]
    print(json.dumps(measure([sys.executable, "-c", program, "run", *pair, *fixed, *more], told.trace, told.limit)))


if __name__ == "__main__":
    main()
