"""Smooth spectra with the features of real ones, on a fine grid, for the tests of responses."""

from dataclasses import dataclass

import numpy as np
import pytest

GRID_NM = np.arange(350.0, 2600.0, 0.5)


@dataclass(frozen=True)
class Spectra:
    """Reflectance spectra (n, wavelengths) on a fine grid, and how ideal instruments see them."""

    grid_nm: np.ndarray
    values: np.ndarray

    def seen_by(self, bands):
        """Value of each spectrum in each band: the mean under its response, (n, bands)."""
        return self.under(np.array([band.at(self.grid_nm) for band in bands]))

    def seen_by_gaussians(self, center_nm, fwhm_nm):
        """Value of each spectrum in Gaussian bands, (n, bands)."""
        exponent = (self.grid_nm - np.asarray(center_nm)[:, None]) / np.asarray(fwhm_nm)[:, None]
        return self.under(np.exp(-4 * np.log(2) * exponent**2))

    def under(self, curves):
        weights = curves / np.trapezoid(curves, self.grid_nm, axis=1)[:, None]
        return np.trapezoid(self.values[:, None] * weights, self.grid_nm, axis=2)


def _bump(center, sigma):
    return np.exp(-0.5 * ((GRID_NM - center) / sigma) ** 2)


def _absorb(spectrum, *features):
    for center, sigma, depth in features:
        spectrum = spectrum * (1 - depth * _bump(center, sigma))
    return spectrum


@pytest.fixture(scope="session")
def spectra():
    """Vegetation, soil with clay, water, a red roof and a coat of paint."""
    red_edge = 0.05 + 0.45 / (1 + np.exp(-(GRID_NM - 715) / 12)) - 0.03 * _bump(670, 25) + 0.06 * _bump(550, 30)
    vegetation = _absorb(red_edge, (970, 25, 0.12), (1200, 40, 0.25), (1450, 50, 0.7), (1940, 60, 0.85), (2500, 150, 0.6))
    slope = 0.1 + 0.35 * (1 - np.exp(-(GRID_NM - 350) / 700))
    soil = _absorb(slope, (1410, 15, 0.1), (1915, 20, 0.2), (2205, 12, 0.15), (2165, 10, 0.06), (2340, 15, 0.1), (900, 60, 0.05))
    water = 0.08 * np.exp(-(GRID_NM - 350) / 250) + 0.003
    roof = _absorb(0.05 + 0.25 / (1 + np.exp(-(GRID_NM - 580) / 18)), (870, 50, 0.12))
    paint = 0.05 + 0.5 * _bump(470, 30) + 0.2 * _bump(800, 80) + 0.3 * _bump(1650, 100) + 0.2 * _bump(2200, 80)
    return Spectra(GRID_NM, np.array([vegetation, soil, water, roof, paint]))
