"""The training loop: Adam, a learning rate that the method chooses, a moving average of the weights, validation, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from geofuse.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from geofuse.training.history import History

Report = Callable[[str, int, int], None]
Validation = Callable[[nn.Module], Mapping[str, float]]

METRIC = "psnr"  # decides which weights are best and when a training has stopped getting better
_LOSS_MEMORY = 0.98


class Recipe(Protocol):
    """What a method does in one step of training; made anew for each training."""

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        """Draw a batch with this CPU generator and return its loss, a scalar."""

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of step 0, 1, ..."""

    def frozen(self, network: nn.Module, step: int) -> Iterable[nn.Parameter]:
        """Return the parameters that this step leaves as they are."""


@dataclass(frozen=True)
class TrainingOptions:
    """How long to train and what to keep.

    Attributes
    ----------
    steps
        Optimiser steps at most.
    validate_every
        Steps from one validation, and checkpoint, to the next.
    patience
        Stop after so many validations without a better one; 0 never stops early.
    memory
        Of the moving average of the weights: its share that one step keeps, rising to this from 0.
    clip
        Norm that gradients are scaled down to.
    """

    steps: int
    validate_every: int = 500
    patience: int = 0
    memory: float = 0.999
    clip: float = 1.0


@dataclass(frozen=True)
class Keeping:
    """Where a training keeps its state.

    Attributes
    ----------
    checkpoint
        File that a later ``resume`` goes on from.
    fingerprint
        Hash of everything that decides the training.
    resume
        Go on from the checkpoint if there is one.
    """

    checkpoint: Path
    fingerprint: str
    resume: bool


def train(
    network: nn.Module,
    recipe: Recipe,
    options: TrainingOptions,
    generator: torch.Generator,
    *,
    validate: Validation | None = None,
    history: Callable[[int], History] | None = None,
    keeping: Keeping | None = None,
    report: Report,
) -> int:
    """Train a network in place; it is left with the averaged weights that validated best, in evaluation mode.

    Parameters
    ----------
    network
        On its device; bf16 is used where it pays (:func:`pays_in_bf16`).
    recipe
        Loss, learning rate and what to freeze.
    options
        Steps and so on.
    generator
        CPU generator of everything random in the loss.
    validate
        Scores a network with at least ``"psnr"`` in dB; without it the last average is kept.
    history
        Opens the record of losses and scores as it stood at a step.
    keeping
        Checkpoints; None keeps none.
    report
        Told ``("training", step, steps)``.

    Returns
    -------
    Steps done.

    Raises
    ------
    InputError
        If the checkpoint to go on from is damaged or of another training.
    """
    optimiser = torch.optim.Adam(network.parameters(), recipe.learning_rate(0), betas=(0.9, 0.99))
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    best = {name: value.clone() for name, value in average.items()}
    start, loss_mean = 0, 0.0
    if keeping is not None and keeping.resume and keeping.checkpoint.exists():
        kept = {**average, **{f"best/{name}": value for name, value in best.items()}}
        found = load_checkpoint(keeping.checkpoint, keeping.fingerprint, network, kept, optimiser, generator)
        start, loss_mean = found.step, found.loss
    record = history(start) if history is not None else None
    clock, spent = time.monotonic(), record.seconds if record else 0.0
    step = start
    while step < options.steps and not _stale(record, options.patience):
        loss = _step(network, recipe, optimiser, generator, step, options.clip)
        loss_mean = loss if step == 0 else _LOSS_MEMORY * loss_mean + (1.0 - _LOSS_MEMORY) * loss
        step += 1
        _follow(average, network, min(options.memory, step / (step + 10)))
        report("training", step, options.steps)
        if step % options.validate_every and step < options.steps:
            continue
        if validate is not None and record is not None:
            scores = _scores(network, average, validate)
            if scores[METRIC] > record.best(METRIC):
                best = {name: value.clone() for name, value in average.items()}
            record.add(step, spent + time.monotonic() - clock, loss_mean, scores)
        else:
            best = {name: value.clone() for name, value in average.items()}
        if keeping is not None:
            kept = {**average, **{f"best/{name}": value for name, value in best.items()}}
            where = Checkpoint(step, keeping.fingerprint, loss_mean)
            save_checkpoint(keeping.checkpoint, where, network, kept, optimiser, generator)
    network.load_state_dict(best)
    network.eval()
    return step


def pays_in_bf16(device: torch.device) -> bool:
    """Tell whether bfloat16 makes training faster on a device: on GPUs, and on CPUs with matrix units for it (AMX)."""
    if device.type != "cpu":
        return True
    known = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.6 cannot tell
    return bool(known.get("amx_bf16", False))


def _step(
    network: nn.Module, recipe: Recipe, optimiser: torch.optim.Optimizer, generator: torch.Generator, step: int, clip: float
) -> float:
    """Take one step of Adam and return the loss."""
    network.train()
    device = next(network.parameters()).device
    for group in optimiser.param_groups:
        group["lr"] = recipe.learning_rate(step)
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=pays_in_bf16(device)):
        loss = recipe.loss(network, generator)
    loss.backward()
    for parameter in recipe.frozen(network, step):
        parameter.grad = None
    nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimiser.step()
    return float(loss.detach())


def _follow(average: dict[str, Tensor], network: nn.Module, memory: float) -> None:
    """Move the average towards the network's present weights; whole numbers are copied."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1.0 - memory)
            else:
                average[name].copy_(value)


def _scores(network: nn.Module, average: Mapping[str, Tensor], validate: Validation) -> Mapping[str, float]:
    """Validate the averaged weights, then put the present ones back."""
    present = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(average)
    network.eval()
    with torch.no_grad():
        scores = validate(network)
    network.load_state_dict(present)
    return scores


def _stale(record: History | None, patience: int) -> bool:
    """Tell whether the last ``patience`` validations brought nothing better."""
    return bool(patience and record is not None and record.rows and record.rows_since_best(METRIC) >= patience)
