"""The matrix R: each MSI band as a weighted mean of HSI bands."""

from __future__ import annotations

import numpy as np

from geofuse.errors import InputError
from geofuse.sensors.response import ResponseBand, SensorResponse

_SIGMA_PER_FWHM = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))
_RIDGE = 0.005  # of the mean diagonal; chosen with the blur by the trial that tests/sensors/test_matrix.py repeats in small
_NEGLIGIBLE = 1e-6  # HSI bands whose overlap with the response is below this share of the largest take no part
_LEAST_WEIGHT = 1e-4  # of a row's sum; a smaller weight would only spread the band's missing pixels
_GAP_WINDOW = 3  # neighbours on either side whose spacing counts as local


def response_matrix(
    response: SensorResponse,
    wavelength_nm: np.ndarray,
    fwhm_nm: np.ndarray,
    good_band: np.ndarray | None = None,
    *,
    min_coverage: float = 0.9,
) -> np.ndarray:
    """Return the weights with which HSI bands add up to MSI bands.

    HSI band b sees g_b, a Gaussian of unit area with the band's FWHM (the local spacing where that is unknown); MSI band m sees
    r_m, scaled to unit area. The weights w >= 0 of band m minimise

        || S (sum_b w_b g_b - r_m) ||^2 + ridge ||w||^2

    over wavelength, where S blurs by a Gaussian as wide as an HSI band: what matters is that both see smooth spectra alike, not
    that a comb of narrow bands traces the edges of r_m. With Gaussians the normal equations are closed: S^T S turns the products
    of g_a and g_b into a Gaussian of the distance of their centres. The ridge shares weight between bands that see the same (the
    overlap of two spectrometers) and keeps the gain of the HSI's noise, sum_b w_b^2, low. Rows are then scaled to sum to 1, so
    that a constant spectrum stays what it is.

    Against the overlap integral of r_m and g_b, which blurs twice, this cut the rms error on smooth spectra to 0.22-0.40 of its
    value on seven kinds of HSI, for 2-17 % more noise amplitude (46 % where FWHM is twice the spacing).

    Parameters
    ----------
    response
        The MSI's bands, c of them, in the file's order.
    wavelength_nm, fwhm_nm
        (C,) centres and widths of the HSI's bands; any order, repeats allowed. FWHM may be NaN.
    good_band
        (C,) bool; bands that are False get no weight. All are good if None.
    min_coverage
        Smallest share of a response that the good HSI bands must cover; see :func:`coverage`.

    Returns
    -------
    ndarray
        (c, C) float64, not negative, rows sum to 1.

    Raises
    ------
    InputError
        If wavelengths are missing or an MSI band is covered too little.
    """
    center, width, spacing, good = _check_bands(wavelength_nm, fwhm_nm, good_band)
    _check_coverage(response, _shares(response, center[good], np.maximum(width, spacing)[good]), min_coverage)
    matrix = np.zeros((len(response), len(center)))
    for row, band in zip(matrix, response.bands, strict=True):
        row[good] = _fit(band, center[good], width[good], spacing[good])
    return matrix


def coverage(
    response: SensorResponse, wavelength_nm: np.ndarray, fwhm_nm: np.ndarray, good_band: np.ndarray | None = None
) -> np.ndarray:
    """Return the share of each MSI band's response that lies where the good HSI bands see.

    An HSI band sees the wavelengths within half its FWHM, or half the local spacing if that is larger, of its centre. Parameters
    and errors as for :func:`response_matrix`.

    Returns
    -------
    ndarray
        (c,) float64 in [0, 1].
    """
    center, width, spacing, good = _check_bands(wavelength_nm, fwhm_nm, good_band)
    return _shares(response, center[good], np.maximum(width, spacing)[good])


def noise_gain(matrix: np.ndarray) -> np.ndarray:
    """Return, for each row of weights (c, C), the factor by which it changes the variance of white noise: sum of squares, (c,)."""
    return np.square(np.asarray(matrix, float)).sum(axis=1)


def _check_bands(
    wavelength_nm: np.ndarray, fwhm_nm: np.ndarray, good_band: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return centres, widths, local spacing and the mask of good bands, all (C,), with unknown widths filled in."""
    center = np.array(wavelength_nm, float)
    width = np.array(fwhm_nm, float)
    good = np.ones(center.shape, bool) if good_band is None else np.array(good_band, bool)
    if center.ndim != 1 or width.shape != center.shape or good.shape != center.shape:
        raise InputError(f"HSI wavelengths, FWHM and good bands differ in number: {center.size}, {width.size} and {good.size}")
    known = np.isfinite(center) & (center > 0)
    remedy = "pass them with --wavelengths file.csv (columns wavelength_nm and, if known, fwhm_nm)"
    if not (known & good).any():
        raise InputError(
            f"the HSI has no {'good bands' if not good.any() else 'wavelengths'}, which a sensor response needs; {remedy}"
        )
    if (good & ~known).any():
        raise InputError(f"{int((good & ~known).sum())} of the HSI's {int(good.sum())} good bands have no wavelength; {remedy}")
    if center[known].max() < 100:
        raise InputError(f"the HSI's wavelengths reach {center[known].max():g}, which looks like micrometres; {remedy}")
    spacing = np.full(center.shape, np.nan)
    spacing[known] = _local_spacing(center[known], width[known])
    unknown = ~(np.isfinite(width) & (width > 0))
    width[unknown] = spacing[unknown]
    return center, width, spacing, good


def _local_spacing(center: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return the median distance between neighbours around each band, whatever the order of the bands; gaps do not count much."""
    order = np.argsort(center, kind="stable")
    gaps = np.diff(center[order])
    if not gaps.any():
        widths = width[np.isfinite(width) & (width > 0)]
        if not widths.size:
            raise InputError("the HSI's bands have one wavelength only and no FWHM; pass both with --wavelengths file.csv")
        return np.full(center.shape, widths.mean())
    floor = 0.5 * np.median(gaps[gaps > 0])
    local = [np.median(gaps[max(0, i - _GAP_WINDOW) : i + _GAP_WINDOW]) for i in range(len(center))]
    spacing = np.empty(center.shape)
    spacing[order] = np.maximum(local, floor)
    return spacing


def _grid(band: ResponseBand, finest_nm: float) -> np.ndarray:
    """Return wavelengths (nm) over a band's table, 1 nm apart or less, and its own points, so that no detail is lost."""
    low, high = band.wavelength_nm[[0, -1]]
    step = min(1.0, finest_nm / 5)
    return np.unique(np.concatenate([np.linspace(low, high, int(np.ceil((high - low) / step)) + 1), band.wavelength_nm]))


def _shares(response: SensorResponse, center: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Share of each response within half of ``reach`` of a centre: exact for the piecewise linear curves."""
    low, high = center - reach / 2, center + reach / 2
    order = np.argsort(low)
    merged: list[list[float]] = []
    for start, stop in zip(low[order], high[order], strict=True):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    edges = np.array(merged)
    shares = []
    for band in response.bands:
        points = np.unique(np.concatenate([band.wavelength_nm, np.clip(edges.ravel(), *band.wavelength_nm[[0, -1]])]))
        values = band.at(points)
        total = np.concatenate([[0.0], np.cumsum(np.diff(points) * (values[1:] + values[:-1]) / 2)])
        inside = np.interp(edges[:, 1], points, total) - np.interp(edges[:, 0], points, total)
        shares.append(inside.sum() / total[-1])
    return np.clip(shares, 0.0, 1.0)


def _check_coverage(response: SensorResponse, shares: np.ndarray, min_coverage: float) -> None:
    poor = [i for i, share in enumerate(shares) if share < min_coverage or share <= 0]
    if not poor:
        return
    named = ", ".join(f"{response.bands[i].name} ({response.bands[i].center_nm:.0f} nm) to {100 * shares[i]:.0f} %" for i in poor)
    rest = ",".join(band.name for i, band in enumerate(response.bands) if i not in poor)
    leave_out = f"leave out with --msi-bands {rest}" if rest else "choose another sensor with --srf"
    lowest = min(shares[i] for i in poor)
    relax = f", or relax with --min-coverage {np.floor(100 * lowest) / 100:g}" if lowest >= 0.01 else ""
    raise InputError(
        f"the HSI covers {named} of the response of {response.title}, at least {100 * min_coverage:g} % is needed; "
        f"{leave_out}{relax}"
    )


def _fit(band: ResponseBand, center: np.ndarray, width: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Weights of the good HSI bands for one MSI band; see :func:`response_matrix`."""
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    grid = _grid(band, float(width.min()))
    curve = band.at(grid)
    curve /= np.trapezoid(curve, grid)
    near = np.flatnonzero((center > grid[0] - 3 * width.max()) & (center < grid[-1] + 3 * width.max()))
    blur = float(np.median(np.maximum(width, spacing)[near]))
    variance = (_SIGMA_PER_FWHM * width[near]) ** 2
    overlap = np.trapezoid(curve * _normal(grid - center[near, None], blur**2 + variance[:, None]), grid, axis=1)
    kept = overlap > _NEGLIGIBLE * overlap.max()
    near, variance, overlap = near[kept], variance[kept], overlap[kept]
    gram = _normal(center[near, None] - center[near], blur**2 + variance[:, None] + variance)
    gram[np.diag_indices_from(gram)] += _RIDGE * gram.diagonal().mean()
    factor = np.linalg.cholesky(gram)
    found, _ = nnls(factor.T, solve_triangular(factor, overlap, lower=True), maxiter=100 * len(near))
    found[found < _LEAST_WEIGHT * found.sum()] = 0.0
    weights = np.zeros(len(center))
    weights[near] = found / found.sum()
    return weights


def _normal(distance: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Density of a normal distribution of mean zero."""
    return np.exp(-0.5 * distance**2 / variance) / np.sqrt(2 * np.pi * variance)
