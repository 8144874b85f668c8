"""Products that are a GeoTIFF with an XML file beside it that describes its bands (EnMAP, DESIS)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError, MissingFileError
from geofuse.io.bands import band_sources, find_conflict
from geofuse.io.given import BandSource
from geofuse.io.guard import find_source, opened
from geofuse.io.reader import lazy_scene, provenance
from geofuse.io.storage import Storage, read_storage
from geofuse.scene import BandMetadata

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class BandTable:
    """What the metadata of a product say of its bands; value = stored * scale + offset; NaN where they say nothing."""

    wavelength_nm: np.ndarray  # (band,) float64
    fwhm_nm: np.ndarray  # (band,) float64
    scale: np.ndarray  # (band,) float64
    offset: np.ndarray  # (band,) float64
    good_band: np.ndarray  # (band,) bool
    background: float  # the no-data value, for a GeoTIFF that declares none


@dataclass(frozen=True)
class ProductFiles:
    """The files of one product."""

    path: Path  # as the user named it
    image: Path
    metadata: Path


def find_files(path: Path, image: re.Pattern[str], metadata: re.Pattern[str], title: str) -> ProductFiles:
    """Find image and metadata of a product from its folder or from either file; names as the patterns say, of one stem.

    Parameters
    ----------
    path
        Folder, image or metadata file.
    image, metadata
        Match the whole file name; their first group is the stem that both share.
    title
        The product's name, for messages.

    Raises
    ------
    MissingFileError
        If one of the two is not there.
    InputError
        If the folder holds several products.
    """
    folder = path if path.is_dir() else path.parent
    images = {m[1].lower(): p for p in sorted(folder.iterdir()) if (m := image.fullmatch(p.name)) and p.is_file()}
    tables = {m[1].lower(): p for p in sorted(folder.iterdir()) if (m := metadata.fullmatch(p.name)) and p.is_file()}
    if not path.is_dir():
        name = _named(path)
        stem = (image.fullmatch(name) or metadata.fullmatch(name) or [name] * 2)[1].lower()
        images, tables = ({k: p for k, p in group.items() if k == stem} for group in (images, tables))
    if len(images.keys() | tables.keys()) > 1:
        raise InputError(f"{path}: holds {len(images)} {title} images; name the one meant by its file")
    for found, what in ((images, "-SPECTRAL_IMAGE.TIF"), (tables, "-METADATA.XML")):
        if not found:
            raise MissingFileError(f"{path}: {title} without its *{what}; copy that file beside the others")
    return ProductFiles(path, *images.values(), *tables.values())


def beside(image: Path, part: str, other: str) -> Path | None:
    """Return the file of a product that is named like its image with ``other`` in place of ``part``, in any case; else None.

    What stands after ``part`` in the image's name stays: DLR's archive calls EnMAP's files ``..._COG.TIF``.
    """
    head, _, rest = image.name.upper().rpartition(part.upper())
    ending = rest.rpartition(".")[0]
    names = [f"{head}{other.upper()}{ending}{suffix}" for suffix in (".TIF", ".TIFF")]
    return next((file for file in sorted(image.parent.iterdir()) if file.name.upper() in names and file.is_file()), None)


def matches_files(path: Path, image: re.Pattern[str], metadata: re.Pattern[str]) -> bool:
    """Tell whether a path is named like the image (or its header) or the metadata of a product, or is a folder with one of them."""
    names = [p.name for p in path.iterdir()] if path.is_dir() else [_named(path)]
    return any(pattern.fullmatch(name) for name in names for pattern in (image, metadata))


def _named(path: Path) -> str:
    """Return the name of a file, for an ENVI header that of the image it belongs to."""
    return path.with_suffix(".tif").name if path.suffix.lower() == ".hdr" else path.name


def open_banded(files: ProductFiles, title: str, table: BandTable, chunks: Any, notes: Sequence[str] = ()) -> xr.DataArray:
    """Open the image with the scale, offset and bands of the product's metadata.

    Raises
    ------
    InputError
        If the image is no GeoTIFF, is damaged, or has another number of bands than the metadata describe.
    """
    source = find_source(files.image)
    with opened(source, check=True) as dataset:
        if source.driver != "GTiff":
            raise InputError(f"{files.image}: not a GeoTIFF, as the image of {title} is; copy or download the product again")
        storage = read_storage(dataset, {})
        n = len(storage.index)
        if len(table.wavelength_nm) != n:
            found = f"describes {len(table.wavelength_nm)} bands, but the image has {n}"
            raise InputError(f"{files.metadata}: {found}; they do not belong together: copy the product again")
        own = BandSource(f"{title} metadata", table.wavelength_nm, table.fwhm_nm)
        conflict = find_conflict([own, *band_sources(dataset, {}, storage.index, strict=False)], storage.index)
        bands = BandMetadata(table.wavelength_nm, table.fwhm_nm, table.good_band, tuple(f"band {i}" for i in storage.index))
        attrs = {
            "source": str(files.path),
            **provenance(dataset, {}),
            "product": title,
            "notes": list(notes),
            "files": [str(files.image), str(files.metadata)],
            "conflict": conflict,
        }
        return lazy_scene(source, dataset, _stored(storage, table, files), bands, attrs, chunks)


def _stored(storage: Storage, table: BandTable, files: ProductFiles) -> Storage:
    """Return the image's stored form with scale and offset of the metadata, and their no data where the image has none."""
    if not (np.isfinite(table.scale).all() and (table.scale != 0).all() and np.isfinite(table.offset).all()):
        raise InputError(f"{files.metadata}: has bands without a usable gain and offset; copy or download the product again")
    nodata = tuple(table.background if value is None else value for value in storage.nodata)
    return replace(storage, scale=table.scale, offset=table.offset, nodata=nodata)
