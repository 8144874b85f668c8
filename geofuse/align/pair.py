"""The pair: a hyperspectral and a multispectral scene on nested grids, with what is known of both sensors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from geofuse.align.bent_grid import BentGrid
from geofuse.align.coregister import Registration, check_mode, pixel_metres, put_right, register, with_map
from geofuse.align.dataset import Part, nested_dataset, window_attrs
from geofuse.align.estimated import Sought, less_offset, psf_note, response_content, rows_note
from geofuse.align.grids import Grid, GridPlan, plan_grids, plan_notes
from geofuse.align.move_psf import move_psf
from geofuse.align.orient import as_scene, north_up
from geofuse.align.pan import estimate_pan_response, refuse_unless_pan
from geofuse.align.warp import source_window, warp
from geofuse.errors import InputError
from geofuse.scene import BandMetadata, band_metadata

if TYPE_CHECKING:
    from geofuse.align.response_file import ResponseFile
    from geofuse.sensors import BandMatch, SensorResponse
    from geofuse.sensors.psf import Psf

_LOG = logging.getLogger(__name__)
CHUNK = 512  # fine pixels
MIN_COARSE_CHUNK = 64  # coarse pixels; keeps the number of pieces small at high ratios


@dataclass(frozen=True)
class _Sensed:
    """What is known of the fine image's sensor: R (band_msi, band), its name, its source, and what to say about it."""

    matrix: np.ndarray
    title: str
    source: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Given:
    """Both images as they are, north up, and what is known whatever their grids: names are for messages."""

    hsi: Part
    msi: Part
    fine_grid: Grid
    match: BandMatch | None
    min_coverage: float
    sought: Sought
    hsi_name: str
    msi_name: str
    held: tuple[float, float]  # by which part of a fine pixel a PSF that was estimated on these grids is off its centre already


@dataclass(frozen=True)
class _Laid:
    """Both images on nested grids."""

    plan: GridPlan
    psf: Psf
    coarse: Part
    fine: Part
    sensed: _Sensed
    notes: tuple[str, ...]
    responses: dict[str, Any] | None  # what a response file holds, where something was estimated


def make_pair(
    hsi: xr.DataArray,
    msi: xr.DataArray,
    *,
    srf: str | Path | SensorResponse | None,
    msi_bands: str | Sequence[str] | None = None,
    min_coverage: float = 0.9,
    psf: str | Psf = "auto",
    wavelengths: Sequence[float] | None = None,
    coregister: str | Registration = "off",
    response: str | Path | ResponseFile | None = None,
    srf_bands: str | Path | None = None,
) -> xr.Dataset:
    """Bring a coarse hyperspectral scene and a fine multispectral one onto nested grids.

    Lazy: of the coarse image it is computed which bands hold data, of the fine one blocks are read until one holds data; no more,
    unless an option below says so.

    Parameters
    ----------
    hsi, msi
        Scenes (see :mod:`geofuse.scene`). The MSI is never resampled; the HSI is, once, where the grids do not nest.
    srf
        Spectral response of the MSI's sensor: a name, the path of a CSV file, or a :class:`~geofuse.sensors.SensorResponse`. None
        for an MSI of one panchromatic band: its response is estimated from the two images (:mod:`geofuse.align.pan`), for which
        blocks of both are read, and the HSI needs no wavelengths. ``"estimate"`` does the like for any number of bands
        (:mod:`geofuse.align.blind`), all of them used in the file's order.
    msi_bands
        Names of the sensor's bands, as a sequence or separated by commas: one for each band of the MSI in its order, or those to
        use; None to match by name, wavelength or order.
    min_coverage
        Least part of a response, 0 to 1, that the HSI's bands must cover.
    psf
        ``"auto"``, the text of a PSF (:meth:`Psf.parse`), a PSF, or ``"estimate"`` to find it from the two images.
    wavelengths
        Centre wavelengths of all bands of the HSI in nm, in place of its own.
    coregister
        ``"off"``; or ``"shift"``, ``"affine"``, ``"smooth"`` or ``"auto"``: find out from windows of both images how the HSI lies
        on the MSI (:mod:`geofuse.align.coregister`) and put its grid right; or what was found out earlier, to do the same again.
    response
        Earlier estimate or its file (:mod:`geofuse.align.response_file`), in place of ``srf``, and of ``psf`` where that is "auto".
    srf_bands
        ``"rgb"`` or the path of a table: between which wavelengths each band lies whose response is estimated.

    Returns
    -------
    Dataset
        ``hsi (band, y_hsi, x_hsi)`` and ``msi (band_msi, y, x)`` as dask float32, NaN = no data; ``response (band_msi, band)``;
        coordinates and attributes as listed in DESIGN.md. ``attrs["output_transform"]`` holds the six numbers a to f of the output
        window's transform, exactly the MSI's where the window starts at the MSI's corner.

    Raises
    ------
    InputError
        If the scenes cannot be fused; the message says why and what to do.
    UsageError
        If there is no ``srf`` and the MSI has several bands.
    """
    check_mode(coregister)
    hsi, msi = as_scene(hsi, "HSI"), as_scene(msi, "MSI")
    sought = Sought.of(srf, psf, response, srf_bands, msi_bands)
    hsi_name, msi_name = (_name(scene, kind) for scene, kind in ((hsi, "HSI"), (msi, "MSI")))
    _refuse_swapped_bands(hsi, msi)
    told = [f"{kind}: {note}" for scene, kind in ((hsi, "HSI"), (msi, "MSI")) for note in scene.attrs.get("notes", ())]
    hsi, coarse_grid, notes = north_up(hsi, hsi_name)
    msi, fine_grid, more = north_up(msi, msi_name)
    plan = plan_grids(coarse_grid, fine_grid)
    chosen_psf, psf_source = sought.first_psf(psf, hsi.attrs, plan.ratio)
    match = None if sought.no_table else _match(srf, msi, msi_bands, msi_name)
    bands = _with_wavelengths(band_metadata(hsi), wavelengths, hsi_name)
    if match:
        _refuse_without_wavelengths(bands, hsi_name, match.response.title)
    coarse, fine = Part(_lazy(hsi), bands, _numbers(hsi)), Part(_lazy(msi), band_metadata(msi), _numbers(msi))
    held = plan.rest if sought.file and chosen_psf is sought.file.psf else (0.0, 0.0)
    given = _Given(coarse, fine, fine_grid, match, min_coverage, sought, hsi_name, msi_name, held)
    laid, found = _lay(given, coarse_grid, plan, chosen_psf), None
    if coregister != "off":
        laid, found = _registered(given, laid, coarse_grid, coregister, chosen_psf)
        psf_source += "; moved with the image" if laid.psf != chosen_psf and not sought.psf else ""
    said = [found.note] if found else []
    notes = [*told, *notes, *more, *said, *laid.notes, f"PSF: {laid.psf.label} ({psf_source})"]
    for note in notes:
        _LOG.log(logging.WARNING if note in said and found.model == "none" and found.n_windows else logging.INFO, note)
    attrs = {
        "ratio": laid.plan.ratio,
        "psf": laid.psf.to_tag(),
        "psf_source": psf_source,
        "srf": laid.sensed.title,
        "srf_source": laid.sensed.source,
        **window_attrs(laid.plan, fine_grid),
        **({"coregistration": found.to_tag()} if found else {}),
        **({"responses": {**laid.responses, "psf_source": psf_source}} if laid.responses else {}),
        "notes": notes,
        "hsi_source": str(hsi.attrs.get("source", "")),
        "msi_source": str(msi.attrs.get("source", "")),
        **{key: value for key, value in hsi.attrs.items() if key.startswith("stored_")},
    }
    return nested_dataset(laid.coarse, laid.fine, laid.sensed.matrix, laid.plan, fine_grid, attrs)


def _lay(given: _Given, grid: Grid, plan: GridPlan, psf: Psf, bent: BentGrid | None = None) -> _Laid:
    """Bring both images onto the plan's grids and find the response."""
    match, fine_grid, sought = given.match, given.fine_grid, given.sought
    psf = move_psf(psf, plan.ratio, tuple(np.subtract(plan.rest, given.held)))
    coarse, notes = _coarse_part(given.hsi, grid, fine_grid, plan, given.hsi_name, bent)
    used = match.msi_index if match else range(given.msi.values.shape[0])
    fine = _fine_part(given.msi, used, plan, given.msi_name)
    sensed, rows = (_sensed(match, coarse, given.min_coverage) if match else None), None
    offset = np.zeros(fine.values.shape[0])
    psf, found = sought.find_psf(coarse, fine, psf, plan.ratio, sensed.matrix if sensed else None)
    if sought.no_table:
        matrix, offset, title, source, rows = sought.find_rows(coarse, fine, psf, plan.ratio)
        fine = less_offset(fine, offset)
        sensed = _Sensed(matrix, title, source, (rows_note(rows),) if rows else ())
    sensed = sensed or _sensed_from_images(coarse, fine, psf, plan.ratio)
    notes = (*plan_notes(plan, fine_grid), *notes, *sensed.notes, *([psf_note(found)] if found else []))
    content = None
    if rows or found:
        content = response_content(coarse, fine, sensed.matrix, offset, sensed.source, rows, psf, found, plan.ratio)
    return _Laid(plan, psf, coarse, fine, sensed, notes, content)


def _registered(given: _Given, laid: _Laid, grid: Grid, mode: str | Registration, psf: Psf) -> tuple[_Laid, Registration]:
    """Find out how the images lie on each other and lay them anew where that differs from what their grids say."""
    plan, fine_grid = laid.plan, given.fine_grid
    found = mode
    if not isinstance(found, Registration):
        pixel = pixel_metres(fine_grid.cut(plan.fine).coarsened(plan.ratio))
        found = register(laid.coarse.values, laid.fine.values, laid.sensed.matrix, laid.psf, plan.ratio, mode, pixel)
        found = with_map(found, grid, fine_grid, plan)
    if not found.applied:
        return laid, found
    right, bent = put_right(found, grid, fine_grid, plan)
    new = plan_grids(right, fine_grid)
    if bent or (new.why_warp and not plan.why_warp):
        new = replace(new, why_warp="the co-registration is more than a shift", rest=(0.0, 0.0))
    return _lay(given, right, new, psf, bent), found


def _name(scene: xr.DataArray, kind: str) -> str:
    """How messages call a scene."""
    source = scene.attrs.get("source")
    return f"the {kind} {source}" if source else f"the {kind}"


def _numbers(scene: xr.DataArray) -> np.ndarray:
    """Band numbers in the file, 1-based."""
    return scene.coords["band"].values if "band" in scene.coords else np.arange(1, scene.sizes["band"] + 1)


def _lazy(scene: xr.DataArray) -> Any:
    """Return the values as a dask array of float32."""
    data = scene.data if scene.chunks else scene.chunk().data
    return data.astype(np.float32, copy=False)


def _refuse_swapped_bands(hsi: xr.DataArray, msi: xr.DataArray) -> None:
    """Refuse an HSI with fewer bands than the MSI."""
    n_hsi, n_msi = hsi.sizes.get("band", 0), msi.sizes.get("band", 0)
    if n_hsi < n_msi:
        raise InputError(f"the HSI has {n_hsi} bands and the MSI {n_msi}; they look swapped: give the hyperspectral image first")


def _with_wavelengths(bands: BandMetadata, wavelengths: Sequence[float] | None, name: str) -> BandMetadata:
    """Put given wavelengths in place of the HSI's own."""
    if wavelengths is None:
        return bands
    given = np.asarray(wavelengths, float)
    if given.shape != (len(bands),):
        raise InputError(f"{given.size} wavelengths are given for {name}, which has {len(bands)} bands; give one a band, in nm")
    return BandMetadata(given, bands.fwhm_nm, bands.good_band, bands.band_name)


def _refuse_without_wavelengths(bands: BandMetadata, name: str, srf: str) -> None:
    """Refuse an HSI whose wavelengths the response cannot be laid on."""
    known = np.isfinite(bands.wavelength_nm)
    if not known.all():
        found = "has no wavelengths" if not known.any() else f"has no wavelength for {_ranges(np.flatnonzero(~known) + 1)}"
        raise InputError(f"{name} {found}, and the response {srf} needs them; give them with --wavelengths file.csv")


def _match(
    srf: str | Path | SensorResponse | None, msi: xr.DataArray, msi_bands: str | Sequence[str] | None, name: str
) -> BandMatch | None:
    """Load the response and match its bands with the MSI's; None for one panchromatic band without a response."""
    from geofuse.sensors import SensorResponse, load_response, match_bands

    if srf is None:
        refuse_unless_pan(msi, msi_bands, name)
        return None
    response = srf if isinstance(srf, SensorResponse) else load_response(srf)
    if isinstance(msi_bands, str):
        msi_bands = [name.strip() for name in msi_bands.split(",") if name.strip()]
    bands = band_metadata(msi)
    return match_bands(response, bands.band_name, bands.wavelength_nm, len(bands), requested=msi_bands)


def _sensed(match: BandMatch, coarse: Part, min_coverage: float) -> _Sensed:
    """Lay the matched response on the HSI's bands."""
    from geofuse.sensors import response_matrix

    response, bands = match.response, coarse.bands
    matrix = response_matrix(response, bands.wavelength_nm, bands.fwhm_nm, bands.good_band, min_coverage=min_coverage)
    return _Sensed(matrix, response.title, response.source, match.notes)


def _sensed_from_images(coarse: Part, fine: Part, psf: Psf, ratio: int) -> _Sensed:
    """Estimate the response of one panchromatic band from the two images."""
    found = estimate_pan_response(coarse.values, fine.values, psf, ratio)
    return _Sensed(found.matrix, "panchromatic band, response estimated", found.source, (found.note,))


def _coarse_part(
    part: Part, grid: Grid, fine_grid: Grid, plan: GridPlan, name: str, bent: BentGrid | None
) -> tuple[Part, list[str]]:
    """Cut or warp the coarse image to the pair's coarse grid and drop its bands without data there."""
    target = fine_grid.cut(plan.fine).coarsened(plan.ratio)
    window = source_window(grid, target, bent) if plan.why_warp else plan.coarse
    cut = part.values[:, window.slices[0], window.slices[1]]
    has_data = np.asarray(np.isfinite(cut).any(axis=(1, 2)).compute())
    if not has_data.any():
        raise InputError(f"{name} holds no data where the images overlap; check its no-data value and that both show one place")
    kept = Part(cut, part.bands, part.number).select(np.flatnonzero(has_data))
    if plan.why_warp:
        kept = Part(warp(kept.values, grid.cut(window), target, bent), kept.bands, kept.number)
    size = max(CHUNK // plan.ratio, MIN_COARSE_CHUNK)
    notes = []
    if not has_data.all():
        stay = f"{has_data.sum()} of {len(has_data)} bands stay"
        notes.append(f"HSI: left out {_ranges(part.number[~has_data])}, without any data ({stay})")
    return Part(kept.values.rechunk((-1, size, size)), kept.bands, kept.number), notes


def _fine_part(part: Part, index: Sequence[int], plan: GridPlan, name: str) -> Part:
    """Cut the fine image, keep the bands of the response and pad with no data to whole coarse pixels."""
    import dask.array as da

    part = part.select(np.asarray(index, int))
    inner, outer = plan.output, plan.fine
    values = part.values[:, inner.slices[0], inner.slices[1]]
    before, after = (inner.row0 - outer.row0, inner.col0 - outer.col0), (outer.row1 - inner.row1, outer.col1 - inner.col1)
    size = max(1, CHUNK // plan.ratio) * plan.ratio
    if any(before) or any(after):
        pads = ((0, 0), (before[0], after[0]), (before[1], after[1]))
        values = da.pad(values, pads, mode="constant", constant_values=np.nan)
    values = values.rechunk((-1, size, size))
    _refuse_empty(values, name)
    return Part(values, part.bands, part.number)


def _refuse_empty(values: Any, name: str) -> None:
    """Refuse a fine image without data; reads blocks from the middle outwards until one has a pixel with data in all bands."""
    _, n_rows, n_cols = values.numblocks
    order = sorted(np.ndindex(n_rows, n_cols), key=lambda at: (at[0] - n_rows // 2) ** 2 + (at[1] - n_cols // 2) ** 2)
    for i, j in order:
        if np.isfinite(values.blocks[:, i, j].compute()).all(axis=0).any():
            return
    raise InputError(f"{name} has no pixel with data in all bands where the images overlap; check its no-data value and bands")


def _ranges(numbers: np.ndarray) -> str:
    """Write band numbers as ``bands 3, 5-7``."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    text = ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"band {text}" if len(numbers) == 1 else f"bands {text}"
