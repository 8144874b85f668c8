"""Where the pixels of one image lie on the grid of another.

Pixel coordinates are (column, row) with the corner of the first pixel at (0, 0), as in rasterio's transforms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.align.grids import turns
from geofuse.errors import InputError
from geofuse.scene import scene_transform

if TYPE_CHECKING:
    import xarray as xr
    from affine import Affine

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixel coordinates of the fused scene."""

_TURN = 0.5  # fused pixels that a rotation may move the source's far corner
_EPSILON = 1e-6  # of a pixel: rounding in transforms must not add a row


@dataclass(frozen=True)
class Grid:
    """Size, transform (pixel corners to CRS units) and CRS (None: unknown) of a scene."""

    height: int
    width: int
    transform: Affine
    crs: Any

    @classmethod
    def of(cls, scene: xr.DataArray) -> Grid:
        """Return the grid of a scene."""
        return cls(scene.sizes["y"], scene.sizes["x"], scene_transform(scene), scene.rio.crs)


@dataclass(frozen=True)
class Points:
    """Pixels of an image, as many rows and columns as a picture of it has.

    Attributes
    ----------
    rows, cols
        (h, w) int positions in the image; -1 outside it.
    box
        The part of the fused scene that the picture covers.
    span
        Rows and columns of the image that lie in it.
    """

    rows: np.ndarray
    cols: np.ndarray
    box: Box
    span: tuple[int, int]


def evenly(start: int, stop: int, count: int) -> np.ndarray:
    """Return ``count`` of the positions ``start ... stop - 1``, the middle of each share; all of them if that is no more."""
    length = stop - start
    count = max(1, min(count, length))
    return start + ((np.arange(count) + 0.5) * length / count).astype(int)


def thinned(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the rows and columns of a picture of ``height`` x ``width`` pixels whose longer side is ``side`` at most."""
    share = min(1.0, side / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))


def locate(fused: Grid, source: Grid, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the pixel of ``source`` that holds the centre of each fused pixel (``rows`` (h,) by ``cols`` (w,)).

    Returns rows and columns, (h, w) int each, -1 where the centre lies outside the source.
    """
    col, row = np.meshgrid(cols + 0.5, rows + 0.5)
    row, col = _to_source(fused, source, row, col)
    inside = (row >= 0) & (row < source.height) & (col >= 0) & (col < source.width)
    return np.where(inside, row, -1).astype(int), np.where(inside, col, -1).astype(int)


def _to_source(fused: Grid, source: Grid, row: np.ndarray, col: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn fused pixel coordinates into the source's, infinite where there is no way."""
    t = fused.transform
    x, y = t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f
    if _crs_differ(fused, source):
        from rasterio.warp import transform

        moved = transform(fused.crs, source.crs, x.ravel(), y.ravel())
        x, y = (np.reshape(values, col.shape) for values in moved[:2])
    t = ~source.transform
    col = t.a * x + t.b * y + t.c
    return t.d * x + t.e * y + t.f, col + turns(col, source)


def picture_points(fused: Grid, source: Grid, side: int) -> Points:
    """Choose the pixels of ``source`` for a picture of the fused scene's footprint, ``side`` pixels at most along the longer side.

    Where the two grids differ by shift and pixel size alone the picture is made of the source's own pixels; otherwise it is laid
    out on the fused grid.

    Raises
    ------
    InputError
        If the two do not overlap.
    """
    step = None if _crs_differ(fused, source) else ~fused.transform @ source.transform  # source pixels to fused pixels
    if step is not None:
        middle, _ = step @ (source.width / 2, source.height / 2)
        step = step.translation(turns(middle, fused), 0) @ step
    upright = step is not None and step.a > 0 and step.e > 0
    if not upright or max(abs(step.b), abs(step.d)) * max(source.height, source.width) > _TURN:
        height, width = thinned(fused.height, fused.width, side)
        rows, cols = locate(fused, source, evenly(0, fused.height, height), evenly(0, fused.width, width))
        if (rows < 0).all():
            raise _apart()
        ratio = max(1.0, pixel_ratio(fused, source))
        span = max(1, round(fused.height / ratio)), max(1, round(fused.width / ratio))
        return Points(rows, cols, (0.0, 0.0, float(fused.width), float(fused.height)), span)
    top, bottom = _span(step.e, step.f, fused.height, source.height)
    left, right = _span(step.a, step.c, fused.width, source.width)
    height, width = thinned(bottom - top, right - left, side)
    cols, rows = np.meshgrid(evenly(left, right, width), evenly(top, bottom, height))
    box = (step.a * left + step.c, step.e * top + step.f, step.a * right + step.c, step.e * bottom + step.f)
    return Points(rows, cols, box, (bottom - top, right - left))


def pixel_ratio(fused: Grid, source: Grid) -> float:
    """Return how many fused pixels fit along one side of a source pixel, by the area of the pixel at the scene's centre."""
    row, col = np.array([fused.height / 2]), np.array([fused.width / 2])
    moved = [_to_source(fused, source, row + up, col + right) for up, right in ((0, 0), (1, 0), (0, 1))]
    (r0, c0), (r1, c1), (r2, c2) = ((float(r[0]), float(c[0])) for r, c in moved)
    area = abs((r1 - r0) * (c2 - c0) - (r2 - r0) * (c1 - c0))  # of a fused pixel, in source pixels
    return float(1 / np.sqrt(area)) if np.isfinite(area) and area > 0 else float("nan")


def _span(scale: float, shift: float, length: int, size: int) -> tuple[int, int]:
    """Return the source positions (start, stop) that cover the fused positions 0 ... ``length``."""
    start = max(0, int(np.floor(-shift / scale + _EPSILON)))
    stop = min(size, int(np.ceil((length - shift) / scale - _EPSILON)))
    if stop <= start:
        raise _apart()
    return start, stop


def _crs_differ(fused: Grid, source: Grid) -> bool:
    return bool(fused.crs and source.crs and fused.crs != source.crs)


def _apart() -> InputError:
    return InputError("the images of the report do not overlap; give the HSI, MSI and reference of the fused image's own place")
