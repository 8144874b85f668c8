"""HDF5 and netCDF-4 files behind the gate: local, complete, nothing outside the file, and not larger than they can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError, MissingFileError
from geofuse.io.guard import HARMLESS_BYTES, MAX_BLOCK_BYTES, MAX_EXPANSION
from geofuse.io.reader import chunk_sizes, file_fingerprint

if TYPE_CHECKING:
    import dask.array as da
    import h5py

Range = tuple[int, int]
Read = Callable[["h5py.File", slice, Range, Range], np.ndarray]
"""Reads (band, h, w) float32 in physical units, NaN for no data, from an open file: bands, (row0, row1), (column0, column1)."""


@contextmanager
def opened_hdf(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 (or netCDF-4) file for reading.

    Raises
    ------
    MissingFileError
        If it is not there.
    InputError
        If h5py is not installed, or the file is no HDF5 file or damaged.
    """
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: an HDF5 file, which needs h5py; install it with: pip install 'geofuse[hdf]'") from None
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; check the name and the folder")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: not a whole HDF5 file ({_reason(error)}); copy or download it again") from None
    with file:
        try:
            yield file
        except (OSError, RuntimeError) as error:
            if isinstance(error, InputError | MissingFileError):
                raise
            raise InputError(f"{path}: cannot be read ({_reason(error)}); it is damaged: copy it again") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def dataset(file: h5py.File, name: str, ndim: int) -> h5py.Dataset:
    """Return an array of numbers of the file, after checking that it lies in this file and can be as large as it says.

    Parameters
    ----------
    file
        Open file.
    name
        Path of the array from the root, parts separated by ``/``.
    ndim
        Number of dimensions that it must have.

    Raises
    ------
    InputError
        If it is missing, of another form, kept in another file, or implausibly large.
    """
    import h5py

    node: Any = file
    for part in name.strip("/").split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            raise InputError(f"{file.filename}: has no {name}; expected the layout of the product as published")
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{file.filename}: {name} is a link, which is not followed; rewrite the file with h5repack")
        node = node[part]
    if not isinstance(node, h5py.Dataset) or node.ndim != ndim or node.dtype.kind not in "iuf":
        found = f"{node.ndim} dimensions of {node.dtype}" if isinstance(node, h5py.Dataset) else "a group"
        raise InputError(f"{file.filename}: {name} holds {found}; expected numbers in {ndim} dimensions")
    if node.is_virtual or node.external:
        raise InputError(f"{file.filename}: {name} keeps its values in other files, which are not followed; rewrite the file")
    _check_size(file, name, node)
    return node


def _check_size(file: h5py.File, name: str, node: h5py.Dataset) -> None:
    """Raise if an array claims more than its file can hold, or one of its blocks more than memory can."""
    claimed = int(np.prod(node.shape, dtype=object)) * node.dtype.itemsize
    on_disk = Path(file.filename).stat().st_size
    if claimed > max(HARMLESS_BYTES, on_disk * MAX_EXPANSION) or 0 in node.shape:
        size = f"{' x '.join(map(str, node.shape))} {node.dtype}"
        raise InputError(
            f"{file.filename}: {name} claims {size}, which a file of {on_disk / 1e6:.3g} MB cannot hold; it is damaged"
        )
    block = int(np.prod(node.chunks, dtype=object)) * node.dtype.itemsize if node.chunks else 0
    if block > MAX_BLOCK_BYTES:
        raise InputError(f"{file.filename}: {name} is kept in blocks of {block / 1e9:.1f} GB; rewrite it with h5repack")


def attribute(file: h5py.File, name: str) -> Any:
    """Return an attribute of the file's root as a number, text or array.

    Raises
    ------
    InputError
        If there is none of this name.
    """
    if name not in file.attrs:
        raise InputError(f"{file.filename}: has no attribute {name}; expected the layout of the product as published")
    value = file.attrs[name]
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value.item() if isinstance(value, np.ndarray) and value.size == 1 else value


def numbers(file: h5py.File, name: str, n: int | None = None) -> np.ndarray:
    """Return an attribute of the root as float64 (n,).

    Raises
    ------
    InputError
        If it is missing, holds no finite numbers, or not ``n`` of them.
    """
    value = attribute(file, name)
    try:
        values = np.atleast_1d(np.asarray(value, float)).ravel()
    except (TypeError, ValueError):
        values = np.array([np.nan])
    if not np.isfinite(values).all() or (n is not None and values.size != n):
        expected = f"{n} numbers" if n else "numbers"
        raise InputError(f"{file.filename}: attribute {name} is {str(value)[:40]!r}; expected {expected}")
    return values


@dataclass(frozen=True)
class _ChunkReader:
    """Reads one chunk of a scene from an HDF5 file; a plain value that dask may send to other threads and processes."""

    path: Path
    read: Read
    fingerprint: tuple[int, int] | None

    def __call__(self, block_info: Mapping[Any, Any]) -> np.ndarray:
        (b0, b1), rows, columns = block_info[None]["array-location"]
        if file_fingerprint(self.path) != self.fingerprint:
            raise InputError(f"{self.path}: changed since it was opened; open it again")
        with opened_hdf(self.path) as file:
            return self.read(file, slice(b0, b1), tuple(rows), tuple(columns))


def lazy_array(path: Path, read: Read, shape: tuple[int, int, int], block: tuple[int, int], chunks: Any = None) -> da.Array:
    """Return a dask array (band, y, x) float32 whose chunks are read from an HDF5 file when they are computed.

    Parameters
    ----------
    path
        The file.
    read
        See :data:`Read`; a plain value (a frozen dataclass) that can be sent to other processes.
    shape
        (bands, rows, columns).
    block
        Rows and columns that are best read together.
    chunks
        As for :func:`geofuse.io.open_scene`.
    """
    import dask.array as da
    from dask.base import tokenize

    layout = chunk_sizes(chunks, shape, block)
    reader = _ChunkReader(path.absolute(), read, file_fingerprint(path))
    name = "open-product-" + tokenize(str(reader.path), reader.fingerprint, layout, repr(read))
    return da.map_blocks(reader, chunks=layout, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32), name=name)
