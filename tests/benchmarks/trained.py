"""The tables of docs/benchmark.md, "Trained methods": trained networks beside classical methods on scenes they have not seen.

    python tests/benchmarks/trained.py --methods bicubic,gsa,glp,ssdiff=ssdiff.safetensors --pair ms.tif pan.tif --pair ...
    python tests/benchmarks/trained.py --methods bicubic,gsa,ddpmfus=w.safetensors+sampling_steps=5 --scene feathers.tif --srf rgb

A method is NAME, NAME=WEIGHTS and options of the method after each ``+``. A ``--pair`` is scored at reduced resolution, both images
degraded by its ratio, and as it is by the scores that need no reference. A ``--scene`` is the reference of a pair made by Wald's
protocol: ratio 4, antialiased bicubic, noise of 35 dB, seed 0. Prints a Markdown table of means over what is given.

    python tests/benchmarks/trained.py --degradation 400 [--estimate] --scene jasper-ridge.tif --srf landsat8 --psf gaussian:1.3
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from geofuse.align import make_pair
from geofuse.degradation import SpatialOperator
from geofuse.evaluate import evaluate_against_pair, evaluate_scenes
from geofuse.fusion import Fusion, FusionSettings
from geofuse.io import open_scene
from geofuse.lazy import fuse_lazily
from geofuse.methods.mossfuse_network import Degradation
from geofuse.pipeline import open_pair
from geofuse.scene import band_metadata, make_scene
from geofuse.sensors import Psf
from geofuse.simulate import coarsen, load_bands, prepare_reference, simulate_pair
from geofuse.training import Scales

RATIO, SNR_DB = 4, 35.0
REDUCED = {"psnr": 2, "sam": 3, "ergas": 3, "q2n": 4, "scc": 4}
FULL = {"d_lambda_k": 4, "d_s": 4, "hqnr": 4}


def fuse(pair: xr.Dataset, method: str) -> xr.DataArray:
    """Fuse a pair by a method as written on the command line; says what MossFuse found of the degradation if it was to."""
    named, *options = method.split("+")
    name, _, weights = named.partition("=")
    told = {key: number(value) for key, value in (option.split("=") for option in options)}
    fusion = Fusion(pair, FusionSettings(name, options=told, weights=weights or None))
    fused = fuse_lazily(fusion).compute(scheduler="synchronous")
    if told.get("blind"):
        say_degradation(fusion.method.network.degradation, pair["true_response"].values)
    return fused


def say_degradation(found: Degradation, truth: np.ndarray) -> None:
    """Print the FWHM of a PSF that was found along its axes, and how far each row of the SRF is from the true one."""
    rows = found.response().detach().numpy()
    cosines = (rows * truth).sum(axis=1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(truth, axis=1)
    widths = 2.3548 * found.log_widths.detach().exp().numpy()
    print(f"PSF: FWHM {widths.round(2)} fine pixels; SRF: angles {np.degrees(np.arccos(cosines)).round(1)} degrees", flush=True)


def find_degradation(pair: xr.Dataset, truth: np.ndarray, steps: int, known: bool) -> None:
    """Find PSF and SRF of a whole pair by MossFuse's loss (12) alone, from nothing or from the pair's own; print them."""
    hsi, msi = pair["hsi"].values, pair["msi"].values
    scales = Scales.of([hsi], [msi])
    found = Degradation(len(hsi), len(msi), msi.shape[1] // hsi.shape[1])
    hsi, msi = (torch.from_numpy(a / b)[None].float() for a, b in ((hsi, scales.hsi), (msi, scales.msi)))
    if known:
        found.start_from(torch.from_numpy(pair["response"].values * scales.hsi / scales.msi), Psf.from_tag(pair.attrs["psf"]))
        say_degradation(found, truth)
    optimiser = torch.optim.Adam(found.parameters(), betas=(0.9, 0.99))
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = (3e-4 if known else 3e-3) * 0.5 * (1.0 + math.cos(math.pi * step / steps)) + 1e-7
        loss = (found.blur(msi) - found.respond(hsi))[..., 2:-2, 2:-2].abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    say_degradation(found, truth)


def number(text: str) -> int | float | str | bool:
    """Read an option's value."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False}.get(text, text)


def at_reduced_resolution(ms: Path, pan: Path) -> tuple[xr.Dataset, xr.DataArray]:
    """Degrade both images of a pair by its ratio; the coarse one as it was is the reference."""
    ratio, psf = (open_pair(ms, pan, srf=None).attrs[name] for name in ("ratio", "psf"))
    reference = open_scene(ms)
    side = [size // ratio * ratio for size in reference.shape[1:]]
    reference = reference.isel(y=slice(side[0]), x=slice(side[1]))
    fine = open_scene(pan).isel(y=slice(side[0] * ratio), x=slice(side[1] * ratio))
    made = []
    for scene in (reference, fine):
        operator = SpatialOperator(Psf.from_tag(psf), ratio, *scene.shape[1:])
        at = scene.rio.transform() * type(scene.rio.transform()).scale(ratio)
        made.append(make_scene(coarsen(scene.values, operator), band_metadata(scene), at, scene.rio.crs))
    return make_pair(*made, srf=None, psf=Psf.from_tag(psf)), reference


def by_walds_protocol(scene: Path, srf: str, psf: Psf, estimate: bool = False) -> tuple[xr.Dataset, xr.DataArray]:
    """Simulate a pair from a reference; ``estimate`` has the pair find response and PSF out by itself."""
    reference, _ = prepare_reference(open_scene(scene), 16)
    response = load_bands(srf, None)
    made = simulate_pair(reference, ratio=RATIO, response=response, psf=psf, snr_db=SNR_DB, seed=0)
    pair = make_pair(made.hsi, made.msi, srf=response, psf=psf)
    truth = pair["response"].values
    if estimate:
        limits = "rgb" if srf == "rgb" else None
        pair = make_pair(made.hsi, made.msi, srf="estimate", psf="estimate", srf_bands=limits)
    return pair.assign(true_response=(("band_msi", "band"), truth)), made.reference


def main() -> None:
    """Score every method on everything given and print the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods")
    parser.add_argument("--degradation", type=int, metavar="STEPS", help="only find PSF and SRF of each scene's pair")
    parser.add_argument("--pair", nargs=2, type=Path, action="append", default=[], metavar=("MS", "PAN"))
    parser.add_argument("--scene", type=Path, action="append", default=[])
    parser.add_argument("--srf")
    parser.add_argument("--estimate", action="store_true", help="response and PSF of scenes are estimated from their pairs")
    parser.add_argument("--psf", default="bicubic", help="blur of Wald's protocol")
    parser.add_argument("--reduced-only", action="store_true", help="leave out the scores at full resolution")
    told = parser.parse_args()
    jobs = [at_reduced_resolution(*pair) for pair in told.pair]
    jobs += [by_walds_protocol(scene, told.srf, Psf.parse(told.psf), told.estimate) for scene in told.scene]
    if told.degradation:
        for pair, _ in jobs:
            find_degradation(pair, pair["true_response"].values, told.degradation, told.estimate)
        return
    whole = [] if told.reduced_only else [open_pair(*pair, srf=None) for pair in told.pair]
    titles = [*REDUCED, *(FULL if whole else ())]
    print("| method | " + " | ".join(titles) + " |\n|---" + "|---" * len(titles) + "|", flush=True)
    for method in told.methods.split(","):
        rows = [evaluate_scenes(fuse(pair, method), reference, pair.attrs["ratio"]).scores for pair, reference in jobs]
        means = [f"{np.mean([row[name] for row in rows]):.{digits}f}" for name, digits in REDUCED.items()]
        rows = [evaluate_against_pair(fuse(pair, method), pair).scores for pair in whole]
        means += [f"{np.mean([row[name] for row in rows]):.{digits}f}" for name, digits in FULL.items()] if whole else []
        print(f"| {method} | " + " | ".join(means) + " |", flush=True)


if __name__ == "__main__":
    main()
