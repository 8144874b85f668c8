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
    found = _over_windows([_whole_pixels_off(window, reach, turned) for window in windows])
    row, col = np.unravel_index(found.argmax(), found.shape)
    whole = np.array([row, col]) - reach
    best, where = float(found[row, col]), replace(turned, shift=turned.shift + whole + turned.slope @ whole)
    around = where
    for row in (-0.5, 0.0, 0.5):
        for col in (-0.5, 0.0, 0.5):
            tried = replace(around, shift=around.shift + (row, col))
            here = float(_over_windows([_correlation(window.seen, window.read_off(tried.over(window))) for window in windows]))
            if here > best:
                best, where = here, tried
    return where, best


def _whole_pixels_off(window: TieWindow, reach: int, turned: Field) -> np.ndarray:
    """Correlations of a window at whole coarse pixels off up to ``reach``: (2 reach + 1, 2 reach + 1).

    The blurred image is read off once, at the coarse pixels of the window and around it. Where the pixel ``s`` further lies after
    the rotation, one that ``s + slope s`` is added to lies as well.
    """
    _, height, width = window.seen.shape
    around = np.full((len(window.seen), height + 2 * reach, width + 2 * reach), np.nan)
    wide = replace(window, seen=around, row=window.row - reach, col=window.col - reach)
    views = np.lib.stride_tricks.sliding_window_view(wide.read_off(turned.over(wide)), (height, width), axis=(1, 2))
    return _correlation(window.seen, views)


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
    correlation = float(_correlation(window.seen, window.read_off(bend + moved[:, None, None])))
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
    here, *slopes = window.read_off_with_slopes(at)
    both = np.isfinite(here) & np.isfinite(window.seen)
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
    weight, least, middle = np.ones_like(here), max(1e-4 * seen.std(), 1e-12), len(here) // 2
    for _ in range(4):
        total = weight.sum()
        mean_here, mean_seen = weight @ here / total, weight @ seen / total
        apart = here - mean_here
        weighted = weight * apart
        power = weighted @ apart
        if power <= 1e-12 * (power + total * mean_here**2):
            return None
        gain = weighted @ seen / power
        residual = seen - mean_seen - gain * apart
        size = np.abs(residual)
        scale = max(1.4826 * np.partition(size, middle)[middle], least)
        weight = 1 / np.maximum(1, size / (_HUBER * scale))
    if gain <= 0:
        return None
    apart = here - weight @ here / weight.sum()
    columns = gain * slopes
    columns = columns - (columns @ weight / weight.sum())[:, None]
    columns = columns - np.outer(columns @ (weight * apart) / (weight * apart @ apart), apart)
    return columns / scale, residual / scale, weight


def _correlation(seen: np.ndarray, read: np.ndarray) -> np.ndarray:
    """Mean correlation of the bands of a window (c, m, n) with each image of (c, ..., m, n): (...); -1 without enough pixels."""
    total, n_bands = 0.0, 0
    for a, b in zip(seen, read, strict=True):
        both = np.isfinite(a) & np.isfinite(b)
        n = both.sum(axis=(-2, -1))
        middle = np.nanmean(a) if np.isfinite(a).any() else 0.0
        a, b = np.where(both, a - middle, 0.0), np.where(both, b, 0.0)
        b = np.where(both, b - (b.sum(axis=(-2, -1)) / np.maximum(n, 1))[..., None, None], 0.0)
        power = (np.square(a).sum(axis=(-2, -1)) - a.sum(axis=(-2, -1)) ** 2 / np.maximum(n, 1)) * np.square(b).sum(axis=(-2, -1))
        found = np.where(power > 0, (a * b).sum(axis=(-2, -1)) / np.sqrt(np.where(power > 0, power, 1.0)), 0.0)
        enough = n >= _LEAST_PIXELS
        total, n_bands = total + np.where(enough, found, 0.0), n_bands + enough
    return np.where(n_bands > 0, total / np.maximum(n_bands, 1), -1.0)


def _over_windows(correlations: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the windows that have enough pixels; -1 where fewer than half of them have."""
    found = np.stack(correlations)
    kept = found > -1
    mean = np.where(kept, found, 0.0).sum(axis=0) / np.maximum(kept.sum(axis=0), 1)
    return np.where(2 * kept.sum(axis=0) >= len(found), mean, -1.0)


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
