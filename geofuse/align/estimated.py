"""Responses that come from the images or from an earlier estimate, in the place of a table and a given PSF."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.align.choose_psf import ASSUMED, choose_psf
from geofuse.align.response_file import FORMAT, VERSION, ResponseFile, read_response_file
from geofuse.errors import InputError, MissingFileError, UsageError
from geofuse.sensors.psf import Psf

if TYPE_CHECKING:
    from geofuse.align.blind import BlindPsf, BlindRows
    from geofuse.align.dataset import Part

ESTIMATE = "estimate"
# Where cameras' colours can lie, nm: wide, to serve any maker's filters.
RGB_LIMITS = ((560.0, 720.0), (460.0, 640.0), (390.0, 540.0))
_SOURCE = "estimated from the images"


@dataclass(frozen=True)
class Sought:
    """What is to be found out, or was before.

    Attributes
    ----------
    rows, psf
        Whether the spectral response and the PSF are to be estimated.
    file
        An earlier estimate to use, or None.
    limits
        Least and largest wavelength in nm of each band of the MSI, or None.
    """

    rows: bool = False
    psf: bool = False
    file: ResponseFile | None = None
    limits: tuple[tuple[float, float], ...] | None = None

    @classmethod
    def of(cls, srf: Any, psf: Any, response: Any, srf_bands: Any, msi_bands: Any) -> Sought:
        """Read the options ``srf``, ``psf``, ``response``, ``srf_bands`` and ``msi_bands`` of a pair.

        Raises
        ------
        UsageError
            If they contradict each other.
        MissingFileError, InputError
            If a file that they name is missing or not of its kind.
        """
        rows = _says_estimate(srf)
        if response is not None and srf is not None:
            raise UsageError("--response holds the spectral response already; leave out --srf")
        if srf_bands is not None and not rows:
            raise UsageError("--srf-bands limits an estimated response; give --srf estimate with it")
        if (rows or response is not None) and msi_bands is not None:
            raise UsageError("--msi-bands names bands of a known sensor; an estimated response uses all bands in the file's order")
        file = response if response is None or isinstance(response, ResponseFile) else read_response_file(response)
        return cls(rows, _says_estimate(psf), file, None if srf_bands is None else read_limits(srf_bands))

    @property
    def no_table(self) -> bool:
        """Whether the response comes from no table of a sensor."""
        return self.rows or self.file is not None

    def first_psf(self, psf: str | Psf, hsi_attrs: Mapping[str, Any], ratio: int) -> tuple[Psf, str]:
        """Return the PSF to begin with and its source, as :func:`choose_psf`."""
        if self.psf:
            return ASSUMED, _SOURCE
        if self.file and isinstance(psf, str) and psf.strip().lower() == "auto":
            if self.file.ratio != ratio and self.file.psf.kind == "kernel":
                raise InputError(f"{self.file.path} holds a PSF for ratio {self.file.ratio}, these images have {ratio}; give --psf")
            return self.file.psf, f"from {Path(self.file.path).name}"
        return choose_psf(psf, hsi_attrs, ratio)

    def find_psf(self, coarse: Part, fine: Part, psf: Psf, ratio: int, known: np.ndarray | None) -> tuple[Psf, BlindPsf | None]:
        """Estimate the PSF where that is asked for; ``known`` is R (c, C) where there is one."""
        from geofuse.align.blind import estimate_psf

        if not self.psf:
            return psf, None
        found = estimate_psf(coarse.values, fine.values, ratio, known)
        return found.psf, found

    def find_rows(
        self, coarse: Part, fine: Part, psf: Psf, ratio: int
    ) -> tuple[np.ndarray, np.ndarray, str, str, BlindRows | None]:
        """Return R (c, C), offsets (c,), what to call it, its source, and how it was found if it was found now."""
        from geofuse.align.blind import estimate_rows

        n_bands = fine.values.shape[0]
        if self.file:
            matrix = self.file.rows_for(coarse.number, coarse.bands.wavelength_nm)
            if len(matrix) != n_bands:
                raise InputError(f"{self.file.path} holds {len(matrix)} responses, the MSI has {n_bands} bands; estimate it anew")
            return matrix, self.file.offset, "estimated before", f"read from {Path(self.file.path).name}", None
        self._check_limits(n_bands, coarse.bands.wavelength_nm)
        bands = coarse.bands
        found = estimate_rows(coarse.values, fine.values, psf, ratio, bands.wavelength_nm, bands.good_band, self.limits)
        return found.matrix, found.offset, _SOURCE, f"{_SOURCE}: {found.n_pixels} coarse pixels", found

    def _check_limits(self, n_bands: int, wavelength_nm: np.ndarray) -> None:
        if self.limits is None:
            return
        if len(self.limits) != n_bands:
            raise UsageError(f"--srf-bands gives limits of {len(self.limits)} bands, the MSI has {n_bands}; give one line a band")
        if not np.isfinite(wavelength_nm).all():
            raise UsageError("--srf-bands needs the wavelengths of the HSI; give them with --wavelengths file.csv, or leave it out")


def read_limits(srf_bands: str | Path) -> tuple[tuple[float, float], ...]:
    """Read ``rgb``, or a table with the columns ``low_nm`` and ``high_nm``, one line a band of the MSI in its order."""
    if str(srf_bands).strip().lower() == "rgb":
        return RGB_LIMITS
    path = Path(srf_bands)
    if not path.is_file():
        raise MissingFileError(f"--srf-bands {path}: no such file; expected rgb or a table with the columns low_nm and high_nm")
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            limits = tuple((float(line["low_nm"]), float(line["high_nm"])) for line in csv.DictReader(stream))
    except (ValueError, KeyError, TypeError) as err:
        raise InputError(
            f"--srf-bands {path}: expected the columns low_nm and high_nm with numbers ({type(err).__name__}: {err})"
        ) from None
    if not limits or not all(np.isfinite(pair).all() and 0 < pair[0] < pair[1] for pair in limits):
        raise InputError(f"--srf-bands {path}: expected one line a band with 0 < low_nm < high_nm")
    return limits


def _says_estimate(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() == ESTIMATE


def less_offset(fine: Part, offset: np.ndarray) -> Part:
    """Take an offset (c,) off each band of the fine image."""
    if not offset.any():
        return fine
    return replace(fine, values=fine.values - offset.astype(np.float32)[:, None, None])


def psf_note(found: BlindPsf) -> str:
    """One line on the estimated PSF, for log and summary."""
    shape, error, fit = found.fit.shape, found.fit.deviation, found.fit
    doubt = "" if fit.error < 0.3 else "; that is much: check that both images show one place and time"
    left = f"leaves {fit.error:.1%} of H(MSI) unexplained{doubt}"
    if fit.form in ("bicubic", "box"):
        return f"PSF estimate: {fit.form} fits better than any Gaussian (the best has FWHM {shape.fwhm:.2f}), {left}"
    if "oval" in fit.form:
        size = f"{shape.wide:.2f} x {shape.narrow:.2f} coarse pixels at {np.degrees(shape.angle):.0f} degrees"
    else:
        size = f"{shape.wide:.2f} +- {error[0]:.2f} coarse pixels"
    moved = f", off centre by {shape.shift_y:+.2f}, {shape.shift_x:+.2f} (down, right)" if "shifted" in fit.form else ""
    return f"PSF estimate: Gaussian, FWHM {size}{moved}, {left}"


def rows_note(found: BlindRows) -> str:
    """One line on the estimated response, for log and summary."""
    gain, left = found.matrix.sum(axis=1), max(fit.error for fit in found.rows)
    doubt = "" if left < 0.3 else "; that is much: check that both images show one place and time"
    if found.offset.any():
        doubt += "; offsets taken off the MSI: " + ", ".join(f"{o:.4g}" for o in found.offset)
    return (
        f"response: {len(gain)} bands estimated from {found.n_pixels} coarse pixels, gains {gain.min():.3g} to {gain.max():.3g}, "
        f"at most {left:.1%} of a band unexplained{doubt}"
    )


def response_content(
    coarse: Part,
    fine: Part,
    matrix: np.ndarray,
    offset: np.ndarray,
    source: str,
    rows: BlindRows | None,
    psf: Psf,
    found: BlindPsf | None,
    ratio: int,
) -> dict[str, Any]:
    """Gather what the response file holds, but for ``psf_source``, which the caller knows (:mod:`geofuse.align.response_file`)."""
    from geofuse import __version__

    shape = found and dict(zip(("wide", "narrow", "angle_rad", "shift_y", "shift_x"), astuple(found.fit.shape), strict=True))
    errors = found and dict(zip(("wide", "narrow", "angle_rad", "shift_y", "shift_x"), found.fit.deviation, strict=True))
    return {
        "format": FORMAT,
        "version": VERSION,
        "made_by": f"geofuse {__version__}",
        "ratio": ratio,
        "hsi": {"band": coarse.number, "wavelength_nm": coarse.bands.wavelength_nm},
        "response": {
            "band_names": fine.bands.band_name,
            "rows": matrix,
            "standard_error": rows and [fit.deviation for fit in rows.rows],
            "gain": np.asarray(matrix).sum(axis=1),
            "offset": offset,
            "bell": rows and [fit.bell for fit in rows.rows],
            "left_over": rows and [fit.error for fit in rows.rows],
            "source": source,
        },
        "psf": json.loads(psf.to_tag()),
        "psf_fit": found and {"form": found.fit.form, **shape, "standard_error": errors, "left_over": found.fit.error},
    }
