"""Training a method's networks on scenes, for ``geofuse run --weights``.

A scene that serves as a reference gives a pair by Wald's protocol, made when the training starts (:mod:`geofuse.simulate`), with
noise drawn anew for every patch. A real pair, such as a multispectral and a panchromatic file, gives one at reduced resolution:
both images are degraded by the ratio, and the coarse one as it was is the reference. A method that needs no reference learns from
real pairs as they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geofuse import __version__
from geofuse.errors import MissingFileError, OutputError, UsageError
from geofuse.methods import METHODS
from geofuse.methods.base import Report, silent
from geofuse.result import file_hash

_LEAST_VALIDATIONS = 20


@dataclass(frozen=True)
class TrainingPlan:
    """What to train on and how.

    Attributes
    ----------
    method
        One of those that can be trained.
    scenes, pairs
        Reference scenes, and real pairs (HSI, MSI).
    validation, validation_pairs
        The same, for validation; without any, the right quarter of each training scene is held back for it.
    srf
        Sensor of the fine image; None where it is one panchromatic band of a pair.
    ratio
        Fine pixels along one side of a coarse pixel, for reference scenes; a pair has its own.
    psf
        PSF of the degradation; ``auto`` is bicubic for scenes and, for pairs, what the files say or gaussian.
    snr_db
        Signal-to-noise ratio in dB of the noise added to both images; None adds none.
    msi_bands
        Names of the sensor's bands to use; None for all reflective ones.
    steps, batch, patch, learning_rate
        None takes the method's own.
    validate_every
        Steps from one validation to the next; None makes at least twenty.
    patience
        Stop after so many validations without a better PSNR; 0 never does.
    seed, device
        Of random numbers, and where to compute.
    options
        Options of the method that replace its default's, by name.
    """

    method: str
    scenes: tuple[Path, ...] = ()
    pairs: tuple[tuple[Path, Path], ...] = ()
    validation: tuple[Path, ...] = ()
    validation_pairs: tuple[tuple[Path, Path], ...] = ()
    srf: str | None = None
    ratio: int = 4
    psf: str = "auto"
    snr_db: float | None = None
    msi_bands: tuple[str, ...] | None = None
    steps: int | None = None
    batch: int | None = None
    patch: int | None = None
    learning_rate: float | None = None
    validate_every: int | None = None
    patience: int = 10
    seed: int = 0
    device: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be trained on.

        Raises
        ------
        UsageError
            If there is nothing to train on, or a scene without a sensor.
        MissingFileError
            If a file is not there.
        """
        if not self.scenes and not self.pairs:
            raise UsageError("nothing to train on: give reference scenes, or real pairs with --pair")
        if self.scenes + self.validation and self.srf is None:
            raise UsageError("no --srf: the sensor whose bands the fine image of a reference scene gets")
        for path in self.files:
            if not path.exists():
                raise MissingFileError(f"{path} does not exist; check the path")

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of scenes and pairs."""
        pairs = [path for pair in self.pairs + self.validation_pairs for path in pair]
        return (*self.scenes, *self.validation, *pairs)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides what is learnt."""
        settings = {k: str(v) for k, v in dataclasses.asdict(self).items()}
        told = {**settings, "files": [file_hash(path) for path in self.files], "version": __version__}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class TrainingSummary:
    """What came of a training.

    Attributes
    ----------
    output, metrics_csv, plot
        Files written.
    method
        Name of the method.
    parameters
        Number of learnt parameters.
    steps, seconds
        Optimiser steps done, and seconds spent on them, also before a resume.
    metrics
        Scores of the best validation, those of the weights.
    """

    output: str
    metrics_csv: str
    plot: str
    method: str
    parameters: int
    steps: int
    seconds: float
    metrics: dict[str, float]


def trainable_methods() -> tuple[str, ...]:
    """Return the names of the methods that can be trained."""
    from geofuse.methods.trainable import Trainable

    return tuple(name for name in METHODS.names() if isinstance(METHODS.get(name), type) and _is_trainable(name, Trainable))


def _is_trainable(name: str, protocol: Any) -> bool:
    return isinstance(METHODS.get(name)(), protocol)


def train_method(plan: TrainingPlan, output: str | Path, *, resume: bool = False, report: Report = silent) -> TrainingSummary:
    """Train and write the weights; beside them come ``STEM.metrics.csv`` and ``STEM.png``, and a checkpoint until it is done.

    Raises
    ------
    GeofuseError
        If a scene, an option or the output path is no good; the message says what to do.
    """
    import torch

    from geofuse.fusion import choose_options
    from geofuse.io import check_output_path
    from geofuse.methods.device import pick_device, use_threads
    from geofuse.methods.trainable import Plan, Trainable
    from geofuse.methods.weights import Card, save_weights
    from geofuse.train_scenes import load_scenes
    from geofuse.training import History, Keeping, PatchSampler, TrainingOptions, train

    output = Path(output)
    check_output_path(output)
    beside = {name: output.with_name(f"{output.stem}.{name}") for name in ("metrics.csv", "png", "checkpoint")}
    if output.resolve() in [path.resolve() for path in plan.files]:
        raise OutputError(f"{output} is a scene of this training; choose another name with -o")
    kind = METHODS.get(plan.method)
    method = kind(choose_options(kind, plan.method, kind.default_preset("cpu"), plan.options))
    if not isinstance(method, Trainable):
        raise UsageError(f"method {plan.method} is not trained beforehand; {', '.join(trainable_methods())} are")
    use_threads()
    device = pick_device(plan.device)
    data = load_scenes(plan, method.needs_reference, report)
    defaults = method.training
    steps = defaults.steps if plan.steps is None else plan.steps
    batch, patch = plan.batch or defaults.batch, plan.patch or defaults.patch
    rate = plan.learning_rate or defaults.learning_rate
    sampler = PatchSampler(data.training, patch, plan.snr_db)
    n_bands, n_msi = len(data.wavelength_nm), len(data.response)
    card = Card(
        plan.method, n_bands, n_msi, sampler.ratio, data.wavelength_nm, data.response, data.srf, method.shape_options(), data.names
    )
    network = method.make_network(card, torch.Generator().manual_seed(plan.seed)).to(device)
    response = torch.as_tensor(data.response, dtype=torch.float32, device=device)
    recipe = method.recipe(Plan(sampler, steps, batch, rate, response, device))
    every = plan.validate_every or max(1, min(500, steps // _LEAST_VALIDATIONS))
    histories: list[History] = []

    def history(step: int) -> History:
        histories.append(History(beside["metrics.csv"], step))
        return histories[0]

    done = train(
        network,
        recipe,
        TrainingOptions(steps, every, plan.patience),
        torch.Generator().manual_seed(plan.seed + 1),
        validate=lambda net: validate(method, net, data.validation, device, plan.seed),
        history=history,
        keeping=Keeping(beside["checkpoint"], plan.fingerprint, resume),
        report=report,
    )
    best = max(histories[0].rows, key=lambda row: row["psnr"])
    metrics = {name: best[name] for name in best if name not in ("step", "seconds", "loss")}
    told = {"steps": done, "best_step": best["step"], "seconds": histories[0].seconds, "seed": plan.seed, "batch": batch}
    told |= {"patch": sampler.side * sampler.ratio, "snr_db": plan.snr_db, "psf": plan.psf, "learning_rate": rate, "device": device}
    save_weights(output, dataclasses.replace(card, training=told, metrics=metrics), network)
    histories[0].plot(beside["png"], "psnr")
    beside["checkpoint"].unlink(missing_ok=True)
    count = sum(parameter.numel() for parameter in network.parameters())
    files = (str(output), str(beside["metrics.csv"]), str(beside["png"]))
    return TrainingSummary(*files, plan.method, count, done, histories[0].seconds, metrics)


def validate(method: Any, network: Any, scenes: Any, device: str, seed: int) -> dict[str, float]:
    """Fuse validation scenes with a network and return the mean scores: psnr in dB, sam in degrees, ergas."""
    import torch

    from geofuse.metrics import evaluate_arrays

    rows = []
    for scene in scenes:
        hsi, msi = (torch.from_numpy(np.nan_to_num(image))[None].to(device) for image in (scene.hsi, scene.msi))
        fused = method.predict(network, hsi, msi, torch.Generator().manual_seed(seed))[0].float().cpu().numpy()
        rows.append(evaluate_arrays(scene.reference, fused, scene.ratio))
    return {name: float(np.mean([row[name] for row in rows])) for name in ("psnr", "sam", "ergas")}
