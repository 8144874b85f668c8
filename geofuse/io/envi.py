"""ENVI headers: the text file beside a raw image that says how to read it.

A header is a first line ``ENVI`` and lines ``key = value``; a value in braces may run over several lines. GDAL reads the layout
and the map projection; what GDAL drops or rounds (wavelengths, FWHM, bad bands, reflectance scale factor, band names) is read
and written here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from geofuse.errors import InputError, MissingFileError

MAX_HEADER_BYTES = 64 * 2**20

# ENVI's "data type" to the bytes of one sample; 6 and 9 are complex.
SAMPLE_BYTES = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 9: 16, 12: 2, 13: 4, 14: 8, 15: 8}

_DATA_SUFFIXES = ("", ".dat", ".img", ".bsq", ".bil", ".bip", ".raw", ".bin", ".envi", ".rfl", ".cub")
_NOT_DATA = {".hdr", ".xml", ".txt", ".enp", ".sta", ".ovr", ".msk", ".csv", ".json", ".prj", ".png", ".jpg", ".pdf", ".md", ".zip"}
_HEADER_SUFFIXES = (".hdr", ".HDR", ".Hdr")


def is_header(path: Path) -> bool:
    """Tell whether the file begins like an ENVI header."""
    with open(path, "rb") as file:
        return file.read(16).lstrip(b"\xef\xbb\xbf").lstrip().startswith(b"ENVI")


def find_header(data: Path) -> Path | None:
    """Return the ENVI header of a data file (``scene.hdr`` or ``scene.dat.hdr``, any case of the suffix), or None."""
    for stem in (data.with_suffix(""), data):
        for suffix in _HEADER_SUFFIXES:
            header = stem.with_name(stem.name + suffix)
            if header.is_file() and header != data and is_header(header):
                return header
    return None


def find_data(header: Path) -> Path:
    """Return the data file that belongs to an ENVI header.

    Raises
    ------
    MissingFileError
        If there is none beside the header.
    InputError
        If several files could be meant, or the file is not an ENVI header.
    """
    if not is_header(header):
        raise InputError(f"{header}: not an ENVI header (its first line is not 'ENVI'); give the image file itself")
    stem = header.with_suffix("").name
    beside = [p for p in header.parent.iterdir() if stem in (p.name, p.stem) and p.suffix.lower() not in _NOT_DATA and p.is_file()]
    known = [p for p in beside if p.name[len(stem) :].lower() in _DATA_SUFFIXES]
    exact = [p for p in beside if p.name == stem]
    for group in (exact, known, beside):
        if len(group) == 1:
            return group[0]
    if not beside:
        raise MissingFileError(f"{header}: no data file {stem} or {stem}.* beside this ENVI header; copy it there")
    names = ", ".join(sorted(p.name for p in beside))
    raise InputError(f"{header}: several files could hold the data of this header ({names}); give the data file itself")


def read_header(path: Path) -> dict[str, str]:
    """Return the fields of an ENVI header, keys in lower case with single spaces, values as written.

    Raises
    ------
    InputError
        If the file is too large to be a header or does not begin with ``ENVI``.
    """
    if path.stat().st_size > MAX_HEADER_BYTES or not is_header(path):
        raise InputError(f"{path}: not an ENVI header; give the image file and its own header")
    lines = iter(path.read_text("utf-8-sig", errors="replace").splitlines()[1:])
    fields: dict[str, str] = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals or line.lstrip().startswith(";"):
            continue
        value = value.strip()
        parts = [value]
        while value.startswith("{") and "}" not in parts[-1]:
            following = next(lines, "}")
            parts.append(following.strip())
        fields.setdefault(" ".join(key.lower().split()), " ".join(parts))
    return fields


def header_list(fields: Mapping[str, str], key: str) -> list[str] | None:
    """Return a braced, comma-separated value as a list of strings, or None when the header does not have it."""
    value = fields.get(key)
    if value is None:
        return None
    return [item.strip() for item in value.strip().strip("{}").split(",") if item.strip()]


def missing_bytes(fields: Mapping[str, str], data: Path) -> int:
    """Return how many bytes a raw file lacks of what its header promises (GDAL reads them as zeros, without an error).

    Raises
    ------
    InputError
        If the header has no valid sizes, or describes a compressed file.
    """
    try:
        n_samples = int(fields["samples"]) * int(fields["lines"]) * int(fields.get("bands", "1"))
        size = SAMPLE_BYTES[int(fields["data type"])] * n_samples + int(fields.get("header offset", "0"))
    except (KeyError, ValueError) as error:
        raise InputError(f"{data}: its ENVI header lacks a valid 'samples', 'lines', 'bands' or 'data type' ({error})") from None
    if fields.get("file compression", "0") != "0":
        raise InputError(f"{data}: compressed ENVI data cannot be read; decompress it and set 'file compression = 0'")
    return max(0, size - data.stat().st_size)


def braced(values: Iterable[str]) -> str:
    """Format a list as ENVI wants it, a few values a line; characters that would end the list are replaced."""
    clean = [str(v).translate(str.maketrans({",": ";", "{": "(", "}": ")", "\n": " ", "\r": " "})).strip() or "-" for v in values]
    rows = [", ".join(clean[i : i + 8]) for i in range(0, len(clean), 8)]
    return "{\n " + ",\n ".join(rows) + "}"


def quote(text: str) -> str:
    """Encode any text as one line that no header parser mistakes for a list; undone by :func:`unquote`."""
    return json.dumps(text).replace("{", "\\u007b").replace("}", "\\u007d")


def unquote(value: str) -> str:
    """Decode what :func:`quote` wrote; other text is returned as it is."""
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value


def write_header(path: Path, fields: Mapping[str, str]) -> None:
    """Write an ENVI header with these fields, in this order."""
    lines = ["ENVI", *(f"{key} = {value}" for key, value in fields.items())]
    path.write_text("\n".join(lines) + "\n", "utf-8")
