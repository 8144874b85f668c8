"""Cutting a scene into tiles, putting the tiles back together, and noise that no cut can change."""

from geofuse.tiling.grid import Edges, Tile, TileGrid, Window
from geofuse.tiling.mosaic import Mosaic, axis_weights
from geofuse.tiling.noise import standard_normal
from geofuse.tiling.regions import PARTS, Blending, RegionGrid

__all__ = ["PARTS", "Blending", "Edges", "Mosaic", "RegionGrid", "Tile", "TileGrid", "Window", "axis_weights", "standard_normal"]
