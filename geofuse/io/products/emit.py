"""EMIT L2A reflectance: a netCDF-4 file in the geometry of the sensor, with a table that puts it on a map.

Layout: NASA LP DAAC, EMIT L2A Estimated Surface Reflectance (EMITL2ARFL V001) user guide and the EMIT-Data-Resources notebooks.
``reflectance`` is (downtrack, crosstrack, bands), ``sensor_band_parameters`` holds ``wavelengths``, ``fwhm`` (nm) and
``good_wavelengths``, ``location`` holds ``glt_x`` (crosstrack) and ``glt_y`` (downtrack): for each pixel of the map the number,
from 1, of the sensor's pixel that belongs there, 0 for none. ``geotransform`` and ``spatial_ref`` at the root are those of the map.
``EMIT_L2A_MASK_*.nc`` of the same granule has flags (downtrack, crosstrack, flag), above 0 where they apply, named by
``sensor_band_parameters/mask_bands``; which there are depends on its version, so they are looked up by name.
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
from geofuse.io.products.quality import with_note, without_clouds
from geofuse.scene import BandMetadata, make_scene

if TYPE_CHECKING:
    import h5py
    import xarray as xr

TITLE = "EMIT L2A"
BACKGROUND = -9999.0
STRIP_BYTES = 64 * 2**20
"""How much of the sensor's image is held at once while a block is put together."""

CLOUDED = ("cloud flag", "cirrus flag", "spacecraft flag", "dilated cloud flag", "spectf-cloud flag")
"""Flags of the mask file, in lower case, whose pixels do not show the ground."""

_NAME = re.compile(r"EMIT_L2A_RFL_.*\.nc4?", re.IGNORECASE)
_GRANULE = re.compile(r"EMIT_L2A_(?:RFL|MASK)_\d{3}_(.*)\.nc4?", re.IGNORECASE)
_BLOCK = 256  # pixels of the map along each side: of 285 bands, 75 MB


def matches(path: Path) -> bool:
    """Tell whether a path is named like an EMIT L2A reflectance file."""
    return path.is_file() and _NAME.fullmatch(path.name) is not None


@dataclass(frozen=True)
class _Orthorectify:
    """Reads a window of the map; see :data:`geofuse.io.products.hdf.Read`."""

    background: float
    name: str = "reflectance"

    def __call__(self, file: h5py.File, bands: slice, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        image, *tables = _arrays(file, self.name)
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


def _arrays(file: h5py.File, name: str = "reflectance") -> tuple[h5py.Dataset, h5py.Dataset, h5py.Dataset]:
    """Return the sensor's image (downtrack, crosstrack, band) and the table: crosstrack, downtrack numbers (y, x).

    Raises
    ------
    InputError
        If they are missing or not of the published form.
    """
    image = dataset(file, name, 3)
    glt = [dataset(file, f"location/{table}", 2) for table in ("glt_x", "glt_y")]
    if glt[0].shape != glt[1].shape or any(table.dtype.kind not in "iu" for table in glt) or image.dtype.kind != "f":
        found = f"{image.dtype} {name}, GLT {glt[0].shape} {glt[0].dtype} and {glt[1].shape} {glt[1].dtype}"
        raise InputError(f"{file.filename}: {found}; expected real numbers and two tables of whole numbers of one size")
    return image, glt[0], glt[1]


def open_product(path: Path, *, chunks: Any = None, mask_clouds: bool = True) -> xr.DataArray:
    """Open EMIT L2A reflectance as a lazy, orthorectified scene on the product's own map grid.

    Parameters
    ----------
    path
        The reflectance file.
    chunks
        As for :func:`geofuse.io.open_scene`.
    mask_clouds
        Whether pixels with one of the flags :data:`CLOUDED` are no data, if the granule's mask file lies beside it.

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
        "product": TITLE,
        "notes": ["orthorectified by the product's own table (GLT), nearest pixel"],
        "files": [str(path)],
    }
    scene = make_scene(data, bands, Affine(dx, rx, west, ry, dy, north), crs, attrs)
    return _without_clouds(scene, path, chunks) if mask_clouds else with_note(scene, "clouds are not masked")


@dataclass(frozen=True)
class _Flags:
    """Reads where one of some flags of a mask file applies (1 or 0); see :data:`geofuse.io.products.hdf.Read`."""

    flags: tuple[int, ...]  # 0-based

    def __call__(self, file: h5py.File, bands: slice, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        found = [_Orthorectify(BACKGROUND, "mask")(file, slice(i, i + 1), rows, columns) > 0 for i in self.flags]
        return np.any(found, axis=0).astype(np.float32)


def _without_clouds(scene: xr.DataArray, path: Path, chunks: Any) -> xr.DataArray:
    """Take out what the granule's mask file flags."""
    file = _mask_file(path)
    if file is None:
        return with_note(scene, "clouds are not masked: no EMIT_L2A_MASK file of this granule beside it")
    with opened_hdf(file) as opened:
        mask, glt, _ = _arrays(opened, "mask")
        if glt.shape != scene.shape[1:]:
            raise InputError(f"{file}: its map has {glt.shape} pixels, the reflectance {scene.shape[1:]}; copy the granule again")
        names = [str(name, "utf-8") if isinstance(name, bytes) else str(name) for name in _names(opened)]
        flags = tuple(i for i, name in enumerate(names[: mask.shape[2]]) if name.strip().lower() in CLOUDED)
    if not flags:
        raise InputError(
            f"{file}: flags {', '.join(names)[:80]}; expected a Cloud flag among them: copy it again, or leave clouds in"
        )
    block = min(_BLOCK, scene.shape[1]), min(_BLOCK, scene.shape[2])
    layer = lazy_array(file, _Flags(flags), (1, *scene.shape[1:]), block)
    told = ", ".join(names[i].strip() for i in flags)
    return without_clouds(scene, layer > 0, [file], f"pixels with one of these flags of the mask file are no data: {told}")


def _mask_file(path: Path) -> Path | None:
    """Return the mask file of the same granule in the same folder; of several versions, the last."""
    own = _GRANULE.fullmatch(path.name)
    found = [
        file
        for file in sorted(path.parent.iterdir())
        if (match := _GRANULE.fullmatch(file.name)) and "_MASK_" in file.name.upper() and own and match[1] == own[1]
    ]
    return found[-1] if found else None


def _names(file: h5py.File) -> list[Any]:
    """Return the names of the flags."""
    parameters = file.get("sensor_band_parameters")
    if parameters is None or "mask_bands" not in parameters:
        raise InputError(
            f"{file.filename}: has no sensor_band_parameters/mask_bands; expected the layout of the product as published"
        )
    return list(parameters["mask_bands"][:])


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
