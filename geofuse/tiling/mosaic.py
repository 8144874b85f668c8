"""The mosaic: tiles in, finished rows out, holding no more than about two rows of tiles at a time.

Neighbouring tiles are cross-faded with raised-cosine weights over a band centred on the border between their cores. Along one
axis the weights of all tiles are divided by their sum, so they add up to one at every pixel; the weight of a tile is the product of
its two axes' weights, so these add up to one as well and a constant comes out as the same constant.

Only the inner part of the halo takes part (``blend``, half by default). What a method makes of the outermost pixels of a tile
is spoiled by the cut: the operator H reflects there and a network's receptive field ends there. That error falls off inwards, so
the outer half of the halo is given to it and thrown away, and the inner half is what the cross-fade uses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from geofuse.errors import UsageError
from geofuse.tiling.grid import Tile, TileGrid


def axis_weights(bounds: tuple[int, ...], reach: int) -> list[tuple[int, np.ndarray]]:
    """Weights of the tiles along one axis.

    Parameters
    ----------
    bounds
        Borders of the cores in fine pixels, ascending, the scene's own borders first and last.
    reach
        How far a tile's weight extends beyond its core, in fine pixels; 0 gives hard borders.

    Returns
    -------
    list of (start, weights)
        One entry a tile: the first pixel that it contributes to and its weights from there on, float32 in (0, 1]. The weights of
        all tiles add up to one at every pixel. There is no fade towards the scene's own borders.
    """
    size = bounds[-1]
    total = np.zeros(size)
    raw = []
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        start, stop = max(0, first - reach), min(size, last + reach)
        centre = np.arange(start, stop) + 0.5
        weight = np.ones(stop - start)
        if first > 0 and reach:
            weight *= _raised_cosine((centre - first) / reach)
        if last < size and reach:
            weight *= _raised_cosine((last - centre) / reach)
        total[start:stop] += weight
        raw.append((start, weight))
    return [(start, (weight / total[start : start + len(weight)]).astype(np.float32)) for start, weight in raw]


def _raised_cosine(position: np.ndarray) -> np.ndarray:
    """Rise smoothly from 0 at -1 to 1 at +1; the rise and its mirror image add up to one."""
    return np.sin(0.25 * np.pi * (np.clip(position, -1.0, 1.0) + 1.0)) ** 2


class Mosaic:
    """Blends tiles, given in row-major order, and hands out rows as soon as no later tile can change them.

    A pixel that is NaN in any tile that contributes to it is NaN in the mosaic. The masks of tiles come from the inputs and agree,
    so this only shows where a method failed; it never hides it.

    The result depends on the tiles alone: not on when, or how often, :meth:`finished` is called.
    """

    BLEND = 0.5

    def __init__(self, grid: TileGrid, n_bands: int, blend: float = BLEND) -> None:
        """Start an empty mosaic.

        Parameters
        ----------
        grid
            The grid whose tiles will be added.
        n_bands
            Number of bands of every tile.
        blend
            Part of the halo, from 0 to 1, that is blended; the rest, outermost, is thrown away.

        Raises
        ------
        UsageError
            If ``blend`` is outside 0 to 1 or there is no band.
        """
        if not 0 <= blend <= 1 or n_bands < 1:
            raise UsageError(f"a mosaic needs a blend from 0 to 1 and at least one band, found blend {blend} and {n_bands} bands")
        reach = int(grid.overlap * blend)
        self.grid = grid
        self.n_bands = n_bands
        self._rows = axis_weights(grid.row_bounds, reach)
        self._cols = axis_weights(grid.col_bounds, reach)
        self._expected = 0
        self._ready: deque[tuple[int, np.ndarray]] = deque()
        self._block_row0 = 0
        self._block = np.zeros((n_bands, 0, grid.width), np.float32)  # (band, rows in work, width)

    @property
    def complete(self) -> bool:
        """Whether every tile has been added."""
        return self._expected == len(self.grid)

    def add(self, tile: Tile, data: np.ndarray) -> None:
        """Add what a method made of ``tile``.

        Parameters
        ----------
        tile
            The next tile of the grid, in row-major order.
        data
            (band, height, width) of ``tile.outer``; NaN = no data.

        Raises
        ------
        UsageError
            If the tile is not the next one or the data are not of its shape.
        """
        if tile.index != self._expected:
            raise UsageError(f"the mosaic takes tiles in row-major order: found tile {tile.index}, expected tile {self._expected}")
        shape = (self.n_bands, tile.outer.height, tile.outer.width)
        if data.shape != shape:
            raise UsageError(f"tile {tile.index} holds {data.shape} values, expected (band, height, width) = {shape}")
        i, j = divmod(tile.index, self.grid.n_cols)
        if j == 0:
            self._open_row(i)
        (row, row_weights), (col, col_weights) = self._rows[i], self._cols[j]
        weights = row_weights[:, None] * col_weights
        target_rows = slice(row - self._block_row0, row - self._block_row0 + len(row_weights))
        target_cols = slice(col, col + len(col_weights))
        source_rows = slice(row - tile.outer.row0, row - tile.outer.row0 + len(row_weights))
        source_cols = slice(col - tile.outer.col0, col - tile.outer.col0 + len(col_weights))
        for band in range(self.n_bands):  # band by band: the product needs no second tile's worth of memory
            values = data[band, source_rows, source_cols].astype(np.float32, copy=False)
            self._block[band, target_rows, target_cols] += weights * values
        self._expected += 1
        if j == self.grid.n_cols - 1:
            self._close_row(i)

    def finished(self) -> Iterator[tuple[int, np.ndarray]]:
        """Iterate over the rows finished since the last call, as ``(row_offset, rows (band, n, width) float32)``.

        Each row of the scene is given once, from the top down. What is not fetched waits here and takes memory.
        """
        while self._ready:
            yield self._ready.popleft()

    def _open_row(self, i: int) -> None:
        """Make room for tile row ``i`` below the rows that are still in work."""
        start, weights = self._rows[i]
        carried = self._block
        height = start + len(weights) - self._block_row0
        self._block = np.zeros((self.n_bands, height, self.grid.width), np.float32)
        self._block[:, : carried.shape[1]] = carried

    def _close_row(self, i: int) -> None:
        """Release the rows that the next tile row does not reach and keep the others."""
        last = i == self.grid.n_rows - 1
        done = (self.grid.height if last else self._rows[i + 1][0]) - self._block_row0
        if done:
            self._ready.append((self._block_row0, self._block[:, :done]))
            self._block = self._block[:, done:].copy()
            self._block_row0 += done
