"""Two grids and how they lie on each other: ratio, nesting, overlap. Arithmetic on transforms only; no image is touched.

Positions are counted in fine pixels from the upper left corner of the MSI, columns along x and rows along y. The coarse grid
*nests* when the borders of its pixels are, to within :data:`NESTING_TOLERANCE`, borders of fine pixels or all off them by the same
part of one, and the ratio is one whole number along both axes. That part moves the PSF (:mod:`geofuse.align.move_psf`). The corners
of the images need not meet: whole-pixel offsets that cut coarse pixels are fine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.align.move_psf import LARGEST_RATIO
from geofuse.errors import InputError
from geofuse.tiling import Window

if TYPE_CHECKING:
    from affine import Affine

MIN_RATIO, MAX_RATIO = 2, 40
NESTING_TOLERANCE = 0.01  # fine pixels, anywhere in the image
MIN_OVERLAP = 2  # coarse pixels along each axis


@dataclass(frozen=True)
class Grid:
    """A north-up pixel grid: shape, transform of the pixel corners (``a > 0``, ``e < 0``, no rotation) and CRS (rasterio's)."""

    height: int
    width: int
    transform: Affine
    crs: Any

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Size of a pixel along x and y, in CRS units."""
        return abs(self.transform.a), abs(self.transform.e)

    def cut(self, window: Window) -> Grid:
        """Return the grid of a window of this one; the window may stick out."""
        return Grid(window.height, window.width, self.transform @ _translation(window.col0, window.row0), self.crs)

    def coarsened(self, ratio: int) -> Grid:
        """Return the grid of pixels ``ratio`` times as large, from the same corner."""
        from affine import Affine

        return Grid(self.height // ratio, self.width // ratio, self.transform @ Affine.scale(ratio), self.crs)


@dataclass(frozen=True)
class GridPlan:
    """How a coarse image and a fine one become a pair.

    Attributes
    ----------
    ratio
        Fine pixels to a coarse pixel, along each axis.
    why_warp
        Empty where the grids nest, else the reason why the coarse image has to be warped.
    coarse_row, coarse_col
        Where the corner of the (snapped or warped) coarse grid lies, in fine pixels.
    fine
        The fine pixels of the pair: whole coarse pixels around ``output``; sticks out of the MSI where it cuts a coarse pixel.
    output
        The fine pixels that are written: where the footprints overlap. Inside the MSI.
    rest
        How far the coarse image lies off its place on the fine grid: (rows, columns), at most half a fine pixel each.
    """

    ratio: int
    why_warp: str
    coarse_row: int
    coarse_col: int
    fine: Window
    output: Window
    rest: tuple[float, float] = (0.0, 0.0)

    @property
    def coarse(self) -> Window:
        """The coarse pixels of the pair, counted from the corner of the coarse grid."""
        row, col = self.coarse_row, self.coarse_col
        shifted = Window(self.fine.row0 - row, self.fine.row1 - row, self.fine.col0 - col, self.fine.col1 - col)
        return shifted.coarse(self.ratio)


def positions(source: Grid, target: Grid, cols: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Express positions of one grid in pixels of another.

    Parameters
    ----------
    source, target
        The grid that ``cols`` and ``rows`` count in, and the one to express them in.
    cols, rows
        Float arrays of one shape, from the upper left corner of the first pixel (pixel centres are at halves).

    Returns
    -------
    tuple of ndarray
        Columns and rows in ``target``, float64; not finite where the coordinates cannot be transformed. Longitudes are those
        nearest to the target, by whole turns: 181 degrees is -179 to an image that lies there.
    """
    cols, rows = np.asarray(cols, float), np.asarray(rows, float)
    if source.crs == target.crs:
        place = ~target.transform @ source.transform
        x, y = place @ (cols, rows)
        middle, _ = place @ (source.width / 2, source.height / 2)
        return np.asarray(x) + turns(middle, target), np.asarray(y)
    from rasterio.errors import CRSError
    from rasterio.warp import transform

    x, y = source.transform @ (cols.ravel(), rows.ravel())
    try:
        x, y = transform(source.crs, target.crs, x, y)
    except CRSError as err:
        raise InputError(f"no transformation from {crs_label(source.crs)} to {crs_label(target.crs)}: {err}") from None
    x, y = ~target.transform @ (np.array(x, float), np.array(y, float))
    return (x + turns(x, target)).reshape(cols.shape), y.reshape(cols.shape)


def turns(cols: np.ndarray | float, target: Grid) -> np.ndarray | float:
    """Return how many columns to add to bring columns next to the target by whole turns of the globe; 0 if it has no degrees."""
    if not getattr(target.crs, "is_geographic", False):
        return 0.0
    turn = 2 * np.pi / target.crs.units_factor[1] / target.transform.a
    return turn * np.round((target.width / 2 - cols) / turn)


def plan_grids(hsi: Grid, msi: Grid) -> GridPlan:
    """Work out ratio, nesting and overlap of a coarse grid and a fine one.

    Raises
    ------
    InputError
        If the images do not overlap by two coarse pixels each way, look swapped, or their pixel sizes are not 2 to 40 apart.
    """
    cols, rows = positions(hsi, msi, *_border(hsi.width, hsi.height))
    seen = np.isfinite(cols) & np.isfinite(rows)
    if not seen.any():
        raise InputError(f"the HSI ({extent_label(hsi)}) lies outside the area of {crs_label(msi.crs)}, the MSI's CRS; check both")
    left, right, top, bottom = cols[seen].min(), cols[seen].max(), rows[seen].min(), rows[seen].max()
    if min(right, msi.width) <= max(left, 0) or min(bottom, msi.height) <= max(top, 0):
        found = _box_label(*(msi.transform @ (left, top)), *(msi.transform @ (right, bottom)), msi.crs)
        remedy = _unplaced(hsi, msi) or "give two of one place"
        raise InputError(f"the images do not overlap: the HSI covers {found}, the MSI {extent_label(msi)}; {remedy}")
    ratio_x, ratio_y = _ratios(hsi, msi, left, right, top, bottom)
    ratio = _whole_ratio(ratio_x, ratio_y, hsi, msi)
    why_warp, rest = _nesting(hsi, msi, ratio, ratio_x, ratio_y)
    col, row = _nearest(left), _nearest(top)
    if why_warp:
        stop_col, stop_row = _nearest(right), _nearest(bottom)
    else:
        stop_col, stop_row = col + ratio * hsi.width, row + ratio * hsi.height
    output = Window(max(0, row), min(msi.height, stop_row), max(0, col), min(msi.width, stop_col))
    if min(output.height, output.width) < MIN_OVERLAP * ratio:
        found, least = f"{max(output.height, 0)} x {max(output.width, 0)} fine pixels", MIN_OVERLAP * ratio
        raise InputError(f"the images overlap by {found} only; at ratio {ratio} at least {least} x {least} are needed")
    fine = Window(*_whole(output.row0, output.row1, row, ratio), *_whole(output.col0, output.col1, col, ratio))
    return GridPlan(ratio, why_warp, row, col, fine, output, rest)


def plan_notes(plan: GridPlan, fine_grid: Grid) -> list[str]:
    """Say what was done to the grids."""
    notes = []
    if plan.why_warp:
        notes.append(f"HSI: warped once (cubic) to {plan.ratio} x {plan.ratio} of the MSI's pixels, because {plan.why_warp}")
    if any(plan.rest):
        notes.append(f"HSI: its grid is {_off_label(plan.rest)} fine pixels off the MSI's; the PSF is moved, nothing is resampled")
    out = plan.output
    if (out.height, out.width) != (fine_grid.height, fine_grid.width):
        of = f"{fine_grid.height} x {fine_grid.width}"
        notes.append(f"output: the overlap of the images, {out.height} x {out.width} of the MSI's {of} pixels")
    return notes


def _unplaced(*images: Grid) -> str:
    """Return what to do with images without a geotransform, whose pixels are 1 wide and start at 0; empty if both have one."""
    named = zip(("the HSI", "the MSI"), images, strict=True)
    unplaced = [name for name, grid in named if tuple(grid.transform)[:6] == (1, 0, 0, 0, -1, grid.height)]
    return (
        f"no geotransform in {' and '.join(unplaced)}: georeference first, for example with gdal_edit.py -a_ullr"
        if unplaced
        else ""
    )


def crs_label(crs: Any) -> str:
    """Name a CRS in a few characters."""
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else "a CRS without an EPSG code"


def extent_label(grid: Grid) -> str:
    """Say where a grid lies: ``x 1 to 2, y 3 to 4 (EPSG:32633)``."""
    return _box_label(*(grid.transform @ (0, 0)), *(grid.transform @ (grid.width, grid.height)), grid.crs)


def _box_label(x0: float, y1: float, x1: float, y0: float, crs: Any) -> str:
    """Write the upper left and lower right corner of a box as ranges."""
    return f"x {x0:.10g} to {x1:.10g}, y {y0:.10g} to {y1:.10g} ({crs_label(crs)})"


def _translation(col: float, row: float) -> Affine:
    """Affine of a shift in pixels."""
    from affine import Affine

    return Affine.translation(col, row)


def _border(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return columns and rows of points all along the border of an image, close enough to follow its bend in another CRS."""
    along = np.linspace(0.0, 1.0, 33)
    none, full = np.zeros(33), np.ones(33)
    cols, rows = np.concatenate([along, along, none, full]), np.concatenate([none, full, along, along])
    return cols * width, rows * height


def _ratios(hsi: Grid, msi: Grid, left: float, right: float, top: float, bottom: float) -> tuple[float, float]:
    """Return how many fine pixels one coarse pixel spans along its own x and y, in the middle of the overlap."""
    middle = np.array([[max(left, 0) + min(right, msi.width)], [max(top, 0) + min(bottom, msi.height)]]) / 2
    col, row = positions(msi, hsi, *middle)
    x, y = positions(hsi, msi, col + np.array([-0.5, 0.5, 0, 0]), row + np.array([0, 0, -0.5, 0.5]))
    return float(np.hypot(x[1] - x[0], y[1] - y[0])), float(np.hypot(x[3] - x[2], y[3] - y[2]))


def _whole_ratio(ratio_x: float, ratio_y: float, hsi: Grid, msi: Grid) -> int:
    """Return the whole ratio nearest to the ratio of pixel areas, and refuse what cannot be fused."""
    ratio = float(np.sqrt(ratio_x * ratio_y))
    sizes = f"{_size_label(hsi)} for the HSI, {_size_label(msi)} for the MSI"
    if ratio < 0.999:
        raise InputError(f"the HSI's pixels are the smaller ones ({sizes}); they look swapped: give the hyperspectral image first")
    whole = int(np.floor(ratio + 0.5))
    if not MIN_RATIO <= whole <= MAX_RATIO:
        expected = f"expected {MIN_RATIO} to {MAX_RATIO}; {_unplaced(hsi, msi) or 'resample one of the images'}"
        raise InputError(f"the HSI's pixels are {ratio:.3g} times as large as the MSI's ({sizes}); {expected}")
    return whole


def _size_label(grid: Grid) -> str:
    """Say the size of a pixel in CRS units."""
    x, y = grid.pixel_size
    unit = "degrees" if grid.crs.is_geographic else "CRS units"
    return f"{x:.6g} x {y:.6g} {unit}"


def _nesting(hsi: Grid, msi: Grid, ratio: int, ratio_x: float, ratio_y: float) -> tuple[str, tuple[float, float]]:
    """Say why the grids do not nest; empty where they do. And by which part of a fine pixel (rows, columns) they then are off."""
    share_x, share_y = (axis.ravel() for axis in np.meshgrid([0, 0.5, 1], [0, 0.5, 1]))
    cols, rows = share_x * hsi.width, share_y * hsi.height
    x, y = positions(hsi, msi, cols, rows)
    error_x, error_y = x - _nearest(x[0]) - ratio * cols, y - _nearest(y[0]) - ratio * rows
    if np.nan_to_num(np.abs([error_x, error_y]), nan=np.inf).max() <= NESTING_TOLERANCE:
        return "", (0.0, 0.0)
    rest = float(error_y[0]), float(error_x[0])
    bent = not max(np.ptp(error_x), np.ptp(error_y)) <= NESTING_TOLERANCE
    if not bent and ratio <= LARGEST_RATIO:
        return "", rest
    if hsi.crs != msi.crs:
        return f"its CRS is {crs_label(hsi.crs)} and the MSI's {crs_label(msi.crs)}", (0.0, 0.0)
    if bent:
        return f"its pixels are {ratio_x:.6g} x {ratio_y:.6g} times the MSI's, not a whole number", (0.0, 0.0)
    return f"its grid is {_off_label(rest)} fine pixels off the MSI's", (0.0, 0.0)


def _off_label(rest: tuple[float, float]) -> str:
    """Write an offset (rows, columns) as ``0.2 (x) and 0.5 (y)``."""
    return f"{abs(rest[1]):.3g} (x) and {abs(rest[0]):.3g} (y)"


def _nearest(position: float) -> int:
    """Round to the nearest pixel border; halves go up, so that a shift of both ends of an image keeps its size."""
    return int(np.floor(position + 0.5))


def _whole(start: int, stop: int, origin: int, ratio: int) -> tuple[int, int]:
    """Widen an interval of fine pixels to whole coarse pixels of a coarse grid that starts at ``origin``."""
    return origin + (start - origin) // ratio * ratio, origin - (origin - stop) // ratio * ratio
