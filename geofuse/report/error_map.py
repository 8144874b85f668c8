"""Where and in which bands the fused scene differs from its reference, in one pass over both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geofuse.evaluate import common_part, turned_like
from geofuse.metrics.pixelwise import BandMoments, ergas_from, mean_beside, psnr_bands, psnr_from, psnr_global_from, rmse_from
from geofuse.report.gather import windows
from geofuse.report.placement import Box, Grid, evenly, thinned

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class ErrorMap:
    """Differences between a fused scene and its reference.

    Attributes
    ----------
    rmse, angle
        Root mean square over bands (the reference's units) and spectral angle in degrees of every pixel drawn, (h, w) float32;
        NaN where a band of either has no data.
    box
        The part of the fused scene that the maps cover.
    psnr
        Per band in dB, (band,) as the fused scene has them; NaN for bands not compared.
    scores
        ``psnr``, ``psnr_global``, ``rmse``, ``sam`` and, where the ratio is known, ``ergas``; all pixels counted. Empty where no
        pixel has data in both.
    n_pixels
        The number of pixels that counted.
    """

    rmse: np.ndarray
    angle: np.ndarray
    box: Box
    psnr: np.ndarray
    scores: dict[str, float]
    n_pixels: int


class _Totals:
    """Sums over the pixels seen so far: squared error, maximum and sum of each band of the reference, and the angles."""

    def __init__(self, n_bands: int) -> None:
        self.pixels = 0
        self.squares = np.zeros(n_bands)
        self.maximum = np.full(n_bands, -np.inf)
        self.total, self.power = np.zeros(n_bands), np.zeros(n_bands)
        self.degrees, self.directed = 0.0, 0

    def add(self, truth: np.ndarray, estimate: np.ndarray, degrees: np.ndarray) -> None:
        """Count pixels (band, n) that have data in every band; ``degrees`` (n,) is NaN where the truth has no direction."""
        self.pixels += truth.shape[1]
        self.squares += ((estimate - truth) ** 2).sum(axis=1)
        self.maximum = np.maximum(self.maximum, truth.max(axis=1))
        self.total += truth.sum(axis=1)
        self.power += (truth**2).sum(axis=1)
        directed = np.isfinite(degrees)
        self.degrees += float(degrees[directed].sum())
        self.directed += int(directed.sum())

    def moments(self) -> BandMoments:
        mean = mean_beside(self.total / self.pixels, self.power / self.pixels)
        return BandMoments(self.squares / self.pixels, self.maximum, mean)

    def scores(self, ratio: float | None) -> dict[str, float]:
        """Return the scores by the same formulas as :func:`geofuse.metrics.score`."""
        moments = self.moments()
        scores = {"psnr": psnr_from(moments), "psnr_global": psnr_global_from(moments), "rmse": rmse_from(moments)}
        scores["sam"] = self.degrees / self.directed if self.directed else float("nan")
        return scores | ({"ergas": ergas_from(moments, ratio)} if ratio else {})


def compare(fused: xr.DataArray, reference: xr.DataArray, band_of: np.ndarray, ratio: float | None, side: int) -> ErrorMap:
    """Compare two scenes on the pixels that both have.

    Parameters
    ----------
    fused, reference
        Scenes on one grid; see :func:`geofuse.evaluate.common_part`.
    band_of
        The reference's band for each fused band, (band,) int; -1 for bands that do not count.
    ratio
        For ERGAS; None leaves it out.
    side
        Longer side of the maps in pixels at most.

    Raises
    ------
    InputError
        If the grids differ.
    """
    ours = np.flatnonzero(band_of >= 0)
    theirs, n_bands = band_of[ours], len(band_of)
    reference = turned_like(reference, fused)
    inside, truth, _ = common_part(fused, reference)
    height, width = inside.shape[1:]
    map_rows, map_cols = (evenly(0, n, m) for n, m in zip((height, width), thinned(height, width, side), strict=True))
    maps = np.full((2, len(map_rows), len(map_cols)), np.nan, np.float32)
    totals = _Totals(len(ours))
    for rows, cols in windows(inside):
        estimate_block = np.asarray(inside.data[:, rows, cols])[ours]
        truth_block = np.asarray(truth.data[:, rows, cols])[theirs]
        valid = np.isfinite(estimate_block).all(axis=0) & np.isfinite(truth_block).all(axis=0) & bool(len(ours))
        if not valid.any():
            continue
        window_maps = np.full((2, *valid.shape), np.nan, np.float32)
        pair = truth_block[:, valid].astype(float), estimate_block[:, valid].astype(float)
        angle = angles(*pair)
        window_maps[0, valid] = np.sqrt(((pair[1] - pair[0]) ** 2).mean(axis=0))
        window_maps[1, valid] = angle
        totals.add(*pair, angle)
        i, j = (np.flatnonzero((at >= part.start) & (at < part.stop)) for at, part in ((map_rows, rows), (map_cols, cols)))
        maps[:, i[:, None], j] = window_maps[:, map_rows[i][:, None] - rows.start, map_cols[j] - cols.start]
    psnr = np.full(n_bands, np.nan)
    if totals.pixels:
        psnr[ours] = psnr_bands(totals.moments())
    scores = totals.scores(ratio) if totals.pixels else {}
    return ErrorMap(maps[0], maps[1], _box(fused, reference, (height, width)), psnr, scores, totals.pixels)


def angles(truth: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Return the angle between the spectra (band, n) of each pixel in degrees.

    NaN where the truth is zero in every band, 90 where the estimate alone is; as :func:`geofuse.metrics.sam`.
    """
    lengths = [np.linalg.norm(spectra, axis=0) for spectra in (truth, estimate)]
    u, v = (spectra / np.where(length > 0, length, 1.0) for spectra, length in zip((truth, estimate), lengths, strict=True))
    degrees = np.degrees(2 * np.arctan2(np.linalg.norm(u - v, axis=0), np.linalg.norm(u + v, axis=0)))
    return np.where(lengths[0] > 0, np.where(lengths[1] > 0, degrees, 90.0), np.nan)


def _box(fused: xr.DataArray, reference: xr.DataArray, shape: tuple[int, ...]) -> Box:
    """Return where the common part, ``shape`` (y, x), lies in the fused scene."""
    step = ~Grid.of(reference).transform @ Grid.of(fused).transform  # fused pixels to reference pixels, a whole shift
    left, top = max(0, -round(step.c)), max(0, -round(step.f))
    return (left, top, left + shape[1], top + shape[0])
