"""Open an image as a scene: lazy, in physical units, NaN where there is no data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError
from geofuse.io import envi
from geofuse.io.bands import read_bands
from geofuse.io.chunking import chunk_sizes, file_fingerprint
from geofuse.io.given import given_wavelengths
from geofuse.io.guard import Source, find_source, header_path, known_crs, opened, placed_by
from geofuse.io.products.detect import find_product, open_found
from geofuse.io.recent import RECENT, Piece
from geofuse.io.storage import Storage, decode, read_storage
from geofuse.io.zarr_reader import open_store
from geofuse.io.zarr_store import is_store
from geofuse.scene import BandMetadata, make_scene, provenance_of

if TYPE_CHECKING:
    import xarray as xr
    from rasterio import DatasetReader



def header_fields(dataset: DatasetReader) -> dict[str, str]:
    """Return the fields of the ENVI header that belongs to an open dataset; empty for other formats."""
    header = header_path(dataset) if dataset.driver == "ENVI" else None
    return envi.read_header(header) if header else {}


def provenance(dataset: DatasetReader, header: Mapping[str, str]) -> dict[str, str]:
    """Return the ``GEOFUSE_*`` tags of a dataset, for ENVI those of its header."""
    tags = {key.replace(" ", "_").upper(): envi.unquote(value) for key, value in header.items()}
    tags.update(dataset.tags())
    return provenance_of(tags)


def open_scene(
    path: str | os.PathLike[str],
    *,
    chunks: Any = None,
    wavelengths: np.ndarray | str | os.PathLike[str] | None = None,
    allow_remote: bool = False,
    mask_clouds: bool = True,
) -> xr.DataArray:
    """Open a GeoTIFF, COG, ENVI image or Zarr store, or a product as its agency publishes it, as a lazy scene.

    Nothing but metadata is read before the values are computed; each chunk then opens the file for itself, so chunks may be
    computed in any thread or process. The file must stay as it is until then.

    Parameters
    ----------
    path
        A GeoTIFF or COG, an ENVI data file, an ENVI header (``.hdr``), the folder of a Zarr store, version 3, or a file or
        folder of a product (see :mod:`geofuse.io.products`).
    chunks
        Chunk sizes as dask takes them: a tuple (band, y, x), a mapping with some of these keys, one number for y and x, or
        None for all bands in windows of about 4 MiB that follow the blocks of the file.
    wavelengths
        Decides over the file's own: centre wavelengths in nm (band,), with FWHM (band, 2), or a CSV file with the columns
        ``wavelength_nm`` and, if known, ``fwhm_nm``.
    allow_remote
        Also open URLs, ``/vsi`` paths and VRT files. Only for sources you trust.
    mask_clouds
        Whether pixels that a product's own quality layers mark as cloud, cirrus or cloud shadow are no data; its ``notes`` say.

    Returns
    -------
    xarray.DataArray
        A scene (see :mod:`geofuse.scene`), dask float32; NaN for the no-data value, masked or transparent pixels, NaN and
        infinity. Scale and offset are applied. An alpha band becomes the mask. A file without CRS gives a scene without one.

    Raises
    ------
    MissingFileError
        If nothing is there.
    InputError
        If the file is of another kind, damaged or implausible, or its metadata contradict each other. Computing a chunk that
        cannot be read raises it too.
    """
    if is_store(path):
        return _override(open_store(path, chunks=chunks, allow_remote=allow_remote), wavelengths)
    product = find_product(path)
    if product is not None:
        return _override(open_found(product, Path(path), chunks, mask_clouds), wavelengths)
    source = find_source(path, allow_remote=allow_remote)
    with opened(source, check=True) as dataset:
        header = header_fields(dataset)
        storage = read_storage(dataset, header)
        report = read_bands(dataset, header, storage.index, wavelengths)
        if report.conflict:
            raise InputError(f"{source.path}: the {report.conflict}; pass the right ones (wavelengths=, a CSV file)")
        attrs = {"source": os.fspath(path), **provenance(dataset, header)}
        attrs |= {"placed_by": found} if (found := placed_by(dataset)) else {}
        return lazy_scene(source, dataset, storage, report.bands, attrs, chunks)


def _override(scene: xr.DataArray, wavelengths: np.ndarray | str | os.PathLike[str] | None) -> xr.DataArray:
    """Let given wavelengths decide over those of a product; without them, metadata that contradict each other are an error."""
    conflict = scene.attrs.pop("conflict", None)
    if wavelengths is None:
        if conflict:
            raise InputError(f"{scene.attrs['source']}: the {conflict}; pass the right ones (wavelengths=, a CSV file)")
        return scene
    given = given_wavelengths(wavelengths, scene.sizes["band"])
    fwhm = np.where(np.isfinite(given.fwhm_nm), given.fwhm_nm, scene.fwhm.values)
    units = scene.wavelength.attrs, scene.fwhm.attrs
    return scene.assign_coords(wavelength=("band", given.wavelength_nm, units[0]), fwhm=("band", fwhm, units[1]))


def lazy_scene(
    source: Source, dataset: DatasetReader, storage: Storage, bands: BandMetadata, attrs: Mapping[str, Any], chunks: Any
) -> xr.DataArray:
    """Return the scene of an open dataset, of which nothing is read before its values are computed.

    Parameters
    ----------
    source
        Where each chunk is read from.
    dataset
        The same, open.
    storage
        Its stored form: which bands, scale, offset and no data.
    bands
        What is known of these bands.
    attrs
        Attributes besides those of ``storage``.
    chunks
        As for :func:`open_scene`.
    """
    import dask.array as da

    shape = (len(storage.index), dataset.height, dataset.width)
    layout = chunk_sizes(chunks, shape, dataset.block_shapes[0])
    reader = ChunkReader(source, storage, _fingerprint(source))
    data = da.map_blocks(reader, chunks=layout, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32), name=_token(reader, layout))
    scene = make_scene(data, bands, dataset.transform, known_crs(dataset), {**storage.attributes(), **attrs})
    if storage.index != tuple(range(1, shape[0] + 1)):
        scene = scene.assign_coords(band=("band", np.asarray(storage.index)))
    return scene


def _token(reader: ChunkReader, layout: Any) -> str:
    """Return a dask name that is the same for the same file, unchanged, and the same chunks."""
    from dask.base import tokenize

    storage = reader.storage
    parts = (storage.index, storage.scale, storage.offset, storage.nodata, storage.mask)
    return "open-scene-" + tokenize(reader.source.location, reader.fingerprint, layout, *parts)


def _fingerprint(source: Source) -> tuple[int, int] | None:
    return file_fingerprint(source.location) if source.is_local else None


@dataclass(frozen=True)
class ChunkReader:
    """Reads one chunk of a scene; a plain value that dask may send to other threads and processes."""

    source: Source
    storage: Storage
    fingerprint: tuple[int, int] | None

    def __call__(self, block_info: Mapping[Any, Any]) -> np.ndarray:
        """Read and decode the chunk that dask's ``block_info`` describes.

        Raises
        ------
        InputError
            If the file changed since it was opened, or cannot be read.
        """
        (b0, b1), (r0, r1), (c0, c1) = block_info[None]["array-location"]
        return self.read(slice(b0, b1), (r0, r1), (c0, c1))

    def read(self, bands: slice, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        """Return the values (band, h, w) of a window in physical units."""
        if _fingerprint(self.source) != self.fingerprint:
            raise InputError(f"{self.source.path}: changed since it was opened; open it again")
        index = self.storage.index[bands]
        key = (self.source.location, self.fingerprint, self.storage.mask, index, rows, columns)
        piece = RECENT.get(key) if self.fingerprint else None
        if piece is None:
            with opened(self.source) as dataset:
                piece = self._read(dataset, index, (rows, columns))
            if self.fingerprint:  # else a change would go unnoticed
                RECENT.put(key, piece)
        return decode(piece[0], self.storage.select(bands), piece[1])

    def _read(self, dataset: DatasetReader, index: Sequence[int], window: tuple[tuple[int, int], tuple[int, int]]) -> Piece:
        storage = self.storage
        stored = dataset.read(list(index), window=window)
        valid = None
        if storage.alpha is not None:
            valid = dataset.read(storage.alpha, window=window) != 0
        elif storage.mask is not None:
            valid = dataset.read_masks(storage.index[0], window=window) != 0
        return stored, valid
