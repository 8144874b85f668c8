"""Regions: the windows in which the result is written, each blended from the tiles that reach into it.

Regions follow the blocks of the output file, tiles the coarse pixels; so each is cut as suits it. A region can be blended as soon
as the tiles that reach into it are there, in any order of tiles. The weights are those of :class:`geofuse.tiling.Mosaic` and are
summed up in the same order, so the values are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from geofuse.tiling.grid import TileGrid, Window
from geofuse.tiling.mosaic import Mosaic, axis_weights

PARTS = 8
"""Regions a tile."""


@dataclass(frozen=True)
class RegionGrid:
    """Regions over the output window, about an eighth of a tile each and a multiple of the file's blocks; in row-major order.

    Smaller regions would be written with less memory, but take more rows in the journal and more openings of files.

    Attributes
    ----------
    output
        The part of the scene that is written, fine pixels.
    rows, cols
        Size of a region; those at the right and lower border may be smaller.
    """

    output: Window
    rows: int
    cols: int

    @classmethod
    def of(cls, output: Window, block: tuple[int, int], tile: int) -> RegionGrid:
        """Choose the size of the regions for tiles of ``tile`` pixels and blocks of (rows, columns) ``block``."""
        widest = min(tile, tile * tile // (PARTS * block[0]))
        cols = min(max(1, widest // block[1]) * block[1], output.width)
        rows = max(1, tile * min(tile, cols) // cols // (PARTS * block[0])) * block[0]
        return cls(output, min(rows, output.height), cols)

    def __len__(self) -> int:
        """Return the number of regions."""
        return -(-self.output.height // self.rows) * -(-self.output.width // self.cols)

    def __getitem__(self, index: int) -> Window:
        """Return a region as a window of the scene."""
        if not 0 <= index < len(self):
            raise IndexError(f"region {index} of {len(self)}")
        i, j = divmod(index, -(-self.output.width // self.cols))
        row, col = self.output.row0 + i * self.rows, self.output.col0 + j * self.cols
        return Window(row, min(row + self.rows, self.output.row1), col, min(col + self.cols, self.output.col1))

    def __iter__(self) -> Iterator[Window]:
        """Iterate over the regions."""
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True)
class Part:
    """What a tile adds to a window: the part of the scene, and its weights (h, w) there, None where all are 1."""

    tile: int
    window: Window
    weights: np.ndarray | None


class Blending:
    """Which part of the scene each tile contributes to, with which weights."""

    def __init__(self, grid: TileGrid, blend: float = Mosaic.BLEND) -> None:
        """Compute the weights along both axes; ``blend`` as for :class:`geofuse.tiling.Mosaic`."""
        reach = int(grid.overlap * blend)
        self.grid = grid
        self._rows = axis_weights(grid.row_bounds, reach)
        self._cols = axis_weights(grid.col_bounds, reach)

    def contribution(self, index: int) -> Window:
        """Return the part of the scene that a tile contributes to; it lies within its outer window."""
        i, j = divmod(index, self.grid.n_cols)
        (row, weight_y), (col, weight_x) = self._rows[i], self._cols[j]
        return Window(row, row + len(weight_y), col, col + len(weight_x))

    def tiles_of(self, window: Window) -> list[int]:
        """Return the tiles that reach into a window, in row-major order."""
        rows = [i for i, (start, w) in enumerate(self._rows) if start < window.row1 and start + len(w) > window.row0]
        cols = [j for j, (start, w) in enumerate(self._cols) if start < window.col1 and start + len(w) > window.col0]
        return [i * self.grid.n_cols + j for i in rows for j in cols]

    def parts(self, window: Window) -> list[Part]:
        """Return what each tile adds to a window of the scene, in row-major order of the tiles."""
        parts = []
        for index in self.tiles_of(window):
            i, j = divmod(index, self.grid.n_cols)
            (row, weight_y), (col, weight_x) = self._rows[i], self._cols[j]
            part = Window(
                max(row, window.row0),
                min(row + len(weight_y), window.row1),
                max(col, window.col0),
                min(col + len(weight_x), window.col1),
            )
            weights = weight_y[part.row0 - row : part.row1 - row, None] * weight_x[part.col0 - col : part.col1 - col]
            parts.append(Part(index, part, None if (weights == 1).all() else weights))
        return parts

    @staticmethod
    def blend(window: Window, parts: Sequence[Part], piece: Callable[[int, Window], np.ndarray]) -> np.ndarray:
        """Blend one band of a window of the scene.

        Parameters
        ----------
        window
            The window.
        parts
            Its :meth:`parts`.
        piece
            Returns what tile ``index`` has for the window of a part, (h, w), NaN where it has nothing.

        Returns
        -------
        ndarray (h, w) float32
            NaN where any tile that contributes is NaN.
        """
        out = np.zeros((window.height, window.width), np.float32)
        for part in parts:
            values, target = piece(part.tile, part.window), out[part.window.within(window).slices]
            target += values if part.weights is None else part.weights * values
        return out
