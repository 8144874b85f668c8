"""Co-registration of a pair: what the windows say, whether it can be trusted, and how the coarse image's grid is put right.

The fine image stays where it is. The coarse image's *grid* is moved: by whole fine pixels where the grids nest (nothing is
resampled; the rest, below half a fine pixel, goes into the PSF), else by all of it, in the one warp that the pair needs anyway.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.align.displacement import Field, fit_windows, search
from geofuse.align.grids import Grid, GridPlan, positions
from geofuse.align.move_psf import move_psf
from geofuse.align.tie_windows import tie_windows
from geofuse.errors import UsageError

if TYPE_CHECKING:
    from affine import Affine

    from geofuse.sensors.psf import Psf

MODES = ("auto", "shift", "affine", "off")
REACH = 6  # coarse pixels that are searched to each side, less in small scenes
SIGNIFICANT = 0.05  # coarse pixels; what is below is left alone
_TURNS = tuple(np.radians([0, -4, 4, -8, 8, -12, 12]))  # tried only where an affine map is asked for
_STANDARD_ERRORS = 3.0
_METRES_PER_DEGREE = 111_320.0
_LARGEST_ERROR = 0.15  # coarse pixels
_LEAST_SEARCHED = 0.3  # correlation at the best place of the search
_LEAST_FOR_AFFINE = 5  # windows
_LEAST_AGREEING = 0.4  # of the windows that could be compared


@dataclass(frozen=True)
class Registration:
    """How the coarse image lies on the fine one.

    Attributes
    ----------
    model
        ``"shift"``, ``"affine"``, or ``"none"`` where nothing could be found out (``why`` says why).
    shift
        Displacement (row, col) in the middle of the scene, in coarse pixels: true place minus stated place, rows downwards.
    shift_m
        The same along x and y in metres, y upwards (degrees are converted at the scene's latitude).
    error
        Standard error of ``shift``, (row, col).
    slope
        (2, 2) change of the displacement with the place; zero unless the model is affine.
    rms
        What the agreeing windows leave, in coarse pixels.
    n_windows, n_agree
        Windows with data in both images, and those that agree with the fit.
    confidence
        0 to 1: share of the windows that agree, times their mean correlation.
    applied
        Whether it is large and sure enough to be applied.
    why
        Why nothing was found out or applied; empty where it is applied.
    """

    model: str
    shift: tuple[float, float]
    shift_m: tuple[float, float]
    error: tuple[float, float]
    slope: tuple[tuple[float, float], tuple[float, float]]
    origin: tuple[float, float]
    rms: float
    n_windows: int
    n_agree: int
    confidence: float
    applied: bool
    why: str = ""

    @property
    def note(self) -> str:
        """One line for log and summary."""
        if self.model == "none":
            return f"co-registration: not possible, the images stay as georeferenced: {self.why}"
        (row, col), (x, y) = self.shift, self.shift_m
        found = f"{col:+.3f} (x), {row:+.3f} (y, down) HSI pixels = {x:+.4g} m east, {y:+.4g} m north"
        sure = f"error {max(self.error):.3f}, residual {self.rms:.3f} px, {self.n_agree} of {self.n_windows} windows"
        done = "applied" if self.applied else f"not applied: {self.why}"
        return f"co-registration: the HSI lies {found} off ({self.model}; {sure}, confidence {self.confidence:.2f}); {done}"

    def to_tag(self) -> str:
        """Write the findings as one line of JSON, for a file's provenance tags."""
        return json.dumps({**asdict(self), "note": self.note})

    def matrix(self) -> Affine:
        """Return the map from stated to true places, in coarse pixels of the pair (x, y)."""
        from affine import Affine

        (s00, s01), (s10, s11) = self.slope
        row = self.shift[0] - s00 * self.origin[0] - s01 * self.origin[1]
        col = self.shift[1] - s10 * self.origin[0] - s11 * self.origin[1]
        return Affine(1 + s11, s10, col, s01, 1 + s00, row)


def pixel_metres(grid: Grid) -> tuple[float, float]:
    """Return the size of a pixel along x and y in metres; degrees count as on a sphere, in the middle of the grid."""
    x, y = grid.pixel_size
    if not grid.crs.is_geographic:
        return x * grid.crs.linear_units_factor[1], y * grid.crs.linear_units_factor[1]
    _, latitude = grid.transform @ (grid.width / 2, grid.height / 2)
    return x * _METRES_PER_DEGREE * float(np.cos(np.radians(latitude))), y * _METRES_PER_DEGREE


def check_mode(mode: str) -> None:
    """Refuse a mode that is none of :data:`MODES`."""
    if mode not in MODES:
        raise UsageError(f"unknown co-registration {mode!r}; expected {', '.join(MODES)}")


def register(hsi: Any, msi: Any, response: np.ndarray, psf: Psf, ratio: int, mode: str, pixel: tuple[float, float]) -> Registration:
    """Find out how the coarse image of a pair lies on the fine one.

    Parameters
    ----------
    hsi, msi
        (C, h, w) and (c, H, W), dask or numpy, on nested grids; NaN = no data. At most 36 windows are read.
    response, psf, ratio
        R (c, C) and the operator H.
    mode
        ``"shift"``, ``"affine"`` (rotations up to 12 degrees are searched) or ``"auto"`` (whichever the windows support).
    pixel
        Size of a coarse pixel along x and y, in metres (:func:`pixel_metres`).
    """
    reach = int(min(REACH, min(hsi.shape[1:]) // 4))
    windows = tie_windows(hsi, msi, response, psf, ratio, reach)
    if len(windows) < 2 or reach < 1:
        return _nothing(f"{len(windows)} windows hold data in both images, expected 2 or more", len(windows))
    start, correlation = search(windows, reach, _TURNS if mode == "affine" else (0.0,))
    if correlation == -1:
        return _nothing("too few coarse pixels hold data in both images", 0)
    if correlation < _LEAST_SEARCHED:
        return _nothing(
            f"the images correlate by {max(correlation, 0):.2f} at most, expected {_LEAST_SEARCHED} or more", len(windows)
        )
    field, ties = fit_windows(windows, start, {"shift": False, "affine": True}.get(mode))
    if mode == "auto" and _doubt(field, len(windows), reach):
        field, ties = fit_windows(windows, start, True)
    if why := _doubt(field, len(windows), reach):
        return _nothing(why, len(windows))
    confidence = field.n_agree / len(windows) * float(np.mean([found.correlation for found in ties]))
    return _judged(field, hsi.shape[1:], pixel, len(windows), confidence)


def _doubt(field: Field | None, n_windows: int, reach: int) -> str:
    """Say why a fit cannot be trusted; empty where it can."""
    if field is None:
        return f"fewer than 2 of {n_windows} windows have enough texture"
    if field.n_agree < max(2, _LEAST_AGREEING * n_windows) or field.error.max() > _LARGEST_ERROR:
        found = f"{field.n_agree} of {n_windows} windows agree, to {field.error.max():.2f} pixels"
        return f"{found}; expected {_LEAST_AGREEING:.0%}, to {_LARGEST_ERROR}"
    if field.slope.any() and field.n_agree < _LEAST_FOR_AFFINE:
        return f"{field.n_agree} windows agree on an affine map, expected {_LEAST_FOR_AFFINE} or more"
    if np.abs(field.shift).max() > reach + 0.5:
        return f"the best place lies beyond the {reach} HSI pixels that were searched"
    return ""


def _judged(field: Field, shape: tuple[int, int], pixel: tuple[float, float], n_windows: int, confidence: float) -> Registration:
    """Say whether a fit is worth applying, and put it into words."""
    height, width = shape
    corners = np.array([[0, 0], [0, width], [height, 0], [height, width]], float)
    middle = field.at(np.array([[height / 2, width / 2]]))[0]
    largest = max(np.abs(middle).max(), np.abs(field.at(corners)).max() if field.slope.any() else 0.0)
    why = ""
    if largest <= SIGNIFICANT:
        why = f"below {SIGNIFICANT} pixels"
    elif not field.slope.any() and (np.abs(middle) <= _STANDARD_ERRORS * field.error).all():
        why = f"within {_STANDARD_ERRORS:g} standard errors of none"
    return Registration(
        "affine" if field.slope.any() else "shift",
        (float(middle[0]), float(middle[1])),
        (float(middle[1] * pixel[0]), float(-middle[0] * pixel[1])),
        (float(field.error[0]), float(field.error[1])),
        tuple(tuple(float(v) for v in row) for row in field.slope),
        (height / 2, width / 2),
        field.rms,
        n_windows,
        field.n_agree,
        confidence,
        not why,
        why,
    )


def _nothing(why: str, n_windows: int) -> Registration:
    none = (0.0, 0.0)
    return Registration("none", none, none, none, (none, none), none, 0.0, n_windows, 0, 0.0, False, why)


def put_right(found: Registration, hsi: Grid, msi: Grid, plan: GridPlan, psf: Psf) -> tuple[Grid, Psf]:
    """Move the coarse image's grid to where the image truly lies.

    Returns
    -------
    tuple of (Grid, Psf)
        The grid (rotated a little where the model is affine) and the PSF, which takes up what a shift of nesting grids leaves
        below half a fine pixel.
    """
    pair_grid = msi.cut(plan.fine).coarsened(plan.ratio)
    if found.model == "shift" and not plan.why_warp:
        fine = np.asarray(found.shift) * plan.ratio
        whole = np.floor(fine + 0.5)
        found, psf = replace(found, shift=tuple(whole / plan.ratio)), move_psf(psf, plan.ratio, tuple(fine - whole))
    to_pair = _linearised(hsi, pair_grid)
    return Grid(hsi.height, hsi.width, hsi.transform @ ~to_pair @ found.matrix() @ to_pair, hsi.crs), psf


def _linearised(source: Grid, target: Grid) -> Affine:
    """Return the map between the pixels of two grids, exact within a CRS, else straightened in the middle of the target."""
    from affine import Affine

    middle = np.array([[target.width / 2], [target.height / 2]])
    col, row = (float(v[0]) for v in positions(target, source, *middle))
    x, y = positions(source, target, col + np.array([0, 1.0, 0]), row + np.array([0, 0, 1.0]))
    a, b, d, e = x[1] - x[0], x[2] - x[0], y[1] - y[0], y[2] - y[0]
    return Affine(a, b, x[0] - a * col - b * row, d, e, y[0] - d * col - e * row)
