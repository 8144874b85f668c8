"""How far each pixel of the MSI can be trusted: a mask from the user, and what the two images themselves say of change and clouds.

On the coarse grid H(Y) - R X should hold noise and what a slightly wrong PSF or registration leaves along edges. The size of both
is taken from the scene: var = s^2 + k^2 G with G the local power of the gradient, fitted to robust variances of classes of G. Where
the misfit is far beyond that the scene has changed between the images, a cloud stands in one of them, or a pixel is saturated; the
weight falls there with the fourth power and is interpolated to the fine grid.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from geofuse.align.grids import Grid, positions
from geofuse.align.pan import _blur
from geofuse.align.reconcile import reconcile
from geofuse.errors import InputError, UsageError
from geofuse.sensors.psf import Psf

if TYPE_CHECKING:
    from collections.abc import Callable

CHANGE_MODES = ("auto", "off")
LEAST_WEIGHT = 0.05  # what is trusted less is not used at all
_OUTLIER = 5.0  # expected deviations beyond which the weight falls: parallax and shadows reach six, clouds tens
_FEWEST = 3  # coarse pixels of 3 x 3 that have to disagree: a single bright target is none
_TOLERANCE = 0.05  # of a band's spread: misfit that is never called a change
_CLASSES = 8
_STRIP = 128  # coarse rows that are looked at together
_WHOLE = 1e-3  # of the PSF's weight: where more of it falls on no data or beyond the border nothing is said of change
_PARTLY = 0.5  # the same for what is shared between the images, once they are known to contradict each other
_WORTH_SAYING = 0.001
_WRITE_ROWS = 512


def add_trust(pair: xr.Dataset, mask: str | Path | None = None, change: str = "off", *, allow_remote: bool = False) -> xr.Dataset:
    """Add ``msi_weight (y, x)`` to a pair: 0 where the MSI is not to be used, 1 where it is trusted, float32, lazy.

    Parameters
    ----------
    pair
        A pair; one that has weights already keeps the lesser of both.
    mask
        A raster; where any of its bands is neither 0 nor no data the MSI is not used. Each fine pixel takes the value that its
        centre falls on, whatever the raster's pixel size and CRS; beyond its border the MSI is trusted.
    change
        ``"auto"``: lessen the weight where the two images contradict each other far more than elsewhere, and share what is left
        between them (:mod:`geofuse.align.reconcile`); the MSI is read once for it. ``"off"``: do neither.

    Raises
    ------
    UsageError
        If ``change`` is none of these.
    InputError
        If the mask does not overlap the pair, or would leave nothing of the MSI.
    """
    if change not in CHANGE_MODES:
        raise UsageError(f"unknown change weight {change!r}; expected {' or '.join(CHANGE_MODES)}")
    weights, before = [pair["msi_weight"].data] if "msi_weight" in pair else [], pair.attrs["notes"]
    notes = list(before)
    if mask is not None:
        distrusted, note = _mask_on(pair, mask, allow_remote)
        weights.append(distrusted)
        notes.append(note)
    if change == "auto":
        residual, seen = compare(pair)
        coarse = change_weight(residual, seen)
        share = float((coarse < 0.5).mean())
        if share > _WORTH_SAYING:
            notes.append(f"change: the images contradict each other in {share:.1%} of the coarse pixels; the MSI weighs less there")
        trusted = _whole(coarse, weights, int(pair.attrs["ratio"]))
        pair = reconcile(pair, residual, trusted, partial(_compare_partly, pair))
        notes += pair.attrs["notes"][len(before) :]
        if (coarse < 1).any():
            weights.append(_upsampled(coarse, pair))
    if not weights:
        return pair.assign_attrs(notes=notes)
    import dask.array as da

    least = weights[0]
    for other in weights[1:]:
        least = da.minimum(least, other)
    source = ", ".join([*([f"mask {Path(mask).name}"] if mask is not None else []), *(["change"] if change == "auto" else [])])
    weighted = pair.assign(msi_weight=(("y", "x"), least.astype(np.float32)))
    return weighted.assign_attrs(notes=notes, msi_weight_source=source)


def save_weights(pair: xr.Dataset, path: str | Path) -> None:
    """Write the weight of the MSI over the output window as a GeoTIFF of one float32 band: 0 to 1, NaN where it has no data.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from affine import Affine

    from geofuse.io import OutputSpec, open_sink
    from geofuse.scene import BandMetadata

    row0, row1, col0, col1 = pair.attrs["output_window"]
    unknown = np.array([np.nan])
    bands = BandMetadata(unknown, unknown, np.ones(1, bool), ("weight of the MSI",))
    spec = OutputSpec(row1 - row0, col1 - col0, bands, Affine(*pair.attrs["output_transform"]), pair.rio.crs)
    with open_sink(path, spec, driver="GTiff") as sink:
        for row in range(row0, row1, _WRITE_ROWS):
            rows = slice(row, min(row + _WRITE_ROWS, row1))
            covered = np.isfinite(np.asarray(pair["msi"].data[:, rows, col0:col1])).all(axis=0)
            weight = np.asarray(pair["msi_weight"].data[rows, col0:col1]) if "msi_weight" in pair else 1.0
            sink.write(np.where(covered, weight, np.nan).astype(np.float32)[None], row - row0)


def change_weight(residual: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the weight (h, w) float32 of the MSI over each coarse pixel, from how well the two images agree; 1 where unknown.

    Parameters
    ----------
    residual, seen
        H(Y) - R X and R X, both (c, h, w), NaN where unknown.
    """
    from scipy.ndimage import rank_filter

    size = np.zeros(residual.shape[1:])
    known = np.isfinite(residual).all(axis=0)
    if known.sum() < _CLASSES * 10:
        return np.ones(residual.shape[1:], np.float32)
    for r, band in zip(residual, seen, strict=True):
        gradient, spread = _gradient_power(band), 1.4826 * np.nanmedian(np.abs(band - np.nanmedian(band)))
        noise, edges = _expected(r[known], gradient[known])
        size[known] += r[known] ** 2 / np.maximum(noise + edges * gradient[known] + (_TOLERANCE * spread) ** 2, 1e-30)
    deviations = np.sqrt(size / len(residual))
    weight = np.where(known, np.minimum(1.0, (_OUTLIER / np.maximum(deviations, 1e-30)) ** 4), 1.0)
    return np.maximum(weight, rank_filter(weight, _FEWEST - 1, size=3)).astype(np.float32)


def compare(pair: xr.Dataset, missing: float = _WHOLE) -> tuple[np.ndarray, np.ndarray]:
    """H(Y) - R X and R X, both (c, h, w), NaN where unknown.

    H(Y) is known where less than ``missing`` of the PSF's weight falls on no data or beyond the border, and rests on the others.
    """
    psf, ratio, response = Psf.from_tag(pair.attrs["psf"]), int(pair.attrs["ratio"]), pair["response"].values
    height, width = pair.sizes["y_hsi"], pair.sizes["x_hsi"]
    reach = -(-max(max(len(v), len(u)) for v, u in psf.separable_terms(ratio)) // ratio)
    blurred, seen = np.full((2, len(response), height, width), np.nan)
    for row in range(0, height, _STRIP):
        end = min(row + _STRIP, height)
        top, bottom = max(row - reach, 0), min(end + reach, height)
        fine = np.asarray(pair["msi"].data[:, top * ratio : bottom * ratio], np.float64)
        valid = np.isfinite(fine).all(axis=0)
        share = _blur(valid.astype(float), psf, ratio)
        inner = slice(row - top, end - top)
        for b, band in enumerate(fine):
            found = _blur(np.where(valid, band, 0.0), psf, ratio)
            blurred[b, row:end] = np.where(np.abs(share - 1) < missing, found / np.maximum(share, 1 - missing), np.nan)[inner]
        spectra = np.asarray(pair["hsi"].data[:, row:end], np.float64)
        seen[:, row:end] = np.einsum("ck,khw->chw", response, spectra)
    return blurred - seen, seen


def _compare_partly(pair: xr.Dataset) -> np.ndarray:
    return compare(pair, _PARTLY)[0]


def _gradient_power(band: np.ndarray) -> np.ndarray:
    """Largest squared difference to a neighbour within one pixel around, (h, w); 0 where unknown."""
    from scipy.ndimage import maximum_filter

    filled = np.where(np.isfinite(band), band, np.nanmedian(band))
    down, right = (np.diff(filled, axis=a, append=filled.take([-1], axis=a)) ** 2 for a in (0, 1))
    return maximum_filter(down + right, 3)


def _expected(residual: np.ndarray, gradient: np.ndarray) -> tuple[float, float]:
    """Fit var = noise + edges * gradient, both not negative, to robust variances in classes of the gradient."""
    from scipy.optimize import nnls

    order = np.argsort(gradient)
    parts = np.array_split(order, _CLASSES)
    power = np.array([(1.4826 * np.median(np.abs(residual[p]))) ** 2 for p in parts])
    at = np.array([gradient[p].mean() for p in parts])
    scale = 1 / np.maximum(power, 1e-12 * power.max() + 1e-300)
    (noise, edges), _ = nnls(np.stack([scale, at * scale], axis=1), power * scale)
    return float(noise), float(edges)


def _whole(coarse: np.ndarray, weights: list[Any], ratio: int) -> np.ndarray:
    """(h, w): the least of a coarse weight within one pixel around, 0 where one of the weights (H, W), dask, is below 1 there."""
    import dask.array as da
    from scipy.ndimage import minimum_filter

    for weight in weights:
        coarse = np.where(np.asarray(da.coarsen(np.min, weight, {0: ratio, 1: ratio})) < 1, 0.0, coarse)
    return minimum_filter(coarse, 3)


def _upsampled(coarse: np.ndarray, pair: xr.Dataset) -> Any:
    """Bring a weight (h, w) to the fine grid: the least of each 3 x 3 pixels, for what H mixes, interpolated linearly; dask."""
    from scipy.ndimage import minimum_filter

    ratio, near = int(pair.attrs["ratio"]), minimum_filter(coarse, 3)

    def part(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        from scipy.ndimage import map_coordinates

        at = np.meshgrid((rows + 0.5) / ratio - 0.5, (cols + 0.5) / ratio - 0.5, indexing="ij")
        return _not_too_little(map_coordinates(near, at, order=1, mode="nearest", output=np.float32))

    return _by_blocks(part, pair["msi"])


def _not_too_little(weight: np.ndarray) -> np.ndarray:
    return np.where(weight < LEAST_WEIGHT, np.float32(0), weight)


def hide(msi: xr.DataArray, mask: str | Path, *, allow_remote: bool = False) -> xr.DataArray:
    """Make no data of what a mask marks in an MSI scene, lazily, so that co-registration does not look there.

    Raises
    ------
    InputError
        If the mask does not overlap the scene.
    """
    from geofuse.align.orient import north_up

    scene, grid, _ = north_up(msi, "the MSI")
    trusted = _by_blocks(_mask_at(grid, mask, allow_remote), scene.chunk() if scene.chunks is None else scene)
    return scene.where(xr.DataArray(trusted, dims=("y", "x")) > 0)


def _mask_on(pair: xr.Dataset, mask: str | Path, allow_remote: bool) -> tuple[Any, str]:
    """Weights (H, W), dask, 0 where the mask at a path says so, and a note."""
    fine = Grid(pair.sizes["y"], pair.sizes["x"], pair.rio.transform(), pair.rio.crs)
    weight = _by_blocks(_mask_at(fine, mask, allow_remote), pair["msi"])
    left = float(weight.mean().compute())
    if left == 0:
        raise InputError(f"the mask {mask} leaves nothing of the MSI: it is not 0 anywhere; nonzero marks what not to trust")
    return weight, f"mask {Path(mask).name}: the MSI is not used in {1 - left:.2%} of its pixels, only the HSI is"


def _mask_at(fine: Grid, mask: str | Path, allow_remote: bool) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function of row and column numbers of a grid that gives 0 where the mask at a path marks the pixel, else 1."""
    from geofuse.align.orient import north_up
    from geofuse.io import open_scene

    scene, source, _ = north_up(open_scene(mask, allow_remote=allow_remote), f"the mask {mask}")
    bad = np.asarray(((scene.data != 0) & (scene.data == scene.data)).any(axis=0).compute())
    corners_x, corners_y = positions(source, fine, np.array([0, source.width]), np.array([0, source.height]))
    if corners_x[1] <= 0 or corners_y[1] <= 0 or corners_x[0] >= fine.width or corners_y[0] >= fine.height:
        raise InputError(f"the mask {mask} does not overlap the images; it should lie on the MSI's grid or near it")

    def part(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        x, y = np.meshgrid(cols + 0.5, rows + 0.5)
        col, row = positions(fine, source, x, y)
        known = (col >= 0) & (row >= 0) & (col < source.width) & (row < source.height)
        at = tuple(np.where(known, v, 0).astype(np.intp) for v in (row, col))
        return np.where(known & bad[at], 0.0, 1.0).astype(np.float32)

    return part


def _by_blocks(part: Callable[[np.ndarray, np.ndarray], np.ndarray], msi: xr.DataArray) -> Any:
    """Make a lazy (H, W) float32 array, chunked as the MSI, of a function of row and column numbers."""
    import dask.array as da

    def block(block_info: Any = None) -> np.ndarray:
        (top, bottom), (left, right) = block_info[None]["array-location"]
        return part(np.arange(top, bottom), np.arange(left, right))

    return da.map_blocks(block, chunks=msi.data.chunks[1:], dtype=np.float32)
