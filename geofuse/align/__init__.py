"""Bringing a hyperspectral and a multispectral scene onto nested grids: the pair."""

from geofuse.align.pair import make_pair

__all__ = ["make_pair"]
