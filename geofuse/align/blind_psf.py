"""The PSF and the residual shift estimated from the images.

The PSF is an anisotropic Gaussian of two widths and an angle (MossFuse, eq. 6), off centre by a sub-pixel shift. It is right when
the fine image, blurred with it, matches what the coarse one shows of it: H(Y)_b = r_b X + o_b. With R unknown the part of H(Y)
outside the leading principal components of X is made least, relative to the spread of H(Y) (variable projection: R is solved for
within); with R known, outside its own R X, whose gain and offset are free. The antialiased bicubic and the box are tried as well.

Simpler Gaussians are tried too, round ones and centred ones, and the Bayesian information criterion decides between all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from geofuse.sensors.psf import Psf

REACH = 2  # coarse pixels that the kernel's window extends to either side of the centre
COMPONENTS = 12
NAMED = ("bicubic", "box")
_SIGMA_PER_FWHM = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))
_LEAST_FWHM, _MOST_FWHM, _MOST_SHIFT = 0.3, 2.5, 0.9  # coarse pixels
_STEP = 1e-3  # of the parameters, log widths and coarse pixels, to see what they change
_CAUTION = 4.0  # neighbouring residuals are correlated: a parameter has to earn this much more than the criterion asks
_FORMS = (("round",), ("round", "shifted"), ("oval",), ("oval", "shifted"))


@dataclass(frozen=True)
class Patches:
    """The fine image around coarse pixels.

    Attributes
    ----------
    values
        (c, n, K, K) float32, zero where there is no data; K fine pixels, centred on the coarse pixel.
    valid
        (n, K, K) float32, 1 where there is data.
    ratio
        Fine pixels to a coarse pixel.
    """

    values: np.ndarray
    valid: np.ndarray
    ratio: int

    def blurred(self, kernel: np.ndarray) -> np.ndarray:
        """Weighted means (c, n) float64 with a kernel (K, K), over the pixels with data."""
        taps = kernel.astype(np.float32).ravel()
        share = self.valid.reshape(len(self.valid), -1) @ taps
        return (self.values.reshape(*self.values.shape[:2], -1) @ taps).astype(np.float64) / np.maximum(share, 1e-6)


@dataclass(frozen=True)
class GaussianShape:
    """An anisotropic Gaussian: FWHM along its two axes and shift along y and x in coarse pixels, angle of the first axis.

    The angle is in radians, from x (columns) towards y (rows, down), for the wider axis.
    """

    wide: float
    narrow: float
    angle: float
    shift_y: float = 0.0
    shift_x: float = 0.0

    def kernel(self, ratio: int, size: int) -> np.ndarray:
        """Sample it on ``size`` x ``size`` fine pixels around the coarse pixel's centre; sums to one."""
        offset = (np.arange(size) - (size - 1) / 2) / ratio
        y, x = (offset - self.shift_y)[:, None], (offset - self.shift_x)[None, :]
        along, across = x * np.cos(self.angle) + y * np.sin(self.angle), y * np.cos(self.angle) - x * np.sin(self.angle)
        wide, narrow = self.wide * _SIGMA_PER_FWHM, self.narrow * _SIGMA_PER_FWHM
        kernel = np.exp(-0.5 * ((along / wide) ** 2 + (across / narrow) ** 2))
        return kernel / kernel.sum()

    @property
    def fwhm(self) -> float:
        """Geometric mean of both widths."""
        return float(np.sqrt(self.wide * self.narrow))


@dataclass(frozen=True)
class PsfFit:
    """The PSF that was found.

    Attributes
    ----------
    form
        ``round``, ``oval`` (either may add ``, shifted``), ``bicubic`` or ``box``.
    shape
        The Gaussian of the form; for bicubic and box the Gaussian that fits best.
    deviation
        Standard errors of (wide, narrow, angle, shift_y, shift_x), NaN for what the form does not vary.
    error
        Root mean square of what is left of H(Y), relative to its spread.
    """

    form: str
    shape: GaussianShape
    deviation: tuple[float, ...]
    error: float

    def psf_kernel(self, ratio: int) -> np.ndarray:
        """Sample it on the window of the ratio."""
        size = window_size(ratio)
        return named_kernel(Psf(self.form), ratio, size) if self.form in NAMED else self.shape.kernel(ratio, size)

    def widened(self, variance: float) -> PsfFit:
        """Add a variance, in squared coarse pixels, along both axes."""
        more = variance / _SIGMA_PER_FWHM**2
        wide, narrow = np.sqrt(self.shape.wide**2 + more), np.sqrt(self.shape.narrow**2 + more)
        return replace(self, shape=replace(self.shape, wide=float(wide), narrow=float(narrow)))

    def psf(self, ratio: int) -> Psf:
        """Return what methods use: a Gaussian for the centred round form, a kernel for the others, or the named kind."""
        if self.form in NAMED:
            return Psf(self.form)
        if self.form == "round":
            return Psf("gaussian", round(self.shape.fwhm, 4))
        kernel = self.shape.kernel(ratio, window_size(ratio))
        return Psf("kernel", kernel=tuple(tuple(float(v) for v in row) for row in kernel))


def window_size(ratio: int) -> int:
    """Side of the kernel's window in fine pixels; of the ratio's parity."""
    return 2 * REACH * ratio + ratio % 2


def named_kernel(psf: Psf, ratio: int, size: int) -> np.ndarray:
    """Sample a PSF on ``size`` x ``size`` fine pixels."""
    kernel = sum(np.outer(v, u) for v, u in psf.separable_terms(ratio))
    pads = [(size - n) // 2 for n in kernel.shape]
    if min(pads) < 0:
        kernel = kernel[max(-pads[0], 0) : kernel.shape[0] + min(pads[0], 0), max(-pads[1], 0) : kernel.shape[1] + min(pads[1], 0)]
    return np.pad(kernel, [(max(p, 0), max(p, 0)) for p in pads])


class PsfProblem:
    """What is left of H(Y), given what the coarse image shows.

    Parameters
    ----------
    patches
        The fine image.
    spectra
        X (C, n) of the same coarse pixels.
    response
        R (c, C) where it is known.
    weight
        (n,) how much each pixel counts.
    """

    def __init__(self, patches: Patches, spectra: np.ndarray, response: np.ndarray | None, weight: np.ndarray) -> None:
        """Find the directions that X explains."""
        self.patches, self.root = patches, np.sqrt(weight)
        ones = np.ones((1, spectra.shape[1]))
        if response is None:
            self.bases = [_orthonormal(np.concatenate([ones, _components(spectra)]) * self.root)]
        else:
            self.bases = [_orthonormal(np.stack([ones[0], row @ spectra]) * self.root) for row in response]
        self.constant = self.root / np.linalg.norm(self.root)

    def residual(self, kernel: np.ndarray) -> np.ndarray:
        """(c, n) residuals, each band's divided by the norm of its spread."""
        blurred = self.patches.blurred(kernel) * self.root
        bases = self.bases * len(blurred) if len(self.bases) == 1 else self.bases
        left = np.stack([b - q @ (q.T @ b) for b, q in zip(blurred, bases, strict=True)])
        spread = blurred - (blurred @ self.constant)[:, None] * self.constant
        return left / np.maximum(np.linalg.norm(spread, axis=1), 1e-12)[:, None]

    @property
    def size(self) -> int:
        """Side of the window."""
        return self.patches.values.shape[-1]


def _orthonormal(rows: np.ndarray) -> np.ndarray:
    return np.linalg.qr(rows.T)[0]


def _components(spectra: np.ndarray) -> np.ndarray:
    """Return the leading principal components (d, n) of the spectra, means taken away."""
    centred = spectra - spectra.mean(axis=1, keepdims=True)
    u, _, _ = np.linalg.svd(centred @ centred.T)
    return u[:, : min(COMPONENTS, len(u), max(1, spectra.shape[1] // 10))].T @ centred


def _shape_of(values: np.ndarray, form: Sequence[str]) -> GaussianShape:
    """Read the free parameters of a form: log widths as mean and (for ovals) two components of elongation; then shifts."""
    log_mean, rest = values[0], list(values[1:])
    elong_c, elong_s = (rest.pop(0), rest.pop(0)) if "oval" in form else (0.0, 0.0)
    shift_y, shift_x = (rest.pop(0), rest.pop(0)) if "shifted" in form else (0.0, 0.0)
    elongation = float(np.hypot(elong_c, elong_s))  # half the log of wide / narrow
    angle = 0.5 * float(np.arctan2(elong_s, elong_c)) if elongation else 0.0
    wide, narrow = np.exp(log_mean + elongation), np.exp(log_mean - elongation)
    return GaussianShape(float(wide), float(narrow), angle, float(shift_y), float(shift_x))


def _bounds(form: Sequence[str]) -> tuple[list[float], list[float]]:
    low, high = [np.log(_LEAST_FWHM)], [np.log(_MOST_FWHM)]
    if "oval" in form:
        low, high = low + [-0.7, -0.7], high + [0.7, 0.7]
    if "shifted" in form:
        low, high = low + [-_MOST_SHIFT] * 2, high + [_MOST_SHIFT] * 2
    return low, high


def fit_psf(problem: PsfProblem, block: np.ndarray, *, shift: bool = True) -> PsfFit:
    """Find the form and the values of the PSF that leave least.

    Parameters
    ----------
    problem
        The images.
    block
        (n,) int, the spatial block of each pixel; the standard errors come from leaving one out.
    shift
        Whether the PSF may lie off the coarse pixel's centre.
    """
    found = {form: _fit_form(problem, form) for form in _FORMS if shift or "shifted" not in form}
    n = len(block)
    scores = {form: n * np.log(max(loss, 1e-30)) + _CAUTION * np.log(n) * len(values) for form, (values, loss) in found.items()}
    form = min(scores, key=lambda form: scores[form])
    values, loss = found[form]
    shape, deviation, name, best = _shape_of(values, form), _deviation(problem, values, form, block), ", ".join(form), scores[form]
    for kind in NAMED:
        left = float((problem.residual(named_kernel(Psf(kind), problem.patches.ratio, problem.size)) ** 2).sum())
        if n * np.log(max(left, 1e-30)) < best:
            name, loss, best = kind, left, n * np.log(max(left, 1e-30))
    return PsfFit(name, shape, deviation, float(np.sqrt(loss / len(problem.patches.values))))


def freest_kernel(problem: PsfProblem, *, shift: bool = True) -> np.ndarray:
    """Fit the Gaussian with all parameters and return its kernel on the problem's window, for the weights of pixels."""
    form = _FORMS[-1] if shift else _FORMS[2]
    return _shape_of(_fit_form(problem, form)[0], form).kernel(problem.patches.ratio, problem.size)


def _deviation(problem: PsfProblem, values: np.ndarray, form: Sequence[str], block: np.ndarray) -> tuple[float, ...]:
    """Jackknife over blocks, each refit being one Gauss-Newton step from the whole fit, passed on to the shape."""

    def residual(at: np.ndarray) -> np.ndarray:
        return problem.residual(_shape_of(at, form).kernel(problem.patches.ratio, problem.size))

    here = residual(values)
    slope = np.stack([(residual(values + _STEP * unit) - here) / _STEP for unit in np.eye(len(values))])  # (parameter, c, n)
    curvature = [np.einsum("icn,jcn->ij", slope[:, :, block == i], slope[:, :, block == i]) for i in range(block.max() + 1)]
    pull = [np.einsum("icn,cn->i", slope[:, :, block == i], here[:, block == i]) for i in range(block.max() + 1)]
    faint = 1e-9 * np.trace(sum(curvature)) * np.eye(len(values))
    moved = [values - np.linalg.solve(sum(curvature) - c + faint, sum(pull) - p) for c, p in zip(curvature, pull, strict=True)]
    change = np.stack(moved) - np.mean(moved, axis=0)
    covariance = (len(moved) - 1) / len(moved) * change.T @ change
    shapes = [astuple(_shape_of(values + _STEP * unit, form)) for unit in np.eye(len(values))]
    to_shape = (np.array(shapes) - np.array(astuple(_shape_of(values, form)))) / _STEP  # (parameter, 5)
    to_shape[:, 2] = np.mod(to_shape[:, 2] * _STEP + np.pi / 2, np.pi) / _STEP - np.pi / 2 / _STEP  # an angle is modulo 180 degrees
    free = np.array([True, True, "oval" in form, "shifted" in form, "shifted" in form])
    deviation = np.sqrt(np.einsum("ik,ij,jk->k", to_shape, covariance, to_shape))
    return tuple(float(d) if f else float("nan") for d, f in zip(deviation, free, strict=True))


def _fit_form(problem: PsfProblem, form: Sequence[str]) -> tuple[np.ndarray, float]:
    """Least squares over the free parameters of a form, from a few widths: the values and the sum of squares."""
    from scipy.optimize import least_squares

    low, high = _bounds(form)

    def residual(values: np.ndarray) -> np.ndarray:
        return problem.residual(_shape_of(values, form).kernel(problem.patches.ratio, problem.size)).ravel()

    def slope(values: np.ndarray) -> np.ndarray:  # in steps that float32 images bear, whatever the values
        here = residual(values)
        return np.stack([(residual(values + _STEP * unit) - here) / _STEP for unit in np.eye(len(values))], axis=1)

    starts = np.log([0.6, 1.0, 1.6])
    first = starts[int(np.argmin([(residual(np.r_[s, np.zeros(len(low) - 1)]) ** 2).sum() for s in starts]))]
    start = np.r_[first, np.full(len(low) - 1, 1e-3)]
    fit = least_squares(residual, start, slope, bounds=(low, high), x_scale=0.1, xtol=1e-5, ftol=1e-8, max_nfev=40)
    return fit.x, float(2 * fit.cost)
