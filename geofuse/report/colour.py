"""Which bands make a colour picture, how bands of two images belong together, and how values become grey levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geofuse.scene import BandMetadata

TRUE_COLOUR_NM = (650.0, 550.0, 470.0)
FALSE_COLOUR_NM = (860.0, 650.0, 550.0)  # near infrared, red, green: vegetation is red
_REACH_NM = 60.0  # how far the nearest band may be from a colour's wavelength
_SAME_NM = 2.0  # two bands this close, or within half their width, are the same band
_SAME_UNITS = 2.0  # an MSI whose typical value is within this factor of the fused image's is in the same units
PERCENTILES = (2, 98)


@dataclass(frozen=True)
class Composite:
    """Three bands of the fused scene shown as red, green and blue; ``index`` are 0-based positions."""

    id: str
    title: str
    index: tuple[int, int, int]
    caption: str


def composites(bands: BandMetadata, has_data: np.ndarray) -> tuple[Composite, ...]:
    """Choose true and false colour among the bands that have data, (band,) bool.

    Where no bands are near the usual wavelengths, bands spread over the range stand in, and the caption says so.
    """
    usable = np.flatnonzero(has_data) if has_data.any() else np.arange(len(bands))
    true = _nearest(bands, usable, TRUE_COLOUR_NM)
    false = _nearest(bands, usable, FALSE_COLOUR_NM)
    order = usable[np.argsort(bands.wavelength_nm[usable], kind="stable")]  # NaN last, in the file's order
    spread = order[np.linspace(len(order) - 1, 0, 3).round().astype(int)]
    inner = order[np.linspace(0.75 * (len(order) - 1), 0.1 * (len(order) - 1), 3).round().astype(int)]
    return (
        Composite("true", "True colour", *_named(bands, true if true is not None else inner, true is not None)),
        Composite("false", "False colour", *_named(bands, false if false is not None else spread, false is not None)),
    )


def _nearest(bands: BandMetadata, usable: np.ndarray, wanted_nm: tuple[float, ...]) -> np.ndarray | None:
    """Return the usable bands nearest to the wavelengths, or None if one is farther than the reach."""
    distance = np.abs(bands.wavelength_nm[usable][None, :] - np.array(wanted_nm)[:, None])
    distance = np.where(np.isfinite(distance), distance, np.inf)
    return usable[distance.argmin(axis=1)] if (distance.min(axis=1) <= _REACH_NM).all() else None


def _named(bands: BandMetadata, index: np.ndarray, by_wavelength: bool) -> tuple[tuple[int, int, int], str]:
    known = np.isfinite(bands.wavelength_nm[index]).all()
    names = ", ".join(f"{bands.wavelength_nm[i]:.0f}" if known else str(i + 1) for i in index)
    text = f"{names} nm" if known else f"bands {names}"
    chosen = "" if by_wavelength else "; chosen by position, for want of bands near the usual wavelengths"
    return tuple(int(i) for i in index), f"red, green, blue = {text}{chosen}"


def same_bands(fused: BandMetadata, other: BandMetadata) -> np.ndarray | None:
    """Give each fused band the position of the same band in another hyperspectral image, -1 where there is none.

    By wavelength where both have them, else by order where both have as many bands; None if neither is possible.
    """
    if np.isfinite(fused.wavelength_nm).all() and np.isfinite(other.wavelength_nm).all():
        distance = np.abs(fused.wavelength_nm[:, None] - other.wavelength_nm[None, :])
        width = np.where(np.isfinite(fused.fwhm_nm), fused.fwhm_nm / 2, 0.0)
        return np.where(distance.min(axis=1) <= np.maximum(width, _SAME_NM), distance.argmin(axis=1), -1)
    return np.arange(len(fused)) if len(fused) == len(other) else None


def covering_bands(fused: BandMetadata, msi: BandMetadata, fused_samples: np.ndarray, msi_samples: np.ndarray) -> np.ndarray:
    """Give each fused band the position of the MSI band nearest in wavelength, else of the one it is most correlated with.

    ``*_samples`` are values (band, pixel) at the same pixels; they decide where a wavelength is unknown.
    """
    if np.isfinite(fused.wavelength_nm).all() and np.isfinite(msi.wavelength_nm).all():
        return np.abs(fused.wavelength_nm[:, None] - msi.wavelength_nm[None, :]).argmin(axis=1)
    valid = np.isfinite(msi_samples).all(axis=0)
    ours, theirs = (_standardised(samples[:, valid]) for samples in (fused_samples, msi_samples))
    return (ours @ theirs.T).argmax(axis=1)


def _standardised(samples: np.ndarray) -> np.ndarray:
    if samples.shape[1] == 0:
        return np.zeros(samples.shape)
    known = np.where(np.isfinite(samples).any(axis=1, keepdims=True), samples, 0.0)
    centred = np.nan_to_num(known - np.nanmean(known, axis=1, keepdims=True))
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-30)


@dataclass(frozen=True)
class Stretch:
    """Values ``low`` and ``high`` (band,) that are shown black and white."""

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, *samples: np.ndarray) -> Stretch:
        """Return percentiles 2 and 98 of each band over the values (band, pixel) of all ``samples`` together."""
        values = np.concatenate(samples, axis=1)
        blank = ~np.isfinite(values).any(axis=1)
        low, high = np.nanpercentile(np.where(blank[:, None], 0.0, values), PERCENTILES, axis=1)
        return cls(low, np.where(high > low, high, low + 1.0))

    def select(self, index: np.ndarray) -> Stretch:
        """Return the stretch of the bands at ``index``."""
        return Stretch(self.low[index], self.high[index])

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Turn values (band, pixel) into uint8: 0 no data, 1 black, 255 white."""
        share = (values - self.low[:, None]) / (self.high - self.low)[:, None]
        levels = 1 + np.rint(254 * np.clip(np.nan_to_num(share), 0, 1))
        return np.where(np.isfinite(values), levels, 0).astype(np.uint8)


def in_same_units(fused_samples: np.ndarray, msi_samples: np.ndarray, band_of: np.ndarray) -> bool:
    """Tell whether the MSI's values are of the size of the fused image's, so that one stretch and one axis serve both."""
    ours, theirs = fused_samples, msi_samples[band_of]
    both = np.isfinite(ours) & np.isfinite(theirs)
    if not both.any():
        return False
    ours, theirs = np.median(np.abs(ours[both])), np.median(np.abs(theirs[both]))
    return bool(ours <= _SAME_UNITS * theirs and theirs <= _SAME_UNITS * ours)
