"""What to do when a device runs out of memory: a smaller batch, then smaller tiles, then the CPU; each step is said in one line.

A step that was taken stays taken for the tiles that follow. Smaller tiles and the CPU change the values a little, as another tile
size or device asked for does; the summary notes what was done.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from geofuse.methods.base import Report, TileData
from geofuse.tiling import Edges, Mosaic, Tile, TileGrid

if TYPE_CHECKING:
    from geofuse.fusion import Fusion
    from geofuse.methods.spectral_basis import SubspaceImage

_LOG = logging.getLogger(__name__)
_LEAST_PARTS = 8  # a tile is cut into as many parts a side at the most


class Fallback:
    """Learns and fuses with a fusion, stepping down when its device is out of memory."""

    def __init__(self, fusion: Fusion) -> None:
        """Begin with tiles as they are, on the device that was asked for."""
        self.fusion = fusion
        self._parts = 1

    def fit(self, report: Report) -> None:
        """Learn; out of memory, with half the batch as long as the method has one of 2 or more, then on the CPU."""
        from geofuse.methods.device import is_out_of_memory

        while True:
            try:
                return self.fusion.fit(report)
            except Exception as error:
                if not (is_out_of_memory(error) and self._step_down_learning()):
                    raise

    def fuse(self, data: TileData, report: Report) -> np.ndarray | SubspaceImage:
        """Fuse a tile as ``fuse_data`` of the fusion does; out of memory, in 4, 16, 64 parts with halos, then on the CPU."""
        from geofuse.methods.device import is_out_of_memory

        while True:
            try:
                return self._in_parts(data, report) if self._parts > 1 else self.fusion.fuse_data(data, report)
            except Exception as error:
                if not (is_out_of_memory(error) and self._step_down(report)):
                    raise

    def _step_down_learning(self) -> bool:
        fusion = self.fusion
        batch = getattr(fusion.options, "batch", 1)
        if batch > 1:
            self._say(f"{fusion.model.device} is out of memory while learning: batches of {batch // 2} instead of {batch}")
            fusion.begin_again(options=replace(fusion.options, batch=batch // 2))
        elif fusion.model.device != "cpu":
            self._say(f"{fusion.model.device} is out of memory while learning: learning on the CPU")
            fusion.begin_again(device="cpu")
        else:
            return False
        return True

    def _step_down(self, report: Report) -> bool:
        """Take the next step; False if there is none."""
        fusion, device = self.fusion, self.fusion.model.device
        if device == "cpu":
            return False
        if self._parts < _LEAST_PARTS and fusion.grid.tile // (2 * self._parts) >= max(fusion.grid.overlap, fusion.grid.ratio):
            self._parts *= 2
            self._say(f"{device} is out of memory: tiles are fused in {self._parts} x {self._parts} parts from here on")
        else:
            self._parts = 1
            self._say(f"{device} is out of memory for the smallest tiles too: going on on the CPU")
            fusion.begin_again(device="cpu")
            fusion.fit(report)
        return True

    def _in_parts(self, data: TileData, report: Report) -> np.ndarray:
        """Fuse a tile as a small scene of its own, cut into smaller tiles with the same halo."""
        ratio, overlap = self.fusion.grid.ratio, self.fusion.grid.overlap
        height, width = data.msi.shape[1:]
        grid = TileGrid(height, width, ratio, -(-max(height, width) // self._parts), overlap)
        mosaic = Mosaic(grid, self.fusion.n_bands)
        for tile in grid:
            mosaic.add(tile, np.asarray(self.fusion.fuse_data(_part(data, tile, ratio), report)))
        return np.concatenate([rows for _, rows in mosaic.finished()], axis=1)

    def _say(self, text: str) -> None:
        _LOG.warning(text)
        self.fusion.pair.attrs["notes"] = [*self.fusion.pair.attrs["notes"], text]


def _part(data: TileData, tile: Tile, ratio: int) -> TileData:
    """Cut a smaller tile out of a tile's pixels."""
    rows, cols = tile.outer.slices
    coarse_rows, coarse_cols = tile.outer.coarse(ratio).slices
    ours, all_ = tile.edges, data.edges
    edges = Edges(ours.top and all_.top, ours.bottom and all_.bottom, ours.left and all_.left, ours.right and all_.right)
    weight = None if data.msi_weight is None else np.ascontiguousarray(data.msi_weight[rows, cols])
    hsi = np.ascontiguousarray(data.hsi[:, coarse_rows, coarse_cols])
    origin = data.origin[0] + tile.outer.row0, data.origin[1] + tile.outer.col0
    return TileData(hsi, np.ascontiguousarray(data.msi[:, rows, cols]), origin, edges, weight)
