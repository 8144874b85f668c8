"""What a training writes for people: ``metrics.csv``, a line each validation, and a picture of it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path


class History:
    """The losses and validation metrics of a training, kept in a CSV file.

    Parameters
    ----------
    path
        The file: columns ``step``, ``seconds``, ``loss`` and one a metric. Rows beyond ``from_step`` are dropped, so that a
        training that goes on from a checkpoint writes them again.
    from_step
        The step from which the training goes on; 0 begins a new file.
    """

    def __init__(self, path: Path, from_step: int = 0) -> None:
        """Read what is kept of an earlier file."""
        self.path = path
        self.rows: list[dict[str, float]] = []
        if from_step and path.exists():
            with open(path, newline="", encoding="utf-8") as stream:
                rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
            self.rows = [row for row in rows if row["step"] <= from_step]

    def add(self, step: int, seconds: float, loss: float, metrics: Mapping[str, float]) -> None:
        """Add a row and write the file anew."""
        self.rows.append({"step": step, "seconds": round(seconds, 1), "loss": loss, **metrics})
        made = self.path.with_name(f".{self.path.name}.part")
        with open(made, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(self.rows[-1]))
            writer.writeheader()
            for row in self.rows:
                writer.writerow({k: int(v) if k == "step" else f"{v:.6g}" for k, v in row.items()})
        made.replace(self.path)

    @property
    def seconds(self) -> float:
        """Seconds spent up to the last row."""
        return self.rows[-1]["seconds"] if self.rows else 0.0

    def best(self, metric: str) -> float:
        """Return the highest value of a metric so far; minus infinity without rows."""
        return max((row[metric] for row in self.rows), default=-math.inf)

    def rows_since_best(self, metric: str) -> int:
        """Return how many rows came after the one with the highest value of a metric."""
        values = [row[metric] for row in self.rows]
        return len(values) - 1 - values.index(max(values)) if values else 0

    def plot(self, path: Path, metric: str) -> None:
        """Draw loss and metric over the steps into a PNG file."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.0, 3.2), layout="constrained")
        loss, score = figure.subplots(1, 2)
        steps = [row["step"] for row in self.rows]
        loss.plot(steps, [row["loss"] for row in self.rows], color="#2a78d6")
        loss.set(xlabel="step", ylabel="loss", yscale="log" if all(row["loss"] > 0 for row in self.rows) else "linear")
        score.plot(steps, [row[metric] for row in self.rows], color="#d6552a")
        score.set(xlabel="step", ylabel=f"validation {metric}")
        for axes in (loss, score):
            axes.grid(alpha=0.3)
        made = path.with_name(f".{path.name}.part")
        figure.savefig(made, dpi=110, format="png")
        made.replace(path)
