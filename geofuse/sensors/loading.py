"""From a name or a CSV file to a :class:`SensorResponse`."""

from __future__ import annotations

import csv
import difflib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from geofuse.errors import InputError, MissingFileError, UnknownNameError
from geofuse.registry import simplify
from geofuse.sensors.catalogue import SENSORS, BandEntry, SensorEntry
from geofuse.sensors.response import ResponseBand, SensorResponse, flat_topped_band, gaussian_band

_LOWEST_NM, _HIGHEST_NM = 200.0, 20_000.0
_NEGATIVE_SHARE = 0.05  # a table's values may dip this far below zero, as measured curves do; more is a mistake


@dataclass(frozen=True)
class SensorSummary:
    """One line of ``geofuse srf list``."""

    name: str
    title: str
    aliases: tuple[str, ...]
    band_names: tuple[str, ...]  # reflective
    other_band_names: tuple[str, ...]  # panchromatic, cirrus, thermal: known, but left out
    approximate: bool
    source: str


def sensor_names() -> tuple[str, ...]:
    """Return the names of the known sensors."""
    return tuple(entry.name for entry in SENSORS)


def list_sensors() -> tuple[SensorSummary, ...]:
    """Return one summary for each known sensor, measured tables first."""
    return tuple(
        SensorSummary(
            entry.name,
            _title(entry),
            entry.aliases,
            tuple(band.name for band in entry.bands if band.kind == "reflective"),
            tuple(band.name for band in entry.bands if band.kind != "reflective"),
            entry.approximate,
            _source(entry),
        )
        for entry in SENSORS
    )


def load_response(sensor: str | os.PathLike[str]) -> SensorResponse:
    """Return the response of a sensor by name, or read it from a CSV file.

    Parameters
    ----------
    sensor
        A name or alias of ``geofuse srf list`` (case, dashes and spaces do not matter), or the path of a file ``.csv``: first
        column ``wavelength_nm``, then one named column of responses for each band.

    Raises
    ------
    UnknownNameError
        If no sensor has this name.
    MissingFileError, InputError
        If the file does not exist or does not hold such a table.
    """
    text = os.fspath(sensor).strip()
    if Path(text).suffix.lower() == ".csv":
        return read_response_csv(text)
    wanted = simplify(text)
    for entry in SENSORS:
        if wanted in {simplify(name) for name in (entry.name, entry.title, *entry.aliases)}:
            return _build(entry)
    if Path(text).is_file() or os.sep in text:
        return read_response_csv(text)
    raise _unknown_sensor(text)


def _unknown_sensor(name: str) -> UnknownNameError:
    spellings = {simplify(alias): entry.name for entry in SENSORS for alias in (entry.name, *entry.aliases)}
    near = difflib.get_close_matches(simplify(name), spellings, n=3, cutoff=0.5)
    found = dict.fromkeys(spellings[spelling] for spelling in near)
    hint = f"did you mean {' or '.join(found)}?" if found else f"known: {', '.join(sensor_names())}"
    return UnknownNameError(f"unknown sensor {name!r}; {hint} ('geofuse srf list' shows all; a file .csv is read as a table)")


def _title(entry: SensorEntry) -> str:
    return f"{entry.title} (approximate)" if entry.approximate else entry.title


def _source(entry: SensorEntry) -> str:
    return f"{entry.source}, from pyrsr" if entry.table else entry.source


@cache
def _build(entry: SensorEntry) -> SensorResponse:
    tables = _pyrsr_tables(entry) if entry.table else {}
    bands = tuple(_build_band(band, tables) for band in entry.bands)
    return SensorResponse(entry.name, _title(entry), bands, entry.approximate, _source(entry))


def _build_band(band: BandEntry, tables: dict[str, np.ndarray]) -> ResponseBand:
    if band.edges_nm is not None:
        return flat_topped_band(band.name, *band.edges_nm, band.kind, band.words)
    if band.center_fwhm_nm is not None:
        return gaussian_band(band.name, *band.center_fwhm_nm, band.kind, band.words)
    wavelength, response = tables[band.table].T
    if wavelength.max() < 100:  # these tables are in micrometres
        wavelength = np.round(wavelength * 1000.0, 6)
    return ResponseBand(band.name, wavelength, response, band.kind, band.words)


def _pyrsr_tables(entry: SensorEntry) -> dict[str, np.ndarray]:
    """Read a sensor's tables, (n, 2) each: wavelength and response."""
    from pyrsr.rsr import RSR_reader

    satellite, instrument = entry.table
    return RSR_reader(satellite, instrument, LayerBandsAssignment=[band.table for band in entry.bands])


def read_response_csv(path: str | os.PathLike[str]) -> SensorResponse:
    """Read a table of responses: first column ``wavelength_nm``, then one named column for each band.

    Responses may have any scale; rows may come in any order. Between rows the response is linear, outside them zero.

    Raises
    ------
    MissingFileError, InputError
        If the file does not exist or does not hold such a table.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"response file {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    header, rows = _read_rows(path)
    _check_header(path, header)
    values = np.array([_numbers(path, header, number, row) for number, row in rows]).reshape(len(rows), len(header))
    if len(rows) < 3:
        raise InputError(f"response file {path} has {len(rows)} rows of numbers, expected at least 3")
    wavelength, responses = values[:, 0], values[:, 1:]
    _check_values(path, header, wavelength, responses)
    order = np.argsort(wavelength)
    bands = tuple(
        ResponseBand(name, wavelength[order], column[order]) for name, column in zip(header[1:], responses.T, strict=True)
    )
    return SensorResponse(str(path), path.name, bands, False, f"file {path}")


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the rows that are not empty, with their line numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as err:
        raise InputError(
            f"response file {path} is not a text table ({err}); expected CSV: wavelength_nm, then one column a band"
        ) from None
    if not rows:
        raise InputError(f"response file {path} is empty; expected CSV: wavelength_nm, then one column a band")
    return rows[0][1], rows[1:]


def _check_header(path: Path, header: list[str]) -> None:
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        found = "semicolons" if ";" in header[0] else "tabs"
        raise InputError(f"response file {path} separates its columns by {found}, expected commas; save it as CSV with commas")
    if simplify(header[0]) != "wavelengthnm":
        raise InputError(f"response file {path}: the first column is {header[0]!r}, expected 'wavelength_nm' (wavelengths in nm)")
    names = header[1:]
    if not names or not all(names):
        raise InputError(
            f"response file {path}: expected a named column for each band after wavelength_nm, found {', '.join(header)!r}"
        )
    twice = {name for name in names if [simplify(other) for other in names].count(simplify(name)) > 1}
    if twice:
        raise InputError(
            f"response file {path}: the band name {sorted(twice)[0]!r} stands over more than one column; give each its own"
        )


def _numbers(path: Path, header: list[str], line: int, row: list[str]) -> list[float]:
    if len(row) != len(header):
        raise InputError(
            f"response file {path}, line {line}: found {len(row)} values, expected {len(header)} ({', '.join(header)})"
        )
    numbers = []
    for name, cell in zip(header, row, strict=True):
        try:
            numbers.append(float(cell))
        except ValueError:
            raise InputError(f"response file {path}, line {line}, column {name}: {cell!r} is not a number") from None
        if not np.isfinite(numbers[-1]):
            raise InputError(f"response file {path}, line {line}, column {name}: found {cell!r}, expected a finite number")
    return numbers


def _check_values(path: Path, header: list[str], wavelength: np.ndarray, responses: np.ndarray) -> None:
    if wavelength.max() < 100:
        raise InputError(
            f"response file {path}: the largest wavelength is {wavelength.max():g}, which looks like micrometres; write nm"
        )
    if wavelength.min() < _LOWEST_NM or wavelength.max() > _HIGHEST_NM:
        found = f"{wavelength.min():g} to {wavelength.max():g} nm"
        raise InputError(f"response file {path}: wavelengths from {found}, expected {_LOWEST_NM:g} to {_HIGHEST_NM:g} nm")
    repeated = np.flatnonzero(np.diff(np.sort(wavelength)) == 0)
    if repeated.size:
        raise InputError(
            f"response file {path}: the wavelength {np.sort(wavelength)[repeated[0]]:g} nm stands there more than once"
        )
    for name, column in zip(header[1:], responses.T, strict=True):
        if column.max() <= 0:
            raise InputError(f"response file {path}: column {name} holds no response above zero")
        if column.min() < -_NEGATIVE_SHARE * column.max():
            raise InputError(f"response file {path}: column {name} goes down to {column.min():g}; a response is not negative")
