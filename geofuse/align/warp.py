"""One warp of the coarse image onto a grid that nests with the fine one, block by block and lazily.

GDAL's warper is not used because, through rasterio 1.4.4, it approximates the coordinates (0.1 coarse pixel off in a trial,
whatever the ``tolerance``; half a fine pixel at ratio 5), and because it lets the NaN of one band reach into its neighbourhood.
Here every target pixel centre is transformed exactly by PROJ, and the result does not depend on how the image is cut into blocks.

Interpolation is cubic convolution with a = -0.5 (Keys 1981, eq. 8), stretched where the target pixels are larger than the source's
so that nothing aliases. Where the cubic kernel meets no data or the border of the image, it gives way to bilinear interpolation
between the pixels that hold data; where the nearest source pixel has no data or lies outside, so does the target pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.align.grids import Grid, positions
from geofuse.tiling import Window

if TYPE_CHECKING:
    from geofuse.align.bent_grid import BentGrid

BLOCK = 128  # target pixels


def source_window(source: Grid, target: Grid, bent: BentGrid | None = None) -> Window:
    """Return the source pixels that a warp onto ``target`` reads, clipped to the source; empty (0 rows) where it reads none."""
    along_x, along_y = np.linspace(0, target.width, 33), np.linspace(0, target.height, 33)
    cols = np.concatenate([along_x, along_x, np.zeros(33), np.full(33, target.width)])
    rows = np.concatenate([np.zeros(33), np.full(33, target.height), along_y, along_y])
    x, y = positions(target, source, cols, rows)
    seen = np.isfinite(x) & np.isfinite(y)
    if not seen.any():
        return Window(0, 0, 0, 0)
    pad = (2 + (bent.largest if bent else 0.0)) * max(_stretch(source, target)) + 2
    row0, row1 = np.clip([np.floor(y[seen].min() - pad), np.ceil(y[seen].max() + pad)], 0, source.height).astype(int)
    col0, col1 = np.clip([np.floor(x[seen].min() - pad), np.ceil(x[seen].max() + pad)], 0, source.width).astype(int)
    return Window(int(row0), int(row1), int(col0), int(col1))


def warp(image: Any, source: Grid, target: Grid, bent: BentGrid | None = None) -> Any:
    """Resample an image onto another grid.

    Parameters
    ----------
    image
        dask array (band, source height, source width); NaN = no data.
    source, target
        Grids; the CRSs may differ.
    bent
        What the image is displaced by beyond what its grid says, or None.

    Returns
    -------
    dask array (band, target height, target width) float32
        NaN where the nearest source pixel has no data. Nothing is computed yet.
    """
    import dask.array as da
    from dask import delayed

    stretch = _stretch(source, target)
    bands, rows = image.shape[0], []
    for row0 in range(0, target.height, BLOCK):
        row = []
        for col0 in range(0, target.width, BLOCK):
            part = target.cut(Window(row0, min(row0 + BLOCK, target.height), col0, min(col0 + BLOCK, target.width)))
            needed = source_window(source, part, bent)
            shape = (bands, part.height, part.width)
            if needed.height == 0 or needed.width == 0:
                row.append(da.full(shape, np.nan, dtype=np.float32))
                continue
            pixels = image[:, needed.slices[0], needed.slices[1]]
            block = delayed(_warp_block)(pixels, source.cut(needed), part, stretch, bent)
            row.append(da.from_delayed(block, shape, dtype=np.float32))
        rows.append(row)
    return da.block(rows)


def _stretch(source: Grid, target: Grid) -> tuple[float, float]:
    """How many times larger a target pixel is than a source pixel along the source's y and x; 1 where it is smaller.

    Up to 5 % counts as equal: there is nothing to alias and the unstretched kernel keeps more detail.
    """
    centre = np.array([target.width / 2]), np.array([target.height / 2])
    x, y = positions(target, source, centre[0] + np.array([0, 1, 0]), centre[1] + np.array([0, 0, 1]))
    sizes = np.nan_to_num([max(abs(y[1:] - y[0])), max(abs(x[1:] - x[0]))], nan=1.0, posinf=1.0)
    return tuple(float(size) if size > 1.05 else 1.0 for size in sizes)


def _warp_block(
    image: np.ndarray, source: Grid, target: Grid, stretch: tuple[float, float], bent: BentGrid | None = None
) -> np.ndarray:
    """Warp one block; ``image`` (band, source height, source width) holds all that it needs."""
    cols, rows = np.meshgrid(np.arange(target.width) + 0.5, np.arange(target.height) + 0.5)
    if bent is not None:
        cols, rows = bent.undo(target, cols, rows)
    x, y = positions(target, source, cols, rows)
    values = resample(image, y.ravel() - 0.5, x.ravel() - 0.5, stretch)
    return values.reshape(len(image), target.height, target.width)


def resample(image: np.ndarray, row: np.ndarray, col: np.ndarray, stretch: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Interpolate an image at points.

    Parameters
    ----------
    image
        (band, height, width); NaN = no data.
    row, col
        (point,) positions in pixels, 0 at the centre of the first pixel.
    stretch
        By how much the cubic kernel is widened along y and x.

    Returns
    -------
    ndarray (band, point) float32
        NaN where the nearest pixel has no data or the point is outside the image.
    """
    bands, height, width = image.shape
    pixels = np.ascontiguousarray(image.reshape(bands, -1).T)  # (pixel, band)
    out = np.full((len(row), bands), np.nan, np.float32)
    near_row, near_col = np.floor(np.nan_to_num(row, nan=-9) + 0.5), np.floor(np.nan_to_num(col, nan=-9) + 0.5)
    inside = (near_row >= 0) & (near_row < height) & (near_col >= 0) & (near_col < width)
    row, col = row[inside], col[inside]
    if not len(row):
        return out.T
    cubic, whole = _weights(row, col, (height, width), _cubic, 2.0, stretch)
    values = np.asarray(cubic @ pixels, np.float32)  # NaN wherever a tap is
    values[~whole] = np.nan
    spoiled = np.isnan(values).any(axis=1)
    if spoiled.any():
        kept, instead = values[spoiled], _masked_bilinear(pixels, row[spoiled], col[spoiled], (height, width))
        values[spoiled] = np.where(np.isnan(kept), instead, kept)
    nearest = (near_row[inside] * width + near_col[inside]).astype(int)
    values[np.isnan(pixels[nearest])] = np.nan
    out[inside] = values
    return out.T


def _masked_bilinear(pixels: np.ndarray, row: np.ndarray, col: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation between the pixels that hold data, (point, band)."""
    weights, _ = _weights(row, col, shape, _tent, 1.0, (1.0, 1.0))
    used = np.unique(weights.indices)
    weights = weights[:, used]
    known = np.isfinite(pixels[used])
    share = weights @ known.astype(np.float64)
    total = weights @ np.where(known, pixels[used], 0.0)
    return np.divide(total, share, out=np.full(share.shape, np.nan), where=share > 1e-6)


def _weights(
    row: np.ndarray, col: np.ndarray, shape: tuple[int, int], kernel: Any, reach: float, stretch: tuple[float, float]
) -> tuple[Any, np.ndarray]:
    """Build the interpolation as a sparse matrix.

    Returns
    -------
    tuple of (csr matrix (point, pixel), ndarray (point,) bool)
        The weights, each row's sum one over the whole kernel, and whether the whole kernel lies inside the image.
    """
    from scipy import sparse

    (index_y, weight_y), (index_x, weight_x) = (
        _taps(position, kernel, reach * widen, widen) for position, widen in ((row, stretch[0]), (col, stretch[1]))
    )
    height, width = shape
    weight = weight_y[:, :, None] * weight_x[:, None, :]
    inside_y, inside_x = (index_y >= 0) & (index_y < height), (index_x >= 0) & (index_x < width)
    inside = inside_y[:, :, None] & inside_x[:, None, :]
    pixel = index_y[:, :, None] * width + index_x[:, None, :]
    point = np.broadcast_to(np.arange(len(row))[:, None, None], weight.shape)
    used = inside & (weight != 0)
    matrix = sparse.csr_array((weight[used], (point[used], pixel[used])), shape=(len(row), height * width))
    return matrix, (inside | (weight == 0)).all(axis=(1, 2))


def _taps(position: np.ndarray, kernel: Any, reach: float, widen: float) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel indices and normalised weights along one axis, (point, tap) each."""
    first = np.floor(position - reach).astype(int) + 1
    index = first[:, None] + np.arange(int(np.ceil(2 * reach)))
    weight = kernel((index - position[:, None]) / widen)
    return index, weight / weight.sum(axis=1, keepdims=True)


def _cubic(u: np.ndarray) -> np.ndarray:
    """Cubic convolution kernel with a = -0.5 (Keys 1981, eq. 8); support |u| < 2."""
    u = np.abs(u)
    near = (1.5 * u - 2.5) * u * u + 1.0
    far = ((-0.5 * u + 2.5) * u - 4.0) * u + 2.0
    return np.where(u <= 1, near, np.where(u < 2, far, 0.0))


def _tent(u: np.ndarray) -> np.ndarray:
    """Linear interpolation kernel; support |u| < 1."""
    return np.maximum(0.0, 1.0 - np.abs(u))
