"""The results as tables, for the terminal (80 columns) and for a page (Markdown)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from textwrap import wrap

from geofuse.benchmark.results import BenchmarkResult, Row, Summary

WIDTH = 80


@dataclass(frozen=True)
class _Column:
    title: str
    width: int
    cell: Callable[[Summary], str]


def _score(title: str, name: str, digits: int, width: int = 10) -> _Column:
    """Make the column of a score: its mean and, where the width allows and there are several runs, its spread."""

    def cell(found: Summary) -> str:
        mean, spread = found.mean.get(name, math.nan), found.spread.get(name, math.nan)
        if math.isnan(mean):
            return "-"
        text = f"{mean:.{digits}f}"
        return text if math.isnan(spread) or width < 10 else f"{text}±{spread:.{digits}f}"

    return _Column(title, width, cell)


def _seconds(stage: str, title: str) -> _Column:
    return _Column(title, 5, lambda found: short(found.mean.get(f"seconds_{stage}", math.nan)))


_COSTS = (
    _seconds("learning", "learn"),
    _seconds("fusing", "fuse"),
    _Column("GiB", 4, lambda found: short(found.cost["peak_memory_bytes"] / 2**30, 2)),
    _Column("param", 5, lambda found: count(found.cost["parameters"])),
)
_COLUMNS = {
    "simulated": (
        _score("PSNR dB", "psnr", 2),
        _score("SAM deg", "sam", 2),
        _score("ERGAS", "ergas", 2),
        _score("SSIM", "ssim", 4, 6),
        *_COSTS,
    ),
    "pair": (
        _score("QNR", "qnr", 3, 11),
        _score("HQNR", "hqnr", 3, 11),
        _score("HSI dB", "hsi_db", 1, 6),
        _score("MSI dB", "msi_db", 1, 6),
        *_COSTS,
    ),
}
_GPU = _Column("GPU GiB", 4, lambda found: short(found.cost["peak_device_memory_bytes"] / 2**30, 2))
_MORE = {
    "simulated": (_score("Q2n", "q2n", 4), _score("SCC", "scc", 4), _score("QNR", "qnr", 3), _score("HQNR", "hqnr", 3)),
    "pair": (_score("D_lambda", "d_lambda", 3), _score("D_s", "d_s", 3), _score("D_lambda_K", "d_lambda_k", 3)),
}


def short(value: float, digits: int = 1) -> str:
    """Write a number in few characters: ``0.51``, ``12.3``, ``1234``; ``-`` for NaN."""
    if math.isnan(value):
        return "-"
    return f"{value:.{digits}f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def count(number: int) -> str:
    """Write a count in five characters at most: ``0``, ``900``, ``12.3k``, ``1.23M``."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            value = number / size
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}{unit}"
    return str(number)


def text(result: BenchmarkResult) -> str:
    """Write all tables for the terminal, within 80 columns but for the reasons of failures, which are whole."""
    lines: list[str] = []
    for key, group in [*result.groups.items(), *_overall(result)]:
        width = min(max(map(len, ["method", *group])), 17)
        columns = _COLUMNS[key[0]]
        lines += [*([""] if lines else []), *wrap(_title(key, group), WIDTH, subsequent_indent="  ")]
        lines.append(" ".join(["method".ljust(width), *(c.title.rjust(c.width) for c in columns)]))
        for label, found in group.items():
            if found.mean:
                lines.append(" ".join([label[:width].ljust(width), *(c.cell(found).rjust(c.width) for c in columns)]))
            lines += [f"{label} failed: {reason}" for reason in found.failures]
    return "\n".join(lines)


def markdown(result: BenchmarkResult) -> str:
    """Write all tables in Markdown, with more scores than the terminal has room for."""
    parts = []
    for key, group in [*result.groups.items(), *_overall(result)]:
        columns = (*_COLUMNS[key[0]][: -len(_COSTS)], *_MORE[key[0]], *_COSTS)
        if any(found.cost["peak_device_memory_bytes"] for found in group.values()):
            columns = (*columns, _GPU)
        rows = [["method", *(c.title for c in columns)], ["---", *("---:" for _ in columns)]]
        rows += [[label, *(c.cell(found) for c in columns)] for label, found in group.items() if found.mean]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        failures = [f"- {label} failed: {reason}" for label, found in group.items() for reason in found.failures]
        parts.append("\n\n".join([f"### {_title(key, group)}", table, *(["\n".join(failures)] if failures else [])]))
    return "\n\n".join(parts) + "\n"


def _title(key: tuple[str, str, float | None], group: dict[str, Summary]) -> str:
    """Say on what the methods of a group were run."""
    kind, scene, snr_db = key
    rows = [row for found in group.values() for row in found.rows]
    words = [f"{scene}:"]
    done = next((row for row in rows if row["status"] == "done"), None)
    if done and "shape" in done:
        bands, height, width = done["shape"]
        words.append(f"{bands} x {height} x {width}, ratio {done['ratio']}, {done['srf']},")
    if kind == "simulated":
        words.append("no noise," if snr_db is None else f"{snr_db:g} dB,")
    seeds = len({row["seed"] for row in rows})
    return " ".join([*words, f"{seeds} seed{'' if seeds == 1 else 's'}"])


def _overall(result: BenchmarkResult) -> list[tuple[tuple[str, str, float | None], dict[str, Summary]]]:
    """Return one more group for each kind and noise level with several scenes: the means of the scenes' means.

    Methods that failed anywhere are left out of it.
    """
    out = []
    for kind, snr_db in dict.fromkeys((kind, snr_db) for kind, _, snr_db in result.groups):
        groups = [group for key, group in result.groups.items() if (key[0], key[2]) == (kind, snr_db)]
        labels = [label for label in groups[0] if all(not group[label].failures for group in groups)]
        if len(groups) > 1 and labels:
            mean = {label: _mean_of([group[label] for group in groups]) for label in labels}
            out.append(((kind, f"mean of {len(groups)} {'scenes' if kind == 'simulated' else 'pairs'}", snr_db), mean))
    return out


def _mean_of(found: Sequence[Summary]) -> Summary:
    """Average summaries of several scenes; the spread among scenes says nothing of a method and is left out."""
    names = [name for name in found[0].mean if all(name in one.mean for one in found)]
    rows: tuple[Row, ...] = tuple({**row, "status": "summed"} for one in found for row in one.rows)
    return Summary(
        rows=rows,
        mean={name: fmean(one.mean[name] for one in found) for name in names},
        spread={},
        cost={name: max(one.cost[name] for one in found) for name in found[0].cost},
    )
