"""EMIT L2A reflectance: a netCDF-4 file in the geometry of the sensor, with a table that puts it on a map.

Layout: NASA LP DAAC, EMIT L2A Estimated Surface Reflectance (EMITL2ARFL V001) user guide and the EMIT-Data-Resources notebooks.
``reflectance`` is (downtrack, crosstrack, bands), ``sensor_band_parameters`` holds ``wavelengths``, ``fwhm`` (nm) and
``good_wavelengths``, ``location`` holds ``glt_x`` (crosstrack) and ``glt_y`` (downtrack): for each pixel of the map the number,
from 1, of the sensor's pixel that belongs there, 0 for none. ``geotransform`` and ``spatial_ref`` at the root are those of the map.
Each block of the scene is orthorectified when it is computed: nothing is resampled, sensor pixels are only put in their place.
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

TITLE = "EMIT L2A"
BACKGROUND = -9999.0
STRIP_BYTES = 64 * 2**20
"""How much of the sensor's image is held at once while a block is put together."""

_NAME = re.compile(r"EMIT_L2A_RFL_.*\.nc4?", re.IGNORECASE)
_BLOCK = 256  # pixels of the map along each side: of 285 bands, 75 MB


def matches(path: Path) -> bool:
    """Tell whether a path is named like an EMIT L2A reflectance file."""
    return path.is_file() and _NAME.fullmatch(path.name) is not None


@dataclass(frozen=True)
class _Orthorectify:
    """Reads a window of the map; see :data:`geofuse.io.products.hdf.Read`."""

    background: float

    def __call__(self, file: h5py.File, bands: slice, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        image, *tables = _arrays(file)
        sample, line = (np.asarray(table[rows[0] : rows[1], columns[0] : columns[1]], np.int64) for table in tables)
        known = (sample != 0) & (line != 0)
        out = np.full((bands.stop - bands.start, *known.shape), np.nan, np.float32)
        if not known.any():
            return out
        line, sample = line[known] - 1, sample[known] - 1
        if min(line.min(), sample.min()) < 0 or line.max() >= image.shape[0] or sample.max() >= image.shape[1]:
            raise InputError(
                f"{file.filename}: its GLT points outside the {image.shape[0]} x {image.shape[1]} image; it is damaged"
            )
        out[:, known] = _gather(image, line, sample, bands, self.background)
        return out


def _gather(image: h5py.Dataset, line: np.ndarray, sample: np.ndarray, bands: slice, background: float) -> np.ndarray:
    """Return the values (band, n) of n sensor pixels, 0-based, reading the sensor's lines once each, a strip at a time."""
    left, right = int(sample.min()), int(sample.max()) + 1
    per_line = (right - left) * (bands.stop - bands.start) * image.dtype.itemsize
    step = max(1, STRIP_BYTES // per_line)
    order = np.argsort(line, kind="stable")
    ordered = line[order]
    values = np.empty((bands.stop - bands.start, len(line)), np.float32)
    for top in range(int(line.min()), int(line.max()) + 1, step):
        part = order[np.searchsorted(ordered, top) : np.searchsorted(ordered, top + step)]
        if part.size:
            strip = image[top : int(line[part].max()) + 1, left:right, bands]
            values[:, part] = strip[line[part] - top, sample[part] - left].T
    values[~np.isfinite(values) | (values == np.float32(background))] = np.nan
    return values


def _arrays(file: h5py.File) -> tuple[h5py.Dataset, h5py.Dataset, h5py.Dataset]:
    """Return the sensor's image (downtrack, crosstrack, band) and the table: crosstrack, downtrack numbers (y, x).

    Raises
    ------
    InputError
        If they are missing or not of the published form.
    """
    image = dataset(file, "reflectance", 3)
    glt = [dataset(file, f"location/{name}", 2) for name in ("glt_x", "glt_y")]
    if glt[0].shape != glt[1].shape or any(table.dtype.kind not in "iu" for table in glt) or image.dtype.kind != "f":
        found = f"{image.dtype} reflectance, GLT {glt[0].shape} {glt[0].dtype} and {glt[1].shape} {glt[1].dtype}"
        raise InputError(f"{file.filename}: {found}; expected real reflectance and two tables of whole numbers of one size")
    return image, glt[0], glt[1]


def open_product(path: Path, *, chunks: Any = None) -> xr.DataArray:
    """Open EMIT L2A reflectance as a lazy, orthorectified scene on the product's own map grid.

    Raises
    ------
    InputError
        If h5py is not installed, or the file is damaged or not of the published layout.
    """
    from affine import Affine

    with opened_hdf(path) as file:
        image, glt, _ = _arrays(file)
        n, (height, width) = image.shape[2], glt.shape
        bands = _bands(file, n)
        west, dx, rx, north, ry, dy = numbers(file, "geotransform", 6)
        crs = _crs(str(attribute(file, "spatial_ref")), path)
        background = float(np.ravel(image.attrs.get("_FillValue", BACKGROUND))[0])
    block = min(_BLOCK, height), min(_BLOCK, width)
    data = lazy_array(path, _Orthorectify(background), (n, height, width), block, chunks)
    attrs = {
        "stored_dtype": "float32",
        "stored_scale": 1.0,
        "stored_offset": 0.0,
        "stored_nodata": background,
        "source": str(path),
        "provenance": {},
        "product": TITLE,
        "notes": ["orthorectified by the product's own table (GLT), nearest pixel"],
        "files": [str(path)],
    }
    return make_scene(data, bands, Affine(dx, rx, west, ry, dy, north), crs, attrs)


def _bands(file: h5py.File, n: int) -> BandMetadata:
    """Read wavelengths, FWHM and the bands that the product says are good."""
    columns = [np.asarray(dataset(file, f"sensor_band_parameters/{name}", 1)[:], float) for name in ("wavelengths", "fwhm")]
    good = np.asarray(dataset(file, "sensor_band_parameters/good_wavelengths", 1)[:], float) == 1
    if any(len(column) != n for column in (*columns, good)):
        found = ", ".join(str(len(column)) for column in (*columns, good))
        raise InputError(f"{file.filename}: {n} bands, but {found} wavelengths, widths and marks of good bands; it is damaged")
    wavelength, fwhm = (np.where(column > 0, column, np.nan) for column in columns)
    return BandMetadata(wavelength, fwhm, good, tuple(f"band {i + 1}" for i in range(n)))


def _crs(text: str, path: Path) -> Any:
    """Return the CRS that a WKT text describes."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return CRS.from_wkt(text)
    except CRSError:
        raise InputError(f"{path}: spatial_ref is not a CRS ({text[:40]!r}); expected WKT") from None
