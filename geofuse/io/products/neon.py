"""NEON AOP surface reflectance (DP3.30006 and the flight lines DP1.30006), one HDF5 file.

Layout: ``<SITE>/Reflectance/Reflectance_Data`` (row, column, band) with the attributes ``Scale_Factor`` and ``Data_Ignore_Value``,
``Metadata/Spectral_Data/{Wavelength,FWHM}`` and ``Metadata/Coordinate_System/{Map_Info,EPSG Code}``. ``Map_Info`` is that of an
ENVI header. The windows of the water vapour's absorption are attributes of ``Reflectance``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError
from geofuse.io.products.band_files import product_attributes
from geofuse.io.products.hdf import Range, dataset, lazy_array, opened_hdf
from geofuse.scene import BandMetadata, make_scene

if TYPE_CHECKING:
    import h5py
    import xarray as xr
    from affine import Affine

TITLE = "NEON AOP reflectance"
_NAME = re.compile(r"NEON_D\d\d_[A-Z]{4}_DP[13]_.*reflectance\.h5", re.IGNORECASE)
_WINDOWS = ("Band_Window_1_Nanometers", "Band_Window_2_Nanometers")


def matches(path: Path) -> bool:
    """Tell whether ``path`` is a NEON reflectance file, by its name or, for other ``.h5`` files, by the arrays in it."""
    if path.suffix.lower() not in (".h5", ".hdf5") or not path.is_file():
        return False
    return bool(_NAME.fullmatch(path.name)) or _has_layout(path)


def _has_layout(path: Path) -> bool:
    try:
        import h5py

        with h5py.File(path, "r") as file:
            return any(f"{site}/Reflectance/Reflectance_Data" in file for site in list(file)[:8])
    except (ImportError, OSError, RuntimeError):
        return False


@dataclass(frozen=True)
class _Read:
    """Reads a window of the reflectance and decodes it."""

    name: str
    scale: float
    nodata: float

    def __call__(self, file: h5py.File, bands: slice, rows: Range, columns: Range) -> np.ndarray:
        stored = np.moveaxis(dataset(file, self.name, 3)[slice(*rows), slice(*columns), bands], 2, 0)
        values = stored.astype(np.float32) * np.float32(self.scale)
        values[(stored == self.nodata) | ~np.isfinite(values)] = np.nan
        return values


def open_product(path: Path, *, chunks: Any = None) -> xr.DataArray:
    """Open a NEON reflectance file as a lazy scene of surface reflectance.

    Parameters
    ----------
    path
        The HDF5 file.
    chunks
        As for :func:`geofuse.io.open_scene`.

    Raises
    ------
    InputError
        If it lacks a part of the layout, or its grid is rotated.
    """
    with opened_hdf(path) as file:
        base = f"{_site(file)}/Reflectance"
        name = f"{base}/Reflectance_Data"
        data = dataset(file, name, 3)
        height, width, n_bands = data.shape
        scale = 1 / _attribute(file, data, "Scale_Factor")
        nodata = _attribute(file, data, "Data_Ignore_Value")
        bands, notes = _bands(file, base, n_bands)
        map_info = _text(file, f"{base}/Metadata/Coordinate_System/Map_Info")
        transform, crs = _transform(path, map_info), _crs(file, base, map_info)
        dtype, block = data.dtype.name, tuple(data.chunks[:2]) if data.chunks else (64, width)
    values = lazy_array(path, _Read(name, scale, nodata), (n_bands, height, width), block, chunks)
    attrs = product_attributes(path, TITLE, notes, [path], (dtype, scale, 0.0, nodata))
    return make_scene(values, bands, transform, crs, attrs)


def _site(file: h5py.File) -> str:
    """Return the site's code, which is the name of the outermost group."""
    found = [name for name in file if f"{name}/Reflectance/Reflectance_Data" in file]
    if len(found) != 1:
        raise InputError(f"{file.filename}: {len(found)} groups hold Reflectance/Reflectance_Data; expected one, the site's")
    return found[0]


def _attribute(file: h5py.File, data: h5py.Dataset, name: str) -> float:
    """Return a number among the attributes of the reflectance."""
    try:
        value = float(np.ravel(data.attrs[name])[0])
    except (KeyError, IndexError, TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value) or value == 0:
        raise InputError(f"{file.filename}: Reflectance_Data has no valid {name}; download the file again")
    return value


def _text(file: h5py.File, name: str) -> str:
    """Return a text that the file holds, as a scalar or as an array of one; empty if it does not hold it (itself)."""
    node = file.get(name)
    if getattr(node, "size", 0) != 1 or node.file.filename != file.filename:
        return ""
    first = np.ravel(np.asarray(node[()], dtype=object))[0]
    return first.decode("utf-8", errors="replace") if isinstance(first, bytes) else str(first)


def _bands(file: h5py.File, base: str, n_bands: int) -> tuple[BandMetadata, list[str]]:
    """Return the bands' metadata, those in the windows of water vapour marked as bad, and notes."""
    folder = f"{base}/Metadata/Spectral_Data"
    wavelength, notes = _spectral(file, f"{folder}/Wavelength", n_bands), []
    fwhm = _spectral(file, f"{folder}/FWHM", n_bands) if f"{folder}/FWHM" in file else np.full(n_bands, np.nan)
    if wavelength.max() < 100:  # um
        wavelength, fwhm = 1000 * wavelength, 1000 * fwhm
    good = np.ones(n_bands, bool)
    for key in _WINDOWS:
        window = np.ravel(file[base].attrs.get(key, file[folder].attrs.get(key, [])))
        if window.size == 2 and window.dtype.kind in "iuf":
            good &= (wavelength < window.min()) | (wavelength > window.max())
            notes.append(f"bands from {window.min():g} to {window.max():g} nm are bad (water vapour, {key})")
    if not notes:
        notes.append("the file does not say which bands are bad (no Band_Window_1_Nanometers)")
    return BandMetadata(wavelength, fwhm, good, tuple(f"band {i + 1}" for i in range(n_bands))), notes


def _spectral(file: h5py.File, name: str, n_bands: int) -> np.ndarray:
    values = np.asarray(dataset(file, name, 1)[()], float)
    if values.shape != (n_bands,) or not (np.isfinite(values) & (values > 0)).all():
        raise InputError(
            f"{file.filename}: {name} holds {values.size} values; expected a positive number for each of {n_bands} bands"
        )
    return values


def _transform(path: Path, map_info: str) -> Affine:
    """Return the geotransform: the reference pixel of ``Map_Info`` counts from 1 at the upper left corner of the first pixel."""
    from affine import Affine

    fields = [field.strip() for field in map_info.strip("{} ").split(",")]
    try:
        column, row, x, y, dx, dy = (float(field) for field in fields[1:7])
    except ValueError:
        raise InputError(f"{path}: Map_Info is {map_info[:60]!r}; expected 'UTM, 1, 1, x, y, dx, dy, zone, ...'") from None
    rotation = next((float(n) for n in re.findall(r"rotation\s*=\s*(-?[0-9.]+)", map_info)), 0.0)
    if rotation:
        raise InputError(f"{path}: rotated by {rotation:g} degrees (Map_Info); warp it to a north-up grid first (gdalwarp)")
    return Affine(dx, 0.0, x - (column - 1) * dx, 0.0, -dy, y + (row - 1) * dy)


def _crs(file: h5py.File, base: str, map_info: str) -> str | None:
    """Return the CRS as ``EPSG:code``: the code of the file, else that of the UTM zone in ``Map_Info``; None without either."""
    code = _text(file, f"{base}/Metadata/Coordinate_System/EPSG Code").strip()
    if code.isdecimal():
        return f"EPSG:{code}"
    zone = re.search(r"^\s*UTM.*,\s*(\d{1,2})\s*,\s*(North|South)\s*,\s*WGS", map_info, re.IGNORECASE)
    return f"EPSG:{(32600 if zone[2].lower() == 'north' else 32700) + int(zone[1])}" if zone else None
