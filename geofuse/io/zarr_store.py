"""The gate for Zarr stores: plain local folders of Zarr version 3 whose arrays are as large as their files can make them.

A store is a folder of many files, each named by where it belongs. What its metadata claim is held against the size of those files
before a value is read; links are not followed; only codecs that turn numbers into bytes are run, never one that makes objects.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geofuse.errors import GeofuseError, InputError, MissingFileError
from geofuse.io.guard import HARMLESS_BYTES, MAX_BLOCK_BYTES, MAX_EXPANSION

if TYPE_CHECKING:
    import zarr

SUFFIX = ".zarr"
CODECS = ("bytes", "transpose", "sharding_indexed", "blosc", "gzip", "zstd", "crc32c", "vlen-utf8")
MAX_ARRAYS = 64
_BLOSC_HEADER = 16  # bytes, of which the last four are the size of the whole chunk
_VERSION_2 = (".zgroup", ".zarray", ".zmetadata")
_REMOTE = re.compile(r"^[a-z][a-z0-9+.-]+://.*\.zarr/?$", re.IGNORECASE)
_INSTALL = "a Zarr store, which needs zarr; install it with: pip install 'geofuse[zarr]'"


@dataclass(frozen=True)
class Store:
    """A store that passed the gate.

    ``path`` is its name in messages, ``location`` what zarr is given; ``file_bytes`` the size of all files and ``chunk_files`` how
    many chunks each array has on disk, by name (None and empty for a remote store, of which this is not known).
    """

    path: str
    location: str
    file_bytes: int | None
    chunk_files: Mapping[str, int]

    @property
    def is_local(self) -> bool:
        """Tell whether this is a local folder."""
        return self.file_bytes is not None

    @property
    def consolidated(self) -> bool | None:
        """Whether the copy of all metadata at the root is read (None: if there is one); of a local store, each array's own are."""
        return False if self.is_local else None


def is_store(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is, or is named like, a Zarr store: a folder with Zarr's metadata or ``.zarr`` at the end of its name."""
    text = os.fspath(path)
    if _REMOTE.match(text):
        return True
    local = Path(text)
    marks = ("zarr.json", *_VERSION_2)
    return local.is_dir() and (local.suffix.lower() == SUFFIX or any((local / name).is_file() for name in marks))


def require_zarr(path: str | os.PathLike[str]) -> None:
    """Raise :class:`InputError` if zarr 3 is not installed."""
    try:
        import zarr
    except ImportError:
        raise InputError(f"{os.fspath(path)}: {_INSTALL}") from None
    if int(zarr.__version__.split(".")[0]) < 3:
        raise InputError(f"{os.fspath(path)}: {_INSTALL} (version 3; found {zarr.__version__})")


def find_store(path: str | os.PathLike[str], *, allow_remote: bool = False) -> Store:
    """Check a store from outside: its kind, its version, its files.

    Raises
    ------
    InputError
        If it is remote and that is not allowed, is no store of version 3, holds links, or zarr is not installed.
    """
    text = os.fspath(path)
    if _REMOTE.match(text):
        if not allow_remote:
            raise InputError(f"{text}: not a local folder; download it first, or allow it (allow_remote) if you trust it")
        require_zarr(text)
        return Store(text, text, None, {})
    folder = Path(text)
    if not (folder / "zarr.json").is_file():
        version_2 = any((folder / name).is_file() for name in _VERSION_2)
        found = "a Zarr store of version 2" if version_2 else "no Zarr store: it has no zarr.json"
        remedy = "rewrite it with xarray: ds.to_zarr(path, zarr_format=3)" if version_2 else "copy or download it again"
        raise InputError(f"{text}: {found}; expected Zarr version 3: {remedy}")
    require_zarr(text)
    total, chunks = 0, dict[str, int]()
    for name, entry in _files(folder, text):
        total += entry.stat().st_size
        if entry.name != "zarr.json" and not entry.name.endswith(".partial"):
            chunks[name] = chunks.get(name, 0) + 1
    return Store(text, os.path.abspath(folder), total, chunks)


def _files(folder: Path, store: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the files of a store with the name of the array (the folder below the root) that they belong to."""
    waiting = [("", os.fspath(folder))]
    while waiting:
        array, place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        raise InputError(f"{store}: holds a link ({entry.name}), which is not followed; copy the files themselves")
                    if entry.is_dir():
                        waiting.append((array or entry.name, entry.path))
                    elif entry.is_file():
                        yield array, entry
        except OSError as error:
            raise InputError(f"{store}: cannot be read ({error.strerror}); check its permissions") from None


@contextmanager
def opened_store(store: Store) -> Iterator[zarr.Group]:
    """Open a store for reading; whatever goes wrong with it meanwhile is one error.

    Raises
    ------
    MissingFileError
        If a remote store is not there.
    InputError
        If its metadata or its values are damaged.
    """
    import zarr

    with one_error(store):
        try:
            group = zarr.open_group(store.location, mode="r", zarr_format=3, use_consolidated=store.consolidated)
        except FileNotFoundError:
            raise MissingFileError(f"{store.path}: no group of arrays in it; check the name and the folder") from None
        yield group


@contextmanager
def one_error(store: Store) -> Iterator[None]:
    """Turn whatever zarr raises on damaged files, codecs' own errors included, into one :class:`InputError`."""
    try:
        yield
    except (GeofuseError, MemoryError):
        raise
    except Exception as error:  # zlib, blosc, json and zarr have no class in common
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{store.path}: cannot be read ({reason}); it is damaged: copy or download it again") from None


def check_claims(store: Store, group: zarr.Group) -> dict[str, zarr.Array]:
    """Return the arrays at the root of a store after holding what they claim against its files.

    Raises
    ------
    InputError
        If there are too many, one is implausibly large, has blocks that do not fit in memory, or needs a codec that is not run.
    """
    arrays = dict(group.arrays())
    if len(arrays) > MAX_ARRAYS:
        raise InputError(f"{store.path}: {len(arrays)} arrays; expected one image with its coordinates")
    for name, array in arrays.items():
        itemsize = max(1, getattr(array.dtype, "itemsize", 1) or 1)
        claimed = math.prod(array.shape) * itemsize
        if store.is_local and claimed > max(HARMLESS_BYTES, store.file_bytes * MAX_EXPANSION):
            size = f"{' x '.join(map(str, array.shape))} {array.dtype}, {claimed / 1e9:.0f} GB"
            raise InputError(
                f"{store.path}: {name} claims {size}, which files of {store.file_bytes / 1e6:.3g} MB cannot hold; it is damaged, "
                "or nearly all of it is missing"
            )
        block = math.prod(array.shards or array.chunks) * itemsize
        if block > MAX_BLOCK_BYTES:
            raise InputError(f"{store.path}: {name} is kept in chunks of {block / 1e9:.1f} GB; rewrite it in smaller ones")
        strange = sorted(set(_codec_names(array.metadata.to_dict().get("codecs", ()))) - set(CODECS))
        if strange:
            raise InputError(f"{store.path}: {name} needs the codec {strange[0]}; expected one of {', '.join(CODECS)}")
        if store.is_local and array.ndim == 1:  # read at once, with the metadata
            with one_error(store):
                require_whole_chunks(array, os.path.join(store.location, name), (slice(0, array.shape[0]),))
    return arrays


def _codec_names(codecs: Any) -> Iterator[str]:
    """Yield the names of codecs, those inside shards included."""
    for codec in codecs:
        yield codec["name"]
        inner = codec.get("configuration", {})
        for key in ("codecs", "index_codecs"):
            yield from _codec_names(inner.get(key, ()))


def missing_chunks(store: Store, name: str, array: zarr.Array) -> int:
    """Return how many chunks of an array have no file: they read as its fill value, whether left out or lost."""
    if not store.is_local:
        return 0
    blocks = array.shards or array.chunks
    expected = math.prod(-(-n // size) for n, size in zip(array.shape, blocks, strict=True))
    return max(0, expected - store.chunk_files.get(name, 0))


def require_whole_chunks(array: zarr.Array, folder: str | os.PathLike[str], window: Sequence[slice]) -> None:
    """Raise ``ValueError`` if a chunk of a window is shorter than Blosc says at its beginning: Blosc reads on and the process dies.

    Parameters
    ----------
    array
        The array that is about to be read; other codecs notice what they lack and are not looked at.
    folder
        Where its chunks are.
    window
        Start and stop along each of its axes.
    """
    codecs = [codec["name"] for codec in array.metadata.to_dict()["codecs"]]
    if codecs[-1] != "blosc":
        return
    spans = [range(along.start // size, -(-along.stop // size)) for along, size in zip(window, array.chunks, strict=True)]
    for place in itertools.product(*spans):
        key = array.metadata.encode_chunk_key(place)
        try:
            with open(os.path.join(folder, key), "rb") as file:
                head, size = file.read(_BLOSC_HEADER), os.fstat(file.fileno()).st_size
        except FileNotFoundError:  # reads as the fill value
            continue
        told = int.from_bytes(head[12:16], "little") if len(head) == _BLOSC_HEADER else _BLOSC_HEADER
        if size < told:
            raise ValueError(f"chunk {key} has {size} of {told} bytes")
