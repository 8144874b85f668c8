"""The rows of a benchmark, their means and spreads."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

from geofuse import __version__
from geofuse.evaluate import json_number

Row = Mapping[str, Any]
_ABOUT = ("scene", "kind", "ratio", "snr_db", "seed", "label", "method", "preset", "device", "status", "error")
_COST = ("peak_memory_bytes", "peak_device_memory_bytes", "parameters")


@dataclass(frozen=True)
class Summary:
    """One method on one scene at one noise level, over its seeds.

    Attributes
    ----------
    rows
        The rows it sums up, failed ones included.
    mean, spread
        Mean and sample standard deviation over the runs that came to their end, by score; and by stage as ``seconds_learning`` and
        so on. The spread is NaN for a single run.
    cost
        ``peak_memory_bytes``, ``peak_device_memory_bytes`` (0 without a GPU) and ``parameters``: the largest of any run; 0 where
        none came to its end.
    """

    rows: tuple[Row, ...]
    mean: dict[str, float]
    spread: dict[str, float]
    cost: dict[str, int]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Summary:
        """Sum up rows of one method."""
        done = [row for row in rows if row["status"] == "done"]
        runs = [{**_floats(row["scores"]), **{f"seconds_{k}": v for k, v in row["seconds"].items()}} for row in done]
        values = {name: [run[name] for run in runs] for name in (runs[0] if runs else ())}
        return cls(
            rows=tuple(rows),
            mean={name: fmean(numbers) for name, numbers in values.items()},
            spread={name: _spread(numbers) for name, numbers in values.items()},
            cost={name: max((row[name] for row in done), default=0) for name in _COST},
        )

    @property
    def failures(self) -> list[str]:
        """Why runs failed, each reason once."""
        return list(dict.fromkeys(row["error"] for row in self.rows if row["status"] == "failed"))


@dataclass(frozen=True)
class BenchmarkResult:
    """All rows of a plan, in its order; a row is what ``results.jsonl`` holds (``docs/benchmark.schema.json``)."""

    rows: tuple[Row, ...]

    @property
    def failed(self) -> list[Row]:
        """The rows of the runs that failed."""
        return [row for row in self.rows if row["status"] == "failed"]

    @cached_property
    def groups(self) -> dict[tuple[str, str, float | None], dict[str, Summary]]:
        """Return by (kind, scene, SNR in dB) the methods by label; in the plan's order."""
        gathered: dict[tuple[str, str, float | None], dict[str, list[Row]]] = {}
        for row in self.rows:
            group = gathered.setdefault((row["kind"], row["scene"], row["snr_db"]), {})
            group.setdefault(row["label"], []).append(row)
        return {key: {label: Summary.of(rows) for label, rows in group.items()} for key, group in gathered.items()}

    def to_json(self) -> dict[str, Any]:
        """Return runs and summary as what ``json.dumps`` takes; scores of single bands are left out."""
        summary = [
            {
                **dict(zip(("kind", "scene", "snr_db"), key, strict=True)),
                "label": label,
                "runs": len(found.rows),
                "failed": sum(row["status"] == "failed" for row in found.rows),
                "mean": {name: json_number(value) for name, value in found.mean.items()},
                "spread": {name: json_number(value) for name, value in found.spread.items()},
                **found.cost,
            }
            for key, group in self.groups.items()
            for label, found in group.items()
        ]
        runs = [{name: value for name, value in row.items() if name != "bands"} for row in self.rows]
        return {"version": __version__, "runs": runs, "summary": summary}

    def to_csv(self) -> str:
        """Return one line a run: what was run, its scores, seconds a stage, memory and parameters."""
        done = [row for row in self.rows if row["status"] == "done"]
        scores = list(dict.fromkeys(name for row in done for name in row["scores"]))
        stages = list(dict.fromkeys(name for row in done for name in row["seconds"]))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*_ABOUT, *scores, *(f"seconds_{stage}" for stage in stages), *_COST])
        for row in self.rows:
            cells = [row.get(name) for name in _ABOUT]
            cells += [row.get("scores", {}).get(name) for name in scores]
            cells += [row.get("seconds", {}).get(name) for name in stages]
            writer.writerow([*cells, *(row.get(name) for name in _COST)])
        return text.getvalue()


def _floats(scores: Mapping[str, float | str | None]) -> dict[str, float]:
    """Undo :func:`geofuse.evaluate.json_number`."""
    return {name: math.nan if value is None else float(value) for name, value in scores.items()}


def _spread(values: Sequence[float]) -> float:
    """Return the sample standard deviation; NaN for a single value, and where one is infinite."""
    return stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan
