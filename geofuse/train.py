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
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geofuse import __version__
from geofuse.errors import MissingFileError, OutputError, UsageError
from geofuse.methods import METHODS
from geofuse.methods.base import Report, silent
from geofuse.result import file_hash

_LOG = logging.getLogger(__name__)
_LEAST_VALIDATIONS = 20
_WEIGHTS, _BATCHES = range(2)  # purposes of random streams


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

    return tuple(name for name in METHODS.names() if isinstance(METHODS.get(name)(), Trainable))


def train_method(plan: TrainingPlan, output: str | Path, *, resume: bool = False, report: Report = silent) -> TrainingSummary:
    """Train and write the weights; beside them come ``STEM.metrics.csv`` and ``STEM.png``, and a checkpoint until it is done.

    A checkpoint of an earlier training that is not to be resumed is replaced at the first validation; a warning says so.

    Raises
    ------
    GeofuseError
        If a scene, an option or the output path is no good; the message says what to do.
    """
    from geofuse.diffusion.random_streams import stream
    from geofuse.methods.device import pick_device, use_threads
    from geofuse.methods.trainable import Plan, validate
    from geofuse.methods.weights import Card, save_weights
    from geofuse.train_scenes import load_scenes
    from geofuse.training import History, Keeping, PatchSampler, TrainingOptions, train

    output = Path(output)
    method = make_method(plan)
    beside = _files_beside(plan, output)
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
    network = method.make_network(card, stream(plan.seed, _WEIGHTS)).to(device)
    recipe = method.recipe(Plan(sampler, steps, batch, rate, data.response, device))
    every = plan.validate_every or max(1, min(500, steps // _LEAST_VALIDATIONS))
    histories: list[History] = []
    if beside["checkpoint"].exists() and not resume:
        text = "%s, of a training that was stopped, will be replaced after step %d: end this one before and add --resume to keep it"
        _LOG.warning(text, beside["checkpoint"], min(every, steps))

    def history(step: int) -> History:
        histories.append(History(beside["metrics.csv"], step))
        return histories[0]

    done = train(
        network,
        recipe,
        TrainingOptions(steps, every, plan.patience),
        stream(plan.seed, _BATCHES),
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


def make_method(plan: TrainingPlan) -> Any:
    """Make the method that a plan trains.

    Raises
    ------
    UsageError
        If there is no such method or option, or it is not one that is trained beforehand.
    """
    from geofuse.fusion import choose_options
    from geofuse.methods.trainable import Trainable

    kind = METHODS.get(plan.method)
    method = kind(choose_options(kind, plan.method, kind.default_preset("cpu"), plan.options))
    if not isinstance(method, Trainable):
        raise UsageError(f"method {plan.method} is not trained beforehand; {', '.join(trainable_methods())} are")
    return method


def _files_beside(plan: TrainingPlan, output: Path) -> dict[str, Path]:
    """Check the output path and name the files that come beside it."""
    from geofuse.io import check_output_path

    check_output_path(output)
    if output.resolve() in [path.resolve() for path in plan.files]:
        raise OutputError(f"{output} is a scene of this training; choose another name with -o")
    return {name: output.with_name(f"{output.stem}.{name}") for name in ("metrics.csv", "png", "checkpoint")}
