"""The tile grid: cores that cover every fine pixel once, each with a halo around it, all on coarse pixel borders.

A method sees a tile's ``outer`` window (core and halo); what it makes of the halo is blended with the neighbours' or thrown
away (:mod:`geofuse.tiling.mosaic`). Every border of every window is a multiple of the ratio, so a window is as exact on the
coarse grid as on the fine one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from geofuse.errors import UsageError


@dataclass(frozen=True)
class Window:
    """Rows ``[row0, row1)`` and columns ``[col0, col1)`` of a grid; fine pixels unless said otherwise."""

    row0: int
    row1: int
    col0: int
    col1: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.row1 - self.row0

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.col1 - self.col0

    @property
    def slices(self) -> tuple[slice, slice]:
        """The window as ``(rows, columns)`` slices, to index the last two axes of an array."""
        return slice(self.row0, self.row1), slice(self.col0, self.col1)

    def coarse(self, ratio: int) -> Window:
        """Return the same window in coarse pixels.

        Raises
        ------
        UsageError
            If a border of the window cuts through a coarse pixel.
        """
        bounds = (self.row0, self.row1, self.col0, self.col1)
        if any(bound % ratio for bound in bounds):
            raise UsageError(f"the window {bounds} cuts coarse pixels; its borders must be multiples of {ratio} fine pixels")
        return Window(*(bound // ratio for bound in bounds))

    def within(self, other: Window) -> Window:
        """Return this window counted from the upper left corner of ``other``."""
        return Window(self.row0 - other.row0, self.row1 - other.row0, self.col0 - other.col0, self.col1 - other.col0)


@dataclass(frozen=True)
class Edges:
    """Which sides of a tile's outer window are the scene's own border (True) and which a cut through it (False)."""

    top: bool
    bottom: bool
    left: bool
    right: bool


@dataclass(frozen=True)
class Tile:
    """One tile.

    Attributes
    ----------
    index
        Place in row-major order, from 0.
    core
        The part of the scene that is this tile's own; the cores of a grid cover the scene exactly once.
    outer
        Core and halo, clipped to the scene: what a method is given and what it returns.
    edges
        Where ``outer`` touches the scene's own border.
    """

    index: int
    core: Window
    outer: Window
    edges: Edges


@dataclass(frozen=True)
class TileGrid:
    """Tiles over a scene of ``height`` by ``width`` fine pixels; iterates over its tiles in row-major order.

    Attributes
    ----------
    height, width
        Size of the scene in fine pixels, multiples of the ratio.
    ratio
        Fine pixels to a coarse pixel, along each axis.
    tile
        Largest side of a core in fine pixels, rounded up to a multiple of the ratio. The cores of a row (column) differ by one
        coarse pixel at most: where the size asked for would leave a sliver at the end, all cores are a little smaller instead.
    overlap
        Width of the halo in fine pixels, on each side of a core, rounded up to a multiple of the ratio.
    row_bounds, col_bounds
        Borders between the cores in fine pixels, the scene's own borders included.

    Raises
    ------
    UsageError
        If a size is not positive, the overlap is negative or the scene is not a whole number of coarse pixels.
    """

    height: int
    width: int
    ratio: int
    tile: int
    overlap: int
    row_bounds: tuple[int, ...] = field(init=False, repr=False)
    col_bounds: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the sizes, round ``tile`` and ``overlap`` up and place the cores."""
        if self.ratio < 1 or self.tile < 1 or self.overlap < 0:
            found = f"ratio {self.ratio}, tile {self.tile}, overlap {self.overlap}"
            raise UsageError(f"tiles need a positive ratio and tile size and an overlap of 0 or more, found {found}")
        if self.height < 1 or self.width < 1 or self.height % self.ratio or self.width % self.ratio:
            found = f"{self.height} x {self.width} fine pixels"
            raise UsageError(f"a scene of {found} is not a whole number of coarse pixels at ratio {self.ratio}; pad or crop it")
        object.__setattr__(self, "tile", _round_up(self.tile, self.ratio))
        object.__setattr__(self, "overlap", _round_up(self.overlap, self.ratio))
        object.__setattr__(self, "row_bounds", _balanced_bounds(self.height, self.ratio, self.tile))
        object.__setattr__(self, "col_bounds", _balanced_bounds(self.width, self.ratio, self.tile))

    @property
    def n_rows(self) -> int:
        """Number of tile rows."""
        return len(self.row_bounds) - 1

    @property
    def n_cols(self) -> int:
        """Number of tile columns."""
        return len(self.col_bounds) - 1

    def __len__(self) -> int:
        """Return the number of tiles."""
        return self.n_rows * self.n_cols

    def __iter__(self) -> Iterator[Tile]:
        """Iterate over the tiles in row-major order."""
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Tile:
        """Return the tile at a place in row-major order."""
        if not 0 <= index < len(self):
            raise IndexError(f"tile {index} of {len(self)}")
        i, j = divmod(index, self.n_cols)
        core = Window(self.row_bounds[i], self.row_bounds[i + 1], self.col_bounds[j], self.col_bounds[j + 1])
        outer = Window(
            max(0, core.row0 - self.overlap),
            min(self.height, core.row1 + self.overlap),
            max(0, core.col0 - self.overlap),
            min(self.width, core.col1 + self.overlap),
        )
        edges = Edges(outer.row0 == 0, outer.row1 == self.height, outer.col0 == 0, outer.col1 == self.width)
        return Tile(index, core, outer, edges)


def _round_up(size: int, ratio: int) -> int:
    """Round up to a multiple of the ratio."""
    return -(-size // ratio) * ratio


def _balanced_bounds(size: int, ratio: int, tile: int) -> tuple[int, ...]:
    """Split ``size`` into the fewest cores of at most ``tile`` pixels, equal to within one coarse pixel."""
    coarse = size // ratio
    count = -(-size // tile)
    return tuple(int(bound) * ratio for bound in np.arange(count + 1) * coarse // count)
