"""Find out which band of the sensor each band of the multispectral file is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geofuse.errors import InputError, UnknownNameError, UsageError
from geofuse.registry import unknown_name
from geofuse.sensors.band_names import contradicts, find_band, join_names, numbered_b, only_counts, read_label
from geofuse.sensors.response import SensorResponse

SKIP = "-"
_WAVELENGTH_SLACK_NM = 10.0  # files round centres, and platforms of one series differ by a few nm
_CLEARLY_NEARER = 0.5  # a centre decides between two bands when it is at most this share of the other's distance away


@dataclass(frozen=True, eq=False)
class BandMatch:
    """The sensor's bands that the file holds.

    Attributes
    ----------
    response
        The used bands, in the file's order.
    msi_index
        Position in the file of each of them, 0-based, ascending.
    notes
        One line for each thing worth telling: how bands were matched, what was left out.
    """

    response: SensorResponse
    msi_index: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    """What the file says of its bands; wavelengths are NaN where unknown."""

    names: tuple[str, ...]
    wavelength_nm: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def describe(self, i: int) -> str:
        """Name one band for messages, with its wavelength if there is one."""
        wavelength = self.wavelength_nm[i]
        return f"MSI band {i + 1} ({self.names[i]!r}{f', {wavelength:g} nm' if np.isfinite(wavelength) else ''})"


@dataclass(frozen=True)
class _Assignment:
    """The sensor band of each file band (None: not used), and how that was found."""

    band: tuple[int | None, ...]
    how: str


def match_bands(
    response: SensorResponse,
    band_names: Sequence[str],
    wavelength_nm: np.ndarray,
    n_bands: int,
    requested: Sequence[str] | None = None,
) -> BandMatch:
    """Find the sensor's band behind each band of a multispectral file.

    The file's band names decide; else its wavelengths (within half a band's FWHM, unambiguous); else the order, if the file has as
    many bands as the sensor has reflective bands, or bands of any kind. ``requested`` overrides names and order when it names one
    band for each of the file's; when it names fewer it selects among those that the file holds. Thermal, cirrus and panchromatic
    bands are left out, but for a panchromatic band that is the only one asked for.

    Parameters
    ----------
    response
        The sensor, with all its bands.
    band_names
        The file's names of its bands; ``band 1``, ``band 2``, ... count as no names.
    wavelength_nm
        (n_bands,) centre wavelengths of the file's bands, NaN where unknown.
    n_bands
        The number of bands in the file.
    requested
        Names of the sensor's bands; ``-`` for a file band that is not to be used.

    Raises
    ------
    UnknownNameError
        If ``requested`` names a band that the sensor does not have.
    UsageError
        If ``requested`` names a band twice, too many bands, or bands in another order than the file's.
    InputError
        If the file does not say which bands it holds, or contradicts the sensor or itself.
    """
    file = _describe_file(band_names, wavelength_nm, n_bands)
    if requested:
        assignment = _requested(response, file, _resolve(response, requested), requested)
    else:
        assignment = _from_file(response, file)
        if assignment is None:
            raise InputError(_count_message(response, n_bands))
    _check_wavelengths(response, file, assignment)
    _check_twice(response, file, assignment)
    return _select(response, file, assignment)


def _describe_file(band_names: Sequence[str], wavelength_nm: np.ndarray, n_bands: int) -> _File:
    names = tuple(str(name) for name in band_names) or tuple(f"band {i + 1}" for i in range(n_bands))
    wavelength = np.asarray(wavelength_nm, float).reshape(-1) if np.size(wavelength_nm) else np.full(n_bands, np.nan)
    if len(names) != n_bands or len(wavelength) != n_bands:
        raise InputError(f"the MSI has {n_bands} bands but {len(names)} band names and {len(wavelength)} wavelengths")
    return _File(names, wavelength)


def _from_file(response: SensorResponse, file: _File) -> _Assignment | None:
    """Match by what the file says, or return None if it does not say."""
    counts = only_counts(file.names)
    by_name = None if counts else _by_name(response, file)
    if by_name is not None:
        return by_name
    if np.isfinite(file.wavelength_nm).any():
        return _by_wavelength(response, file)
    reflective = tuple(i for i, band in enumerate(response.bands) if band.kind == "reflective")
    for order, what in ((reflective, "reflective bands"), (tuple(range(len(response))), "bands")):
        if len(file) == len(order):
            return _Assignment(order, f"in order, as the file does not name its bands and has as many as the sensor has {what}")
    return _by_name(response, file) if counts and numbered_b(file.names) else None


def _by_name(response: SensorResponse, file: _File) -> _Assignment | None:
    labels = [read_label(name) for name in file.names]
    found = tuple(find_band(label, response.bands) for label in labels)
    for i, (band, label) in enumerate(zip(found, labels, strict=True)):
        if band is None and contradicts(label, response.bands):
            raise InputError(
                f"{file.describe(i)} does not name one band of {response.title} ({join_names(response.band_names)}); "
                f"check --srf, or name the file's bands with --msi-bands ('{SKIP}' leaves one out)"
            )
    return None if all(band is None for band in found) else _Assignment(found, "by name")


def _by_wavelength(response: SensorResponse, file: _File) -> _Assignment:
    found: list[int | None] = []
    for i, wavelength in enumerate(file.wavelength_nm):
        near = _near(response, wavelength) if np.isfinite(wavelength) else [None]
        if len(near) != 1:
            what = f"lies between {join_names(response.bands[k].name for k in near)}" if near else "lies in no band"
            raise InputError(
                f"{file.describe(i)} {what} of {response.title}; check --srf, or name the file's bands with --msi-bands "
                f"('{SKIP}' leaves one out)"
            )
        found.append(near[0])
    return _Assignment(tuple(found), "by wavelength")


def _near(response: SensorResponse, wavelength_nm: float) -> list[int]:
    """Return the band whose centre a wavelength means: none if it lies in no band, two if it may mean either.

    A panchromatic band spans others: it is meant only where its centre is clearly nearer than theirs.
    """
    distance = [abs(band.center_nm - wavelength_nm) for band in response.bands]
    inside = sorted((i for i, band in enumerate(response.bands) if distance[i] <= band.fwhm_nm / 2), key=distance.__getitem__)
    wide = [i for i in inside if response.bands[i].kind == "pan"]
    narrow = [i for i in inside if i not in wide]
    if wide and (not narrow or distance[wide[0]] < _CLEARLY_NEARER * distance[narrow[0]]):
        return wide[:1]
    unused = all(response.bands[i].kind != "reflective" for i in narrow)  # which of them it is does not matter
    clear = len(narrow) < 2 or unused or distance[narrow[0]] <= _CLEARLY_NEARER * distance[narrow[1]]
    return narrow[:1] if clear else narrow[:2]


def _resolve(response: SensorResponse, requested: Sequence[str]) -> tuple[int | None, ...]:
    """Turn requested names into positions among the sensor's bands, None for a band to skip."""
    found = []
    for name in requested:
        band = None if name.strip() == SKIP else find_band(read_label(name), response.bands)
        if band is None and name.strip() != SKIP:
            raise _unknown_band(response, name)
        found.append(band)
    used = [band for band in found if band is not None]
    if not used:
        raise UsageError("--msi-bands leaves out every band; name at least one")
    twice = [response.bands[band].name for band in dict.fromkeys(used) if used.count(band) > 1]
    if twice:
        raise UsageError(
            f"--msi-bands names {join_names(twice)} of {response.title} twice; name each band once, '{SKIP}' to leave one out"
        )
    return tuple(found)


def _unknown_band(response: SensorResponse, name: str) -> UnknownNameError:
    return unknown_name(f"band of {response.title}", name, response.band_names)


def _requested(response: SensorResponse, file: _File, wanted: tuple[int | None, ...], requested: Sequence[str]) -> _Assignment:
    """Assign the requested bands: one for each of the file's, or a selection of what the file holds."""
    if len(wanted) > len(file):
        names = ", ".join(requested)
        raise UsageError(
            f"--msi-bands names {len(wanted)} bands ({names}), but the MSI has {len(file)}; name one for each, in order"
        )
    if len(wanted) == len(file):
        named = None if only_counts(file.names) else _names_silently(response, file)
        if named and None not in named and None not in wanted and named != wanted and sorted(named) == sorted(wanted):
            order = ",".join(response.bands[band].name for band in named)
            raise UsageError(
                f"--msi-bands {','.join(requested)} is not the order of the file, whose band names say {order}; use that order"
            )
        return _Assignment(wanted, "by --msi-bands")
    held = _from_file(response, file)
    missing = [response.bands[band].name for band in wanted if held and band is not None and band not in held.band]
    if held is None or None in wanted or missing:
        why = f"the file does not hold {join_names(missing)}" if missing else "the file does not say which bands it holds"
        raise UsageError(
            f"--msi-bands names {len(wanted)} bands, the MSI has {len(file)}, and {why}; name one for each of the file's bands, in "
            f"order, '{SKIP}' to leave one out"
        )
    return _Assignment(tuple(band if band in wanted else None for band in held.band), f"{held.how}, those of --msi-bands")


def _names_silently(response: SensorResponse, file: _File) -> tuple[int | None, ...] | None:
    try:
        found = _by_name(response, file)
    except InputError:
        return None
    return found.band if found else None


def _check_wavelengths(response: SensorResponse, file: _File, assignment: _Assignment) -> None:
    """Refuse a match that the file's own wavelengths contradict."""
    for i, band in enumerate(assignment.band):
        if band is None or not np.isfinite(file.wavelength_nm[i]):
            continue
        center, fwhm = response.bands[band].center_nm, response.bands[band].fwhm_nm
        if abs(file.wavelength_nm[i] - center) > max(fwhm / 2, _WAVELENGTH_SLACK_NM):
            raise InputError(
                f"{file.describe(i)} would be {response.bands[band].name} of {response.title} {assignment.how}, which is "
                f"centred at {center:.0f} nm; check --srf and --msi-bands"
            )


def _check_twice(response: SensorResponse, file: _File, assignment: _Assignment) -> None:
    used = [band for band in assignment.band if band is not None and response.bands[band].kind == "reflective"]
    for band in dict.fromkeys(used):
        where = [i for i, other in enumerate(assignment.band) if other == band]
        if len(where) > 1:
            raise InputError(
                f"{' and '.join(file.describe(i) for i in where[:2])} both look like {response.bands[band].name} of "
                f"{response.title}; name the file's bands with --msi-bands ('{SKIP}' leaves one out)"
            )


def _select(response: SensorResponse, file: _File, assignment: _Assignment) -> BandMatch:
    """Leave out what is not reflective and write the notes."""
    kinds = [None if band is None else response.bands[band].kind for band in assignment.band]
    wanted = "reflective" if "reflective" in kinds else "pan"
    index = tuple(i for i, kind in enumerate(kinds) if kind == wanted)
    if not index or (wanted == "pan" and (len(index) > 1 or "--msi-bands" not in assignment.how)):
        found = join_names(dict.fromkeys(kind or "others" for kind in kinds))
        raise InputError(
            f"the MSI holds no reflective band of {response.title}, found {found}; a single panchromatic band is used when "
            "--msi-bands names it"
        )
    selected = response.select(assignment.band[i] for i in index)
    notes = [f"MSI bands {assignment.how}: {', '.join(f'{i + 1} = {b.name}' for i, b in zip(index, selected.bands, strict=True))}"]
    unused = [file.describe(i).removeprefix("MSI ") for i in range(len(file)) if assignment.band[i] is None]
    if unused:
        notes.append(f"MSI bands not used: {', '.join(unused)}")
    other = [f"{band.name} ({band.kind})" for band in response.bands if band.kind not in ("reflective", wanted)]
    if other:
        notes.append(f"{response.title}: {', '.join(other)} left out")
    if response.approximate:
        notes.append(f"the response of {response.title.removesuffix(' (approximate)')} is approximate: {response.source}")
    return BandMatch(selected, index, tuple(notes))


def _count_message(response: SensorResponse, n_bands: int) -> str:
    reflective = response.reflective()
    example = [band.name for band in reflective.bands[:n_bands]]
    example += [SKIP] * (n_bands - len(example))
    bands = "1 band" if n_bands == 1 else f"{n_bands} bands"
    return (
        f"the MSI has {bands} and does not say which, but {response.title} has {len(reflective)} reflective bands "
        f"({join_names(reflective.band_names)}); name the file's bands in order with --msi-bands, such as {','.join(example[:12])} "
        f"('{SKIP}' leaves one out)"
    )
