"""The process that makes one pair or fuses one: ``python -m geofuse.benchmark.worker``, a job as JSON on stdin.

Each run has a process of its own, so that its peak memory is its own and its crash is nobody else's. It answers on stdout, one JSON
object a line: ``{"stage", "done", "total"}`` now and then, ``{"result": {...}}`` when it is done or ``{"error": "..."}``. A page
about the result is written after that, so that a failure there cannot lose the result.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import GeofuseError
from geofuse.memory import peak_memory_bytes
from geofuse.methods.base import Report

if TYPE_CHECKING:
    import xarray as xr

    from geofuse.pipeline import Fusion

Answer = Callable[..., None]  # takes the fields of one answer by name
_REPORT_EVERY_S = 0.5


def simulate_inputs(job: dict[str, Any], answer: Answer, report: Report) -> None:
    """Make ``hsi.tif``, ``msi.tif`` and ``reference.tif`` of a scene in ``job["folder"]``; the answer holds the notes."""
    from geofuse.simulate import SimulationOptions, simulate

    options = SimulationOptions(
        srf=job["srf"],
        ratio=job["ratio"],
        psf=job["psf"],
        snr_db=job["snr_db"],
        seed=job["seed"],
        msi_bands=tuple(job["msi_bands"]) if job["msi_bands"] else None,
    )
    answer(result={"notes": list(simulate(job["scene"], job["folder"], options).notes)})


def fuse_and_score(job: dict[str, Any], answer: Answer, report: Report) -> None:
    """Fuse a pair of files and score the result, against ``job["reference"]`` if that is not None.

    The answer is what a row of results says of the run: ``scores``, ``bands``, ``seconds`` (``starting``, that is loading
    libraries, ``reading``, ``learning``, ``fusing``), ``peak_memory_bytes`` and ``peak_device_memory_bytes`` (of a GPU) up to the
    end of the fusion, ``parameters`` of the method's networks, and what was fused.
    """
    from geofuse.evaluate import evaluate_against_pair, evaluate_scenes
    from geofuse.io import open_scene
    from geofuse.methods.device import peak_device_memory_bytes
    from geofuse.pipeline import Fusion, FusionSettings, PairOptions, Stopwatch

    clock = Stopwatch()
    settings = FusionSettings(job["method"], job["preset"], seed=job["seed"], device=_start(job))
    clock.lap("starting")
    pair = PairOptions(job["srf"], job["msi_bands"], **job["pair"]).open(job["hsi"], job["msi"])
    fusion = Fusion(pair, settings)
    clock.lap("reading")
    fusion.fit(report)
    clock.lap("learning")
    fused = _fused_scene(fusion, report)
    clock.lap("fusing")
    memory = {"peak_memory_bytes": peak_memory_bytes(), "peak_device_memory_bytes": peak_device_memory_bytes(fusion.model.device)}
    scores, bands = {}, None
    if job["reference"] is not None:
        against = evaluate_scenes(fused, open_scene(job["reference"]), fusion.grid.ratio)
        scores |= against.scores
        bands = {"wavelength_nm": _numbers(against.wavelength_nm), "psnr": _numbers(against.bands["psnr"])}
    scores |= evaluate_against_pair(fused, pair).scores
    row = {
        "scores": dict(zip(scores, _numbers(scores.values()), strict=True)),
        "bands": bands,
        "seconds": {stage: round(value, 4) for stage, value in clock.seconds.items()},
        **memory,
        "parameters": int(getattr(fusion.method, "parameter_count", 0)),
        "preset": fusion.preset,
        "device": fusion.model.device,
        "shape": list(fused.shape),
        "ratio": fusion.grid.ratio,
        "srf": pair.attrs["srf"],
        "psf": fusion.model.psf.label,
    }
    answer(result=row)
    if job["page"]:
        _write_page(fused, scores, job, report)


def _start(job: dict[str, Any]) -> str:
    """Load the method with its libraries and start the device; returns the device's name."""
    import geofuse.align  # noqa: F401
    from geofuse.methods import METHODS
    from geofuse.methods.device import pick_device

    METHODS.get(job["method"])
    return pick_device(job["device"])


def _fused_scene(fusion: Fusion, report: Report) -> xr.DataArray:
    """Fuse the whole pair into a scene in memory, float32."""
    from affine import Affine

    from geofuse.scene import BandMetadata, make_scene

    pair = fusion.pair
    row0, row1, col0, col1 = pair.attrs["output_window"]
    out = np.empty((pair.sizes["band"], row1 - row0, col1 - col0), np.float32)
    for row, values in fusion.rows(report):
        out[:, row : row + values.shape[1]] = values
    names = tuple(str(name) for name in pair["band_name"].values)
    bands = BandMetadata(pair["wavelength"].values, pair["fwhm"].values, pair["good_band"].values, names)
    return make_scene(out, bands, Affine(*pair.attrs["output_transform"]), pair.rio.crs)


def _write_page(fused: xr.DataArray, scores: dict[str, float], job: dict[str, Any], report: Report) -> None:
    """Write the page that shows the result beside its inputs."""
    from geofuse.report import write_report

    write_report(fused, job["page"], job["reference"], job["hsi"], job["msi"], scores, report=report)


def _numbers(values: Any) -> list[float | str | None]:
    """Return floats as JSON can hold them."""
    from geofuse.evaluate import json_number

    return [json_number(float(value)) for value in values]


KINDS: dict[str, Callable[[dict[str, Any], Answer, Report], None]] = {"simulate": simulate_inputs, "fuse": fuse_and_score}


def main() -> None:
    """Do the job on stdin; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job = json.load(sys.stdin)
    last: dict[str, float] = {}

    def answer(**fields: Any) -> None:
        print(json.dumps(fields, allow_nan=False), file=answers, flush=True)

    def report(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - last.get(stage, -_REPORT_EVERY_S) >= _REPORT_EVERY_S:
            last[stage] = now
            answer(stage=stage, done=done, total=total)

    try:
        KINDS[job["kind"]](job, answer, report)
    except GeofuseError as error:
        answer(error=" ".join(str(error).split()))
    except MemoryError:
        answer(error="out of memory")


if __name__ == "__main__":
    main()
