"""Where a file says what its bands are: ENVI header, band tags, ``IMAGERY`` tags and descriptions, in this order.

For each band the first source that knows it wins. Two sources that differ by more than :data:`TOLERANCE_NM` contradict each
other; only the caller can say which is right (``wavelengths=``), so that is an error.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geofuse.errors import InputError
from geofuse.io import envi
from geofuse.io.given import BandSource, given_wavelengths
from geofuse.scene import BandMetadata

if TYPE_CHECKING:
    from rasterio import DatasetReader

logger = logging.getLogger(__name__)

TOLERANCE_NM = 1.0
"""Sources within this of each other agree: GDAL rounds the ``IMAGERY`` tags of ENVI files to 0.001 um, descriptions to 1 nm."""

_NM = {"nanometers", "nanometer", "nanometres", "nanometre", "nm"}
_UM = {"micrometers", "micrometer", "micrometres", "micrometre", "microns", "micron", "um", "\u00b5m", "\u03bcm"}
_NO_UNIT = {"", "unknown", "none"}
_IN_TEXT = re.compile(r"([0-9]*\.?[0-9]+)\s*(nanomet\w+|micromet\w+|microns?|nm|um|\u00b5m|\u03bcm)\b", re.IGNORECASE)


@dataclass(frozen=True)
class BandReport:
    """The band metadata of a file and where they came from."""

    bands: BandMetadata
    wavelength_source: str | None
    conflict: str | None


def nm_per_unit(unit: str | None, values: np.ndarray, where: str) -> float | None:
    """Return the factor from a wavelength unit to nm, or None if it is no unit of length.

    Without a unit, values below 100 are taken as um and others as nm, and the log says so.
    """
    name = " ".join((unit or "").lower().split())
    if name in _NM:
        return 1.0
    if name in _UM:
        return 1000.0
    if name not in _NO_UNIT:
        logger.warning("%s: wavelengths in '%s' are not used; pass a CSV file with wavelength_nm", where, unit)
        return None
    known = values[np.isfinite(values)]
    if not known.size:
        return 1.0
    factor, word = (1000.0, "um") if known.max() < 100 else (1.0, "nm")
    logger.warning("%s: wavelengths without a unit, taken as %s (%g to %g)", where, word, known.min(), known.max())
    return factor


def _number(text: str | None) -> float:
    """Return a positive number from a tag, NaN where there is none."""
    try:
        value = float(text or "nan")
    except ValueError:
        return np.nan
    return value if np.isfinite(value) and value > 0 else np.nan


def _numbers(texts: Sequence[str | None]) -> np.ndarray:
    return np.array([_number(t) for t in texts])


def _source(label: str, name: str, unit: str | None, wavelength: np.ndarray, fwhm: np.ndarray) -> BandSource | None:
    """Convert one source to nm; None if it knows no band."""
    if not (np.isfinite(wavelength).any() or np.isfinite(fwhm).any()):
        return None
    factor = nm_per_unit(unit, wavelength, f"{name}: {label}")
    return None if factor is None else BandSource(label, wavelength * factor, fwhm * factor)


def _header_numbers(header: Mapping[str, str], key: str, n_file: int, name: str, strict: bool) -> np.ndarray:
    """Return a list of an ENVI header as one number a band of the file; NaN where it has none (or a wrong one, if not strict)."""
    texts = envi.header_list(header, key)
    if texts is None or (len(texts) != n_file and not strict):
        return np.full(n_file, np.nan)
    if len(texts) != n_file:
        raise InputError(
            f"{name}: its ENVI header lists {len(texts)} values of '{key}' for {n_file} bands; correct it or pass wavelengths"
        )
    return _numbers(texts)


def band_sources(dataset: DatasetReader, header: Mapping[str, str], index: Sequence[int], *, strict: bool) -> list[BandSource]:
    """Collect what a dataset says of the bands ``index`` (1-based), best source first.

    Parameters
    ----------
    dataset
        Open rasterio dataset.
    header
        Fields of its ENVI header; empty for other formats.
    index
        1-based numbers of the bands in the file.
    strict
        Whether a list of the wrong length and mixed units are errors; otherwise they are passed over.

    Raises
    ------
    InputError
        If ``strict`` and the file gives no usable answer.
    """
    found = [
        _from_header(dataset, header, index, strict),
        # GDAL copies the header of an ENVI file into the band tags, so these say nothing new there.
        None if header.get("wavelength") else _from_tags(dataset, index, strict),
        _from_imagery(dataset, index),
        _from_descriptions(dataset, index),
    ]
    return [source for source in found if source is not None]


def _from_header(dataset: DatasetReader, header: Mapping[str, str], index: Sequence[int], strict: bool) -> BandSource | None:
    pick = np.asarray(index) - 1
    lists = [_header_numbers(header, key, dataset.count, dataset.name, strict)[pick] for key in ("wavelength", "fwhm")]
    return _source("ENVI header", dataset.name, header.get("wavelength units"), *lists)


def _from_tags(dataset: DatasetReader, index: Sequence[int], strict: bool) -> BandSource | None:
    """Read the tags ``wavelength``, ``wavelength_units``, ``fwhm``, which EnMAP-Box and geofuse write; GDAL ignores their case."""
    tags = [{key.lower(): value for key, value in dataset.tags(i).items()} for i in index]
    units = {t.get("wavelength_units", t.get("wavelength_unit", "")) for t in tags if "wavelength" in t}
    if len(units) > 1:
        if not strict:
            return None
        raise InputError(f"{dataset.name}: its bands use several wavelength units ({', '.join(sorted(units))}); pass wavelengths")
    lists = [_numbers([t.get(key) for t in tags]) for key in ("wavelength", "fwhm")]
    return _source("band tags", dataset.name, next(iter(units), ""), *lists)


def _from_imagery(dataset: DatasetReader, index: Sequence[int]) -> BandSource | None:
    tags = [dataset.tags(i, ns="IMAGERY") for i in index]
    lists = [_numbers([t.get(key) for t in tags]) for key in ("CENTRAL_WAVELENGTH_UM", "FWHM_UM")]
    return _source("IMAGERY tags", dataset.name, "um", *lists)


def _from_descriptions(dataset: DatasetReader, index: Sequence[int]) -> BandSource | None:
    descriptions = dataset.descriptions
    values = np.array([_wavelength_in(descriptions[i - 1] or "") for i in index])
    return _source("band descriptions", dataset.name, "nm", values, np.full(len(index), np.nan))


def _wavelength_in(text: str) -> float:
    """Return the wavelength in nm that a description such as ``band 8 (460 Nanometers)`` tells, or NaN."""
    match = _IN_TEXT.search(text)
    return _number(match[1]) * (1.0 if match[2].lower().startswith("n") else 1000.0) if match else np.nan


def consistent_name(name: str, wavelength_nm: float) -> str:
    """Return a band name without the wavelength in it if that is not the band's: two answers in one file would be an error."""
    told = _wavelength_in(name)
    if np.isnan(told) or abs(told - wavelength_nm) <= TOLERANCE_NM:
        return name
    return " ".join(_IN_TEXT.sub("", name).replace("()", "").split())


def find_conflict(sources: Sequence[BandSource], index: Sequence[int]) -> str | None:
    """Return a sentence on the first contradiction between two sources, or None."""
    for field, what in (("wavelength_nm", "centre wavelength"), ("fwhm_nm", "FWHM")):
        for k, first in enumerate(sources):
            for other in sources[k + 1 :]:
                a, b = getattr(first, field), getattr(other, field)
                bad = np.flatnonzero(np.abs(a - b) > TOLERANCE_NM)
                if bad.size:
                    i = bad[0]
                    values = f"{a[i]:.6g} nm by the {first.label} but {b[i]:.6g} nm by the {other.label}"
                    return f"{what} of band {index[i]} is {values}"
    return None


def _first_known(sources: Sequence[BandSource], field: str, n: int) -> np.ndarray:
    values = np.full(n, np.nan)
    for source in sources:
        values = np.where(np.isfinite(values), values, getattr(source, field))
    return values


def _good_bands(dataset: DatasetReader, header: Mapping[str, str], index: Sequence[int]) -> np.ndarray:
    """Return False for the bands that ``bbl`` marks as bad (0)."""
    texts = envi.header_list(header, "bbl")
    if texts is None:
        texts = [dataset.tags(i).get("bbl", "1") for i in range(1, dataset.count + 1)]
    elif len(texts) != dataset.count:
        raise InputError(f"{dataset.name}: its ENVI header lists {len(texts)} values of 'bbl' for {dataset.count} bands")
    bad = {"0", "0.0", "false"}
    return np.array([texts[i - 1].strip().lower() not in bad for i in index])


def _names(dataset: DatasetReader, header: Mapping[str, str], index: Sequence[int]) -> tuple[str, ...]:
    """Return the description of each band; GDAL adds the wavelength to the names of an ENVI header, which is left out."""
    names = envi.header_list(header, "band names") or []
    if len(names) != dataset.count:
        names = [d or "" for d in dataset.descriptions]
    return tuple(names[i - 1] or f"band {i}" for i in index)


def read_bands(
    dataset: DatasetReader,
    header: Mapping[str, str],
    index: Sequence[int],
    wavelengths: np.ndarray | str | os.PathLike[str] | None = None,
) -> BandReport:
    """Read the metadata of the bands ``index`` of a dataset.

    Parameters
    ----------
    dataset
        Open rasterio dataset.
    header
        Fields of its ENVI header; empty for other formats.
    index
        1-based numbers of the bands in the file.
    wavelengths
        Decides over the file: see :func:`geofuse.io.given.given_wavelengths`.

    Raises
    ------
    InputError
        If a list has another length than the image has bands, or ``wavelengths`` is not of its form.
    """
    n = len(index)
    given = given_wavelengths(wavelengths, n) if wavelengths is not None else None
    sources = band_sources(dataset, header, index, strict=given is None)
    wavelength, fwhm = (_first_known(sources, field, n) for field in ("wavelength_nm", "fwhm_nm"))
    origin = next((s.label for s in sources if np.isfinite(s.wavelength_nm).any()), None)
    if given is not None:
        wavelength, origin = given.wavelength_nm, given.label
        fwhm = np.where(np.isfinite(given.fwhm_nm), given.fwhm_nm, fwhm)
    bands = BandMetadata(wavelength, fwhm, _good_bands(dataset, header, index), _names(dataset, header, index))
    return BandReport(bands, origin, None if given is not None else find_conflict(sources, index))
