"""The manifest: a table or a YAML file that lists scenes, read into rows of plain text and expanded where it has a ``*``.

Every value stays the text that the user wrote, so that ``coregister: off``, ``seed: 007`` and ``scale: 1e-4`` mean what they say;
the options of ``geofuse run`` make of it what they make of the same text on the command line.
"""

from __future__ import annotations

import csv
import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geofuse.errors import InputError, MissingFileError

MAX_BYTES = 16 * 2**20
_YAML_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Row:
    """One scene of a manifest: ``place`` says where it stands (``line 3``), ``values`` holds what is given, name to text."""

    place: str
    values: Mapping[str, str]


def read_manifest(path: Path) -> list[Row]:
    """Read a manifest: YAML if it is called ``.yaml`` or ``.yml``, else a CSV table with commas.

    Returns one row a scene; names have dashes for underscores, empty values are left out, and a row whose ``hsi`` holds a ``*``
    has become one row for each file that it stands for.

    Raises
    ------
    MissingFileError
        If there is no such file, or a ``*`` stands for nothing.
    InputError
        If it is not a manifest; the message names the line or the scene.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; give a manifest, CSV or YAML")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MiB; expected a manifest, a list of scenes as text")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text in UTF-8; expected a manifest, CSV or YAML") from None
    except OSError as error:
        if isinstance(error, MissingFileError):
            raise
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    rows = _from_yaml(path, text) if path.suffix.lower() in _YAML_SUFFIXES else _from_csv(path, text)
    rows = [one for row in rows for one in expand(row, path.parent)]
    if not rows:
        raise InputError(f"{path}: lists no scene; give at least one, with hsi and msi")
    return rows


def _from_csv(path: Path, text: str) -> list[Row]:
    """Read a table whose first line names the columns."""
    reader = csv.reader(text.splitlines(keepends=True), strict=True, skipinitialspace=True)
    rows: list[Row] = []
    header: list[str] = []
    try:
        for cells in reader:
            place = f"line {reader.line_num}"
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if not header:
                header = _header(path, cells)
                continue
            if len(cells) != len(header):
                raise InputError(f"{path}, {place}: {len(cells)} cells under {len(header)} columns; quote values that hold commas")
            rows.append(Row(place, {name: cell for name, cell in zip(header, cells, strict=True) if cell}))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not a CSV table ({error}); check its quotes") from None
    return rows


def _header(path: Path, cells: list[str]) -> list[str]:
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(cells) == 1 and mark in cells[0]:
            raise InputError(f"{path}: {name} between the columns; expected commas")
    names = [_name(cell) for cell in cells]
    for name in names:
        if not name or names.count(name) > 1:
            problem = f"column {name} appears twice" if name else "a column has no name"
            raise InputError(f"{path}: {problem} in the first line; name each column once: hsi,msi,out,srf,...")
    return names


def _name(text: str) -> str:
    return text.strip().lower().replace("_", "-")


def _from_yaml(path: Path, text: str) -> list[Row]:
    """Read ``defaults:`` and ``scenes:``."""
    top = _load_yaml(path, text)
    if isinstance(top, list):
        top = {"scenes": top}
    if not isinstance(top, dict) or not set(top) <= {"defaults", "scenes"} or not isinstance(top.get("scenes"), list):
        found = ", ".join(map(str, top)) if isinstance(top, dict) else "something else"
        raise InputError(f"{path}: expected 'scenes:', a list, and if wanted 'defaults:'; found {found or 'neither'}")
    defaults = _values(f"{path}, defaults", top.get("defaults") or {})
    rows = []
    for i, item in enumerate(top["scenes"], 1):
        place = f"scene {i}"
        rows.append(Row(place, {**defaults, **_values(f"{path}, {place}", item)}))
    # An empty value in a scene takes a default back.
    return [Row(row.place, {name: value for name, value in row.values.items() if value}) for row in rows]


def _load_yaml(path: Path, text: str) -> Any:
    """Parse YAML into dicts, lists and strings only; two equal keys are an error."""
    import yaml

    class Loader(yaml.BaseLoader):
        """Resolves no tags at all: ``off`` and ``1e-4`` stay text, and nothing but text, lists and mappings is ever made."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise yaml.constructor.ConstructorError(None, None, "a key that is not text", key.start_mark)
                name = _name(key.value)
                if name in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
                seen.add(name)
            return super().construct_mapping(node, deep=deep)

    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506  (a BaseLoader, which makes text only)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{where}: {error.problem or error.context}; give each key once, in YAML's form") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())}); check its indentation") from None


def _values(where: str, item: Any) -> dict[str, str]:
    """Turn one mapping into names and texts; a list becomes its texts with commas between them."""
    if not isinstance(item, dict):
        raise InputError(f"{where}: expected names and values such as 'hsi: a.tif', found {item!r:.60}")
    values = {}
    for name, value in item.items():
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = ",".join(value)
        if not isinstance(value, str):
            raise InputError(f"{where}: {name} holds more than a value or a list of values; give text")
        values[_name(name)] = value.strip()
    return values


def expand(row: Row, base: Path) -> Iterator[Row]:
    """Yield a row for each file that the ``*`` in its ``hsi`` stands for; the ``*`` in its other values stands for the same text.

    Raises
    ------
    InputError
        If there is more than one ``*`` in ``hsi``, or one in another value but none there.
    MissingFileError
        If it stands for nothing.
    """
    pattern = row.values.get("hsi", "")
    starred = [name for name, value in row.values.items() if "*" in value]
    if not starred:
        yield row
        return
    if pattern.count("*") != 1:
        raise InputError(f"{row.place}: a * in {', '.join(starred)}; expected one * in hsi; elsewhere it stands for the same text")
    before, after = pattern.split("*")
    wanted = re.compile(re.escape(before) + r"(?P<text>[^/]*)" + re.escape(after))
    matches = [wanted.fullmatch(found.replace(os.sep, "/")) for found in _found(base, before, after)]
    texts = sorted(match["text"] for match in matches if match)
    if not texts:
        raise MissingFileError(f"{row.place}: no file fits hsi {pattern} in {base}; check the pattern and the folder")
    for text in texts:
        values = {name: value.replace("*", text) for name, value in row.values.items()}
        yield Row(f"{row.place}, * = {text}", values)


def _found(base: Path, before: str, after: str) -> list[str]:
    """Return what fits, as the pattern spells it: relative to ``base``, or absolute."""
    pattern = f"{glob.escape(before)}*{glob.escape(after)}"
    return glob.glob(pattern, root_dir=base)
