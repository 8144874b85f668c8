"""The file of estimated responses: JSON that ``geofuse estimate`` writes and ``geofuse run --response`` reads.

    {"format": "geofuse-response", "version": 1, "made_by": "geofuse 0.1.0", "ratio": 4,
     "hsi": {"band": [1, ...], "wavelength_nm": [418.2, ...]},
     "response": {"band_names": [...], "rows": [[...], ...], "standard_error": [[...], ...] or null, "gain": [...], "offset": [...],
                  "bell": [[centre, FWHM, order] or null, ...] or null, "left_over": [...] or null, "source": "..."},
     "psf": {"kind": "gaussian", ...}, "psf_source": "...", "psf_fit": {...} or null}

Numbers that are not known are null. Rows hold one weight a band of the HSI, not negative; their sum is the gain. The MSI
less the offset is what R gives.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geofuse.errors import InputError, MissingFileError
from geofuse.sensors.psf import Psf

FORMAT, VERSION = "geofuse-response", 1
_MOST_BYTES = 2**26
_REMEDY = "give one that 'geofuse estimate -o FILE.json' wrote"
_SAME_NM = 1.0


@dataclass(frozen=True)
class ResponseFile:
    """What a file of responses says; every part has been checked."""

    path: str
    ratio: int
    band: np.ndarray  # (C,) int, band numbers of the HSI
    wavelength_nm: np.ndarray  # (C,), NaN where unknown
    matrix: np.ndarray  # (c, C)
    band_names: tuple[str, ...]
    offset: np.ndarray  # (c,)
    psf: Psf

    def rows_for(self, band: np.ndarray, wavelength_nm: np.ndarray) -> np.ndarray:
        """Return R for the bands that an HSI has (numbers and wavelengths in nm).

        Raises
        ------
        InputError
            If the file has no weight for one of the bands, has weight for one that is missing, or wavelengths differ.
        """
        place = {int(number): i for i, number in enumerate(self.band)}
        missing = [int(b) for b in band if int(b) not in place]
        if missing:
            raise InputError(f"{self.path} has no response for band {missing[0]} of the HSI; estimate it anew from this HSI")
        index = np.array([place[int(b)] for b in band])
        theirs, ours = self.wavelength_nm[index], np.asarray(wavelength_nm, float)
        differ = np.abs(theirs - ours) > _SAME_NM  # False where one of them is unknown
        if differ.any():
            i = int(np.flatnonzero(differ)[0])
            found = f"band {int(band[i])} is at {ours[i]:g} nm in the HSI and at {theirs[i]:g} nm in {self.path}"
            raise InputError(f"{found}; that file belongs to another sensor, estimate it anew")
        lost = self.matrix.sum(axis=1) - self.matrix[:, index].sum(axis=1)
        if (lost > 0.1 * self.matrix.sum(axis=1)).any():
            raise InputError(
                f"{self.path} gives over a tenth of a band's weight to bands that this HSI does not have; estimate it anew"
            )
        return self.matrix[:, index]


def read_response_file(path: str | os.PathLike[str]) -> ResponseFile:
    """Read and check a file of responses.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it is not what :func:`write_response_file` writes.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"response file {path} does not exist")
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"response file {path} has {path.stat().st_size >> 20} MiB, expected less than {_MOST_BYTES >> 20}")
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as err:
        raise InputError(f"response file {path} cannot be read ({err}); {_REMEDY}") from None
    return response_from_text(text, f"response file {path}", str(path))


def response_from_text(text: str, name: str, path: str = "") -> ResponseFile:
    """Read and check the JSON of a file of responses; errors call it ``name``.

    Raises
    ------
    InputError
        If it is not what :func:`response_text` makes.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError("it is no file of 'geofuse estimate'")
        if content.get("version") != VERSION:
            raise InputError(f"its version is {content.get('version')!r}, this geofuse reads {VERSION}")
        return _checked(path or name, content)
    except InputError as err:
        raise InputError(f"{name} cannot be used: {err}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        reason = f"{type(err).__name__}: {err}"
        raise InputError(f"{name} cannot be read ({reason}); {_REMEDY}") from None


def _checked(path: str, content: dict[str, Any]) -> ResponseFile:
    matrix = np.array(content["response"]["rows"], float)
    names = tuple(str(name) for name in content["response"]["band_names"])
    band = np.array(content["hsi"]["band"])
    wavelength = np.array([np.nan if w is None else w for w in content["hsi"]["wavelength_nm"]], float)
    if matrix.ndim != 2 or matrix.shape != (len(names), len(band)) or wavelength.shape != band.shape:
        raise InputError(f"rows of shape {matrix.shape} for {len(names)} bands of the MSI and {len(band)} of the HSI")
    if band.dtype.kind != "i" or len(set(band.tolist())) != len(band):
        raise InputError("band numbers of the HSI must be whole and each stand there once")
    if not np.isfinite(matrix).all() or (matrix < 0).any() or (matrix.sum(axis=1) <= 0).any():
        raise InputError("weights must be finite and not negative, and each row's sum positive")
    offset = np.array(content["response"]["offset"], float)
    if offset.shape != (len(names),) or not np.isfinite(offset).all():
        raise InputError(f"{offset.size} offsets for {len(names)} bands of the MSI; expected one finite number a band")
    ratio = content["ratio"]
    if not isinstance(ratio, int) or not 2 <= ratio <= 40:
        raise InputError(f"ratio {ratio!r} is not a whole number from 2 to 40")
    psf = Psf.from_tag(json.dumps(content["psf"]))
    psf.separable_terms(ratio)
    return ResponseFile(path, ratio, band, wavelength, matrix, names, offset, psf)


def response_text(content: dict[str, Any]) -> str:
    """Write the content as JSON, numbers that are not finite as null."""
    return json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"


def response_tag(content: dict[str, Any]) -> str:
    """Write the content in one line, without standard errors, for a file's tags."""
    response = {**content["response"], "standard_error": None}
    return json.dumps(_plain({**content, "response": response}), allow_nan=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """Turn arrays and numpy's numbers into JSON's types."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    return (float(f"{value:.8g}") if np.isfinite(value) else None) if isinstance(value, float) else value
