"""Co-registration of a pair: what the windows say, whether it can be trusted, and how the coarse image's grid is put right.

The fine image stays where it is. The coarse image's *grid* is moved. Where the grids nested a shift leaves them nesting but for
part of a fine pixel, which goes into the PSF: nothing is resampled. Else it goes into the one warp that the pair needs anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.align.bent_grid import BentGrid
from geofuse.align.displacement import Field, Tie, comparable, fit_field, fit_windows, search, variances
from geofuse.align.grids import Grid, GridPlan, positions
from geofuse.align.move_psf import LARGEST_RATIO
from geofuse.align.registration import Registration, nothing
from geofuse.align.smooth_field import fit_smooth, supported
from geofuse.align.tie_windows import tie_windows
from geofuse.errors import UsageError

if TYPE_CHECKING:
    from affine import Affine

    from geofuse.sensors.psf import Psf

MODES = ("auto", "shift", "affine", "smooth", "itk", "off")
REACH = 6  # coarse pixels that are searched to each side, less in small scenes
SIGNIFICANT = 0.05  # coarse pixels; what is below is left alone
_TURNS = tuple(np.radians([0, -4, 4, -8, 8, -12, 12]))  # tried only where an affine map is asked for
_STANDARD_ERRORS = 3.0
_METRES_PER_DEGREE = 111_320.0
_LARGEST_ERROR = 0.15  # coarse pixels
_LEAST_SEARCHED = 0.3  # correlation at the best place of the search
_LEAST_FOR_AFFINE = 5  # windows
_LEAST_AGREEING = 0.4  # of the windows that could be compared
_LEAST_CONTRAST = 2.5  # standard deviations that mutual information has to stand out
_LEAST_FOR_SMOOTH = 16  # windows that hold data
_SUSPICIOUS = 0.05  # coarse pixels that windows are off an affine map, for which "auto" looks for a smooth field


def pixel_metres(grid: Grid) -> tuple[float, float]:
    """Return the size of a pixel along x and y in metres; degrees count as on a sphere, in the middle of the grid."""
    x, y = grid.pixel_size
    if not grid.crs.is_geographic:
        return x * grid.crs.linear_units_factor[1], y * grid.crs.linear_units_factor[1]
    _, latitude = grid.transform @ (grid.width / 2, grid.height / 2)
    return x * _METRES_PER_DEGREE * float(np.cos(np.radians(latitude))), y * _METRES_PER_DEGREE


def check_mode(mode: str | Registration) -> None:
    """Refuse a mode that is none of :data:`MODES`, unless it is an earlier finding."""
    if not isinstance(mode, Registration) and mode not in MODES:
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
        ``"shift"``, ``"affine"`` (rotations up to 12 degrees are searched), ``"smooth"`` (a field that bends, else as ``"auto"``),
        ``"itk"`` (a shift, by mutual information: :mod:`geofuse.align.mutual`), or ``"auto"`` (whichever the windows support; a
        smooth field is tried where they do not fit an affine map well).
    pixel
        Size of a coarse pixel along x and y, in metres (:func:`pixel_metres`).
    """
    reach = int(min(REACH, min(hsi.shape[1:]) // 4))
    if mode == "itk":
        return _by_information(hsi, msi, psf, ratio, reach, pixel)
    windows = tie_windows(hsi, msi, response, psf, ratio, reach)
    if len(windows) < 2 or reach < 1:
        return nothing(f"{len(windows)} windows hold data in both images, expected 2 or more", len(windows))
    start, correlation = search(windows, reach, _TURNS if mode == "affine" else (0.0,))
    if correlation == -1:
        return nothing("too few coarse pixels hold data in both images", 0)
    if correlation < _LEAST_SEARCHED:
        return nothing(
            f"the images correlate by {max(correlation, 0):.2f} at most, expected {_LEAST_SEARCHED} or more", len(windows)
        )
    field, ties = fit_windows(windows, start, partial(fit_field, affine={"shift": False, "affine": True}.get(mode)))
    if mode in ("auto", "smooth") and _doubt(field, comparable(windows, field), reach):
        field, ties = fit_windows(windows, start, partial(fit_field, affine=True))
    n_windows = comparable(windows, field)
    why = _doubt(field, n_windows, reach)
    instead = ""
    if mode == "smooth" or (mode == "auto" and (why or field.rms > _SUSPICIOUS)):
        small = tie_windows(hsi, msi, response, psf, ratio, reach, small=True)
        bent, bent_ties, instead = _smooth(small, start if why else field, hsi.shape[1:])
        instead = instead or _doubt(bent, comparable(small, bent), reach)
        if not instead:
            n_windows, field, ties, why = comparable(small, bent), bent, bent_ties, ""
    if why:
        return nothing(why, n_windows)
    confidence = field.n_agree / n_windows * float(np.mean([found.correlation for found in ties]))
    judged = _judged(field, hsi.shape[1:], pixel, n_windows, confidence)
    return replace(judged, instead=instead if mode == "smooth" else "")


def _by_information(hsi: Any, msi: Any, psf: Psf, ratio: int, reach: int, pixel: tuple[float, float]) -> Registration:
    """Find a shift by mutual information; its "windows" are the four quarters of the scene, each left out once."""
    from geofuse.align.mutual import mutual_shift

    found = mutual_shift(hsi, msi, psf, ratio, reach)
    if found is None or reach < 1:
        return nothing("too few coarse pixels hold data in both images", 0)
    error = float(np.max(found.error))
    if found.n_agree < 4 or found.contrast < _LEAST_CONTRAST or error > _LARGEST_ERROR:
        stands = f"mutual information stands {found.contrast:.1f} standard deviations above that of other shifts"
        agree = f"{found.n_agree} of 4 quarters agree, to {error:.2f} pixels"
        return nothing(f"{stands}, {agree}; expected {_LEAST_CONTRAST:g}, 4 of 4, to {_LARGEST_ERROR}", 4)
    field = Field(np.array(hsi.shape[1:]) / 2, found.shift, np.zeros((2, 2)), found.error, found.rms, found.n_agree)
    return _judged(field, hsi.shape[1:], pixel, 4, min(1.0, found.contrast / 5))


def _smooth(windows: Sequence, start: Field, shape: tuple[int, int]) -> tuple[Field | None, list[Tie], str]:
    """Fit a smooth field to small windows; the last part says why the windows support none, empty where they do."""
    if len(windows) < _LEAST_FOR_SMOOTH:
        return None, [], f"{len(windows)} small windows hold data, expected {_LEAST_FOR_SMOOTH} or more"
    field, ties = fit_windows(windows, start, partial(_smooth_or_straight, shape=shape))
    if field is None or field.bend is None:
        return field, ties, _why_straight(ties, shape)
    return field, ties, ""


def _smooth_or_straight(ties: Sequence[Tie], shape: tuple[int, int]) -> Field:
    """Fit a smooth field where the ties support one, else an affine map."""
    if _why_straight(ties, shape):
        return fit_field(ties, True)
    centre, moved, variance = _arrays(ties)
    fit = fit_smooth(centre, moved, variance, shape)
    error = np.full(2, fit.predicted * np.sqrt(fit.freedom / max(fit.agree.sum(), 1)))
    return Field(fit.origin, fit.shift, fit.slope, error, fit.rms, int(fit.agree.sum()), fit.bend)


def _why_straight(ties: Sequence[Tie], shape: tuple[int, int]) -> str:
    """Say why ties support no smooth field; empty where they do."""
    if len(ties) < _LEAST_FOR_SMOOTH // 2:
        return f"{len(ties)} small windows have enough texture, expected {_LEAST_FOR_SMOOTH // 2} or more"
    centre, moved, variance = _arrays(ties)
    return supported(fit_smooth(centre, moved, variance, shape), centre, moved, variance, SIGNIFICANT)


def _arrays(ties: Sequence[Tie]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array([tie.centre for tie in ties]), np.array([tie.moved for tie in ties]), variances(ties)


def _doubt(field: Field | None, n_windows: int, reach: int) -> str:
    """Say why a fit cannot be trusted; empty where it can."""
    if field is None:
        return f"fewer than 2 of {n_windows} windows have enough texture"
    if field.n_agree < 2 or field.n_agree <= _LEAST_AGREEING * n_windows or field.error.max() > _LARGEST_ERROR:
        found = f"{field.n_agree} of {n_windows} windows agree, to {field.error.max():.2f} pixels"
        return f"{found}; expected {_LEAST_AGREEING:.0%}, to {_LARGEST_ERROR}"
    if not field.is_shift and field.n_agree < _LEAST_FOR_AFFINE:
        return f"{field.n_agree} windows agree on an affine map, expected {_LEAST_FOR_AFFINE} or more"
    if np.abs(field.shift).max() > reach + 0.5:
        return f"the best place lies beyond the {reach} HSI pixels that were searched"
    return ""


def _judged(field: Field, shape: tuple[int, int], pixel: tuple[float, float], n_windows: int, confidence: float) -> Registration:
    """Say whether a fit is worth applying, and put it into words."""
    height, width = shape
    places = np.stack(np.meshgrid(np.linspace(0, height, 9), np.linspace(0, width, 9), indexing="ij"), axis=-1).reshape(-1, 2)
    straight = replace(field, bend=None)
    middle = straight.at(np.array([[height / 2, width / 2]]))[0]
    largest = np.abs(field.at(places)).max()
    why = ""
    if largest <= SIGNIFICANT:
        why = f"below {SIGNIFICANT} pixels"
    elif field.is_shift and (np.abs(middle) <= _STANDARD_ERRORS * field.error).all():
        why = f"within {_STANDARD_ERRORS:g} standard errors of none"
    return Registration(
        "smooth" if field.bend else "affine" if field.slope.any() else "shift",
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
        field.bend,
    )


def put_right(found: Registration, hsi: Grid, msi: Grid, plan: GridPlan) -> tuple[Grid, BentGrid | None]:
    """Move the coarse image's grid to where the image truly lies.

    Returns
    -------
    tuple of (Grid, BentGrid or None)
        The grid (rotated a little where the model is not a shift), and what the warp has to bend.
    """
    pair_grid = msi.cut(plan.fine).coarsened(plan.ratio)
    bent = BentGrid(pair_grid, found.matrix(), found.bend) if found.bend else None
    if found.model == "shift" and not plan.why_warp and plan.ratio > LARGEST_RATIO:  # less than half a fine pixel is left alone
        found = replace(found, shift=tuple(np.floor(np.asarray(found.shift) * plan.ratio + 0.5) / plan.ratio))
    to_pair = _linearised(hsi, pair_grid)
    return Grid(hsi.height, hsi.width, hsi.transform @ ~to_pair @ found.matrix() @ to_pair, hsi.crs), bent


def with_map(found: Registration, hsi: Grid, msi: Grid, plan: GridPlan) -> Registration:
    """Add where the coarse image's coordinates truly lie, in its own CRS."""
    if not found.applied:
        return found
    to_pair = _linearised(hsi, msi.cut(plan.fine).coarsened(plan.ratio))
    moved = hsi.transform @ ~to_pair @ found.matrix() @ to_pair @ ~hsi.transform
    return replace(found, crs_map=tuple(float(v) for v in tuple(moved)[:6]))


def _linearised(source: Grid, target: Grid) -> Affine:
    """Return the map between the pixels of two grids, exact within a CRS, else straightened in the middle of the target."""
    from affine import Affine

    middle = np.array([[target.width / 2], [target.height / 2]])
    col, row = (float(v[0]) for v in positions(target, source, *middle))
    x, y = positions(source, target, col + np.array([0, 1.0, 0]), row + np.array([0, 0, 1.0]))
    a, b, d, e = x[1] - x[0], x[2] - x[0], y[1] - y[0], y[2] - y[0]
    return Affine(a, b, x[0] - a * col - b * row, d, e, y[0] - d * col - e * row)
