"""The gate for input files: only complete, plausible, local files of listed kinds are opened.

GDAL would as readily open a VRT that points at other files, a URL or a file inside an archive, and believe any header. Here
the kind of a file is decided from its first bytes, GDAL is told that one driver, and what the header claims is held against the
size of the file before a pixel is read.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geofuse.errors import InputError, MissingFileError
from geofuse.io import envi, gdal_log, tiff

if TYPE_CHECKING:
    from rasterio import DatasetReader
    from rasterio.crs import CRS

MAX_BLOCK_BYTES = 2 * 2**30
"""Largest block (tile or strip, uncompressed) that is accepted: reading a pixel needs its whole block in memory."""

MAX_EXPANSION = 2000
"""Largest plausible ratio of uncompressed size to file size (deflate reaches 1032)."""

HARMLESS_BYTES = 2**30
"""Scenes up to this uncompressed size are not held to ``MAX_EXPANSION``: an image without content may compress without bound."""

_OPENING = threading.Lock()  # warning filters belong to the process, not to the thread that changes them for a moment
_REMOTE = re.compile(r"^([a-z][a-z0-9+.-]+://|/vsi|GTIFF_|<)", re.IGNORECASE)
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_FOREIGN = {
    b"<VRTDataset": "a VRT",
    b"\x89HDF": "an HDF5 or netCDF-4 file",
    b"CDF": "a netCDF file",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
}
_ARCHIVES = {(0, b"PK\x03\x04"): "a zip archive", (0, b"\x1f\x8b"): "a gzip archive", (257, b"ustar"): "a tar archive"}
"""By where in a file which bytes are."""


@dataclass(frozen=True)
class Source:
    """An image that passed the gate.

    ``path`` is its name in messages, ``location`` what GDAL is given (absolute), ``driver`` the only driver GDAL may use (None:
    any, for remote sources).
    """

    path: str
    location: str
    driver: str | None

    @classmethod
    def local(cls, path: Path, driver: str) -> Source:
        """Return the source for a local file; an absolute location cannot be taken for a URL."""
        return cls(str(path), os.path.abspath(path), driver)

    @property
    def is_local(self) -> bool:
        """Tell whether this is a plain local file."""
        return self.driver is not None


def find_source(path: str | os.PathLike[str], *, allow_remote: bool = False) -> Source:
    """Decide from the name and the first bytes of a file how it is to be opened.

    Parameters
    ----------
    path
        A GeoTIFF or COG, an ENVI data file, or an ENVI header.
    allow_remote
        Also accept URLs, ``/vsi`` paths and VRT files, with whatever they point at.

    Raises
    ------
    MissingFileError
        If nothing is there.
    InputError
        If it is not a readable local file of a listed kind.
    """
    text = os.fspath(path)
    if _REMOTE.match(text):
        if allow_remote:
            return Source(text, text, None)
        raise InputError(f"{text}: not a local file; download it first, or allow remote sources (allow_remote) if you trust it")
    local = Path(text)
    head = _first_bytes(local)
    if head.startswith(tiff.MAGIC):
        _check_sidecars(local)
        return Source.local(local, "GTiff")
    if head.startswith(_JP2):
        _check_sidecars(local)
        return Source.local(local, "JP2OpenJPEG")
    if local.suffix.lower() == ".hdr":
        data = envi.find_data(local)
        _first_bytes(data)
        _check_sidecars(data)
        return Source.local(data, "ENVI")
    if envi.find_header(local) is not None:
        _check_sidecars(local)
        return Source.local(local, "ENVI")
    kind = next((name for magic, name in _FOREIGN.items() if head.lstrip().startswith(magic)), None)
    if kind == "a VRT":
        if allow_remote:
            return Source(text, text, None)
        raise InputError(f"{text}: a VRT, which can point at any file; convert it to GeoTIFF, or allow it (allow_remote)")
    archive = next((name for (start, magic), name in _ARCHIVES.items() if head.startswith(magic, start)), None)
    if archive is not None:
        raise InputError(f"{text}: {archive}; unpack it first and give the image or the product's folder in it")
    if kind is not None:
        raise InputError(f"{text}: {kind}; expected GeoTIFF, COG, JPEG 2000 or ENVI: convert it first (gdal_translate)")
    raise InputError(f"{text}: not a GeoTIFF, and no ENVI header beside it (it begins with {head[:12]!r}); give an image file")


def _first_bytes(path: Path) -> bytes:
    """Return the beginning of a file, or say why it cannot be an image."""
    try:
        if path.is_dir():
            raise InputError(f"{path}: a folder; name the image file in it")
        if not path.exists():
            raise MissingFileError(f"{path}: no such file; check the name and the folder")
        if not path.is_file():
            raise InputError(f"{path}: not a regular file; give an image file")
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        if isinstance(error, MissingFileError):
            raise
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if not head:
        raise InputError(f"{path}: empty (0 bytes); copy or download it again")
    return head


def _check_sidecars(path: Path) -> None:
    """Refuse overview and mask files beside an image that would lead GDAL to other files."""
    for suffix in (".ovr", ".msk"):
        sidecar = path.with_name(path.name + suffix)
        if sidecar.is_file() and not _first_bytes(sidecar).startswith(tiff.MAGIC):
            raise InputError(f"{sidecar}: not a TIFF file, as the {suffix} of an image must be; remove it")
    sidecar = path.with_name(path.name + ".aux.xml")
    if sidecar.is_file() and b"OVERVIEW_FILE" in sidecar.read_bytes():
        raise InputError(f"{sidecar}: names another file as overview; remove it")


@contextmanager
def opened(source: Source, *, check: bool = False, threads: int = 1) -> Iterator[DatasetReader]:
    """Open a source with rasterio; with ``check``, hold its header against the file.

    Windows of many blocks of a TIFF are decompressed in ``threads`` threads.

    Raises
    ------
    InputError
        If GDAL cannot open it or, with ``check``, if the file is truncated or its header implausible.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with gdal_log.collected() as messages:
        if check and source.driver == "GTiff":
            _check_tiff_complete(source)
        try:
            with _OPENING, warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                more = {"NUM_THREADS": threads} if threads > 1 and source.driver == "GTiff" else {}
                dataset = rasterio.open(source.location, driver=source.driver, sharing=False, **more)
        except RasterioError as error:
            reason = gdal_log.cause(error, messages)
            raise InputError(f"{source.path}: cannot be opened ({reason}); it may be damaged: copy it again") from None
        with dataset:
            if check:
                _check_claims(source, dataset)
            try:
                yield dataset
            except RasterioError as error:
                reason = gdal_log.cause(error, messages)
                raise InputError(f"{source.path}: cannot be read ({reason}); it is damaged: copy it again") from None


def _check_tiff_complete(source: Source) -> None:
    """Raise if the file ends before the last block that its directories list."""
    try:
        lacking = tiff.missing_bytes(source.location)
    except tiff.TiffLayoutError as error:
        raise InputError(f"{source.path}: truncated or damaged GeoTIFF ({error}); copy or download it again") from None
    if lacking:
        raise InputError(f"{source.path}: truncated GeoTIFF, {lacking} bytes are missing at its end; copy or download it again")


def known_crs(dataset: DatasetReader) -> CRS | None:
    """Return the CRS of a dataset; None also for a local one without a place on Earth (``Arbitrary`` in ENVI headers)."""
    crs = dataset.crs
    return None if not crs or crs.to_wkt().startswith(("LOCAL_CS", "ENGCRS")) else crs


def placed_by(dataset: DatasetReader) -> str | None:
    """Return by what a dataset without a grid is placed on Earth, or None."""
    if known_crs(dataset) is None and dataset.gcps[0]:
        return "ground control points"
    return "rational polynomials (RPC)" if known_crs(dataset) is None and dataset.rpcs else None


def header_path(dataset: DatasetReader) -> Path | None:
    """Return the ENVI header that GDAL used for a dataset, or None."""
    return next((Path(f) for f in dataset.files if f.lower().endswith(".hdr")), None)


def _check_claims(source: Source, dataset: DatasetReader) -> None:
    """Raise if the header promises what the file cannot hold, or what memory cannot."""
    name = source.path
    dtype = dataset.dtypes[0]
    if dataset.count == 0 or dtype.startswith("complex") or len(set(dataset.dtypes)) > 1:
        found = f"{dataset.count} bands of {', '.join(sorted(set(dataset.dtypes))) or 'nothing'}"
        raise InputError(f"{name}: holds {found}; expected bands of one integer or real type")
    if not source.is_local:
        return
    if dataset.tags(ns="OVERVIEWS"):
        raise InputError(f"{name}: names another file as overview, which is not followed; rewrite it with gdal_translate")
    itemsize = np.dtype(dtype).itemsize
    rows, columns = dataset.block_shapes[0]
    per_block = dataset.count if dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL" else 1
    if rows * columns * per_block * itemsize > MAX_BLOCK_BYTES:
        size = f"{rows} x {columns} x {per_block} {dtype}"
        raise InputError(f"{name}: blocks of {size} do not fit in memory; rewrite it in tiles (gdal_translate -co TILED=YES)")
    on_disk = Path(source.location).stat().st_size
    claimed = dataset.width * dataset.height * dataset.count * itemsize
    if claimed > max(HARMLESS_BYTES, on_disk * MAX_EXPANSION):
        raise InputError(
            f"{name}: its header claims {claimed / 1e9:.0f} GB ({dataset.width} x {dataset.height} x {dataset.count} {dtype}), "
            f"which a file of {on_disk / 1e6:.3g} MB cannot hold; the file is damaged, or sparse: rewrite it without compression"
        )
    if source.driver == "ENVI":
        header = header_path(dataset)
        lacking = envi.missing_bytes(envi.read_header(header), Path(source.location)) if header else 0
        if lacking:
            raise InputError(f"{name}: truncated ENVI file, {lacking} bytes fewer than its header says; copy or download it again")
