"""Wavelengths that the user gives, where a file has none or wrong ones."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geofuse.errors import InputError, MissingFileError


@dataclass(frozen=True)
class BandSource:
    """What one source (a place in a file, or the user) says of the bands; NaN where it says nothing."""

    label: str
    wavelength_nm: np.ndarray  # (band,) float64
    fwhm_nm: np.ndarray  # (band,) float64


def given_wavelengths(wavelengths: np.ndarray | str | os.PathLike[str], n_bands: int) -> BandSource:
    """Return wavelengths that the user gives, as an array or as a CSV file.

    Parameters
    ----------
    wavelengths
        Centre wavelengths in nm, shape (band,), or with the FWHM in nm, shape (band, 2); or the path of a CSV file with the
        columns ``wavelength_nm`` and, if known, ``fwhm_nm``, one row a band. An empty cell or NaN says that a band has none.
    n_bands
        Number of bands of the image.

    Raises
    ------
    MissingFileError
        If the CSV file does not exist.
    InputError
        If the values are not one positive number a band.
    """
    if isinstance(wavelengths, str | os.PathLike):
        label, values = os.fspath(wavelengths), _read_csv(Path(wavelengths))
    else:
        label, values = "wavelengths given", np.asarray(wavelengths, float)
        values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.shape[1] not in (1, 2):
        raise InputError(f"{label}: shape {values.shape}; expected one wavelength a band, or (wavelength, FWHM) pairs")
    if len(values) != n_bands:
        raise InputError(f"{label}: {len(values)} wavelengths for an image of {n_bands} bands; give one row a band")
    known = values[:, 0][np.isfinite(values[:, 0])]
    if not known.size or known.min() < 100:
        found = f"{known.min():g}" if known.size else "none"
        raise InputError(f"{label}: found a wavelength of {found}; expected nm (100 or more)")
    fwhm = values[:, 1] if values.shape[1] == 2 else np.full(n_bands, np.nan)
    if (fwhm <= 0).any():
        raise InputError(f"{label}: FWHM must be positive, found {np.nanmin(fwhm):g}; leave the cell empty where it is unknown")
    return BandSource(label, values[:, 0], fwhm)


def _read_csv(path: Path) -> np.ndarray:
    """Read the columns ``wavelength_nm`` and ``fwhm_nm`` of a CSV file; shape (row, 1 or 2)."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file; check the name of the wavelength table") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable CSV file ({error}); expected the columns wavelength_nm, fwhm_nm") from None
    rows = [row for row in csv.reader(text.splitlines()) if row]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if "wavelength_nm" not in header:
        raise InputError(f"{path}: first line {','.join(header)[:60]!r}; expected a CSV with a column wavelength_nm (and fwhm_nm)")
    columns = [header.index(c) for c in ("wavelength_nm", "fwhm_nm") if c in header]
    try:
        cells = [[(row[c].strip() if c < len(row) else "") or "nan" for c in columns] for row in rows[1:]]
        return np.array([[float(cell) for cell in row] for row in cells]).reshape(-1, len(columns))
    except ValueError as error:
        raise InputError(f"{path}: {error}; expected numbers in nm") from None
