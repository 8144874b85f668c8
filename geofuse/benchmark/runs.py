"""Run a benchmark: each pair made once, each method on it in a fresh process, each result written down at once."""

from __future__ import annotations

import json
import logging
import math
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from geofuse import __version__
from geofuse.benchmark.files import write_results
from geofuse.benchmark.plan import BenchmarkPlan, Case, Job, PairSource, SceneSource
from geofuse.benchmark.results import BenchmarkResult
from geofuse.errors import OutputError
from geofuse.journal import Journal
from geofuse.methods.base import Report, silent
from geofuse.registry import simplify
from geofuse.simulate import load_bands

_LOG = logging.getLogger(__name__)
_COMMAND = [sys.executable, "-m", "geofuse.benchmark.worker"]


class _JobFailed(Exception):
    """A process did not come to its end; the message says why in one line."""


def run_benchmark(plan: BenchmarkPlan, folder: str | Path, report: Report = silent, *, pages: bool = False) -> BenchmarkResult:
    """Run what of the plan is not yet among the results in ``folder``, and return all rows of the plan.

    ``folder`` is made if it is absent (its parent must exist). ``results.jsonl`` in it holds every finished run under a hash of
    the input files and all settings; runs found there are not run again, failed ones are. ``results.csv``, ``results.json`` and
    ``results.md`` are written at the end. With ``pages``, the first seed of each method on each scene gets a page in ``pages/``
    (:func:`geofuse.report.write_report`), and is run again where only its page is missing.

    Raises
    ------
    GeofuseError
        If a response or the folder cannot be used. A run that fails raises nothing: its row says why.
    """
    for source in plan.sources:
        if source.srf is not None and not (isinstance(source, PairSource) and simplify(source.srf) == "estimate"):
            load_bands(source.srf, plan.msi_bands if isinstance(source, SceneSource) else None)
    folder = Path(folder)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot use {folder} as a folder: {error.strerror}; choose another with -o") from None
    journal = Journal(folder / "results.jsonl")
    cases = [(case, plan.jobs(case)) for case in plan.cases()]
    total, rows = sum(len(jobs) for _, jobs in cases), []
    for case, jobs in cases:
        with tempfile.TemporaryDirectory(prefix=".inputs-", dir=folder) as inputs:
            page_of = {job.key: _page(folder, job) if pages and case.seed == 0 else None for job in jobs}
            found = {key: None if page and not page.exists() else journal.get(key) for key, page in page_of.items()}
            ready = None if all(found.values()) else _Inputs(plan, case, Path(inputs), report)
            for job in jobs:
                row = found[job.key]
                if row is None:
                    row = _run(job, ready, page_of[job.key], report)
                    journal.add(row)
                # What is stored under the key is the run; what the user calls it may have changed.
                rows.append({**row, "scene": case.name, "label": job.method.label})
                report("runs", len(rows), total)
    result = BenchmarkResult(tuple(rows))
    write_results(result, folder)
    return result


class _Inputs:
    """The files of one case: a real pair, or a simulated one, made in ``folder``."""

    def __init__(self, plan: BenchmarkPlan, case: Case, folder: Path, report: Report) -> None:
        self.error, source = "", case.source
        self.shared: dict[str, Any] = {"msi_bands": list(plan.msi_bands) if plan.msi_bands else None, "srf": source.srf}
        self.shared |= {"seed": case.seed, "device": plan.device, "pair": {}}
        if isinstance(source, PairSource):
            self.shared |= {"hsi": str(source.hsi), "msi": str(source.msi), "reference": None, "pair": plan.pair_options}
            return
        self.shared |= {name: str(folder / f"{name}.tif") for name in ("hsi", "msi", "reference")}
        noise = None if case.snr_db == math.inf else case.snr_db
        made = {"scene": str(source.path), "folder": str(folder), "ratio": plan.ratio, "psf": plan.psf, "snr_db": noise}
        try:
            _process({**self.shared, **made, "kind": "simulate"}, report)
        except _JobFailed as failure:
            self.error = f"no pair: {failure}"
        self.shared["msi_bands"] = None  # the simulated MSI holds these alone, by name


def _page(folder: Path, job: Job) -> Path:
    """Return where the page of a run stands; its folder is made."""
    case = job.case
    noise = "" if case.snr_db is None else f"-{case.snr_db:g}dB"
    name = re.sub(r"[^\w.+-]+", "_", f"{case.name}{noise}-{job.method.label}")
    (folder / "pages").mkdir(exist_ok=True)
    return (folder / "pages" / f"{name}.html").absolute()


def _run(job: Job, inputs: _Inputs, page: Path | None, report: Report) -> dict[str, Any]:
    """Run one method on one case; returns its row of results."""
    case = job.case
    row: dict[str, Any] = {
        "key": job.key,
        "version": __version__,
        "kind": "simulated" if isinstance(case.source, SceneSource) else "pair",
        "scene": case.name,
        "snr_db": None if case.snr_db == math.inf else case.snr_db,
        "seed": case.seed,
        "method": job.method.name,
        "label": job.method.label,
    }
    _LOG.info("%s, %s, seed %d: %s", case.name, "pair" if case.snr_db is None else f"{case.snr_db:g} dB", case.seed, row["label"])
    try:
        if inputs.error:
            raise _JobFailed(inputs.error)
        fuse = {**inputs.shared, "kind": "fuse", "method": job.method.name, "preset": job.method.preset}
        fuse["page"] = str(page) if page else None
        return {**row, "status": "done", "error": None, **_process(fuse, report)}
    except _JobFailed as failure:
        _LOG.warning("%s on %s, seed %d failed: %s", row["label"], case.name, case.seed, failure)
        return {**row, "status": "failed", "error": str(failure)}


def _process(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Do a job in a fresh process (:mod:`geofuse.benchmark.worker`) and return its result.

    Raises
    ------
    _JobFailed
        If it says so, or ends without an answer.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True)
        try:
            return _converse(process, job, report)
        except EOFError:
            complaints.seek(0)
            raise _JobFailed(_cause(process.wait(), complaints.read())) from None
        finally:
            process.kill()
            process.wait()


def _converse(process: subprocess.Popen[str], job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Hand a process its job, pass its progress on, and return its result; EOFError if it ends without one."""
    stdin, stdout = process.stdin, process.stdout
    try:
        json.dump(job, stdin)
        stdin.close()
    except BrokenPipeError:
        raise EOFError from None
    result, error = None, ""
    for line in stdout:
        answer = json.loads(line)
        if "stage" in answer:
            report(answer["stage"], answer["done"], answer["total"])
        result, error = answer.get("result", result), answer.get("error", error)
    code = process.wait()
    if result is None:
        raise _JobFailed(error) if error else EOFError
    if error or code:
        _LOG.warning("the run is done, but its page could not be written: %s", error or f"exit code {code}")
    return result


def _cause(code: int, complaints: str) -> str:
    """Say in one line why a process ended without an answer."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}" + (", probably out of memory" if name == "SIGKILL" else "")
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    return f"exit code {code}: {lines[-1]}" if lines else f"exit code {code} without a word"
