"""DESIS L2A: an orthorectified GeoTIFF of reflectance, ``METADATA.xml`` and an ENVI header for the same image.

Layout: DLR, DESIS L1B, L1C and L2A Format Specification, and as read by EnMAP-Box. The XML has one
``specific/bandCharacterisation/band`` a band with ``bandNumber``, ``wavelengthCenterOfBand``, ``wavelengthWidthOfBand`` (nm),
``gainOfBand`` and ``offsetOfBand``; the header lists ``wavelength``, ``fwhm``, ``data gain values`` and ``data offset values``, and
stands in where the XML lacks a value.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import numpy as np

from geofuse.errors import InputError
from geofuse.io import envi
from geofuse.io.products.banded_tiff import BandTable, find_files, matches_files, open_banded
from geofuse.io.products.metadata_xml import number, read_xml

if TYPE_CHECKING:
    import xarray as xr

TITLE = "DESIS L2A"
BACKGROUND = -32768.0

_STEM = r"(DESIS-HSI-L2A-.*)"
_IMAGE = re.compile(_STEM + r"-SPECTRAL_IMAGE\.TIFF?", re.IGNORECASE)
_METADATA = re.compile(_STEM + r"-METADATA\.XML", re.IGNORECASE)
# in the XML -> in the header
_VALUES = {
    "wavelengthCenterOfBand": "wavelength",
    "wavelengthWidthOfBand": "fwhm",
    "gainOfBand": "data gain values",
    "offsetOfBand": "data offset values",
}


def matches(path: Path) -> bool:
    """Tell whether a path is a DESIS L2A folder, its spectral image or its metadata."""
    return matches_files(path, _IMAGE, _METADATA)


def open_product(path: Path, *, chunks: Any = None) -> xr.DataArray:
    """Open DESIS L2A as a lazy scene of reflectance.

    Raises
    ------
    MissingFileError
        If image or metadata are missing.
    InputError
        If they are damaged or do not belong together.
    """
    files = find_files(path, _IMAGE, _METADATA, TITLE)
    header = envi.find_header(files.image)
    table = _band_table(read_xml(files.metadata), envi.read_header(header) if header else {}, files.metadata)
    return open_banded(files, TITLE, table, chunks)


def _band_table(root: Element, header: dict[str, str], path: Path) -> BandTable:
    """Read what the metadata say of the bands.

    Raises
    ------
    InputError
        If neither file describes the bands, or bands have no gain.
    """
    bands = sorted(root.findall(".//specific/bandCharacterisation/band"), key=lambda band: number(band, "bandNumber", 0.0))
    lists = {key: _header_numbers(header, key) for key in _VALUES.values()}
    n = len(bands) or len(lists["wavelength"])
    if not n:
        raise InputError(f"{path}: has no bandCharacterisation, and no ENVI header beside the image lists the bands; copy it there")
    columns = []
    for name, key in _VALUES.items():
        values = np.array([number(band, name) for band in bands]) if bands else np.full(n, np.nan)
        if len(lists[key]) == n:
            values = np.where(np.isnan(values), lists[key], values)
        columns.append(values)
    wavelength, fwhm, gain, offset = columns
    return BandTable(
        np.where(wavelength > 0, wavelength, np.nan),
        np.where(fwhm > 0, fwhm, np.nan),
        gain,
        np.where(np.isnan(offset), 0.0, offset),
        np.ones(n, bool),
        BACKGROUND,
    )


def _header_numbers(header: dict[str, str], key: str) -> np.ndarray:
    """Return a list of the header as numbers, NaN for what is none; empty if there is no list."""
    values = []
    for text in envi.header_list(header, key) or []:
        try:
            values.append(float(text))
        except ValueError:
            values.append(np.nan)
    return np.array(values)
