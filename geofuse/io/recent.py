"""The pieces of images that were read last, as stored: tiles overlap, and what one needs of a block its neighbour needs too.

Measured on a scene of 2048 x 2048 whose HSI has blocks as large as the core of a tile: without this, each tile decompressed nine
of them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import numpy as np

RECENT_BYTES = 96 * 2**20
"""How much is kept, in each process."""

Piece = tuple[np.ndarray, np.ndarray | None]
"""Stored values (band, h, w), and a mask (h, w) or None; nobody may change them."""


class Recent:
    """Pieces by key, the least recently used of which go when there are too many; for several threads."""

    def __init__(self, limit: int = RECENT_BYTES) -> None:
        """Keep ``limit`` bytes at most."""
        self._limit, self._held = limit, 0
        self._pieces: OrderedDict[Any, Piece] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Piece | None:
        """Return a piece, or None if it is not here any more."""
        with self._lock:
            if key in self._pieces:
                self._pieces.move_to_end(key)
            return self._pieces.get(key)

    def put(self, key: Hashable, piece: Piece) -> None:
        """Keep a piece; one that is larger than a quarter of the limit is not worth the others."""
        size = _size(piece)
        with self._lock:
            if key in self._pieces or 4 * size > self._limit:
                return
            self._pieces[key] = piece
            self._held += size
            while self._held > self._limit:
                self._held -= _size(self._pieces.popitem(last=False)[1])

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._pieces.clear()
            self._held = 0


def _size(piece: Piece) -> int:
    return sum(array.nbytes for array in piece if array is not None)


RECENT = Recent()
"""Of this process."""
