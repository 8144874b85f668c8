"""Bringing a hyperspectral and a multispectral scene onto nested grids: the pair."""

from geofuse.align.pair import make_pair
from geofuse.align.registration import Registration
from geofuse.align.response_file import ResponseFile, response_from_text

__all__ = ["Registration", "ResponseFile", "make_pair", "response_from_text"]
