"""Degradation operators: how the fine hyperspectral scene becomes the two observed images."""

from geofuse.degradation.spatial import SpatialOperator

__all__ = ["SpatialOperator"]
