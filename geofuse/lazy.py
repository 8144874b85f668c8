"""A fusion as a dask array: one task learns, one task a tile fuses, one task a tile blends it with its neighbours."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.tiling import Blending, Tile, Window

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    from geofuse.fusion import Fusion

_ONE_AT_A_TIME = threading.Lock()  # a tile uses all threads by itself


def fuse_lazily(fusion: Fusion) -> xr.DataArray | xr.Dataset:
    """Return the fused scene, dask-backed; nothing is computed before a value is asked for.

    With a posterior it is a dataset of two variables, ``fused`` and ``uncertainty``. The values are those that
    :meth:`Fusion.rows` gives, up to rounding of the blend.
    """
    import dask
    import dask.array as da
    from affine import Affine

    from geofuse.result import provenance
    from geofuse.scene import BandMetadata, make_scene

    pair, grid = fusion.pair, fusion.grid
    learnt = dask.delayed(_learn, pure=False)(_Learning(fusion))
    done = {tile.index: dask.delayed(_fuse, pure=False)(learnt, tile) for tile in grid}
    n_bands, blending = fusion.n_bands, Blending(grid)
    blocks = []
    for i in range(grid.n_rows):
        row = []
        for j in range(grid.n_cols):
            core = grid[i * grid.n_cols + j].core
            near = blending.tiles_of(core)
            task = dask.delayed(_blend, pure=False)(blending, core, near, [done[k] for k in near])
            row.append(da.from_delayed(task, (n_bands, core.height, core.width), np.float32))
        blocks.append(row)
    data = da.concatenate([da.concatenate(row, axis=2) for row in blocks], axis=1)
    row0, row1, col0, col1 = pair.attrs["output_window"]
    names = tuple(str(name) for name in pair["band_name"].values)
    bands = BandMetadata(pair["wavelength"].values, pair["fwhm"].values, pair["good_band"].values, names)
    data = _uniform(data[:, row0:row1, col0:col1], grid.tile)
    attrs = {key: value for key, value in pair.attrs.items() if key.startswith("stored_") and value == value}  # JSON has no NaN
    attrs |= provenance(fusion)
    transform = Affine(*pair.attrs["output_transform"])
    fused = make_scene(data[: len(bands)], bands, transform, pair.rio.crs, attrs).rename("fused")
    if fusion.posterior is None:
        return fused
    attrs = {**provenance(fusion), "long_name": "standard deviation of the fused values"}
    spread = make_scene(data[len(bands) :], bands, transform, pair.rio.crs, attrs)
    return fused.to_dataset().assign(uncertainty=spread)


@dataclass
class _Learning:
    """A fusion, and whether it has learnt: in one process a second computation does not learn again."""

    fusion: Fusion
    done: bool = False


def _learn(learning: _Learning) -> Fusion:
    with _ONE_AT_A_TIME:
        if not learning.done:
            learning.fusion.fit()
            learning.done = True
    return learning.fusion


def _uniform(data: da.Array, tile: int) -> da.Array:
    """Return an array (band, y, x) in chunks of one size but for the last, which formats such as Zarr need."""
    if all(len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0] for sizes in data.chunks[1:]):
        return data
    return data.rechunk({1: tile, 2: tile})


def _fuse(fusion: Fusion, tile: Tile) -> np.ndarray:
    with _ONE_AT_A_TIME:
        return fusion.fuse(tile)


def _blend(blending: Blending, core: Window, near: list[int], fused: list[Any]) -> np.ndarray:
    """Add up what the tiles ``near`` contribute to a core, with the mosaic's weights."""
    out = np.zeros((fused[0].shape[0], core.height, core.width), np.float32)
    data = dict(zip(near, fused, strict=True))
    for part in blending.parts(core):
        rows, cols = part.window.within(blending.grid[part.tile].outer).slices
        values, target = data[part.tile][:, rows, cols], out[:, *part.window.within(core).slices]
        target += values if part.weights is None else part.weights * values
    return out
