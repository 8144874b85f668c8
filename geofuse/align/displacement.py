"""How far the coarse image lies off the fine one: search, refinement and the robust fit of a shift or an affine map.

The displacement ``d(p)`` is where a coarse pixel truly lies minus where the grids say, in coarse pixels, (row, col). Each window's
is the least-squares fit of ``R x(p) = gain B(p + d) + offset`` with a gain and an offset for every band, by Gauss-Newton steps
(Lucas and Kanade, IJCAI 1981) with Huber's weights (Huber, Ann. Math. Stat. 1964), from the best start of a search of the whole
scene. Windows that do not follow the others are left out by Tukey's biweight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from geofuse.align.smooth_field import Bend
from geofuse.align.tie_windows import TieWindow

_LEAST_PIXELS = 24  # of a window, with data in both images
_LEAST_CORRELATION = 0.5
_SEARCHED = 16  # windows
_STEPS = 12
_PASSES = 8  # over all windows, while the map is no shift
_SETTLED = 1e-4  # coarse pixels
_SETTLED_FIELD = 0.005
_FARTHEST = 1.5  # from where a window starts
_HUBER = 1.345
_TUKEY = 4.685
_DERIVATIVE = 0.2  # coarse pixels to each side
_TRIPLES = 200  # of windows, that a robust affine fit begins with
_AFFINE_GAIN = 10.0  # of Schwarz's criterion, for which six parameters are preferred to two


@dataclass(frozen=True)
class Tie:
    """What one window says: displacement (row, col), its covariance (2, 2), correlation there, coarse pixels used."""

    centre: np.ndarray
    moved: np.ndarray
    covariance: np.ndarray
    correlation: float
    n_pixels: int


@dataclass(frozen=True)
class Field:
    """A fitted displacement.

    Attributes
    ----------
    origin
        Point (row, col) that ``shift`` holds for, in coarse pixels of the pair.
    shift
        Displacement there, (row, col).
    slope
        (2, 2): change of the displacement with the place; zero for a shift.
    error
        Standard error of the shift along each axis.
    rms
        Root mean square of what the agreeing windows leave, along one axis.
    n_agree
        Windows that agree.
    bend
        What a smooth field has beyond shift and slope; None for a shift or an affine map.
    """

    origin: np.ndarray
    shift: np.ndarray
    slope: np.ndarray
    error: np.ndarray
    rms: float
    n_agree: int
    bend: Bend | None = None

    @property
    def is_shift(self) -> bool:
        """Whether it is the same everywhere."""
        return self.bend is None and not self.slope.any()

    def at(self, place: np.ndarray) -> np.ndarray:
        """Return the displacement (n, 2) at places (n, 2)."""
        straight = self.shift + (place - self.origin) @ self.slope.T
        return straight if self.bend is None else straight + self.bend.at(place)

    def over(self, window: TieWindow) -> np.ndarray:
        """Return the displacement of every coarse pixel of a window, (2, m, n)."""
        _, height, width = window.seen.shape
        rows, cols = np.meshgrid(window.row + np.arange(height) + 0.5, window.col + np.arange(width) + 0.5, indexing="ij")
        moved = self.at(np.column_stack([rows.ravel(), cols.ravel()]))
        return moved.T.reshape(2, height, width)


def search(windows: Sequence[TieWindow], reach: int, turns: Sequence[float] = (0.0,)) -> tuple[Field, float]:
    """Find the displacement of the whole scene to half a coarse pixel, and the mean correlation there.

    ``turns`` are the rotations about the middle, in radians (small ones), that are tried.
    """
    chosen = [windows[i] for i in np.unique(np.linspace(0, len(windows) - 1, _SEARCHED).round().astype(int))]
    origin = np.mean([window.centre for window in windows], axis=0)
    found = [_search_turned(chosen, reach, _start(origin, turn)) for turn in turns]
    return max(found, key=lambda one: one[1])


def _start(origin: np.ndarray, turn: float) -> Field:
    """Return a rotation by ``turn`` about ``origin``."""
    slope = np.array([[np.cos(turn) - 1, np.sin(turn)], [-np.sin(turn), np.cos(turn) - 1]])
    return Field(origin, np.zeros(2), slope, np.full(2, np.inf), np.inf, 0)


def _search_turned(windows: Sequence[TieWindow], reach: int, turned: Field) -> tuple[Field, float]:
    """Find the best shift on top of a rotation: whole coarse pixels, then halves around the best."""
    best, where = _scene_correlation(windows, turned), turned
    for step, span in ((1.0, reach), (0.5, 1)):
        around = where
        for row in np.arange(-span, span + 1) * step:
            for col in np.arange(-span, span + 1) * step:
                tried = replace(around, shift=around.shift + (row, col))
                here = _scene_correlation(windows, tried)
                if here > best:
                    best, where = here, tried
    return where, best


def tie(window: TieWindow, start: Field) -> Tie | None:
    """Refine the displacement of one window; None where it has too few pixels, too little texture or walks away.

    The window keeps the bend of ``start`` and moves as a whole; what is returned holds for its centre.
    """
    bend, moved = start.over(window), np.zeros(2)
    for _ in range(_STEPS):
        system = _normal_equations(window, bend + moved[:, None, None])
        if system is None:
            return None
        normal, gradient, variance, n_pixels = system
        if np.linalg.cond(normal) > 1e4:
            return None
        step = np.linalg.solve(normal, gradient)
        moved = moved + np.clip(step, -0.5, 0.5)
        if np.abs(moved).max() > _FARTHEST:
            return None
        if np.abs(step).max() < _SETTLED:
            break
    correlation = _correlation(window, bend + moved[:, None, None])
    if correlation < _LEAST_CORRELATION:
        return None
    there = start.at(window.centre[None])[0] + moved
    return Tie(window.centre, there, variance * np.linalg.inv(normal), correlation, n_pixels)


def comparable(windows: Sequence[TieWindow], field: Field | None) -> int:
    """Count the windows in which, displaced by ``field``, enough pixels hold data in both images; all of them without a field."""
    if field is None:
        return len(windows)
    return sum(_normal_equations(window, field.over(window)) is not None for window in windows)


def fit_windows(
    windows: Sequence[TieWindow], start: Field, fit: Callable[[Sequence[Tie]], Field]
) -> tuple[Field | None, list[Tie]]:
    """Refine all windows and fit them, again from the fit as long as that bends the windows otherwise than before.

    Returns
    -------
    tuple of (Field or None, list of Tie)
        None where fewer than two windows could be refined.
    """
    centres = np.array([window.centre for window in windows])
    field = start
    for _ in range(_PASSES):
        ties = [found for window in windows if (found := tie(window, field)) is not None]
        if len(ties) < 2:
            return None, ties
        before, field = field, fit(ties)
        if field.is_shift and before.is_shift:
            break
        if np.abs(field.at(centres) - before.at(centres)).max() < _SETTLED_FIELD:
            break
    return field, ties


def fit_field(ties: Sequence[Tie], affine: bool | None) -> Field:
    """Fit a shift, or an affine map (``affine`` True), or whichever the windows support (None)."""
    shift = _fit(ties, False)
    if affine is False or len(ties) < (3 if affine else 8):
        return shift
    full = _fit(ties, True)
    if affine or _schwarz(ties, full, 6) + _AFFINE_GAIN < _schwarz(ties, shift, 2):
        return full
    return shift


def _normal_equations(window: TieWindow, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, int] | None:
    """Weighted normal equations of a step, the residual's variance, and the number of pixels; None without enough of them."""
    here = window.read_off(at)
    slopes = []
    for axis in range(2):
        off = np.zeros((2, 1, 1))
        off[axis] = _DERIVATIVE
        slopes.append((window.read_off(at + off) - window.read_off(at - off)) / (2 * _DERIVATIVE))
    both = np.isfinite(here) & np.isfinite(slopes).all(axis=0) & np.isfinite(window.seen)
    normal, gradient, square, weight_sum, count = np.zeros((2, 2)), np.zeros(2), 0.0, 0.0, 0
    for band, mask in enumerate(both):
        if mask.sum() < _LEAST_PIXELS:
            continue
        fitted = _fit_band(window.seen[band][mask], here[band][mask], np.stack([s[band][mask] for s in slopes]))
        if fitted is None:
            continue
        columns, residual, weight = fitted
        normal += (columns * weight) @ columns.T
        gradient += (columns * weight) @ residual
        square += weight @ residual**2
        weight_sum += weight.sum()
        count = max(count, int(mask.sum()))
    if not count:
        return None
    return normal, gradient, square / max(weight_sum - 5, 1), count


def _fit_band(seen: np.ndarray, here: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Robust gain and offset of one band; what a displacement changes beyond them: columns (2, n), residual (n,), weights (n,)."""
    base = np.stack([here, np.ones_like(here)])
    weight = np.ones_like(here)
    for _ in range(4):
        normal = (base * weight) @ base.T
        if np.linalg.det(normal) <= 1e-12 * normal[0, 0] * normal[1, 1]:
            return None
        coefficient = np.linalg.solve(normal, (base * weight) @ seen)
        residual = seen - coefficient @ base
        scale = max(1.4826 * np.median(np.abs(residual)), 1e-4 * seen.std(), 1e-12)
        weight = 1 / np.maximum(1, np.abs(residual) / (_HUBER * scale))
    if coefficient[0] <= 0:
        return None
    columns = coefficient[0] * slopes
    columns = columns - np.linalg.solve(normal, (base * weight) @ columns.T).T @ base
    return columns / scale, residual / scale, weight


def _correlation(window: TieWindow, at: np.ndarray) -> float:
    """Mean correlation of the bands at a displacement; -1 without enough pixels."""
    here = window.read_off(at)
    found = []
    for seen, blurred in zip(window.seen, here, strict=True):
        mask = np.isfinite(seen) & np.isfinite(blurred)
        if mask.sum() < _LEAST_PIXELS:
            continue
        a, b = seen[mask] - seen[mask].mean(), blurred[mask] - blurred[mask].mean()
        power = np.sqrt((a @ a) * (b @ b))
        found.append(float(a @ b / power) if power > 0 else 0.0)
    return float(np.mean(found)) if found else -1.0


def _scene_correlation(windows: Sequence[TieWindow], field: Field) -> float:
    """Mean correlation of the windows that have enough pixels at a displacement; -1 when fewer than half of them have."""
    found = np.array([_correlation(window, field.over(window)) for window in windows])
    kept = found > -1
    return float(found[kept].mean()) if 2 * kept.sum() >= len(windows) else -1.0


def _fit(ties: Sequence[Tie], affine: bool) -> Field:
    """Fit by iteratively reweighted least squares with Tukey's biweight, windows weighed by their own precision."""
    centre = np.array([tie.centre for tie in ties])
    moved = np.array([tie.moved for tie in ties])
    variance = variances(ties)
    origin = centre.mean(axis=0)
    base = np.column_stack([np.ones(len(ties)), centre - origin]) if affine else np.ones((len(ties), 1))
    residual, weight = _first_residual(base, moved), np.ones(len(ties))
    for _ in range(20):
        distance = np.hypot(*residual.T)
        scale = max(float(np.median(distance)) / 1.1774, 0.01)  # of one axis, for errors that are normal
        distance = distance / (_TUKEY * scale)
        weight = np.where(distance < 1, (1 - distance**2) ** 2, 0.0)
        if (weight > 0).sum() < base.shape[1]:
            break
        root = np.sqrt(weight / variance)[:, None]
        coefficient = np.linalg.lstsq(root * base, root * moved, rcond=None)[0]
        residual = moved - base @ coefficient
    agree = weight > 0.05
    precise = weight / variance
    left = residual[agree]
    rms = float(np.sqrt((left**2).mean())) if agree.any() else np.inf
    freedom = max(int(agree.sum()) - base.shape[1], 1)
    spread = np.sqrt((precise[:, None] * residual**2).sum(axis=0) / freedom / max(precise.sum(), 1e-12))
    error = np.maximum(spread, np.sqrt(1 / max(precise.sum(), 1e-12)))
    slope = coefficient[1:].T if affine else np.zeros((2, 2))
    return Field(origin, coefficient[0], slope, error, rms, int(agree.sum()))


def _first_residual(base: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Residuals (n, 2) of the median shift, or of the affine map through three windows that leaves the least median."""
    if base.shape[1] == 1:
        return moved - np.median(moved, axis=0)
    rng, best, least = np.random.default_rng(0), moved - np.median(moved, axis=0), np.inf
    for _ in range(_TRIPLES):
        three = rng.choice(len(moved), 3, replace=False)
        if np.linalg.cond(base[three]) > 1e6:
            continue
        residual = moved - base @ np.linalg.solve(base[three], moved[three])
        middle = float(np.median(np.hypot(*residual.T)))
        if middle < least:
            best, least = residual, middle
    return best


def variances(ties: Sequence[Tie]) -> np.ndarray:
    """Variance of each window's displacement; models err, so none counts as better than a fiftieth of a coarse pixel."""
    return np.array([np.trace(tie.covariance) / 2 for tie in ties]) + 0.02**2


def _schwarz(ties: Sequence[Tie], field: Field, parameters: int) -> float:
    """Schwarz's criterion of a fit, with residuals cut off at one coarse pixel."""
    residual = np.array([tie.moved for tie in ties]) - field.at(np.array([tie.centre for tie in ties]))
    power = np.minimum(residual**2, 1.0).mean() + 0.01**2
    return 2 * len(ties) * np.log(power) + parameters * np.log(2 * len(ties))
