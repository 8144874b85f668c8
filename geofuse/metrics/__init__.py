"""Scores of an estimate against a reference: psnr, rmse, sam, ergas, ssim, uiqi, aware of no data."""

from geofuse.metrics.angle import sam
from geofuse.metrics.masks import valid_pixels
from geofuse.metrics.pixelwise import ergas, psnr, psnr_global, rmse
from geofuse.metrics.scores import Scores, evaluate_arrays, per_band, score
from geofuse.metrics.windowed import ssim, uiqi

__all__ = [
    "Scores",
    "ergas",
    "evaluate_arrays",
    "per_band",
    "psnr",
    "psnr_global",
    "rmse",
    "sam",
    "score",
    "ssim",
    "uiqi",
    "valid_pixels",
]
