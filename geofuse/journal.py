"""A file of finished work, one JSON object a line, from which a benchmark or a fusion that was stopped continues."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geofuse.errors import OutputError


class Journal:
    """Rows by key; each is on disk before :meth:`add` returns. A line that was cut off by a crash counts as never written."""

    def __init__(self, path: Path) -> None:
        """Read what is there.

        Raises
        ------
        OutputError
            If the file cannot be read.
        """
        self.path = path
        self._rows: dict[str, dict[str, Any]] = {}
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
        except OSError as error:
            raise OutputError(f"cannot read {path}: {error.strerror}; choose another folder with -o") from None
        for line in text.splitlines():
            try:
                row = json.loads(line)
                self._rows[row["key"]] = row
            except (ValueError, TypeError, KeyError):
                continue
        self._begin = "" if not text or text.endswith("\n") else "\n"

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the row of finished work; None where there is none or it failed, so that it is tried again."""
        row = self._rows.get(key)
        return row if row and row["status"] == "done" else None

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        try:
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(self._begin + json.dumps(row, allow_nan=False) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; free space, or choose another folder with -o") from None
        self._begin = ""
        self._rows[row["key"]] = dict(row)
