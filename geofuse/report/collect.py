"""Gather what a report shows from the images, a window at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.align import Registration
from geofuse.errors import InputError
from geofuse.evaluate import evaluate_scenes
from geofuse.methods.base import Report, silent
from geofuse.report.colour import Composite, Stretch, composites, covering_bands, in_same_units, same_bands
from geofuse.report.content import NAMES, Layer, ReportContent, ReportLimits
from geofuse.report.error_map import ErrorMap, compare
from geofuse.report.gather import Request, gather
from geofuse.report.placement import Grid, locate, picture_points, pixel_ratio
from geofuse.scene import BandMetadata, band_metadata, make_scene, provenance_of

if TYPE_CHECKING:
    import xarray as xr

SceneLike = Any  # a path or a scene
_BYTES_PER_PIXEL = 0.17  # of a quicklook as WebP, at the quality it usually gets
_HARDLY_THINNED = 0.85  # leaving out so few pixels looks ragged and saves little: draw all, at a lower quality
_EVALUATE_BYTES = 2**29  # both cubes in memory; for larger ones the scores of one pass have to do


@dataclass(frozen=True)
class _Sampled:
    """A scene and its values at the sampled pixels of the fused one: (band, rows, cols) and which pixel each is."""

    scene: xr.DataArray
    bands: BandMetadata
    values: np.ndarray
    pixel_of: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        """Values as (band, pixel)."""
        return self.values.reshape(len(self.values), -1)


def gather_content(
    fused: SceneLike,
    *,
    reference: SceneLike | None = None,
    hsi: SceneLike | None = None,
    msi: SceneLike | None = None,
    metrics: Any | None = None,
    limits: ReportLimits | None = None,
    report: Report = silent,
) -> ReportContent:
    """Read what a report of ``fused`` shows; parameters and errors as :func:`geofuse.report.write_report`."""
    limits = limits or ReportLimits()
    given = {"hsi": hsi, "msi": msi, "fused": fused, "reference": reference}
    scenes = {name: _open(scene) for name, scene in given.items() if scene is not None}
    if "hsi" in scenes:
        scenes["hsi"] = _where_it_lies(scenes["hsi"], scenes["fused"])
    grid, bands = Grid.of(scenes["fused"]), band_metadata(scenes["fused"])
    rows, cols = _sample_grid(grid, scenes, limits)
    samples = {}
    for name, scene in scenes.items():
        report("sampling spectra", len(samples), len(scenes))
        samples[name] = _sample(scene, grid, rows, cols)
    report("sampling spectra", len(scenes), len(scenes))
    if not np.isfinite(samples["fused"].values).any():
        raise InputError("the fused image has no data at any of the pixels sampled; nothing can be shown")
    band_of = {name: _band_of(name, samples) for name in scenes}
    stretch, in_units = _stretches(samples, band_of)
    views = composites(bands, np.isfinite(samples["fused"].flat).any(axis=1))
    side = _quicklook_side(scenes, band_of, grid, limits)
    layers = []
    for name in scenes:
        report("drawing images", len(layers), len(scenes))
        layers.append(_draw(name, samples[name], band_of[name], stretch[name], views, grid, limits.picture_side, side))
    report("drawing images", len(scenes), len(scenes))
    ratio = _ratio(scenes)
    errors = _compare(samples, band_of, ratio, limits) if reference is not None else None
    scores, notes = _scores(scenes, errors, metrics, ratio)
    attrs = scenes["fused"].attrs
    return ReportContent(
        title=_name(scenes["fused"], "fused image"),
        grid=grid,
        bands=bands,
        ratio=ratio,
        layers=tuple(layers),
        views=views,
        sample_rows=rows,
        sample_cols=cols,
        msi_in_units=in_units,
        errors=errors,
        scores=scores,
        provenance=provenance_of(attrs),
        sources={name: _name(scene, "array in memory") for name, scene in scenes.items()},
        notes=notes,
    )


def _open(scene: SceneLike) -> xr.DataArray:
    from geofuse.io import open_scene

    return open_scene(scene) if isinstance(scene, str | os.PathLike) else scene


def _where_it_lies(hsi: xr.DataArray, fused: xr.DataArray) -> xr.DataArray:
    """Lay the HSI where the fused scene records that it truly lies (but for the bend of a smooth field)."""
    from affine import Affine

    recorded = fused.attrs.get("GEOFUSE_COREGISTRATION")
    moved = Registration.from_tag(recorded).crs_map if recorded else None
    if moved is None:
        return hsi
    return make_scene(hsi.data, band_metadata(hsi), Affine(*moved) @ hsi.rio.transform(), hsi.rio.crs, hsi.attrs)


def _name(scene: xr.DataArray, otherwise: str) -> str:
    return Path(str(scene.attrs["source"])).name if "source" in scene.attrs else otherwise


def _sample_grid(grid: Grid, scenes: Mapping[str, xr.DataArray], limits: ReportLimits) -> tuple[np.ndarray, np.ndarray]:
    """Choose the rows and columns whose spectra are kept: every n-th pixel, n as small as the bytes allow."""
    bytes_each = 2 * sum(scene.sizes["band"] for scene in scenes.values())
    step = 1
    while math.ceil(grid.height / step) * math.ceil(grid.width / step) * bytes_each > limits.spectra_bytes:
        step += 1
    rows, cols = (np.arange(min((step - 1) // 2, length - 1), length, step) for length in (grid.height, grid.width))
    return rows, cols


def _sample(scene: xr.DataArray, grid: Grid, rows: np.ndarray, cols: np.ndarray) -> _Sampled:
    """Read a scene at the sampled pixels of the fused one."""
    at_rows, at_cols = locate(grid, Grid.of(scene), rows, cols)
    (values,) = gather(scene, [Request(at_rows, at_cols, np.arange(scene.sizes["band"]))])
    pixel = np.where(at_rows >= 0, at_rows * scene.sizes["x"] + at_cols, -1)
    return _Sampled(scene, band_metadata(scene), values, pixel)


def _band_of(name: str, samples: Mapping[str, _Sampled]) -> np.ndarray:
    """Return the band of an image for each band of the fused one, -1 where there is none.

    Raises
    ------
    InputError
        If the bands of HSI or reference cannot be told apart.
    """
    fused, other = samples["fused"], samples[name]
    if name == "fused":
        return np.arange(len(fused.bands))
    if name == "msi":
        return covering_bands(fused.bands, other.bands, fused.flat, other.flat)
    found = same_bands(fused.bands, other.bands)
    if found is None or (found < 0).all():
        raise InputError(
            f"the {NAMES[name]} has {len(other.bands)} bands and the fused image {len(fused.bands)}, and their wavelengths do not "
            f"say which belong together; give the {NAMES[name]} that belongs to it"
        )
    return found


def _stretches(samples: Mapping[str, _Sampled], band_of: Mapping[str, np.ndarray]) -> tuple[dict[str, Stretch], bool]:
    """Return the stretch of every image's bands, one for all of them band by band, and whether the MSI takes part in it.

    It comes from the values of HSI, MSI and fused image at the sampled pixels where all of them have data.
    """
    fused = samples["fused"].flat
    in_units = "msi" in samples and in_same_units(fused, samples["msi"].flat, band_of["msi"])
    shared = [name for name in ("hsi", "msi", "fused") if name in samples and (name != "msi" or in_units)]
    common = np.logical_and.reduce([np.isfinite(samples[name].flat).any(axis=0) for name in shared])
    common = common if common.any() else np.isfinite(fused).any(axis=0)
    ours = Stretch.of(*(_take_bands(samples[name].flat, band_of[name])[:, common] for name in shared))
    out = {}
    for name, sampled in samples.items():
        if name == "msi" and not in_units:
            out[name] = Stretch.of(sampled.flat)
        else:
            out[name] = ours.select(_first_with(band_of[name], samples["fused"].bands, sampled.bands))
    return out, in_units


def _take_bands(values: np.ndarray, band_of: np.ndarray) -> np.ndarray:
    """Return values (C, ...) in the fused image's bands, NaN where the image has no such band."""
    return np.where((band_of >= 0).reshape(-1, *([1] * (values.ndim - 1))), values[band_of], np.nan)


def _first_with(band_of: np.ndarray, fused: BandMetadata, other: BandMetadata) -> np.ndarray:
    """Return for each band of an image the fused band that stands for it: of those it belongs to the nearest in wavelength."""
    out = np.zeros(len(other), int)
    for band in range(len(other)):
        ours = np.flatnonzero(band_of == band)
        if len(ours):
            distance = np.abs(fused.wavelength_nm[ours] - other.wavelength_nm[band])
            out[band] = ours[len(ours) // 2] if np.isnan(distance).all() else ours[np.nanargmin(distance)]
    return out


def _quicklook_side(scenes: Mapping[str, xr.DataArray], band_of: Mapping[str, np.ndarray], grid: Grid, limits: ReportLimits) -> int:
    """Return the longer side of the pictures of single bands, so that all of them together fit the bytes."""
    long, short = max(grid.height, grid.width), min(grid.height, grid.width)
    counts = {name: len(np.unique(index[index >= 0])) for name, index in band_of.items()}
    ratios = {name: max(1.0, pixel_ratio(grid, Grid.of(scene))) for name, scene in scenes.items()}
    side = min(limits.quicklook_side, long)
    while side > 64:
        own = {name: min(side, long / ratio) for name, ratio in ratios.items()}  # a coarse image is never drawn finer than it is
        pixels = sum(count * own[name] ** 2 for name, count in counts.items()) * short / long
        if pixels * _BYTES_PER_PIXEL <= limits.quicklook_bytes:
            break
        side -= 1
    return min(limits.quicklook_side, long) if side >= _HARDLY_THINNED * long else side


def _draw(
    name: str,
    sampled: _Sampled,
    band_of: np.ndarray,
    stretch: Stretch,
    views: tuple[Composite, ...],
    grid: Grid,
    picture_side: int,
    quicklook_side: int,
) -> Layer:
    """Read a scene once more and draw its colour pictures and single bands."""
    scene, source = sampled.scene, Grid.of(sampled.scene)
    large, small = picture_points(grid, source, picture_side), picture_points(grid, source, quicklook_side)
    shown = np.unique(band_of[band_of >= 0])
    requests = [Request(small.rows, small.cols, shown, stretch.select(shown).levels, np.uint8, 0)]
    for view in views:
        index = band_of[list(view.index)]
        index = index if (index >= 0).all() else shown[[0, 0, 0]]
        requests.append(Request(large.rows, large.cols, index, stretch.select(index).levels, np.uint8, 0))
    quicklooks, *pictures = gather(scene, requests)
    return Layer(
        id=name,
        name=NAMES[name],
        size=(source.height, source.width, scene.sizes["band"]),
        bands=sampled.bands,
        band_of=band_of,
        stretch=stretch,
        box=large.box,
        span=large.span,
        pictures={view.id: picture for view, picture in zip(views, pictures, strict=True)},
        quicklooks=quicklooks,
        shown=shown,
        sampled=sampled.values,
        pixel_of=sampled.pixel_of,
    )


def _ratio(scenes: Mapping[str, xr.DataArray]) -> float | None:
    """Return the ratio that the fused file records, else that of the pixel sizes of HSI and fused image, else None."""
    recorded = scenes["fused"].attrs.get("GEOFUSE_RATIO", "")
    try:
        ratio = float(recorded)
    except ValueError:
        ratio = pixel_ratio(Grid.of(scenes["fused"]), Grid.of(scenes["hsi"])) if "hsi" in scenes else float("nan")
    return round(ratio, 6) if math.isfinite(ratio) and ratio > 0 else None


def _compare(
    samples: Mapping[str, _Sampled], band_of: Mapping[str, np.ndarray], ratio: float | None, limits: ReportLimits
) -> ErrorMap:
    """Compare with the reference in the bands that have data in both."""
    fused, reference = samples["fused"], samples["reference"]
    both = np.isfinite(fused.flat).any(axis=1) & np.isfinite(_take_bands(reference.flat, band_of["reference"])).any(axis=1)
    return compare(fused.scene, reference.scene, np.where(both, band_of["reference"], -1), ratio, limits.picture_side)


def _scores(
    scenes: Mapping[str, xr.DataArray],
    errors: ErrorMap | None,
    metrics: Any | None,
    ratio: float | None,
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the scores to show, and notes on them: those given, else those of ``geofuse evaluate``, else those of one pass."""
    if metrics is not None:
        scores: Mapping[str, float] = getattr(metrics, "scores", metrics)
        return {str(name): float(value) for name, value in scores.items()}, tuple(getattr(metrics, "notes", ()))
    if errors is None:
        return {}, ()
    if scenes["fused"].size * 8 > _EVALUATE_BYTES:
        without = (
            "Scores of spatial structure, such as SSIM, are left out, because the images are large; geofuse evaluate gives them."
        )
        return errors.scores, (without,)
    result = evaluate_scenes(scenes["fused"], scenes["reference"], ratio or 1.0)
    scores = {name: value for name, value in result.scores.items() if ratio or name != "ergas"}
    left_out = () if ratio else ("ERGAS is left out, because the ratio of the pixel sizes is not known.",)
    return scores, (*result.notes, *left_out)
