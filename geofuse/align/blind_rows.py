"""The spectral response estimated from the images: non-negative, smooth along wavelength, within limits where these are given.

On the coarse grid MSI band b is a mixture of the HSI's bands, H(Y)_b = sum_k r_bk X_k. With as few coarse pixels as a scene has,
and spectra that span a dozen directions, most rows r that fit are far from the sensor's. Three things are added:

1. A bell: curves exp(-ln 2 |2 (w - c) / F|^p), p = 2 (Gaussian), 6 or 14 (flat-topped), over all centres c and widths F, each with
   its gain. Most sensors' bands look like one of these. Around the best of each p their mean is taken, weighted by the likelihood
   loss^(-n/2): centre and width are seldom known as well as the best fit suggests (docs/experiments.md).
2. A smooth deviation from it: r minimises |B - r X|^2 + weight (|D (r - bell)|^2 + |r - bell|^2 / 100) over r >= 0, D taking
   second differences along wavelength, or the same without a bell, for responses of several lobes.
3. The weight, and whether there is a bell, are those with the least error on spatial blocks left out of the fit; of those within
   two standard errors of the least, the bell with the largest weight (no deviation at all is one of the choices). Where limits
   are given the band is one bell at least a third as wide as they lie apart: no sensor's limits are known so badly, and where
   misregistration and shadows rule the misfit, single HSI bands would fit it best.
4. An offset, H(Y)_b = r X + o, only where that takes away three tenths of what is left without one: images of two instruments in
   unlike units need it, images in the same units must not be given one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from geofuse.errors import InputError

_ORDERS = (2.0, 6.0, 14.0)
_WEIGHTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean power of a coarse band
_CAUTION = 2.0  # standard errors by which a freer form has to beat the bell
_SHRINK = 0.01
_GRID_WIDTHS = 24
_LOCAL_CENTRES, _LOCAL_WIDTHS = np.linspace(-1.5, 1.5, 13), np.geomspace(0.6, 1.6, 21)  # in band spacings, and relative
_LEAST_OF_LIMITS = 1 / 3
_EDGE = 1.1
_OFFSET_GAIN = 0.7


@dataclass(frozen=True)
class RowFit:
    """One row of R.

    Attributes
    ----------
    row
        (C,) float64, not negative; its sum is the gain between the two images' units.
    deviation
        (C,) standard error of each entry, from the fits that leave one spatial block out.
    bell
        (centre, FWHM, order) of the bell that it is or leans on, on the wavelength axis; None where there is none.
    weight
        Weight of the deviation's penalty, relative; infinite for the bell itself.
    error
        Root mean square of what it leaves of H(Y) on blocks left out, relative to the band's spread.
    offset
        o in H(Y)_b = r X + o, in the MSI's units; 0 where none is needed.
    """

    row: np.ndarray
    deviation: np.ndarray
    bell: tuple[float, float, float] | None
    weight: float
    error: float
    offset: float = 0.0

    def spread_to(self, index: np.ndarray, n_bands: int) -> RowFit:
        """Place the entries at the positions ``index`` among ``n_bands`` bands; the others get none."""
        row, deviation = np.zeros(n_bands), np.zeros(n_bands)
        row[index], deviation[index] = self.row, self.deviation
        return replace(self, row=row, deviation=deviation)


@dataclass(frozen=True)
class _Moments:
    """Sums over n pixels of Z Z^T (d, d), Z b (d,) and b b, where X = V Z; a row acts by its projection V^T r."""

    gram: np.ndarray
    cross: np.ndarray
    power: float
    count: int

    def loss(self, projected: np.ndarray) -> float:
        return float(self.power - 2 * projected @ self.cross + projected @ self.gram @ projected)

    def __sub__(self, other: _Moments) -> _Moments:
        return _Moments(self.gram - other.gram, self.cross - other.cross, self.power - other.power, self.count - other.count)


def fit_row(
    spectra: np.ndarray,
    band: np.ndarray,
    axis: np.ndarray,
    block: np.ndarray,
    limits: tuple[float, float] | None = None,
    weight: np.ndarray | None = None,
) -> RowFit:
    """Estimate the response of one MSI band.

    Parameters
    ----------
    spectra, band
        X (C, n) and H(Y)_b (n,), float64, finite.
    axis
        (C,) centre wavelengths in nm, any order, repeats allowed; band numbers where wavelengths are unknown.
    block
        (n,) int, the spatial block of each pixel, 0 to blocks - 1.
    limits
        Least and largest wavelength at which the band sees anything.
    weight
        (n,) how much each pixel counts.
    """
    allowed = np.ones(len(axis), bool) if limits is None else (axis >= limits[0]) & (axis <= limits[1])
    if allowed.sum() < 2:
        raise InputError(f"{allowed.sum()} bands of the HSI lie within {limits[0]:g}-{limits[1]:g} nm; expected 2 or more")
    order = np.flatnonzero(allowed)[np.argsort(axis[allowed], kind="stable")]
    weight = np.ones(len(band)) if weight is None else weight
    root, used = np.sqrt(weight), spectra[order]
    mean_x, mean_b = used @ weight / weight.sum(), float(band @ weight / weight.sum())
    spread = float(((band - mean_b) ** 2) @ weight)
    least = None if limits is None else _LEAST_OF_LIMITS * (limits[1] - limits[0])
    fits = [
        _fit(axis[order], (used - m[:, None]) * root, (band - b) * root, block, spread, least)
        for m, b in ((0 * mean_x, 0.0), (mean_x, mean_b))
    ]
    needed = fits[1].error ** 2 < _OFFSET_GAIN * fits[0].error ** 2
    fit = replace(fits[1], offset=float(mean_b - fits[1].row @ mean_x)) if needed else fits[0]
    return fit.spread_to(order, len(axis))


def _fit(axis: np.ndarray, spectra: np.ndarray, band: np.ndarray, block: np.ndarray, spread: float, least: float | None) -> RowFit:
    span = _span(spectra)
    reduced = span.T @ spectra
    parts = [_moments(reduced[:, block == i], band[block == i]) for i in range(block.max() + 1)]
    return RowFit(*_Problem(axis, span, parts, spread, least).solve())


def _span(spectra: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis V (C, d) of what the spectra span."""
    directions, power, _ = np.linalg.svd(spectra @ spectra.T)
    return directions[:, : max(1, int((power > 1e-11 * power[0]).sum()))]


def _moments(x: np.ndarray, b: np.ndarray) -> _Moments:
    return _Moments(x @ x.T, x @ b, float(b @ b), len(b))


class _Problem:
    """The fits of one row, on all blocks and with blocks left out."""

    def __init__(self, axis: np.ndarray, span: np.ndarray, parts: list[_Moments], spread: float, least: float | None) -> None:
        """Take the blocks' moments; ``least`` is the least FWHM of a row that must be a bell, None where it need not be one."""
        self.axis, self.span, self.parts, self.spread = axis, span, parts, spread
        self.spacing = _spacing(axis)
        self.whole = _Moments(
            sum(p.gram for p in parts),
            sum(p.cross for p in parts),
            sum(p.power for p in parts),
            sum(p.count for p in parts),
        )
        self.scale = float(np.trace(self.whole.gram)) / len(axis)
        self.penalty = _second_differences(axis)
        self.penalty = self.penalty.T @ self.penalty + _SHRINK * np.eye(len(axis))
        self.widths = max(np.median(self.spacing), least or 0.0), max(axis[-1] - axis[0], 2 * self.spacing.max())
        self.choices = [(True, np.inf)] if least else [(b, w) for b in (True, False) for w in _WEIGHTS] + [(True, np.inf)]
        width = np.geomspace(*self.widths, _GRID_WIDTHS)
        self.grid = [(float(c), float(f), p) for p in _ORDERS for f in width for c in axis]
        self.grid_rows = self._curve(*np.transpose(self.grid)) @ span

    def solve(self) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float], float, float]:
        """Choose by the blocks left out, then fit on all."""
        choices = self.choices
        errors, rows = np.zeros((len(self.parts), len(choices))), []
        for i, part in enumerate(self.parts):
            kept = self.whole - part
            bell = self.bell(kept)[0]
            rows.append([self.row(kept, bell if b else np.zeros_like(bell), w) for b, w in choices])
            errors[i] = [part.loss(self.span.T @ row) for row in rows[-1]]
        total = errors.sum(axis=0)
        best = int(total.argmin())
        slack = (errors - errors[:, [best]]).std(axis=0, ddof=1) * np.sqrt(len(errors))
        chosen = best
        for k in np.argsort([w for _, w in choices], kind="stable")[::-1]:
            if choices[k][0] and total[k] <= total[best] + _CAUTION * slack[k]:
                chosen = int(k)
                break
        has_bell, weight = choices[chosen]
        bell, shape = self.bell(self.whole)
        row = self.row(self.whole, bell if has_bell else np.zeros_like(bell), weight)
        n = len(self.parts)
        left_out = np.stack([r[chosen] for r in rows])
        spread = np.sqrt((n - 1) / n * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
        return row, spread, shape if has_bell else None, float(weight), float(np.sqrt(max(total[chosen], 0.0) / self.spread))

    def row(self, moments: _Moments, bell: np.ndarray, weight: float) -> np.ndarray:
        """Minimise the loss plus the penalty on the deviation from ``bell`` over rows that are not negative."""
        from scipy.optimize import nnls

        if not np.isfinite(weight):
            return bell
        penalty = weight * self.scale * self.penalty
        system = self.span @ moments.gram @ self.span.T + penalty
        root = np.linalg.cholesky(system + 1e-9 * self.scale * np.eye(len(bell)))
        return nnls(root.T, np.linalg.solve(root, self.span @ moments.cross + penalty @ bell), maxiter=20 * len(bell))[0]

    def bell(self, moments: _Moments) -> tuple[np.ndarray, tuple[float, float, float]]:
        """Return the mean bell with its gain, weighted by likelihood, and the shape of the best."""
        along, power = self.grid_rows @ moments.cross, ((self.grid_rows @ moments.gram) * self.grid_rows).sum(axis=1)
        fit = np.maximum(along, 0) ** 2 / np.maximum(power, 1e-300)
        shapes = []
        for p in _ORDERS:
            ours = [i for i, shape in enumerate(self.grid) if shape[2] == p]
            centre, width = self._refined(moments, self.grid[ours[int(fit[ours].argmax())]])
            centres = np.clip(centre + _LOCAL_CENTRES * np.median(self.spacing), self.axis[0], self.axis[-1])
            shapes += [(float(c), float(w), p) for c in centres for w in np.clip(width * _LOCAL_WIDTHS, *self.widths)]
        curves = self._curve(*np.transpose(shapes))
        seen = curves @ self.span
        along, power = np.maximum(seen @ moments.cross, 0.0), ((seen @ moments.gram) * seen).sum(axis=1)
        left = np.maximum(moments.power - along**2 / np.maximum(power, 1e-300), 1e-12 * moments.power + 1e-300)
        chance = np.exp(-0.5 * moments.count * np.log(left / left.min()))
        curve = chance @ curves / chance.sum()
        return curve * self._gain(moments, curve)[0], shapes[int(left.argmin())]

    def _refined(self, moments: _Moments, start: tuple[float, float, float]) -> tuple[float, float]:
        """Find centre and width that fit best near those of ``start``, with its order."""
        from scipy.optimize import minimize

        low, high = (self.axis[0], np.log(self.widths[0])), (self.axis[-1], np.log(self.widths[1]))

        def shape(x: np.ndarray) -> tuple[float, float]:
            centre, log_width = np.clip(x, low, high)
            return float(centre), float(np.exp(log_width))

        simplex = np.array([[start[0], np.log(start[1])]] * 3)
        simplex[1, 0] += 0.5 * np.median(self.spacing)
        simplex[2, 1] += 0.1
        options = {"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-12 * moments.power, "maxiter": 200}
        found = minimize(
            lambda x: -self._gain(moments, self._curve(*shape(x), start[2]))[1], simplex[0], method="Nelder-Mead", options=options
        )
        return shape(found.x)

    def _gain(self, moments: _Moments, curve: np.ndarray) -> tuple[float, float]:
        """Best gain of a curve, not negative, and by how much it lowers the loss."""
        seen = self.span.T @ curve
        along, power = float(seen @ moments.cross), float(seen @ moments.gram @ seen)
        return (max(along, 0.0) / power, max(along, 0.0) ** 2 / power) if power > 0 else (0.0, 0.0)

    def _curve(self, centre: Any, fwhm: Any, order: Any) -> np.ndarray:
        """Weights of bells of unit sum: their height times the width that each HSI band stands for; (C,), or (n, C) of n bells."""
        centre, fwhm, order = (np.asarray(v, float)[..., None] for v in (centre, fwhm, order))
        log = -np.log(2.0) * np.abs(2.0 * (self.axis - centre) / fwhm) ** order
        row = np.exp(np.maximum(log - log.max(axis=-1, keepdims=True), -60.0)) * self.spacing
        return row / row.sum(axis=-1, keepdims=True)


def _spacing(axis: np.ndarray) -> np.ndarray:
    """Local spacing of the bands: the lesser of the distances to both neighbours, so that a gap counts to neither side."""
    if len(axis) < 2:
        return np.ones(len(axis))
    step = np.diff(axis)
    step = np.maximum(step, 0.05 * max(float(np.median(step)), 1e-9))
    return np.minimum(np.concatenate([step[:1], step]), np.concatenate([step, step[-1:]]))


def _second_differences(axis: np.ndarray) -> np.ndarray:
    """Divided second differences along an increasing axis, in units of its median spacing: (C - 2, C)."""
    n = len(axis)
    if n < 3:
        return np.zeros((0, n))
    step = np.diff(axis)
    step = np.clip(step / max(float(np.median(step)), 1e-9), 0.5, 5.0)
    out = np.zeros((n - 2, n))
    for i, (before, after) in enumerate(zip(step[:-1], step[1:], strict=True)):
        out[i, i : i + 3] = 2 / (before * (before + after)), -2 / (before * after), 2 / (after * (before + after))
    return out


def without_noise(spectra: np.ndarray, components: int = 30, rounds: int = 3) -> np.ndarray:
    """Return what spectra (C, n) were without noise, as well as that can be told: Wiener's estimate by principal components.

    Noise in X counts as misfit of a narrow response but is averaged by a wide one, so that responses come out too wide, unless X is
    the mean of what it may have been: a component of variance p, noise of unit variance included, is multiplied by 1 - 1 / p, one
    that does not stand above the noise by 0. Bands are weighted by how much the components leave of them.
    """
    n_bands, n = spectra.shape
    most = min(components, n_bands // 3, n // 8)
    if most < 1:
        return spectra
    rank = min(most, 12)
    mean = spectra.mean(axis=1, keepdims=True)
    sigma = np.full((n_bands, 1), max(float((spectra - mean).std()), 1e-30))
    for i in range(rounds + 1):
        scaled = (spectra - mean) / sigma
        directions, power, _ = np.linalg.svd(scaled @ scaled.T / n)
        if i:  # above what noise alone reaches (Marchenko and Pastur 1967)
            rank = min(most, max(1, int((power > _EDGE * (1 + np.sqrt(n_bands / n)) ** 2).sum())))
        directions, scores = directions[:, :rank], directions[:, :rank].T @ scaled
        if i == rounds:
            break
        lost = np.maximum(1 - (directions**2).sum(axis=1, keepdims=True), 0.1) * (1 - rank / n)  # of a band's noise is left
        left = (spectra - mean - sigma * (directions @ scores)).std(axis=1, keepdims=True) / np.sqrt(lost)
        sigma = np.maximum(left, max(0.1 * float(np.median(left)), 1e-30))
    return mean + sigma * (directions @ (np.maximum(1 - 1 / power[:rank, None], 0.0) * scores))
