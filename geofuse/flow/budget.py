"""How much memory a run takes, and the tile size that keeps within a limit.

The model, in bytes, adds up what is held at the same time. With P the fine pixels of a tile with its halo, R those of a region that
is written, B the bands of a fused tile, C and c those of the two images, r the ratio and s the bytes of a stored value:

* libraries and the open pair, ``_BASE``; measured 0.48 GB. Not taken from the process, so that a run that is resumed plans alike;
* fusing: a multiple of 4 C P that depends on the method (result included), measured, see ``_FUSING``; for methods that solve in a
  subspace, if that is more, what the solver holds at the highest rank, ``_SOLVING`` P: the rank is not known before learning;
* writing: 4 s B R for each region in work, at most four, one a thread: its stored form, and its blocks while they are compressed;
* reading ahead: a tile of 4 P (c + C / r^2), twice while it is put together from pieces, and the one being fused;
* GDAL's block cache, the pieces of the inputs that were read last, and 128 MiB of buffers and of holes in the heap.

Learning takes no more for larger scenes or tiles (:func:`geofuse.fusion.sample_windows`): 4 (c + C / r^2) bytes for each pixel of
the windows and what the method makes of it. ``docs/scale.md`` holds the model against measurements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geofuse.errors import UsageError
from geofuse.flow.stitching import AT_ONCE
from geofuse.fusion import DEFAULT_TILE, sample_windows
from geofuse.io.gdal_log import CACHE_BYTES
from geofuse.io.recent import RECENT_BYTES
from geofuse.threads import choose_threads
from geofuse.tiling import RegionGrid, TileGrid, Window

if TYPE_CHECKING:
    from geofuse.fusion import Fusion

TILES = (2048, 1536, 1024, 768, 512, 384, 256, 192, 128, 96, 64)
"""Tile sizes to choose from, fine pixels."""

_BASE = 500 * 2**20
_BUFFERS = 128 * 2**20
_FUSING = {"bicubic": 1.0, "subspace": 1.35, "argsdiff": 1.6, "gsa": 1.4, "sfim": 1.4, "glp": 1.4, "fuse": 1.4}  # of 4 C P
_FUSING_OTHERS = 3.0
_SOLVING = {"subspace": 2200, "argsdiff": 2200}  # bytes a pixel at rank 32; measured with subspace, 48 bands
_LEARNING = {"subspace": 440, "argsdiff": 1400}  # bytes a pixel of the sample windows; measured on 8 + 150 bands
_LEARNING_OTHERS = 600


def choose_tile(fusion: Fusion, block: tuple[int, int], itemsize: int, limit: int | None, asked: int | None) -> int:
    """Choose the tile size.

    Parameters
    ----------
    fusion
        The fusion, which has not learnt yet.
    block, itemsize
        Rows and columns of the output's blocks, bytes of a stored value.
    limit
        Bytes the process may take; None for no limit.
    asked
        Tile size that the user asked for; None to choose one: 512 without a limit, else the largest that fits.

    Raises
    ------
    UsageError
        If the limit is too low for the tile size asked for, or for any.
    """
    if limit is None:
        return asked or DEFAULT_TILE
    least = 0
    for tile in (asked,) if asked else TILES:
        least = expected_bytes(fusion, tile, block, itemsize)
        if least <= limit:
            return tile
    what = f"tiles of {asked} pixels take" if asked else f"this pair takes, even with tiles of {TILES[-1]} pixels,"
    remedy = "leave --tile out, or " if asked else ""
    raise UsageError(
        f"--memory {limit / 2**30:.2f} GiB is too little: {what} about {least / 2**30:.2f} GiB; {remedy}give more with --memory"
    )


def expected_bytes(fusion: Fusion, tile: int, block: tuple[int, int], itemsize: int) -> int:
    """Return the memory that a run is expected to take at most."""
    whole, name = fusion.grid, fusion.settings.method
    grid = TileGrid(whole.height, whole.width, whole.ratio, tile, whole.overlap)
    pixels = _largest(grid.row_bounds, whole.overlap, whole.height) * _largest(grid.col_bounds, whole.overlap, whole.width)
    regions = RegionGrid.of(Window(*fusion.pair.attrs["output_window"]), block, grid.tile)
    hsi, msi, bands = fusion.pair.sizes["band"], fusion.pair.sizes["band_msi"], fusion.n_bands
    both = 4 * (msi + hsi / whole.ratio**2)
    fusing = max(_FUSING.get(name, _FUSING_OTHERS) * 4 * hsi, _SOLVING.get(name, 0))
    tiles = pixels * (fusing + 4 * (bands - hsi) + 3 * both)
    writing = min(choose_threads().count, AT_ONCE) * 4 * itemsize * bands * regions.rows * regions.cols
    samples = sum(window.height * window.width for window, _ in sample_windows(whole.height, whole.width, whole.ratio))
    learning = samples * (both + _LEARNING.get(name, _LEARNING_OTHERS))
    return int(_BASE + _BUFFERS + CACHE_BYTES + RECENT_BYTES + max(tiles + writing, learning))


def _largest(bounds: tuple[int, ...], overlap: int, size: int) -> int:
    """Return the longest side of a tile with its halo along one axis."""
    return min(int(np.diff(bounds).max()) + 2 * overlap, size)
