"""The tables that ``geofuse batch`` prints, within 80 columns."""

from __future__ import annotations

import textwrap

from geofuse.batch.plan import BatchPlan
from geofuse.batch.summary import BatchSummary, SceneResult

WIDTH = 80
_NAME = 40


def summary_text(summary: BatchSummary) -> str:
    """Write what became of each scene: one line each, and under it why one failed or was done again."""
    lines = [f"{'scene':<{_NAME}}  {'result':<11} {'time':>11} {'memory':>12}"]
    for scene in summary.scenes:
        lines.append(_line(scene))
        for text in (scene.cause, scene.note and f"run again: {scene.note}"):
            lines += _wrapped(text, "    ") if text else []
        if scene.state == "failed":
            lines += _wrapped(f"log: {scene.log}", "    ")
    lines += ["", *_wrapped(_total(summary), ""), *_wrapped(f"summary: {summary.path}", "")]
    return "\n".join(lines)


def plan_text(plan: BatchPlan) -> str:
    """Write what would be run: each scene with its files and options, then the notes."""
    lines = []
    for scene in plan.scenes:
        given = {name: value for name, value in scene.given.items() if name not in ("hsi", "msi")}
        lines.append(shortened(scene.name, WIDTH))
        lines += _wrapped(f"hsi {scene.given['hsi']}", "    ")
        lines += _wrapped(f"msi {scene.given['msi']}", "    ")
        lines += _wrapped(", ".join(f"{name} {value}" for name, value in given.items()), "    ") if given else []
        lines += _wrapped(f"waits for {scene.needs}", "    ") if scene.needs else []
    n = len(plan.scenes)
    lines += ["", *_notes(plan.notes), *_wrapped(f"{n} scene{'s' * (n != 1)}, results in {plan.roots.out}", "")]
    return "\n".join(lines)


def notes_text(notes: tuple[str, ...]) -> str:
    """Write the notes of a plan."""
    return "\n".join(_notes(notes))


def _notes(notes: tuple[str, ...]) -> list[str]:
    return [line for note in notes for line in _wrapped(f"note: {note}", "")]


def _line(scene: SceneResult) -> str:
    time = "" if scene.seconds is None else duration(scene.seconds)
    peak = (scene.run or {}).get("peak_memory_bytes")
    memory = "" if peak is None else f"{peak / 2**30:.2f} GiB"
    return f"{shortened(scene.name, _NAME):<{_NAME}}  {scene.state:<11} {time:>11} {memory:>12}".rstrip()


def _total(summary: BatchSummary) -> str:
    counts = [(state, summary.count(state)) for state in ("done", "kept", "failed", "interrupted", "waiting")]
    told = ", ".join(f"{count} {state}" for state, count in counts if count)
    n = len(summary.scenes)
    return f"{n} scene{'s' * (n != 1)}: {told}; took {duration(summary.seconds)}"


def duration(seconds: float) -> str:
    """Write a duration for people: ``"8.2 s"``, ``"2 min 05 s"``, ``"3 h 20 min"``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def shortened(text: str, width: int) -> str:
    """Shorten a name in its middle, so that both ends can be told; what is no printable character becomes ``?``."""
    text = "".join(character if character.isprintable() else "?" for character in text)
    if len(text) <= width:
        return text
    head = (width - 3) // 2
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def _wrapped(text: str, indent: str) -> list[str]:
    clean = shortened(text, 10**6)
    return textwrap.wrap(clean, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False) or [indent]
