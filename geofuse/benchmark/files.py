"""The files that a benchmark leaves for people and programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

from geofuse.benchmark.results import BenchmarkResult
from geofuse.benchmark.tables import markdown
from geofuse.errors import OutputError


def write_results(result: BenchmarkResult, folder: Path) -> None:
    """Write ``results.csv``, ``results.json`` and ``results.md`` into ``folder``, each whole or not at all.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    texts = {"csv": result.to_csv(), "json": json.dumps(result.to_json(), indent=1) + "\n", "md": markdown(result)}
    for suffix, text in texts.items():
        path = folder / f"results.{suffix}"
        part = folder / f".{path.name}.{os.getpid()}.part"
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OutputError(f"cannot write {path}: {error.strerror}; free space, or choose another folder with -o") from None
