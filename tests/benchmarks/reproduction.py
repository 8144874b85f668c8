"""The numbers of docs/reproduction.md: the paper's ablations at a budget that fits a CPU, and a race at equal CPU time.

    python tests/benchmarks/reproduction.py ablations SCENES results.jsonl
    python tests/benchmarks/reproduction.py race SCENES race.jsonl
    python tests/benchmarks/reproduction.py tables SCENES results.jsonl       # prints Markdown, beside the paper's numbers

``SCENES`` is the folder with abu-beach-4.tif, jasper-ridge.tif and cave-balloons.tif, beside which lies ``srf/vnir4.csv``. Each
result is one line of JSON, written when it is known; a run that is started again leaves out the results that its file already
holds. Networks are learnt once and serve every setting of the sampler that does not need others.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geofuse.align import make_pair
from geofuse.diffusion.options import PaperOptions
from geofuse.io import open_scene
from geofuse.methods.argsdiff import ArgsDiff
from geofuse.methods.argsdiff_paper import PaperArgsDiff
from geofuse.methods.base import SceneModel, TileData, silent
from geofuse.metrics import evaluate_arrays
from geofuse.sensors import Psf, load_response
from geofuse.simulate import prepare_reference, simulate_pair
from geofuse.tiling import Edges

RATIO, SNR_DB = 4, 35.0
RESPONSES = {"abu-beach-4": "../srf/vnir4.csv", "jasper-ridge": "landsat8", "cave-balloons": "rgb"}
SIDE, RACE_SIDE = 48, 64  # fine pixels of the crops for the ablations and the race
SMALL = PaperOptions(train_steps=800, spectral_steps=3000, batch=4, patch=32, patch_stride=8, base_channels=8, learning_rate=1e-3)


@dataclass(frozen=True)
class Scene:
    """A pair made by Wald's protocol, as one tile, and its reference."""

    model: SceneModel
    tile: TileData
    reference: np.ndarray

    def score(self, estimate: np.ndarray) -> dict[str, float]:
        """Compare an estimate (C, H, W) with the reference."""
        scores = evaluate_arrays(self.reference, estimate, RATIO)
        return {name: round(float(scores[name]), 4) for name in ("psnr", "sam", "ergas", "ssim")}


def simulated(folder: Path, name: str, side: int) -> Scene:
    """Simulate a pair from the first ``side`` x ``side`` pixels of a scene."""
    scene, _ = prepare_reference(open_scene(folder / f"{name}.tif").isel(y=slice(side), x=slice(side)), 16)
    path = RESPONSES[name]
    response = load_response(str(folder / path) if path.endswith(".csv") else path).reflective()
    made = simulate_pair(scene, ratio=RATIO, response=response, psf=Psf("bicubic"), snr_db=SNR_DB, seed=0)
    pair = make_pair(made.hsi, made.msi, srf=response, psf=Psf("bicubic"))
    model = SceneModel(pair["response"].values, Psf("bicubic"), RATIO, pair["wavelength"].values)
    tile = TileData(pair["hsi"].values, pair["msi"].values, (0, 0), Edges(True, True, True, True))
    return Scene(model, tile, made.reference.values)


class Networks:
    """Learns each spatial and each spectral network once."""

    def __init__(self, scene: Scene) -> None:
        """Start with none."""
        self.scene = scene
        self.known: dict[tuple[Any, ...], Any] = {}

    def method(self, options: PaperOptions) -> PaperArgsDiff:
        """Return the method with these options, fitted."""
        spatial = ("spatial", options.d, options.base_channels, options.multipliers, options.train_steps)
        spectral = ("spectral", options.hidden, options.spectral_steps)
        here = {"train_steps": 1} if spatial in self.known else {}
        here |= {"spectral_steps": 1} if spectral in self.known else {}
        method = PaperArgsDiff(replace(options, **here))
        method.fit(self.scene.model, [self.scene.tile], silent)
        method.options = options
        if method.spatial_network is not None:
            method.spatial_network = self.known.setdefault(spatial, method.spatial_network)
        if method.spectral_network is not None:
            method.spectral_network = self.known.setdefault(spectral, method.spectral_network)
        return method


def ablations() -> Iterator[tuple[str, str, int, PaperOptions]]:
    """Yield the configurations, the most telling first: (table, scene, seed of the starting noise, options)."""
    for scene in ("abu-beach-4", "jasper-ridge", "cave-balloons"):
        for argm in (True, False):
            yield "4: ARGM", scene, 0, replace(SMALL, argm=argm)
        if scene == "abu-beach-4":
            yield from (("8: components", scene, 0, replace(SMALL, update=update)) for update in ("E", "A"))
            yield from (("F5: T", scene, 0, replace(SMALL, sampling_steps=steps)) for steps in (100, 200, 300, 400, 700))
            yield from (("5: rho", scene, 0, replace(SMALL, rho=rho)) for rho in (0.01, 0.02, 0.03, 0.04, 0.06, 0.07))
    scene = "abu-beach-4"
    weights = ((0.1, 0.1), (5.0, 5.0), (0.1, 1.0), (5.0, 1.0), (1.0, 0.1), (1.0, 5.0), (0.5, 0.5), (2.0, 2.0))
    yield from (("9: lambda", scene, 0, replace(SMALL, lambda1=first, lambda2=second)) for first, second in weights)
    yield from (("7: spectral", scene, 0, replace(SMALL, hidden=hidden)) for hidden in ((256, 256), (256, 512, 512, 256)))
    yield from (("F5: d", scene, 0, replace(SMALL, d=d)) for d in (2, 4, 6, 12))
    yield from (("7: spatial", scene, 0, replace(SMALL, multipliers=m)) for m in ((1, 1, 2, 4), (1, 2, 4, 8)))
    for seed in (1, 2):
        yield from (("4: ARGM", scene, seed, replace(SMALL, argm=argm)) for argm in (True, False))


def run_ablations(folder: Path, results: Path) -> None:
    """Run what ``results`` does not hold yet."""
    name, networks = None, None
    for table, scene_name, seed, options in ablations():
        key = {"table": table, "scene": scene_name, "seed": seed, "options": asdict(options)}
        if any(all(line[k] == v for k, v in json.loads(json.dumps(key)).items()) for line in lines(results)):
            continue
        if scene_name != name:
            name, networks = scene_name, Networks(simulated(folder, scene_name, SIDE))
        start = time.process_time()
        method = networks.method(options)
        learnt = time.process_time()
        method.model = replace(method.model, seed=seed)
        scores = networks.scene.score(method.fuse(networks.scene.tile))
        seconds = {"learning": round(learnt - start, 1), "sampling": round(time.process_time() - learnt, 1)}
        parts = {"spatial": method.spatial_network, "spectral": method.spectral_network}
        sizes = {part: sum(p.numel() for p in network.parameters()) for part, network in parts.items() if network is not None}
        append(results, {**key, **scores, "cpu_seconds": seconds, "parameters": sizes})


def run_race(folder: Path, results: Path) -> None:
    """Give the paper's algorithm the CPU time that preset fast takes for a whole scene, on one thread.

    A sixth of the time goes to the spectral network, half to the spatial one, a third to sampling; the steps that fit are counted
    from a probe. The networks are the small ones: one training step of the paper's own takes longer than all the time there is.
    """
    for name in RESPONSES:
        if any(line["scene"] == name for line in lines(results)):
            continue
        scene = simulated(folder, name, RACE_SIDE)
        fast = ArgsDiff(ArgsDiff.presets["fast"])
        start = time.process_time()
        fast.fit(scene.model, [scene.tile], silent)
        scores = {"fast": scene.score(fast.fuse(scene.tile, silent))}
        seconds = {"fast": round(time.process_time() - start, 1)}
        options = within(scene, seconds["fast"])
        paper = PaperArgsDiff(options)
        start = time.process_time()
        paper.fit(scene.model, [scene.tile], silent)
        scores["paper"] = scene.score(paper.fuse(scene.tile))
        seconds["paper"] = round(time.process_time() - start, 1)
        steps = {key: getattr(options, key) for key in ("spectral_steps", "train_steps", "sampling_steps")}
        append(results, {"scene": name, "cpu_seconds": seconds, "steps": steps, **scores})


def within(scene: Scene, seconds: float) -> PaperOptions:
    """Return the small setting with as many steps as fit into so many seconds of CPU time."""
    stamps: dict[str, list[float]] = {}

    def stamp(stage: str, done: int, total: int) -> None:
        stamps.setdefault(stage, []).append(time.process_time())

    probe = PaperArgsDiff(replace(SMALL, spectral_steps=40, train_steps=6, sampling_steps=6))
    probe.fit(scene.model, [scene.tile], stamp)
    probe.fuse(scene.tile, stamp)
    spectral, spatial, sampling = ((times[-1] - times[0]) / (len(times) - 1) for times in stamps.values())
    counts = {
        "spectral_steps": seconds / 6 / spectral,
        "train_steps": seconds / 2 / spatial,
        "sampling_steps": seconds / 3 / sampling,
    }
    return replace(SMALL, **{name: max(1, min(round(count), 1000)) for name, count in counts.items()})


def lines(results: Path) -> list[dict[str, Any]]:
    """Return the results that a file holds; none if there is no such file."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


PAPER = {  # PSNR in the paper, on Pavia unless a scene is named, by table and by what is changed there
    ("4: ARGM", "abu-beach-4"): {"argm=True": 42.33, "argm=False": 41.86},
    ("8: components", "abu-beach-4"): {"update=E": 21.77, "update=A": 40.53},
    ("5: rho", "abu-beach-4"): dict(
        zip((f"rho=0.0{k}" for k in (1, 2, 3, 4, 6, 7)), (33.70, 40.69, 41.71, 41.93, 42.11, 41.94), strict=True)
    ),
    ("9: lambda", "abu-beach-4"): {
        "lambda1=0.1, lambda2=0.1": 42.08,
        "lambda1=5.0, lambda2=5.0": 40.00,
        "lambda1=0.1, lambda2=1.0": 42.26,
        "lambda1=5.0, lambda2=1.0": 41.59,
        "lambda1=1.0, lambda2=0.1": 42.33,
        "lambda1=1.0, lambda2=5.0": 41.41,
        "lambda1=0.5, lambda2=0.5": 42.31,
        "lambda1=2.0, lambda2=2.0": 42.33,
    },
    ("7: spatial", "abu-beach-4"): {"multipliers=(1, 1, 2, 4)": 41.55, "multipliers=(1, 2, 4, 8)": 42.40},
    ("7: spectral", "abu-beach-4"): {"hidden=(256, 256)": 41.64, "hidden=(256, 512, 512, 256)": 42.36},
}


def print_tables(results: Path) -> None:
    """Print a Markdown table for each of the paper's; rows are compared with the unchanged setting on the same scene and noise."""
    known = lines(results)
    base = {(line["scene"], line["seed"]): line["psnr"] for line in known if line["table"] == "4: ARGM" and line["options"]["argm"]}
    for table in dict.fromkeys(line["table"] for line in known):
        print(f"\n### {table}\n")
        print("| scene, noise | changed | paper: PSNR | ours: PSNR / SAM / ERGAS / SSIM | against unchanged | CPU s |")
        print("|---|---|---|---|---|---|")
        for line in (line for line in known if line["table"] == table):
            change = changed(line["options"])
            paper = PAPER.get((table, line["scene"]), {}).get(change, "")
            ours = " / ".join(f"{line[name]:.{digits}f}" for name, digits in (("psnr", 2), ("sam", 2), ("ergas", 2), ("ssim", 3)))
            gain = line["psnr"] - base.get((line["scene"], line["seed"]), float("nan"))
            seconds = "{learning:.0f} + {sampling:.0f}".format(**line["cpu_seconds"])
            print(f"| {line['scene']}, {line['seed']} | {change} | {paper} | {ours} | {gain:+.2f} | {seconds} |")


def changed(options: dict[str, Any]) -> str:
    """Name what differs from the small setting; that setting itself by its ARGM."""
    usual = json.loads(json.dumps(asdict(SMALL)))
    found = {name: value for name, value in options.items() if value != usual[name]} or {"argm": True}
    return ", ".join(f"{name}={tuple(value) if isinstance(value, list) else value}" for name, value in found.items())


def append(results: Path, line: dict[str, Any]) -> None:
    """Add one result to a file and print it."""
    with results.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["ablations", "race", "tables"])
    parser.add_argument("scenes", type=Path)
    parser.add_argument("results", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "tables":
        print_tables(arguments.results)
    else:
        (run_ablations if arguments.what == "ablations" else run_race)(arguments.scenes, arguments.results)
