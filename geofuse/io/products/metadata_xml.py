"""Metadata files of products: XML, read with care."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from geofuse.errors import InputError, MissingFileError

MAX_BYTES = 64 * 2**20


def read_xml(path: Path) -> ElementTree.Element:
    """Return the root of an XML file.

    Raises
    ------
    MissingFileError
        If it is not there.
    InputError
        If it is not XML, larger than 64 MiB, or defines entities, by which a small file could fill the memory.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; copy the product's metadata file beside its image")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: {path.stat().st_size / 1e6:.0f} MB; expected a metadata file of at most 64 MiB")
    data = path.read_bytes()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{path}: an XML file that defines its own entities (or is not UTF-8); expected a product's metadata")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: damaged XML ({error}); copy or download the product again") from None


def number(element: ElementTree.Element, name: str, default: float = math.nan) -> float:
    """Return the number in the child ``name`` (a path) of an element, ``default`` where there is none."""
    text = element.findtext(name)
    try:
        return default if text is None or not text.strip() else float(text)
    except ValueError:
        return default
