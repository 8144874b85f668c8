"""A smooth displacement field through tie windows: an affine map and a thin-plate spline that bends no more than the windows tell.

The field minimises, along each axis, the weighted squares of what the windows leave plus ``stiffness`` times its bending energy
(Duchon 1977; Wahba, Spline Models for Observational Data, 1990, section 2.4). The stiffness is the one that predicts windows that
are left out best; the same errors of prediction give the windows their weights (Tukey's biweight), so that one window cannot bend
the field to itself. It replaces an affine map only where it foretells left-out windows far better than that does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST_WINDOWS = 12  # that agree
_STIFFNESS = tuple(10.0 ** np.arange(-6, 3))  # on places scaled to the unit square
_STANDARD_ERRORS = 3.0  # by which the squared errors of prediction have to be the lesser
_LEAST_GAIN = 0.7  # of the affine map's error of prediction
_TUKEY = 4.685
_SPREAD = 0.1  # coarse pixels; errors of prediction are far from normal where a field bends, which makes no window wrong
_ROUNDS = 12


@dataclass(frozen=True)
class Bend:
    """A thin-plate spline without affine part: displacement (row, col) by place (row, col), in coarse pixels of a pair.

    Attributes
    ----------
    knots
        Places, (row, col) each.
    weights
        Two numbers a knot, one for each axis.
    scale
        What places are divided by.
    low, high
        Corners of the area that it holds for; beyond it stays as on the border.
    """

    knots: tuple[tuple[float, float], ...]
    weights: tuple[tuple[float, float], ...]
    scale: float
    low: tuple[float, float]
    high: tuple[float, float]

    def at(self, place: np.ndarray) -> np.ndarray:
        """Return the displacement (n, 2) at places (n, 2)."""
        place = np.clip(place, self.low, self.high)
        return _kernel(place / self.scale, np.asarray(self.knots) / self.scale) @ np.asarray(self.weights)


@dataclass(frozen=True)
class SmoothFit:
    """A fitted field.

    Attributes
    ----------
    shift, slope
        Its affine part about ``origin``: (2,), (2, 2).
    bend
        The rest.
    rms
        What the agreeing windows leave, along one axis.
    predicted
        Root mean square error along one axis with which it foretells agreeing windows that are left out.
    left_out
        (n, 2) the errors themselves, of all windows.
    agree
        (n,) bool, the windows that agree.
    freedom
        Parameters that it is worth, along one axis.
    """

    origin: np.ndarray
    shift: np.ndarray
    slope: np.ndarray
    bend: Bend
    rms: float
    predicted: float
    left_out: np.ndarray
    agree: np.ndarray
    freedom: float


def fit_smooth(centre: np.ndarray, moved: np.ndarray, variance: np.ndarray, shape: tuple[int, int]) -> SmoothFit:
    """Fit a field to windows.

    Parameters
    ----------
    centre, moved
        (n, 2) places and displacements, n > 3.
    variance
        (n,) of the displacements.
    shape
        Height and width of the scene in coarse pixels.
    """
    origin, scale = np.array(shape) / 2, float(max(shape))
    place = (centre - origin) / scale
    kernel, base = _kernel(place, place), np.column_stack([np.ones(len(place)), place])
    weight = np.ones(len(place))
    for _ in range(_ROUNDS):
        precise = np.maximum(weight, 1e-6) / variance * variance.mean()
        inverses = [np.linalg.inv(_system(kernel, base, precise, stiffness)) for stiffness in _STIFFNESS]
        errors = [_foretold(inverse, moved) for inverse in inverses]
        best = int(np.argmin([_typical(error, weight) for error in errors]))
        distance = np.hypot(*errors[best].T)
        spread = max(float(np.median(distance)) / 1.1774, _SPREAD)  # of one axis, for errors that are normal
        before, weight = weight, np.maximum(0, 1 - (distance / (_TUKEY * spread)) ** 2) ** 2
        if np.abs(weight - before).max() < 1e-3:
            break
    agree = weight > 0.05
    solution = inverses[best][:, : len(place)] @ moved
    bending, coefficient = solution[: len(place)], solution[len(place) :]
    freedom = np.trace(np.concatenate([kernel, base], axis=1) @ inverses[best][:, : len(place)])
    left = moved - kernel @ bending - base @ coefficient
    bend = Bend(_pairs(centre), _pairs(bending), scale, (0.0, 0.0), (float(shape[0]), float(shape[1])))
    rms, predicted = (float(np.sqrt((values[agree] ** 2).mean())) if agree.any() else np.inf for values in (left, errors[best]))
    slope = coefficient[1:].T / scale
    return SmoothFit(origin, coefficient[0], slope, bend, rms, predicted, errors[best], agree, float(freedom))


def supported(fit: SmoothFit, centre: np.ndarray, moved: np.ndarray, variance: np.ndarray, least: float) -> str:
    """Say why the windows do not support a field that is more than affine; empty where they do.

    ``least`` is the bend in coarse pixels below which it is not worth a field.
    """
    n = int(fit.agree.sum())
    if n < LEAST_WINDOWS or n < 0.5 * len(centre):
        return f"{n} of {len(centre)} windows agree on a smooth field, expected {LEAST_WINDOWS} and half of them"
    centre, moved, precise, left_out = centre[fit.agree], moved[fit.agree], 1 / variance[fit.agree], fit.left_out[fit.agree]
    base = np.column_stack([np.ones(n), (centre - fit.origin) / fit.bend.scale])
    hat = base @ np.linalg.solve((base.T * precise) @ base, base.T * precise)
    largest = float(np.abs(moved - hat @ moved).max())
    if largest < least:
        return f"all windows lie within {largest:.2f} pixels of an affine map"
    affine = (moved - hat @ moved) / (1 - np.diag(hat))[:, None]
    gain = (affine**2).sum(axis=1) - (left_out**2).sum(axis=1)
    sure = float(gain.mean() / max(gain.std(ddof=1) / np.sqrt(n), 1e-12))
    predicted = float(np.sqrt((affine**2).mean()))
    if sure < _STANDARD_ERRORS or fit.predicted > _LEAST_GAIN * predicted:
        return f"it foretells windows that are left out to {fit.predicted:.3f} pixels, an affine map to {predicted:.3f}"
    return ""


def _kernel(place: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Thin-plate spline r^2 log r: (n, m)."""
    square = ((place[:, None] - knots[None]) ** 2).sum(axis=-1)
    return 0.5 * square * np.log(np.maximum(square, 1e-30))


def _system(kernel: np.ndarray, base: np.ndarray, precise: np.ndarray, stiffness: float) -> np.ndarray:
    n, m = base.shape
    system = np.zeros((n + m, n + m))
    system[:n, :n] = kernel + stiffness * np.diag(1 / precise)
    system[:n, n:], system[n:, :n] = base, base.T
    return system


def _foretold(inverse: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Errors (n, 2) with which each window is foretold from the others, exactly (Rippa, Adv. Comput. Math. 1999)."""
    n = len(moved)
    return inverse[:n, :n] @ moved / np.diag(inverse)[:n, None]


def _typical(error: np.ndarray, weight: np.ndarray) -> float:
    """Mean square of errors (n, 2), each cut off at a coarse pixel."""
    return float((weight[:, None] * np.minimum(error**2, 1.0)).sum() / max(weight.sum(), 1e-9))


def _pairs(values: np.ndarray) -> tuple[tuple[float, float], ...]:
    return tuple((float(f"{a:.9g}"), float(f"{b:.9g}")) for a, b in values)
