"""How a scene is cut into the pieces that are read at once, and how a change of its file is noticed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from geofuse.errors import InputError

CHUNK_BYTES = 4 * 2**20
"""Aim for the size of a chunk, as float32, all its bands together."""


def file_fingerprint(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return size and modification time of a file, by which a later change is noticed; zeros if it is gone."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return (0, 0)
    return status.st_size, status.st_mtime_ns


def chunk_sizes(chunks: Any, shape: tuple[int, int, int], block: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    """Turn ``chunks`` (see :func:`open_scene`) into sizes along (band, y, x).

    The default follows the file's blocks (rows, columns), so that each is read once.

    Raises
    ------
    InputError
        If ``chunks`` do not fit.
    """
    import dask.array as da

    if chunks is None:
        rows, columns = min(block[0], shape[1]), min(block[1], shape[2])
        blocks = max(1, CHUNK_BYTES // (4 * shape[0] * rows * columns))
        across = -(-shape[2] // columns)
        if columns < shape[2]:
            across = min(across, max(1, round(blocks**0.5)))
        down = max(1, blocks // across)
        sizes: Any = (shape[0], min(rows * down, shape[1]), min(columns * across, shape[2]))
    elif isinstance(chunks, Mapping):
        unknown = set(chunks) - {"band", "y", "x"}
        if unknown:
            raise InputError(f"chunks for {', '.join(sorted(map(str, unknown)))}; a scene has band, y and x")
        sizes = tuple(chunks.get(dim, -1) for dim in ("band", "y", "x"))
    else:
        sizes = chunks if isinstance(chunks, tuple) else (-1, chunks, chunks)
    try:
        return da.core.normalize_chunks(sizes, shape, dtype=np.float32, previous_chunks=None)
    except (ValueError, TypeError) as error:
        raise InputError(f"chunks={chunks!r} do not fit an image of {shape} (band, y, x): {error}") from None
