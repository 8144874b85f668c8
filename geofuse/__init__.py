"""Fuse a coarse hyperspectral scene with a fine multispectral one into a fine hyperspectral scene.

The public names are looked up when they are first used, so that ``import geofuse`` loads neither torch nor rasterio.
"""

__version__ = "0.1.0"
