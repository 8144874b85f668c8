"""PRISMA L2D: orthorectified reflectance in one HDF-EOS5 file (``.he5``).

Layout: ASI, PRISMA Products Specification Document, and as read by prismaread and EnMAP-Box. ``VNIR_Cube`` and ``SWIR_Cube`` of
``HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields`` are uint16 in the order (lines, bands, samples); root attributes hold ``List_Cw_*`` and
``List_Fwhm_*`` (nm), ``L2Scale*Min`` and ``L2Scale*Max``, ``Epsg_Code`` and the corners. Reflectance is
Min + stored * (Max - Min) / 65535. Outside the swath all bands are 0, which is no data; a 0 beside other values is the least
value, where the atmospheric correction came out negative (dark water, bands of the water vapour). Wavelengths descend and are 0
for channels that are not used: the scene has the others in ascending order, VNIR before SWIR, their overlap (920-1010 nm) kept.

The corner coordinates are taken as centres of the corner pixels where they lie (n - 1) * 30 m apart (as EnMAP-Box does; some take
the same number for the outer corner, 15 m away), as outer corners where they lie n * 30 m apart. The geolocation itself may be off
by several pixels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError
from geofuse.io.products.hdf import attribute, dataset, lazy_array, numbers, opened_hdf
from geofuse.scene import BandMetadata, make_scene

if TYPE_CHECKING:
    import h5py
    import xarray as xr
    from affine import Affine
    from rasterio.crs import CRS

TITLE = "PRISMA L2D"
PIXEL_M = 30.0

_NAME = re.compile(r"PRS_L2D_.*\.he5", re.IGNORECASE)
_FIELDS = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"
_FULL = 65535


def matches(path: Path) -> bool:
    """Tell whether a path is named like a PRISMA L2D file."""
    return path.is_file() and _NAME.fullmatch(path.name) is not None


@dataclass(frozen=True)
class _Band:
    """One band of the scene: where it is stored, how, and what it sees."""

    cube: str  # "Vnir" or "Swir"
    index: int  # 0-based in the cube
    low: float  # L2Scale..Min
    high: float  # L2Scale..Max
    wavelength_nm: float
    fwhm_nm: float


@dataclass(frozen=True)
class _ReadBands:
    """Reads a window of both cubes; see :data:`geofuse.io.products.hdf.Read`."""

    bands: tuple[_Band, ...]

    def __call__(self, file: h5py.File, bands: slice, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        stored = {name: _cube(file, name)[rows[0] : rows[1], :, columns[0] : columns[1]] for name in ("Vnir", "Swir")}
        outside = np.all([stored[band.cube][:, band.index] == 0 for band in self.bands], axis=0)
        wanted = self.bands[bands]
        out = np.empty((len(wanted), *outside.shape), np.float32)
        for values, band in zip(out, wanted, strict=True):
            values[:] = band.low + stored[band.cube][:, band.index] * ((band.high - band.low) / _FULL)
        out[:, outside] = np.nan
        return out


def _cube(file: h5py.File, name: str) -> h5py.Dataset:
    return dataset(file, f"{_FIELDS}/{name.upper()}_Cube", 3)


def open_product(path: Path, *, chunks: Any = None) -> xr.DataArray:
    """Open PRISMA L2D as a lazy scene of reflectance, bands in ascending order within VNIR and within SWIR.

    Raises
    ------
    InputError
        If h5py is not installed, or the file is damaged or not of the published layout.
    """
    with opened_hdf(path) as file:
        cubes = {name: _cube(file, name) for name in ("Vnir", "Swir")}
        height, _, width = cubes["Vnir"].shape
        if (height, width) != cubes["Swir"].shape[::2] or any(cube.dtype != np.uint16 for cube in cubes.values()):
            found = ", ".join(f"{name} {cube.shape} {cube.dtype}" for name, cube in cubes.items())
            raise InputError(f"{path}: {found}; expected uint16 cubes (lines, bands, samples) of the same lines and samples")
        bands = tuple(band for name, cube in cubes.items() for band in _bands(file, name, cube.shape[1]))
        transform, place = _grid(file, height, width)
        crs = _crs(int(numbers(file, "Epsg_Code", 1)[0]), path)
        blocks = cubes["Vnir"].chunks or (1, 1, width)
        dropped = sum(cube.shape[1] for cube in cubes.values()) - len(bands)
        offset = cubes["Vnir"].shape[1]
    if not bands:
        raise InputError(f"{path}: no band has a wavelength; expected {TITLE}")
    data = lazy_array(path, _ReadBands(bands), (len(bands), height, width), (blocks[0], blocks[2]), chunks)
    notes = [
        f"grid: {place}; PRISMA may lie several pixels off: co-register it",
        "clouds are not masked: the product holds no cloud mask",
    ]
    if dropped:
        notes.append(f"{dropped} channels without a wavelength were left out")
    attrs = {**_stored(bands), "source": str(path), "product": TITLE, "notes": notes, "files": [str(path)]}
    scene = make_scene(data, _metadata(bands), transform, crs, attrs)
    return scene.assign_coords(band=("band", [band.index + 1 + (offset if band.cube == "Swir" else 0) for band in bands]))


def _crs(code: int, path: Path) -> CRS:
    """Return the CRS of an EPSG code."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return CRS.from_epsg(code)
    except CRSError:
        raise InputError(f"{path}: Epsg_Code {code} is no CRS; expected the code of a UTM zone") from None


def _bands(file: h5py.File, name: str, n: int) -> list[_Band]:
    """Return the bands of a cube that have a wavelength, in ascending order."""
    wavelength, fwhm = (numbers(file, f"List_{kind}_{name}", n) for kind in ("Cw", "Fwhm"))
    low, high = (float(numbers(file, f"L2Scale{name}{end}", 1)[0]) for end in ("Min", "Max"))
    if not high > low:
        raise InputError(f"{file.filename}: L2Scale{name}Min {low:g}, Max {high:g}; expected Max above Min")
    used = [i for i in np.argsort(wavelength, kind="stable") if wavelength[i] > 0]
    return [_Band(name, int(i), low, high, float(wavelength[i]), float(fwhm[i]) or np.nan) for i in used]


def _metadata(bands: tuple[_Band, ...]) -> BandMetadata:
    names = tuple(f"{band.cube.upper()} {band.index + 1}" for band in bands)
    numbers_nm = (np.array([getattr(band, field) for band in bands]) for field in ("wavelength_nm", "fwhm_nm"))
    return BandMetadata(*numbers_nm, np.ones(len(bands), bool), names)


def _stored(bands: tuple[_Band, ...]) -> dict[str, Any]:
    """Return the stored form, that of plain float32 where VNIR and SWIR differ in scale."""
    ends = {(band.low, band.high) for band in bands}
    if len(ends) > 1:
        return {"stored_dtype": "float32", "stored_scale": 1.0, "stored_offset": 0.0, "stored_nodata": float("nan")}
    ((low, high),) = ends
    return {"stored_dtype": "uint16", "stored_scale": (high - low) / _FULL, "stored_offset": low, "stored_nodata": 0.0}


def _grid(file: h5py.File, height: int, width: int) -> tuple[Affine, str]:
    """Return the transform of the pixel corners, and in words what the product's corner coordinates were taken as."""
    from affine import Affine

    left, top, right, bottom = (
        float(numbers(file, f"Product_{corner}_{axis}", 1)[0])
        for corner, axis in (("ULcorner", "easting"), ("ULcorner", "northing"), ("LRcorner", "easting"), ("LRcorner", "northing"))
    )
    steps = (right - left) / PIXEL_M, (top - bottom) / PIXEL_M
    if np.allclose(steps, (width - 1, height - 1), atol=0.1):
        return Affine(PIXEL_M, 0, left - PIXEL_M / 2, 0, -PIXEL_M, top + PIXEL_M / 2), "corner coordinates taken as pixel centres"
    if np.allclose(steps, (width, height), atol=0.1):
        return Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top), "corner coordinates are the outer corners"
    name = attribute(file, "Projection_Name") if "Projection_Name" in file.attrs else "unknown projection"
    found = f"{steps[0]:.1f} x {steps[1]:.1f} pixels of 30 m apart for {width} x {height} pixels ({name})"
    raise InputError(f"{file.filename}: corners are {found}; convert it to GeoTIFF (EnMAP-Box, prismaread) and check its place")
