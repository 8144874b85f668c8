"""Reflectance spectra 400-2500 nm by formula: absorption features of known place and plausible strength, no measured library.

Opaque, scattering matter (leaves, straw, cloud) follows the Kubelka-Munk relation R = 1 + k - sqrt(k^2 + 2 k), where k is the
absorption over scattering (Kubelka and Munk 1931), so that more pigment or water deepens a feature the way it does in nature.
Soils and built surfaces are a smooth rise times Gaussian absorption features. Open water is backscatter over absorption plus
backscatter (Gordon 1988), with a bottom seen through the water column where it is shallow.

Every function returns reflectance (n,) in (0, 1) on :data:`WAVELENGTH_NM`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

WAVELENGTH_NM = np.arange(350.0, 2551.0, 2.0)
_SIGMA_PER_FWHM = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))

# Absorption of pure water, 1/m, rounded from the usual tables (Pope and Fry 1997; Kou 1993); log-interpolated between.
_WATER = np.array(
    "350 .02 400 .007 450 .009 500 .02 550 .057 600 .22 650 .34 700 .62 720 1.2 740 2.4 760 2.7 800 2.0 850 4.2 900 6.8 "
    "940 25 970 45 1000 40 1070 16 1150 90 1200 120 1300 110 1450 2500 2550 3000".split(),
    float,
)
_WATER_NM, _WATER_PER_M = _WATER[::2], _WATER[1::2]


def _bump(centre_nm: float, sigma_nm: float) -> np.ndarray:
    """Gaussian of height one."""
    return np.exp(-0.5 * ((WAVELENGTH_NM - centre_nm) / sigma_nm) ** 2)


def _step(centre_nm: float, width_nm: float) -> np.ndarray:
    """Smooth rise from zero to one."""
    return 1.0 / (1.0 + np.exp(-(WAVELENGTH_NM - centre_nm) / width_nm))


def _kubelka_munk(k: np.ndarray) -> np.ndarray:
    """Reflectance of a thick layer from absorption over scattering."""
    return 1.0 + k - np.sqrt(k * k + 2.0 * k)


def _features(depths: Iterable[tuple[float, float, float]]) -> np.ndarray:
    """Product of absorption features (centre nm, sigma nm, depth 0-1)."""
    out = np.ones_like(WAVELENGTH_NM)
    for centre, sigma, depth in depths:
        out *= 1.0 - depth * _bump(centre, sigma)
    return out


def _chlorophyll() -> np.ndarray:
    """Absorption of leaf pigments: blue and red maxima, a green window, nothing beyond the red edge."""
    blue, green = _bump(432, 34) + 0.75 * _bump(480, 24), 0.27 * _bump(560, 50)
    return blue + green + 0.45 * _bump(632, 26) + 0.95 * _bump(675, 16) + 0.05 * _bump(705, 14)


def _leaf_water() -> np.ndarray:
    """Absorption of liquid water in tissue: 970, 1200, 1450, 1940 nm and the rise towards 2500 nm."""
    continuum = 0.55 * (np.clip(WAVELENGTH_NM - 900, 0, None) / 750) ** 2.4
    peaks = 0.05 * _bump(973, 26) + 0.13 * _bump(1190, 42) + 3.6 * _bump(1450, 52) + 7.5 * _bump(1940, 62) + 3.0 * _bump(2560, 130)
    return continuum + peaks


def _dry_matter() -> np.ndarray:
    """Absorption of brown pigments, cellulose and lignin: blue tail, 1730, 2100 and 2310 nm."""
    tail = 3.9 * np.exp(-(WAVELENGTH_NM - 450) / 150)
    moisture = 0.35 * _bump(1450, 50) + 0.7 * _bump(1940, 60)
    return tail + moisture + 0.14 * _bump(1730, 28) + 0.55 * _bump(2100, 60) + 0.75 * _bump(2320, 55) + 0.5 * _bump(2500, 70)


def plant(chlorophyll: float, water: float, dry: float, loss: float = 0.25, flower: float = 0.0) -> np.ndarray:
    """Canopy of leaves: pigment and water relative to a healthy leaf, dry matter to straw; ``flower`` is yellow petals 0-1."""
    k = loss + 13.0 * chlorophyll * _chlorophyll() + water * _leaf_water() + dry * _dry_matter()
    green = _kubelka_munk(k)
    petals = _kubelka_munk(0.30 + 11.0 * (1.0 - _step(512, 9)) + 0.8 * water * _leaf_water() + 0.06 * _bump(675, 15))
    return (1.0 - flower) * green + flower * petals


def soil(
    bright: float, iron: float = 0.1, clay: float = 0.08, organic: float = 0.0, moisture: float = 0.0, carbonate: float = 0.0
) -> np.ndarray:
    """Bare soil: ``bright`` is the reflectance at 1700 nm when dry; the rest are feature strengths 0-1."""
    rise = 1.0 - (0.62 + 0.25 * iron) * np.exp(-(WAVELENGTH_NM - 400) / (320 + 420 * organic))
    fall = 1.0 - 0.16 * np.clip((WAVELENGTH_NM - 1800) / 700, 0, None) ** 1.3
    iron_oxide = [(485, 45, 0.55 * iron), (535, 30, 0.25 * iron), (660, 40, 0.18 * iron), (890, 70, 0.35 * iron)]
    minerals = [(1413, 16, 0.5 * clay), (2205, 20, 1.1 * clay), (2345, 24, 0.6 * carbonate + 0.3 * clay)]
    hydration = [(1455, 55, 0.12 + 0.5 * moisture), (1935, 60, 0.18 + 0.55 * moisture)]
    wet = np.exp(-moisture * (0.75 + 0.22 * _leaf_water() / (1.0 + 0.12 * _leaf_water())))
    return bright * rise * fall * _features(iron_oxide + minerals + hydration) * wet


def built(low: float, high: float, turn_nm: float, features: Iterable[tuple[float, float, float]] = ()) -> np.ndarray:
    """Artificial surface that climbs from ``low`` at 400 nm towards ``high`` with the scale ``turn_nm``, times its features."""
    rise = low + (high - low) * (1.0 - np.exp(-np.clip(WAVELENGTH_NM - 400, -40, None) / turn_nm))
    return rise * _features(features)


def clay_tile(bright: float, iron: float, weathered: float) -> np.ndarray:
    """Roof tile of fired clay: hematite edge near 580 nm and dip near 860 nm; weathering greys it."""
    edge = 0.2 + 0.8 * (0.75 * _step(585, 16) + 0.25 * _step(700, 60))
    body = bright * edge * _features([(530, 30, 0.35 * iron), (860, 65, 0.28 * iron), (670, 30, 0.08 * iron), (2205, 25, 0.04)])
    grey = built(0.10, 0.19, 600, [(1935, 60, 0.15), (675, 14, 0.1)])
    return (1.0 - weathered) * body + weathered * grey


def painted_metal(bright: float, hue_nm: float | None = None) -> np.ndarray:
    """Coated steel: titanium-white edge at 410 nm, organic binder at 1730 and 2310 nm; ``hue_nm`` makes it blue, green or red."""
    binder = [(1190, 20, 0.02), (1430, 40, 0.06), (1730, 22, 0.12), (1930, 50, 0.07), (2310, 40, 0.2)]
    white = bright * _step(405, 7) * (1.0 - 0.28 * np.clip((WAVELENGTH_NM - 700) / 1800, 0, 1)) * _features(binder)
    if hue_nm is None:
        return 0.02 + 0.96 * white
    return 0.03 + white * np.clip(0.12 + 0.5 * _bump(hue_nm, 45) + 0.65 * _step(800, 40), 0, 1)


def open_water(depth_m: float, sediment: float, algae: float, bottom: np.ndarray) -> np.ndarray:
    """Inland water over ``bottom`` (n,): backscatter of sediment against water, algae and humic absorption, plus 0.4 % of glint."""
    absorb = np.exp(np.interp(WAVELENGTH_NM, _WATER_NM, np.log(_WATER_PER_M)))
    absorb = absorb + 0.55 * algae * (_chlorophyll() * 0.5) + 0.5 * (0.4 + algae) * np.exp(-0.014 * (WAVELENGTH_NM - 440))
    back = 0.004 + 0.035 * sediment * (550 / WAVELENGTH_NM) ** 0.7 + 0.01 * algae
    deep = 0.33 * back / (absorb + back)
    reach = np.exp(-2.0 * np.clip((absorb + 2 * back) * depth_m, 0, 60))
    return 0.004 + 0.53 * (deep * (1 - reach) + bottom * reach * 0.9)


def cloud() -> np.ndarray:
    """Top of a small water cloud: bright, darker where liquid water absorbs."""
    return _kubelka_munk(0.035 + 0.13 * _leaf_water())


def skylight() -> np.ndarray:
    """Diffuse share of the light on the ground, 0-1: what a shadow is still lit by, blue."""
    return np.clip(0.035 + 0.30 * (WAVELENGTH_NM / 450.0) ** -2.6, 0, 0.9)


def materials() -> dict[str, np.ndarray]:
    """Return the fixed part of the spectral library, name to reflectance (n,); crops come on top, one spectrum a parcel."""
    oil = [(1730, 25, 0.04), (2310, 40, 0.08)]
    cement = [(1415, 25, 0.05), (1935, 60, 0.15), (2205, 30, 0.03), (2340, 26, 0.09)]
    mud = soil(0.24, 0.15, 0.09, 0.5, 0.75)
    gravel = soil(0.46, 0.12, 0.03, 0.0, 0.05, 0.12)
    return {
        "soil dark": soil(0.21, 0.08, 0.07, 1.0, 0.10),
        "soil loam": soil(0.30, 0.22, 0.10, 0.35, 0.05),
        "soil sand": soil(0.42, 0.22, 0.06, 0.15, 0.02),
        "soil red": soil(0.34, 0.45, 0.13, 0.15, 0.04),
        "soil wet": soil(0.26, 0.15, 0.09, 0.6, 0.55),
        "earth track": soil(0.43, 0.25, 0.09, 0.1, 0.0),
        "gravel": gravel,
        "mud": mud,
        "lawn": plant(0.85, 0.9, 0.22, 0.27),
        "rough grass": plant(0.45, 0.55, 0.5, 0.32),
        "dry grass": plant(0.05, 0.12, 1.0, 0.28),
        "reed": plant(0.5, 0.8, 0.6, 0.45),
        "understorey": plant(1.0, 1.0, 0.35, 0.5),
        "oak": plant(1.25, 1.15, 0.18, 0.30),
        "beech": plant(1.0, 1.05, 0.12, 0.22),
        "birch": plant(0.75, 0.85, 0.2, 0.27),
        "poplar": plant(0.9, 0.95, 0.3, 0.24),
        "willow": plant(0.65, 1.0, 0.3, 0.30),
        "spruce": plant(1.5, 1.5, 0.6, 0.75),
        "pine": plant(1.2, 1.2, 0.75, 0.62),
        "asphalt new": built(0.055, 0.085, 900, oil),
        "asphalt old": built(0.10, 0.20, 520, [(1730, 25, 0.01), (2310, 40, 0.02), (890, 80, 0.02)]),
        "concrete": built(0.19, 0.38, 330, cement),
        "concrete new": built(0.30, 0.46, 260, cement),
        "paving": built(0.13, 0.27, 420, [*cement, (535, 40, 0.05)]),
        "tile bright": clay_tile(0.40, 0.55, 0.0),
        "tile red": clay_tile(0.32, 0.85, 0.12),
        "tile old": clay_tile(0.27, 0.6, 0.5),
        "slate": built(0.085, 0.125, 500, [(2205, 22, 0.05), (2335, 24, 0.06), (890, 90, 0.04)]),
        "bitumen": built(0.045, 0.075, 1100, [(1730, 22, 0.06), (2310, 40, 0.12)]),
        "roof gravel": built(0.16, 0.30, 380, [(2205, 20, 0.06), (2340, 22, 0.05), (1935, 50, 0.1)]),
        "zinc": built(0.33, 0.40, 700, [(1020, 90, 0.14), (420, 30, 0.08)]),
        "metal white": painted_metal(0.72),
        "metal blue": painted_metal(0.55, 470),
        "metal green": painted_metal(0.42, 540),
        "solar panel": built(0.035, 0.055, 300, oil) + 0.1 * _step(1080, 25) * (1 - 0.9 * _step(1700, 250)),
        "river deep": open_water(4.0, 0.9, 0.35, mud),
        "river shallow": open_water(0.5, 0.6, 0.35, gravel),
        "lake deep": open_water(8.0, 0.10, 0.25, mud),
        "lake green": open_water(5.0, 0.2, 1.1, mud),
        "lake shallow": open_water(0.7, 0.15, 0.3, soil(0.5, 0.16, 0.05)),
        "cloud": cloud(),
    }


class SpectralLibrary:
    """Named spectra plus those added on the way; surfaces refer to them by index."""

    def __init__(self) -> None:
        """Start with :func:`materials`."""
        fixed = materials()
        self._index = {name: i for i, name in enumerate(fixed)}
        self._spectra = list(fixed.values())

    def __getitem__(self, name: str) -> int:
        """Return the index of a named spectrum."""
        return self._index[name]

    def __len__(self) -> int:
        """Return the number of spectra."""
        return len(self._spectra)

    def add(self, spectrum: np.ndarray) -> int:
        """Keep one more spectrum (n,) and return its index."""
        self._spectra.append(np.asarray(spectrum, float))
        return len(self._spectra) - 1

    def seen_by(self, centre_nm: np.ndarray, fwhm_nm: np.ndarray) -> np.ndarray:
        """Return the library as bands see it: (bands, spectra) reflectance."""
        return band_average(np.array(self._spectra).T, centre_nm, fwhm_nm)


def band_average(spectra: np.ndarray, centre_nm: np.ndarray, fwhm_nm: np.ndarray) -> np.ndarray:
    """Average ``spectra`` (n,) or (n, m) on :data:`WAVELENGTH_NM` under Gaussian bands; returns (bands,) or (bands, m).

    A sparse product: unlike a dense one it gives the same bits whatever the number of threads.
    """
    from scipy import sparse

    sigma = np.asarray(fwhm_nm)[:, None] * _SIGMA_PER_FWHM
    weight = np.exp(-0.5 * ((WAVELENGTH_NM[None, :] - np.asarray(centre_nm)[:, None]) / sigma) ** 2)
    weight[weight < 1e-9] = 0
    return sparse.csr_array(weight / weight.sum(axis=1, keepdims=True)) @ spectra
