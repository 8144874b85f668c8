"""Read an image from a Zarr store: lazy, in physical units, NaN where there is no data.

The layout is that of CF as xarray and rioxarray write it: one array (band, y, x) with ``scale_factor``, ``add_offset`` and
``_FillValue``; coordinates along its bands (a wavelength by its ``standard_name`` or its name, ``fwhm``, ``good_band``,
``band_name``) and along y and x; and a ``grid_mapping`` with ``crs_wkt`` and ``GeoTransform``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError
from geofuse.io.bands import nm_per_unit
from geofuse.io.chunking import chunk_sizes, file_fingerprint
from geofuse.io.storage import Storage, decode
from geofuse.io.zarr_store import (
    Store,
    check_claims,
    find_store,
    missing_chunks,
    one_error,
    opened_store,
    require_whole_chunks,
)
from geofuse.scene import BandMetadata, make_scene, provenance_of

if TYPE_CHECKING:
    import xarray as xr
    from affine import Affine

COMPLETE = "geofuse_every_chunk_is_stored"
"""Attribute of an image of which no chunk was left out when it was written: one that is missing was lost."""

_ROWS = ("y", "lat", "latitude", "northing")
_COLUMNS = ("x", "lon", "longitude", "easting")
_WAVELENGTH = ("radiation_wavelength", "sensor_band_central_radiation_wavelength")
_NAMES = {"wavelength": ("wavelength", "wavelengths"), "fwhm": ("fwhm",), "good": ("good_band", "good_wavelengths", "bbl")}


@dataclass(frozen=True)
class ZarrImage:
    """The image of a store; ``block`` is the shape (band, y, x) of a chunk, ``codecs`` names what its chunks went through."""

    store: Store
    name: str
    shape: tuple[int, int, int]
    block: tuple[int, int, int]
    codecs: tuple[str, ...]
    storage: Storage
    bands: BandMetadata
    wavelength_source: str | None
    transform: Affine
    crs: Any
    provenance: Mapping[str, str]
    notes: tuple[str, ...]


def read_image(path: str | os.PathLike[str], *, allow_remote: bool = False) -> ZarrImage:
    """Find the image of a store and read all that is known of it; none of its values.

    Raises
    ------
    InputError
        If the path is no store, is damaged or implausible, or holds no image of this layout, or several.
    """
    import xarray as xr

    store = find_store(path, allow_remote=allow_remote)
    with opened_store(store) as group:
        arrays = check_claims(store, group)
        how = {"mask_and_scale": False, "decode_times": False, "chunks": None, "consolidated": store.consolidated, "zarr_format": 3}
        with xr.open_zarr(store.location, **how) as contents:
            image = _find_image(store, contents)
            name = str(image.name)
            notes = _missing(store, name, arrays[name], image.attrs)
            bands, source = _bands(store, image, contents)
            transform, crs = _grid(store, image, contents)
            return ZarrImage(
                store,
                name,
                image.shape,
                tuple(arrays[name].chunks),
                tuple(codec["name"] for codec in arrays[name].metadata.to_dict()["codecs"] if codec["name"] != "bytes"),
                _storage(store, image),
                bands,
                source,
                transform,
                crs,
                provenance_of({**contents.attrs, **image.attrs}),
                tuple(notes),
            )


def _find_image(store: Store, contents: xr.Dataset) -> xr.DataArray:
    """Return the one array (band, y, x) of numbers."""
    arrays = sorted(contents.data_vars.values(), key=lambda array: str(array.name))
    cubes = [array for array in arrays if array.ndim == 3 and array.dtype.kind in "iuf"]
    found = [array for array in cubes if array.dims[1] in _ROWS and array.dims[2] in _COLUMNS and 0 not in array.shape]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(array.name) for array in found[:5])
        raise InputError(f"{store.path}: holds {len(found)} images ({names}); keep one: ds[['{found[0].name}']].to_zarr(...)")
    held = ", ".join(f"{name} ({', '.join(map(str, array.dims))})" for name, array in list(contents.data_vars.items())[:4])
    expected = "expected an image of numbers with dimensions (band, y, x): select or transpose it in xarray and write it again"
    raise InputError(f"{store.path}: holds {held or 'no arrays'}; {expected}")


def _missing(store: Store, name: str, array: Any, attrs: Mapping[str, Any]) -> list[str]:
    """Tell of chunks that are not there; an error where all of them were written."""
    n = missing_chunks(store, name, array)
    if n and attrs.get(COMPLETE):
        remedy = f"copy or download it again (or, if another program rewrote it, remove the attribute {COMPLETE})"
        raise InputError(f"{store.path}: {n} chunks of {name} are missing; {remedy}")
    return [f"{n} chunks have no file and count as no data (left out because empty, or lost)"] if n else []


def _storage(store: Store, image: xr.DataArray) -> Storage:
    """Return the stored form from the CF attributes."""
    attrs, n = image.attrs, image.shape[0]
    try:
        scale, offset = float(attrs.get("scale_factor", 1.0)), float(attrs.get("add_offset", 0.0))
        fill = attrs.get("_FillValue", attrs.get("missing_value"))
        fill = None if fill is None else float(fill)
    except (TypeError, ValueError):
        raise InputError(f"{store.path}: scale_factor, add_offset or _FillValue of {image.name} is no number; correct it") from None
    if not (np.isfinite([scale, offset]).all() and scale != 0):
        raise InputError(f"{store.path}: scale {scale:g}, offset {offset:g}; correct these attributes of {image.name}")
    return Storage(image.dtype.name, tuple(range(1, n + 1)), np.full(n, scale), np.full(n, offset), (fill,) * n, None, None)


def _bands(store: Store, image: xr.DataArray, contents: xr.Dataset) -> tuple[BandMetadata, str | None]:
    """Return what the coordinates along the bands say."""
    n = image.shape[0]
    along = {str(k): v for k, v in contents.variables.items() if v.dims == image.dims[:1]}
    numeric = {key: variable for key, variable in along.items() if variable.dtype.kind in "iufb"}
    wavelength = next((key for key, variable in numeric.items() if variable.attrs.get("standard_name") in _WAVELENGTH), None)
    wavelength = wavelength or next((key for key in _NAMES["wavelength"] if key in numeric), None)
    fwhm, good = (next((key for key in _NAMES[kind] if key in numeric), None) for kind in ("fwhm", "good"))
    unknown = BandMetadata.unknown(n)
    unit = numeric[wavelength].attrs.get("units") if wavelength else None
    names = along["band_name"].values if "band_name" in along else unknown.band_name
    wavelength_nm = _nm(store, numeric, wavelength, unit, unknown.wavelength_nm)
    in_um = wavelength is not None and bool((wavelength_nm > np.asarray(numeric[wavelength].values, float)).any())
    bands = BandMetadata(
        wavelength_nm,
        _nm(store, numeric, fwhm, "um" if in_um else "nm", unknown.fwhm_nm),
        np.asarray(numeric[good].values) != 0 if good else unknown.good_band,
        tuple(str(name) for name in names),
    )
    return bands, f"coordinate {wavelength}" if wavelength and np.isfinite(bands.wavelength_nm).any() else None


def _nm(store: Store, along: Mapping[str, Any], name: str | None, unit: str | None, default: np.ndarray) -> np.ndarray:
    """Return a coordinate as positive numbers in nm, NaN elsewhere; ``unit`` for one that names none."""
    if name is None:
        return default
    values = np.asarray(along[name].values, float)
    factor = nm_per_unit(along[name].attrs.get("units", unit), values, store.path)
    if factor is None:
        return default
    values = values * factor
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _grid(store: Store, image: xr.DataArray, contents: xr.Dataset) -> tuple[Affine, Any]:
    """Return transform and CRS.

    The coordinates decide over ``GeoTransform``, which programs that cut an image leave as it was; where both agree, the
    transform is the exact one.
    """
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    mapping = image.attrs.get("grid_mapping", image.encoding.get("grid_mapping", "spatial_ref"))
    attrs = contents.variables[mapping].attrs if mapping in contents.variables else {}
    text = attrs.get("crs_wkt", attrs.get("spatial_ref"))
    try:
        crs = CRS.from_wkt(str(text)) if text else None
        stated = Affine.from_gdal(*(float(v) for v in str(attrs["GeoTransform"]).split())) if "GeoTransform" in attrs else None
    except (CRSError, TypeError, ValueError):
        raise InputError(f"{store.path}: {mapping} has a crs_wkt or GeoTransform that cannot be read; correct it") from None
    y, x = (_axis(store, contents, dim) for dim in image.dims[1:])
    if stated is not None and (x is None or y is None or _agrees(stated, x, y, image.shape)):
        return stated, crs
    if x is None or y is None or not (x[1] and y[1]):
        return Affine.identity(), crs
    return Affine(x[1], 0.0, x[0] - x[1] / 2, 0.0, y[1], y[0] - y[1] / 2), crs


def _axis(store: Store, contents: xr.Dataset, dim: Any) -> tuple[float, float] | None:
    """Return first centre and step of a coordinate (step 0 for a single pixel); None if there is no coordinate."""
    if dim not in contents.variables:
        return None
    centres = np.asarray(contents.variables[dim].values, float)
    if len(centres) == 1:
        return float(centres[0]), 0.0
    step = (centres[-1] - centres[0]) / (len(centres) - 1)
    if not (np.isfinite(centres).all() and step) or np.abs(np.diff(centres) - step).max() > 0.01 * abs(step):
        raise InputError(f"{store.path}: {dim} is not evenly spaced; regrid it first (odc-geo, rioxarray)")
    return float(centres[0]), float(step)


def _agrees(t: Affine, x: tuple[float, float], y: tuple[float, float], shape: tuple[int, ...]) -> bool:
    """Tell whether a transform puts first and last pixel centre within a hundredth of a pixel of where the coordinates do."""
    ends = ((0, 0), (shape[1] - 1, shape[2] - 1))
    found = [(t.c + t.a * (column + 0.5), t.f + t.e * (row + 0.5)) for row, column in ends]
    told = [(x[0] + column * x[1], y[0] + row * y[1]) for row, column in ends]
    pixel = max(abs(t.a), abs(t.e))
    return t.is_rectilinear and bool(np.abs(np.subtract(found, told)).max() < 0.01 * pixel)


def open_store(path: str | os.PathLike[str], *, chunks: Any = None, allow_remote: bool = False) -> xr.DataArray:
    """Open the image of a Zarr store as a lazy scene.

    Parameters
    ----------
    path
        The store's folder; with ``allow_remote`` also a URL that ends in ``.zarr``.
    chunks
        As for :func:`geofuse.io.open_scene`; None for all bands in windows of about 4 MiB that follow the store's chunks.
    allow_remote
        Also open URLs; nothing is then known of the size of their files.

    Raises
    ------
    InputError
        As :func:`read_image`; computing a chunk that cannot be read raises it too.
    """
    import dask.array as da
    from dask.base import tokenize

    image = read_image(path, allow_remote=allow_remote)
    layout = chunk_sizes(chunks, image.shape, image.block[1:])
    reader = ZarrReader(image.store, image.name, image.storage, _fingerprint(image.store, image.name))
    name = "open-zarr-" + tokenize(image.store.location, image.name, reader.fingerprint, layout)
    data = da.map_blocks(reader, chunks=layout, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32), name=name)
    attrs = {**image.storage.attributes(), "source": os.fspath(path), **image.provenance}
    if image.notes:
        attrs["notes"] = list(image.notes)
    return make_scene(data, image.bands, image.transform, image.crs, attrs)


def _fingerprint(store: Store, name: str) -> tuple[int, int] | None:
    return file_fingerprint(os.path.join(store.location, name, "zarr.json")) if store.is_local else None


@dataclass(frozen=True)
class ZarrReader:
    """Reads one chunk of a scene; a plain value that dask may send to other threads and processes."""

    store: Store
    name: str
    storage: Storage
    fingerprint: tuple[int, int] | None

    def __call__(self, block_info: Mapping[Any, Any]) -> np.ndarray:
        """Read and decode the chunk that dask's ``block_info`` describes.

        Raises
        ------
        InputError
            If the store changed since it was opened, or cannot be read.
        """
        import zarr

        window = tuple(slice(start, stop) for start, stop in block_info[None]["array-location"])
        if _fingerprint(self.store, self.name) != self.fingerprint:
            raise InputError(f"{self.store.path}: changed since it was opened; open it again")
        with one_error(self.store):
            array = zarr.open_array(self.store.location, path=self.name, mode="r", zarr_format=3)
            if self.store.is_local:
                require_whole_chunks(array, os.path.join(self.store.location, self.name), window)
            return decode(np.asarray(array[window]), self.storage.select(window[0]))
