"""Fuse a coarse hyperspectral scene with a fine multispectral one into a fine hyperspectral scene.

The public names are looked up when they are first used, so that ``import geofuse`` loads neither torch nor rasterio.
"""

from geofuse.threads import wait_passively

__version__ = "0.1.0"

wait_passively()  # before torch is imported, else it has no effect
