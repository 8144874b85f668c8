"""Compare a fused image with its reference: find the common grid and bands, then score them."""

from __future__ import annotations

import csv
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError, OutputError, UsageError
from geofuse.evaluate.tables import json_scores, note_lines, score_lines
from geofuse.metrics import score
from geofuse.scene import BandMetadata, band_metadata, scene_transform

if TYPE_CHECKING:
    import xarray as xr

_WAVELENGTH_TOLERANCE_NM = 0.1
_GRID_TOLERANCE_PIXELS = 0.02


@dataclass(frozen=True)
class Evaluation:
    """The scores of a fused image against its reference.

    Attributes
    ----------
    scores
        Overall scores; see :class:`geofuse.metrics.Scores`.
    bands
        Scores of each band, (band,) each.
    wavelength_nm, band_name
        The bands compared, as the reference calls them; NaN where the wavelength is unknown.
    ratio
        Fine pixels along one side of a coarse pixel, for ERGAS.
    n_pixels
        Pixels with data in every band of both images.
    notes
        What was left out or taken for granted, one line each.
    """

    scores: dict[str, float]
    bands: dict[str, np.ndarray]
    wavelength_nm: np.ndarray
    band_name: tuple[str, ...]
    ratio: float
    n_pixels: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the overall result as what ``json.dumps`` takes.

        Infinite scores (psnr of an exact band) are the strings ``"inf"`` and ``"-inf"``; a score that is not defined is None.
        """
        return {
            **json_scores(self.scores),
            "ratio": self.ratio,
            "bands": len(self.band_name),
            "pixels": self.n_pixels,
            "notes": list(self.notes),
        }

    def to_csv(self) -> str:
        """Return the scores of each band as CSV text: band, wavelength_nm, psnr, rmse, ergas, ssim, uiqi, scc."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["band", "wavelength_nm", *self.bands])
        for row in zip(self.band_name, self.wavelength_nm, *self.bands.values(), strict=True):
            writer.writerow([row[0], *("" if math.isnan(v) else f"{v:.10g}" for v in row[1:])])
        return text.getvalue()

    def write_csv(self, path: str | Path) -> None:
        """Write :meth:`to_csv` to ``path``, whole or not at all.

        Raises
        ------
        OutputError
            If the file cannot be written; what stood there before is untouched.
        """
        path = Path(path)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.write_text(self.to_csv(), encoding="utf-8")
            part.replace(path)
        except OSError as err:
            part.unlink(missing_ok=True)
            raise OutputError(f"cannot write {path}: {err.strerror}; choose a folder that exists and may be written") from None

    def to_text(self) -> str:
        """Return the overall result as a table for the terminal."""
        lines = score_lines(self.scores)
        lines.append(f"{len(self.band_name)} bands, {self.n_pixels} pixels, ratio {self.ratio:g}")
        return "\n".join([*lines, *note_lines(self.notes)])


def evaluate(fused: str | Path, reference: str | Path, ratio: float | None = None) -> Evaluation:
    """Score the fused image at one path against the reference at another.

    ``ratio`` defaults to the one recorded in the fused file's ``GEOFUSE_RATIO`` tag.

    Raises
    ------
    GeofuseError
        If a file cannot be read, the grids or the bands cannot be brought together, or no ratio is known.
    """
    from geofuse.io import open_scene

    return evaluate_scenes(open_scene(fused), open_scene(reference), ratio)


def evaluate_scenes(fused: xr.DataArray, reference: xr.DataArray, ratio: float | None = None) -> Evaluation:
    """Score a fused scene against a reference scene.

    Both are cropped to their common part, which must be the same pixels; bands are paired by wavelength to 0.1 nm, or by their
    order where an image has no wavelengths. Bands without any data in the reference are left out.

    Raises
    ------
    InputError
        If grids or bands differ otherwise, or no pixel has data in both.
    UsageError
        If ``ratio`` is None and the fused scene does not record one.
    """
    ratio = _ratio(fused, ratio)
    fused, reference, grid_notes = common_part(fused, reference)
    estimate, truth = fused.values, reference.values
    has_data = [np.array([np.isfinite(band).any() for band in image]) for image in (estimate, truth)]
    for which, has in zip(("fused image", "reference"), has_data, strict=True):
        if not has.any():
            raise InputError(f"the {which} has no data in the part that both images cover")
    fused_index, reference_index, band_notes = pair_bands(band_metadata(fused), band_metadata(reference), *has_data)
    bands = band_metadata(reference).select(reference_index)
    result = score(_take(truth, reference_index), _take(estimate, fused_index), ratio)
    notes = (*grid_notes, *band_notes)
    return Evaluation(result.overall, result.bands, bands.wavelength_nm, bands.band_name, ratio, result.n_pixels, notes)


def common_part(fused: xr.DataArray, reference: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray, list[str]]:
    """Crop two scenes to the pixels that they share, in the order of the fused one's; returns both and notes.

    Raises
    ------
    InputError
        If CRS, pixel size or rotation differ, the offset is not whole pixels, or they do not overlap.
    """
    reference = turned_like(reference, fused)
    (ours_y, ours_x), (theirs_y, theirs_x), notes = overlap(fused, reference, "reference")
    return fused.isel(y=ours_y, x=ours_x), reference.isel(y=theirs_y, x=theirs_x), notes


def turned_like(scene: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    """Return a scene with rows and columns in the directions of another's: a south-up one north-up, say."""
    from affine import Affine

    transform, wanted = scene_transform(scene), scene_transform(other)
    if transform.e * wanted.e < 0:
        transform = transform @ Affine(1, 0, 0, 0, -1, scene.sizes["y"])
        scene = scene.isel(y=slice(None, None, -1)).rio.write_transform(transform)
    if transform.a * wanted.a < 0:
        transform = transform @ Affine(-1, 0, scene.sizes["x"], 0, 1, 0)
        scene = scene.isel(x=slice(None, None, -1)).rio.write_transform(transform)
    return scene


def overlap(fused: xr.DataArray, other: xr.DataArray, name: str) -> tuple[tuple[slice, slice], tuple[slice, slice], list[str]]:
    """Find the pixels that a fused scene shares with another, which messages call the ``name``.

    Returns
    -------
    Rows and columns in the fused scene, rows and columns in the other, and notes.

    Raises
    ------
    InputError
        As :func:`common_part`.
    """
    notes = _check_crs(fused, other, name)
    row, col = _offset(fused, other, name)
    (fh, fw), (oh, ow) = ((scene.sizes["y"], scene.sizes["x"]) for scene in (fused, other))
    top, left = max(row, 0), max(col, 0)
    bottom, right = min(row + fh, oh), min(col + fw, ow)
    if bottom <= top or right <= left:
        raise InputError(f"the fused image and the {name} do not overlap; check that they show the same place")
    if (bottom - top, right - left) != (fh, fw) or (fh, fw) != (oh, ow):
        notes.append(f"compared on the {bottom - top} x {right - left} pixels that both have, of {fh} x {fw} and {oh} x {ow}")
    ours = (slice(top - row, bottom - row), slice(left - col, right - col))
    return ours, (slice(top, bottom), slice(left, right)), notes


def _check_crs(fused: xr.DataArray, other: xr.DataArray, name: str) -> list[str]:
    """Refuse two different CRSs; return a note where only one image has one."""
    ours, theirs = fused.rio.crs, other.rio.crs
    if ours and theirs and ours != theirs:
        raise InputError(f"the fused image is in {ours.to_string()}, the {name} in {theirs.to_string()}; warp one to the other")
    if bool(ours) != bool(theirs):
        return [f"the {name if ours else 'fused image'} has no CRS; taken to be that of the other"]
    return []


def _offset(fused: xr.DataArray, other: xr.DataArray, name: str) -> tuple[int, int]:
    """Return the row and column of the other image at which the fused image's first pixel lies."""
    ours, theirs = (np.reshape(scene_transform(scene), (3, 3)) for scene in (fused, other))
    step = np.linalg.solve(theirs, ours)  # fused pixels (column, row, 1) to the other's
    extent = max(*fused.shape[1:], *other.shape[1:])
    if np.abs(step[:2, :2] - np.eye(2)).max() * extent > _GRID_TOLERANCE_PIXELS:
        sizes = ["{:g} x {:g}".format(*np.hypot(*t[:2, :2])) for t in (ours, theirs)]
        why = "rotation or axis direction differs" if sizes[0] == sizes[1] else f"pixels are {sizes[0]} against {sizes[1]}"
        raise InputError(f"the fused image and the {name} are not on the same grid: {why}; evaluate on the {name}'s grid")
    offset = np.round(step[1::-1, 2], 6) + 0.0  # without the sign of a zero
    whole = np.rint(offset)
    if np.abs(offset - whole).max() > _GRID_TOLERANCE_PIXELS:
        raise InputError(
            f"the fused image and the {name} are not on the same grid: offset by {offset[0]:.3f} rows and {offset[1]:.3f} "
            f"columns, which is not whole pixels; evaluate on the {name}'s grid"
        )
    return int(whole[0]), int(whole[1])


def pair_bands(
    fused: BandMetadata, reference: BandMetadata, fused_has: np.ndarray, reference_has: np.ndarray, name: str = "reference"
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Pair the bands that have data in both images; ``*_has`` tells which bands have any, (band,) bool.

    Messages call the other image the ``name``. Returns 0-based positions in the fused image and in the reference, in the
    reference's order, and notes.

    Raises
    ------
    InputError
        If a band with data in one image has no partner in the other.
    """
    by_wavelength = bool(np.isfinite(fused.wavelength_nm).all() and np.isfinite(reference.wavelength_nm).all())
    ours, theirs = np.flatnonzero(fused_has), np.flatnonzero(reference_has)
    notes = [] if by_wavelength else ["bands paired by their order, because an image has no wavelengths"]
    if by_wavelength:
        partner = _nearest_free(reference.wavelength_nm[theirs], fused.wavelength_nm[ours])
    elif len(fused) == len(reference):
        partner = np.array([np.flatnonzero(ours == i)[0] if fused_has[i] else -1 for i in theirs], int)
    elif len(ours) == len(theirs):
        partner = np.arange(len(ours))
    else:
        raise InputError(
            f"the fused image has {len(ours)} bands with data, the {name} {len(theirs)}, and there are no wavelengths to pair "
            "them by; give images with the same bands"
        )
    if (partner < 0).any():
        raise InputError(
            f"the fused image lacks {_listing(reference, theirs[partner < 0])} of the {name}, or has no data there; "
            f"evaluate against a {name} with the same bands"
        )
    extra = np.setdiff1d(ours, ours[partner])
    blank = np.flatnonzero(~reference_has)
    known = _nearest_free(fused.wavelength_nm[extra], reference.wavelength_nm[blank]) >= 0 if by_wavelength else reference_has[:0]
    if by_wavelength and not known.all():
        raise InputError(
            f"the {name} lacks {_listing(fused, extra[~known])} of the fused image; evaluate against a {name} with the same bands"
        )
    if len(extra):
        notes.append(f"left out {_listing(fused, extra)}, for which the {name} has no data")
    return ours[partner], theirs, notes


def _take(image: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the bands at ``index``, without a copy where these are all bands in order."""
    return image if np.array_equal(index, np.arange(len(image))) else image[index]


def _nearest_free(wanted_nm: np.ndarray, offered_nm: np.ndarray) -> np.ndarray:
    """Give each wanted wavelength the position of the nearest offered one within the tolerance, each offered one once; -1: none."""
    partner = np.full(len(wanted_nm), -1)
    free = np.ones(len(offered_nm), bool)
    for i, wavelength in enumerate(wanted_nm):
        distance = np.where(free, np.abs(offered_nm - wavelength), np.inf)
        if free.any() and distance.min() <= _WAVELENGTH_TOLERANCE_NM:
            partner[i] = distance.argmin()
            free[partner[i]] = False
    return partner


def _listing(bands: BandMetadata, index: np.ndarray) -> str:
    """Name the bands at the 0-based positions ``index``, the first few by wavelength or name."""
    names = [f"{bands.wavelength_nm[i]:.2f} nm" if np.isfinite(bands.wavelength_nm[i]) else bands.band_name[i] for i in index[:4]]
    more = ", ..." if len(index) > 4 else ""
    return f"{len(index)} band{'s' if len(index) > 1 else ''} ({', '.join(names)}{more})"


def _ratio(fused: xr.DataArray, ratio: float | None) -> float:
    """Return the ratio asked for, or else the one that the fused scene records."""
    if ratio is None:
        recorded = fused.attrs.get("GEOFUSE_RATIO")
        if recorded is None:
            raise UsageError("the fused file does not record its ratio (tag GEOFUSE_RATIO); give --ratio")
        try:
            ratio = float(recorded)
        except ValueError:
            raise InputError(f"the fused file's tag GEOFUSE_RATIO is {recorded!r}, not a number; give --ratio") from None
    if not (ratio > 0 and math.isfinite(ratio)):
        raise UsageError(f"the ratio must be positive (fine pixels per coarse pixel), found {ratio:g}")
    return ratio
