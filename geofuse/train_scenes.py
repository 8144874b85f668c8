"""The scenes of a training: loaded, scaled, reduced where they are real pairs, and cut in two where none is for validation."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geofuse.errors import InputError
from geofuse.methods.base import Report, silent
from geofuse.scene import band_metadata

if TYPE_CHECKING:
    from geofuse.train import TrainingPlan
    from geofuse.training import TrainingScene

_VALIDATION_SIDE = 192  # fine pixels of the middle of a validation scene
_HELD_OUT = 0.25  # share of each scene's columns, on the right, where no scene is given for validation


@dataclass(frozen=True)
class TrainingData:
    """The scenes of a training, in memory: see :class:`geofuse.training.TrainingScene`."""

    training: list[TrainingScene]
    validation: list[TrainingScene]
    wavelength_nm: np.ndarray
    response: np.ndarray
    srf: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Loaded:
    """One scene or pair as loaded: images, and for real pairs the reduced ones."""

    name: str
    full: tuple[np.ndarray, np.ndarray, np.ndarray | None]  # hsi, msi, reference
    reduced: tuple[np.ndarray, np.ndarray, np.ndarray]
    wavelength_nm: np.ndarray
    response: np.ndarray
    srf: str


def load_scenes(plan: TrainingPlan, needs_reference: bool, report: Report = silent) -> TrainingData:
    """Load all scenes and pairs of a plan and make training and validation scenes of them.

    Raises
    ------
    GeofuseError
        If one cannot be used, or they are not of one ratio and the same bands.
    """
    jobs = [(path,) for path in plan.scenes] + list(plan.pairs)
    val_jobs = [(path,) for path in plan.validation] + list(plan.validation_pairs)
    loaded = []
    for index, job in enumerate(jobs + val_jobs):
        loaded.append(_simulated(plan, *job) if len(job) == 1 else _real(plan, *job))
        report("loading scenes", index + 1, len(jobs) + len(val_jobs))
    first = loaded[0]
    for other in loaded[1:]:
        _require_alike(first, other)
    rng = np.random.default_rng(plan.seed)
    training, validation = [], []
    for index, scene in enumerate(loaded):
        wanted = scene.reduced if needs_reference else scene.full
        if index >= len(jobs):
            validation.append(_middle(_scaled(scene.name, scene.reduced), plan.snr_db, rng))
        elif val_jobs:
            training.append(_scaled(scene.name, wanted))
        else:
            learn, keep = _split(_scaled(scene.name, wanted)), _split(_scaled(scene.name, scene.reduced))
            training.append(learn[0])
            validation.append(_middle(keep[1], plan.snr_db, rng))
    names = tuple(scene.name for scene in loaded[: len(jobs)])
    return TrainingData(training, validation, first.wavelength_nm, first.response, first.srf, names)


def _simulated(plan: TrainingPlan, path: Path) -> _Loaded:
    """Make a noise-free pair from a reference scene."""
    from geofuse.io import open_scene
    from geofuse.sensors import Psf
    from geofuse.sensors.matrix import response_matrix
    from geofuse.simulate import load_bands, prepare_reference, simulate_pair

    response = load_bands(str(plan.srf), plan.msi_bands)
    psf = Psf.parse("bicubic" if plan.psf == "auto" else plan.psf)
    reference, _ = prepare_reference(open_scene(path), math.lcm(plan.ratio, 16))
    made = simulate_pair(reference, ratio=plan.ratio, response=response, psf=psf, snr_db=None, seed=plan.seed)
    images = (made.hsi.values, made.msi.values, made.reference.values)
    bands = band_metadata(reference)
    weights = response_matrix(response, bands.wavelength_nm, bands.fwhm_nm, bands.good_band)
    return _Loaded(path.stem, images, images, bands.wavelength_nm, weights, response.title)


def _real(plan: TrainingPlan, hsi: Path, msi: Path) -> _Loaded:
    """Load a real pair and make one at reduced resolution from it."""
    from geofuse.degradation import SpatialOperator
    from geofuse.pipeline import open_pair
    from geofuse.sensors import Psf
    from geofuse.simulate import coarsen

    pair = open_pair(hsi, msi, srf=plan.srf, msi_bands=plan.msi_bands, psf=plan.psf)
    ratio, psf = int(pair.attrs["ratio"]), Psf.from_tag(pair.attrs["psf"])
    coarse, fine = (pair[name].values.astype(np.float32) for name in ("hsi", "msi"))
    h, w = (size // ratio * ratio for size in coarse.shape[1:])
    if not h or not w:
        raise InputError(f"{hsi} has {coarse.shape[1]} x {coarse.shape[2]} pixels, too few to degrade by the ratio {ratio}")
    reference, cut = coarse[:, :h, :w], fine[:, : h * ratio, : w * ratio]
    reduced = (
        coarsen(reference, SpatialOperator(psf, ratio, h, w)),
        coarsen(cut, SpatialOperator(psf, ratio, h * ratio, w * ratio)),
        reference,
    )
    wavelength, response = pair["wavelength"].values, pair["response"].values
    return _Loaded(hsi.stem, (coarse, fine, None), reduced, wavelength, response, str(pair.attrs["srf"]))


def _require_alike(first: _Loaded, other: _Loaded) -> None:
    """Raise ``InputError`` unless two scenes have the same bands and ratio."""
    ratios = [scene.full[1].shape[1] // scene.full[0].shape[1] for scene in (first, other)]
    if first.response.shape != other.response.shape or ratios[0] != ratios[1]:
        has = [
            f"{s.response.shape[1]} and {s.response.shape[0]} bands at ratio {r}"
            for s, r in zip((first, other), ratios, strict=True)
        ]
        raise InputError(f"{other.name} has {has[1]}, {first.name} has {has[0]}; train on scenes of the same bands and ratio")


def _scaled(name: str, images: tuple[np.ndarray, np.ndarray, np.ndarray | None]) -> TrainingScene:
    """Divide by the scene's scales."""
    from geofuse.training import Scales, TrainingScene

    hsi, msi, reference = images
    scales = Scales.of([hsi], [msi])
    whole = None if reference is None else (reference / scales.hsi).astype(np.float32)
    return TrainingScene(name, (hsi / scales.hsi).astype(np.float32), (msi / scales.msi).astype(np.float32), whole)


def _split(scene: TrainingScene) -> tuple[TrainingScene, TrainingScene]:
    """Cut a scene into a left part to learn from and a right part to validate on."""
    width = scene.hsi.shape[2]
    cut = width - max(1, round(_HELD_OUT * width))
    if cut < 1:
        raise InputError(f"{scene.name} is {width} coarse pixels wide, too narrow to hold part of it back; give --val")
    return _window(scene, slice(None), slice(0, cut)), _window(scene, slice(None), slice(cut, None))


def _middle(scene: TrainingScene, snr_db: float | None, rng: np.random.Generator) -> TrainingScene:
    """Cut out the middle of a scene, with noise, to validate on."""
    from geofuse.simulate import add_noise

    slices = []
    for size in scene.hsi.shape[1:]:
        side = min(size, max(1, _VALIDATION_SIDE // scene.ratio))
        slices.append(slice((size - side) // 2, (size - side) // 2 + side))
    cut = _window(scene, *slices)
    noisy = [add_noise(image, snr_db, rng).astype(np.float32) for image in (cut.hsi, cut.msi)]
    return dataclasses.replace(cut, hsi=noisy[0], msi=noisy[1])


def _window(scene: TrainingScene, rows: slice, cols: slice) -> TrainingScene:
    """Cut a window, given in coarse pixels, out of every image."""

    def fine(cut: slice) -> slice:
        return slice(*(None if edge is None else edge * scene.ratio for edge in (cut.start, cut.stop)))

    images = {
        "hsi": np.ascontiguousarray(scene.hsi[:, rows, cols]),
        "msi": np.ascontiguousarray(scene.msi[:, fine(rows), fine(cols)]),
    }
    whole = scene.reference
    if whole is not None:
        whole = np.ascontiguousarray(whole[:, fine(rows), fine(cols)])
    return dataclasses.replace(scene, reference=whole, **images)
