"""Sensors: spectral responses of the multispectral image, the matrix R, and point spread functions."""

from geofuse.sensors.loading import SensorSummary, list_sensors, load_response, sensor_names
from geofuse.sensors.matching import BandMatch, match_bands
from geofuse.sensors.matrix import coverage, noise_gain, response_matrix
from geofuse.sensors.psf import Psf
from geofuse.sensors.response import ResponseBand, SensorResponse

__all__ = [
    "BandMatch",
    "Psf",
    "ResponseBand",
    "SensorResponse",
    "SensorSummary",
    "coverage",
    "list_sensors",
    "load_response",
    "match_bands",
    "noise_gain",
    "response_matrix",
    "sensor_names",
]
