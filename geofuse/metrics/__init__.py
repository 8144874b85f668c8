"""Scores of an estimate, aware of no data: against a reference, or against the two observations where there is none."""

from geofuse.metrics.angle import sam
from geofuse.metrics.correlation import scc
from geofuse.metrics.masks import valid_pixels
from geofuse.metrics.noreference import FullScale, consistency, d_lambda, d_s, khan_distortion, score_without_reference
from geofuse.metrics.pixelwise import ergas, psnr, psnr_global, rmse
from geofuse.metrics.q2n import q2n
from geofuse.metrics.scores import Scores, evaluate_arrays, per_band, score
from geofuse.metrics.windowed import ssim, uiqi

__all__ = [
    "FullScale",
    "Scores",
    "consistency",
    "d_lambda",
    "d_s",
    "ergas",
    "evaluate_arrays",
    "khan_distortion",
    "per_band",
    "psnr",
    "psnr_global",
    "q2n",
    "rmse",
    "sam",
    "scc",
    "score",
    "score_without_reference",
    "ssim",
    "uiqi",
    "valid_pixels",
]
