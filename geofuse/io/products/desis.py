"""DESIS L2A: an orthorectified GeoTIFF of reflectance, ``METADATA.xml`` and an ENVI header for the same image.

Layout: DLR, DESIS L1B, L1C and L2A Format Specification, and as read by EnMAP-Box. The XML has one
``specific/bandCharacterisation/band`` a band with ``bandNumber``, ``wavelengthCenterOfBand``, ``wavelengthWidthOfBand`` (nm),
``gainOfBand`` and ``offsetOfBand``; the header lists ``wavelength``, ``fwhm``, ``data gain values`` and ``data offset values``, and
stands in where the XML lacks a value. ``QL_QUALITY-2`` holds a layer a class, above 0 where it applies: shadow, land, snow, haze
over land, haze over water, cloud over land, cloud over water, water; then aerosol and water vapour.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import numpy as np

from geofuse.errors import InputError
from geofuse.io import envi
from geofuse.io.products.band_files import check_same_grid
from geofuse.io.products.banded_tiff import BandTable, ProductFiles, beside, find_files, matches_files, open_banded
from geofuse.io.products.metadata_xml import number, read_xml
from geofuse.io.products.quality import with_note, without_clouds
from geofuse.io.reader import open_scene

if TYPE_CHECKING:
    import xarray as xr

TITLE = "DESIS L2A"
BACKGROUND = -32768.0
QUALITY_LAYERS = 10
CLOUDED = (1, 6, 7)
"""Layers of ``QL_QUALITY-2``, from 1, that are shadow or cloud."""

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


def open_product(path: Path, *, chunks: Any = None, mask_clouds: bool = True) -> xr.DataArray:
    """Open DESIS L2A as a lazy scene of reflectance.

    Parameters
    ----------
    path
        The folder, the image, its header or its metadata.
    chunks
        As for :func:`geofuse.io.open_scene`.
    mask_clouds
        Whether cloud and shadow (``QL_QUALITY-2``, if it is there) are no data.

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
    scene = open_banded(files, TITLE, table, chunks)
    return _without_clouds(scene, files) if mask_clouds else with_note(scene, "clouds are not masked")


def _without_clouds(scene: xr.DataArray, files: ProductFiles) -> xr.DataArray:
    """Take out what the quality layers mark."""
    file = beside(files.image, "SPECTRAL_IMAGE", "QL_QUALITY-2")
    if file is None:
        return with_note(scene, "clouds are not masked: no QL_QUALITY-2 beside the image")
    layers = open_scene(file)
    if layers.sizes["band"] != QUALITY_LAYERS:
        raise InputError(f"{file}: {layers.sizes['band']} layers; expected {QUALITY_LAYERS}: copy it again, or leave clouds in")
    check_same_grid(scene, layers)
    clouded = (layers.data[[number - 1 for number in CLOUDED]] > 0).any(axis=0, keepdims=True)
    return without_clouds(scene, clouded, [file], "cloud and shadow are no data (QL_QUALITY-2)")


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
