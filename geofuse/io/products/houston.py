"""DFC2018 Houston: the hyperspectral image (ENVI without extension) and the folder of aerial RGB tiles.

IEEE GRSS Data Fusion Contest 2018 (Xu et al., IEEE JSTARS 12(6), 2019): CASI, 48 bands over 380-1050 nm at 1 m, kept in a file of
50 bands of which the last two are not spectral; DiMAC RGB at 0.05 m in tiles ``UH_NAD83_<x>_<y>.tif``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError, UsageError
from geofuse.io.averaging import average
from geofuse.io.bands import read_bands
from geofuse.io.guard import find_source, opened
from geofuse.io.products.band_files import product_attributes, rechunked
from geofuse.io.products.mosaic import mosaic
from geofuse.io.reader import header_fields, lazy_scene, open_scene, provenance
from geofuse.io.storage import read_storage
from geofuse.scene import BandMetadata, make_scene

if TYPE_CHECKING:
    import xarray as xr
    from rasterio import DatasetReader

TITLE = "DFC2018 Houston"
N_STORED, N_SPECTRAL = 50, 48
RANGE_NM = (380.0, 1050.0)
RGB = ("red", "green", "blue")
_HSI = re.compile(r"2018_IEEE_GRSS_DFC_HSI(_TR)?(\.hdr)?|20170218_UH_CASI_S4_NAD83\.(pix|hdr)", re.IGNORECASE)
_TILE = re.compile(r"UH_NAD83_\d+_\d+\.tiff?", re.IGNORECASE)


def matches(path: Path) -> bool:
    """Tell whether ``path`` is the hyperspectral image (either file of the pair) or a folder of RGB tiles."""
    if path.is_dir():
        return any(_TILE.fullmatch(file.name) for file in path.iterdir())
    return bool(_HSI.fullmatch(path.name))


def open_product(path: Path, *, chunks: Any = None, average_to_m: float | None = None) -> xr.DataArray:
    """Open the hyperspectral image, or the RGB tiles as one image, as a lazy scene.

    Parameters
    ----------
    path
        ``2018_IEEE_GRSS_DFC_HSI_TR`` or its ``.HDR``, the whole campaign's ``20170218_UH_CASI_S4_NAD83.pix``
        or its ``.hdr``, or the folder of ``UH_NAD83_*.tif``.
    chunks
        As for :func:`geofuse.io.open_scene`.
    average_to_m
        Pixel size in metres to which the RGB is averaged, a multiple of its own; None for its own.

    Returns
    -------
    xarray.DataArray
        Values as stored: 48 bands of at-sensor radiance in counts, or red, green and blue from 0 to 255. RGB that is 0 in all bands
        is no data.

    Raises
    ------
    InputError
        If the file has not 50 bands, or the tiles are not of one grid.
    UsageError
        If ``average_to_m`` is given for the hyperspectral image, or is not a multiple of the pixel size.
    """
    if path.is_dir():
        return _open_rgb(path, chunks, average_to_m)
    if average_to_m is not None:
        raise UsageError(f"{path}: average_to_m={average_to_m:g} is for the RGB tiles; the hyperspectral image is read as it is")
    return _open_hsi(path, chunks)


def _open_hsi(path: Path, chunks: Any) -> xr.DataArray:
    source = find_source(path)
    with opened(source, check=True) as dataset:
        header = header_fields(dataset)
        storage = read_storage(dataset, header)
        if len(storage.index) != N_STORED:
            raise InputError(
                f"{path}: {len(storage.index)} bands; expected the {N_STORED} of DFC2018; rename a file that is another"
            )
        storage = storage.select(slice(0, N_SPECTRAL))
        bands, notes, conflict = _hsi_bands(dataset, header, storage.index)
        attrs = {
            "source": os.fspath(path),
            **provenance(dataset, header),
            "product": f"{TITLE} (hyperspectral)",
            "notes": [f"the last two of {N_STORED} bands are not spectral and are dropped", *notes],
            "files": list(dataset.files),
            **({"conflict": conflict} if conflict else {}),
        }
        return lazy_scene(source, dataset, storage, bands, attrs, chunks)


def _hsi_bands(
    dataset: DatasetReader, header: Mapping[str, str], index: tuple[int, ...]
) -> tuple[BandMetadata, list[str], str | None]:
    """Return the bands' metadata; wavelengths spread evenly over the published range if the header has none, and said so."""
    report = read_bands(dataset, header, index)
    known = report.bands
    if np.isfinite(known.wavelength_nm).all():
        return known, [], report.conflict
    low, high = RANGE_NM
    step = (high - low) / N_SPECTRAL
    center = low + step * (np.arange(N_SPECTRAL) + 0.5)
    note = f"wavelengths are approximate: {N_SPECTRAL} equal bands over {low:g}-{high:g} nm, as the header has none"
    return BandMetadata(center, np.full(N_SPECTRAL, step), known.good_band, known.band_name), [note], None


def _open_rgb(path: Path, chunks: Any, average_to_m: float | None) -> xr.DataArray:
    files = sorted(file for file in path.iterdir() if _TILE.fullmatch(file.name))
    tiles = [open_scene(file) for file in files]
    data, transform = mosaic(tiles)
    if data.shape[0] != len(RGB):
        raise InputError(f"{files[0]}: {data.shape[0]} bands; expected red, green and blue")
    notes = [f"{len(files)} tiles side by side, {transform.a:g} m; black (0, 0, 0) is no data"]
    data = data.rechunk({0: -1}).map_blocks(_without_black, dtype=np.float32)
    first = tiles[0]
    nan = np.full(len(RGB), np.nan)
    attrs = product_attributes(path, f"{TITLE} (RGB tiles)", notes, files, (first.attrs["stored_dtype"], 1.0, 0.0, 0.0))
    scene = make_scene(data, BandMetadata(nan, nan, np.ones(len(RGB), bool), RGB), transform, first.rio.crs, attrs)
    if average_to_m is not None:
        n = average_to_m / transform.a
        if round(n) < 1 or abs(n - round(n)) > 1e-6 * n:
            raise UsageError(
                f"average_to_m={average_to_m:g} is not a multiple of the pixel size of {transform.a:g} m; give a multiple"
            )
        scene = average(scene, round(n))
        scene.attrs["notes"] = [*notes, f"averaged to {average_to_m:g} m, {round(n)} x {round(n)} pixels each"]
    return scene if chunks is None else rechunked(scene, chunks)


def _without_black(rgb: np.ndarray) -> np.ndarray:
    """Return (3, y, x) with NaN where all bands are 0 or any has no data."""
    return np.where((rgb == 0).all(axis=0) | np.isnan(rgb).any(axis=0), np.float32(np.nan), rgb)
