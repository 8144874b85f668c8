"""EnMAP L2A: an orthorectified GeoTIFF of reflectance and ``METADATA.XML``.

Layout: DLR, EnMAP HSI Level 1B / 1C / 2A Product Specification (EN-PCV-ICD-2009-2), and as read by EnMAP-Box and by GRASS
i.enmap. Every band of the image has its ``specific/bandCharacterisation/bandID`` with ``wavelengthCenterOfBand``,
``FWHMOfBand`` (nm), ``GainOfBand`` and ``OffsetOfBand``. VNIR and SWIR bands both see 900-1000 nm; where SWIR follows VNIR in the
file, wavelengths do not ascend there: every band is kept as it is. Channels that are not in ``expectedChannelsList`` hold no data
and count as bad. ``QL_QUALITY_CLOUD`` and ``QL_QUALITY_CLOUDSHADOW`` are 1 where there is one, ``QL_QUALITY_CIRRUS`` is 1, 2 or 3
for thin, medium and thick.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import numpy as np

from geofuse.errors import InputError
from geofuse.io.products.band_files import check_same_grid, open_band
from geofuse.io.products.banded_tiff import BandTable, ProductFiles, beside, find_files, matches_files, open_banded
from geofuse.io.products.metadata_xml import number, read_xml
from geofuse.io.products.quality import flagged, with_note, without_clouds

if TYPE_CHECKING:
    import xarray as xr

TITLE = "EnMAP L2A"
BACKGROUND = -32768.0
QUALITY = {"CLOUD": (1,), "CIRRUS": (1, 2, 3), "CLOUDSHADOW": (1,)}
"""Quality layers by the end of their file's name, and which of their values are cloud, cirrus or cloud shadow."""

_STEM = r"(ENMAP\w*[-_]+L2A-.*)"
_IMAGE = re.compile(_STEM + r"-SPECTRAL_IMAGE\w*\.TIFF?", re.IGNORECASE)
_METADATA = re.compile(_STEM + r"-METADATA\.XML", re.IGNORECASE)


def matches(path: Path) -> bool:
    """Tell whether a path is an EnMAP L2A folder, its spectral image or its metadata."""
    return matches_files(path, _IMAGE, _METADATA)


def open_product(path: Path, *, chunks: Any = None, mask_clouds: bool = True) -> xr.DataArray:
    """Open EnMAP L2A as a lazy scene of reflectance, all bands in the order of the file.

    Parameters
    ----------
    path
        The folder, the image or its metadata.
    chunks
        As for :func:`geofuse.io.open_scene`.
    mask_clouds
        Whether cloud, cirrus and cloud shadow (the layers of :data:`QUALITY` that are there) are no data.

    Raises
    ------
    MissingFileError
        If image or metadata are missing.
    InputError
        If they are damaged or do not belong together.
    """
    files = find_files(path, _IMAGE, _METADATA, TITLE)
    table = _band_table(read_xml(files.metadata), files.metadata)
    overlap = np.flatnonzero(np.diff(table.wavelength_nm) < 0)
    notes = []
    if overlap.size:
        i = int(overlap[0])
        ends = f"{table.wavelength_nm[i + 1]:.0f}-{table.wavelength_nm[i]:.0f} nm"
        notes.append(f"VNIR and SWIR both see {ends} (from bands {i + 1} and {i + 2}); all bands are kept")
    scene = open_banded(files, TITLE, table, chunks, notes)
    return _without_clouds(scene, files) if mask_clouds else with_note(scene, "clouds are not masked")


def _without_clouds(scene: xr.DataArray, files: ProductFiles) -> xr.DataArray:
    """Take out what the quality layers mark."""
    layers = {name: beside(files.image, "SPECTRAL_IMAGE", f"QL_QUALITY_{name}") for name in QUALITY}
    found = {name: file for name, file in layers.items() if file is not None}
    lacking = " and ".join(f"QL_QUALITY_{name}" for name in layers if name not in found)
    if not found:
        return with_note(scene, f"clouds are not masked: no {lacking} beside the image")
    clouded = None
    for name, file in found.items():
        layer = open_band(file)
        check_same_grid(scene, layer)
        here = flagged(layer.data, QUALITY[name])
        clouded = here if clouded is None else clouded | here
    words = " and ".join({"CLOUD": "cloud", "CIRRUS": "cirrus", "CLOUDSHADOW": "cloud shadow"}[name] for name in found)
    note = f"{words} are no data (QL_QUALITY layers{f'; no {lacking}' if lacking else ''})"
    return without_clouds(scene, clouded, list(found.values()), note)


def _band_table(root: Element, path: Path) -> BandTable:
    """Read what the metadata say of the bands, in the order of their numbers.

    Raises
    ------
    InputError
        If bands are missing or lack a wavelength.
    """
    bands = sorted(root.findall(".//specific/bandCharacterisation/bandID"), key=_number_of)
    if not bands or [_number_of(band) for band in bands] != list(range(1, len(bands) + 1)):
        raise InputError(
            f"{path}: bandCharacterisation lists {len(bands)} bands, not numbered 1, 2, 3 ...; expected {TITLE} metadata"
        )
    names = ("wavelengthCenterOfBand", "FWHMOfBand", "GainOfBand", "OffsetOfBand")
    wavelength, fwhm, gain, offset = (np.array([number(band, name) for band in bands]) for name in names)
    background = number(root, ".//specific/backgroundValue", BACKGROUND)
    return BandTable(
        np.where(wavelength > 0, wavelength, np.nan),
        np.where(fwhm > 0, fwhm, np.nan),
        gain,
        np.where(np.isnan(offset), 0.0, offset),
        _expected(root, len(bands)),
        background,
    )


def _number_of(band: Element) -> int:
    """Return the ``number`` of a ``bandID``, 0 where it has none."""
    text = band.get("number", "")
    return int(text) if text.isdigit() else 0


def _expected(root: Element, n: int) -> np.ndarray:
    """Return which bands the product says hold data; all, if it does not say."""
    texts = [element.text or "" for element in root.iter("expectedChannelsList")]
    listed = {int(word) for text in texts for word in re.findall(r"\d+", text)}
    return np.array([not listed or i in listed for i in range(1, n + 1)])
