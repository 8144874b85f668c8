"""The sample scene: a made-up landscape seen by a coarse hyperspectral and a fine multispectral sensor, with its reference."""

from geofuse.demo.pair import DemoPaths, make_demo

__all__ = ["DemoPaths", "make_demo"]
