"""The spectral response estimated from the images: non-negative, smooth along wavelength, within limits where these are given.

On the coarse grid MSI band b is a mixture of the HSI's bands, H(Y)_b = sum_k r_bk X_k. With as few coarse pixels as a scene has,
and spectra that span a dozen directions, most rows r that fit are far from the sensor's. Three things are added:

1. A bell: among curves exp(-ln 2 |2 (w - c) / F|^p), p = 2 (Gaussian) or 6 (flat-topped), the one that fits best is searched for
   over all centres c and widths F, with its gain. Most sensors' bands look like one of these.
2. A smooth deviation from it: r minimises |B - r X|^2 + weight (|D (r - bell)|^2 + |r - bell|^2 / 100) over r >= 0, D taking
   second differences along wavelength, or the same without a bell, for responses of several lobes.
3. The weight, and whether there is a bell, are those with the least error on spatial blocks left out of the fit; of those within
   two standard errors of the least, the bell with the largest weight (no deviation at all is one of the choices).
4. An offset, H(Y)_b = r X + o, only where that takes away three tenths of what is left without one: images of two instruments in
   unlike units need it, images in the same units must not be given one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from geofuse.errors import InputError

_ORDERS = (2.0, 6.0)
_WEIGHTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean power of a coarse band
_CAUTION = 2.0  # standard errors by which a freer form has to beat the bell
_SHRINK = 0.01
_GRID_WIDTHS = 24
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
    """Sums over pixels of Z Z^T (d, d), Z b (d,) and b b, where X = V Z; a row acts by its projection V^T r."""

    gram: np.ndarray
    cross: np.ndarray
    power: float

    def loss(self, projected: np.ndarray) -> float:
        return float(self.power - 2 * projected @ self.cross + projected @ self.gram @ projected)

    def __sub__(self, other: _Moments) -> _Moments:
        return _Moments(self.gram - other.gram, self.cross - other.cross, self.power - other.power)


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
    fits = [
        _fit(axis[order], (used - m[:, None]) * root, (band - b) * root, block, spread)
        for m, b in ((0 * mean_x, 0.0), (mean_x, mean_b))
    ]
    needed = fits[1].error ** 2 < _OFFSET_GAIN * fits[0].error ** 2
    fit = replace(fits[1], offset=float(mean_b - fits[1].row @ mean_x)) if needed else fits[0]
    return fit.spread_to(order, len(axis))


def _fit(axis: np.ndarray, spectra: np.ndarray, band: np.ndarray, block: np.ndarray, spread: float) -> RowFit:
    span = _span(spectra)
    reduced = span.T @ spectra
    parts = [_moments(reduced[:, block == i], band[block == i]) for i in range(block.max() + 1)]
    return RowFit(*_Problem(axis, span, parts, spread).solve())


def _span(spectra: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis V (C, d) of what the spectra span."""
    directions, power, _ = np.linalg.svd(spectra @ spectra.T)
    return directions[:, : max(1, int((power > 1e-11 * power[0]).sum()))]


def _moments(x: np.ndarray, b: np.ndarray) -> _Moments:
    return _Moments(x @ x.T, x @ b, float(b @ b))


class _Problem:
    """The fits of one row, on all blocks and with blocks left out."""

    def __init__(self, axis: np.ndarray, span: np.ndarray, parts: list[_Moments], spread: float) -> None:
        self.axis, self.span, self.parts, self.spread = axis, span, parts, spread
        self.spacing = _spacing(axis)
        self.whole = _Moments(sum(p.gram for p in parts), sum(p.cross for p in parts), sum(p.power for p in parts))
        self.scale = float(np.trace(self.whole.gram)) / len(axis)
        self.penalty = _second_differences(axis)
        self.penalty = self.penalty.T @ self.penalty + _SHRINK * np.eye(len(axis))
        self.widths = np.median(self.spacing), max(axis[-1] - axis[0], 2 * self.spacing.max())
        width = np.geomspace(*self.widths, _GRID_WIDTHS)
        self.grid = [(float(c), float(f), p) for p in _ORDERS for f in width for c in axis]
        self.grid_rows = np.stack([self._curve(*shape) for shape in self.grid]) @ span

    def solve(self) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float], float, float]:
        """Choose by the blocks left out, then fit on all."""
        choices = [(bell, weight) for bell in (True, False) for weight in _WEIGHTS] + [(True, np.inf)]
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
        """Find the bell, with its gain, that fits best: first on a grid of centres and widths, then between."""
        from scipy.optimize import minimize

        least, most = np.log(self.widths)
        along, power = self.grid_rows @ moments.cross, ((self.grid_rows @ moments.gram) * self.grid_rows).sum(axis=1)
        fit = np.maximum(along, 0) ** 2 / np.maximum(power, 1e-300)
        best, value = self.grid[0], -np.inf
        for p in _ORDERS:
            ours = [i for i, shape in enumerate(self.grid) if shape[2] == p]
            start = self.grid[ours[int(fit[ours].argmax())]]

            def negative(x: np.ndarray, order: float = p) -> float:
                return -self._gain(
                    moments, self._curve(np.clip(x[0], self.axis[0], self.axis[-1]), np.exp(np.clip(x[1], least, most)), order)
                )[1]

            first, last = self.axis[0], self.axis[-1]
            simplex = np.array([[start[0], np.log(start[1])]] * 3)
            simplex[1, 0] += 0.5 * np.median(self.spacing)
            simplex[2, 1] += 0.1
            options = {"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-12 * moments.power, "maxiter": 200}
            found = minimize(negative, simplex[0], method="Nelder-Mead", options=options)
            if -found.fun > value:
                value, best = (
                    -found.fun,
                    (float(np.clip(found.x[0], first, last)), float(np.exp(np.clip(found.x[1], least, most))), p),
                )
        curve = self._curve(*best)
        return curve * self._gain(moments, curve)[0], best

    def _gain(self, moments: _Moments, curve: np.ndarray) -> tuple[float, float]:
        """Best gain of a curve, not negative, and by how much it lowers the loss."""
        seen = self.span.T @ curve
        along, power = float(seen @ moments.cross), float(seen @ moments.gram @ seen)
        return (max(along, 0.0) / power, max(along, 0.0) ** 2 / power) if power > 0 else (0.0, 0.0)

    def _curve(self, centre: float, fwhm: float, order: float) -> np.ndarray:
        """Weights of a bell of unit sum: its height times the width that each HSI band stands for."""
        log = -np.log(2.0) * np.abs(2.0 * (self.axis - centre) / fwhm) ** order
        row = np.exp(np.maximum(log - log.max(), -60.0)) * self.spacing
        return row / row.sum()


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
    """Return spectra (C, n) without what their leading principal components leave, bands weighted by how much that is.

    Noise in X counts as misfit of a narrow response but is averaged by a wide one, so that responses come out too wide unless most
    of it is taken away first.
    """
    n_bands, n = spectra.shape
    most = min(components, n_bands // 3, n // 8)
    if most < 1:
        return spectra
    rank = min(most, 12)
    mean = spectra.mean(axis=1, keepdims=True)
    sigma = np.full((n_bands, 1), max(float((spectra - mean).std()), 1e-30))
    clean = spectra
    for i in range(rounds):
        scaled = (spectra - mean) / sigma
        directions, power, _ = np.linalg.svd(scaled @ scaled.T / n)
        if i:  # above what noise alone reaches (Marchenko and Pastur 1967)
            rank = min(most, max(1, int((power > _EDGE * (1 + np.sqrt(n_bands / n)) ** 2).sum())))
        directions = directions[:, :rank]
        clean = mean + sigma * (directions @ (directions.T @ scaled))
        left = (spectra - clean).std(axis=1, keepdims=True)
        sigma = np.maximum(left, max(0.1 * float(np.median(left)), 1e-30))
    return clean
