"""What a method that is trained beforehand, by ``geofuse train``, has beyond a fusion method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from geofuse.diffusion.random_streams import stream
from geofuse.methods.weights import Card
from geofuse.metrics import evaluate_arrays
from geofuse.training import PatchSampler, Recipe, TrainingScene

_VALIDATION = 2  # purpose of a random stream; training has 0 and 1


@dataclass(frozen=True)
class TrainingDefaults:
    """What ``geofuse train`` does for a method unless told otherwise; the paper's figures.

    Attributes
    ----------
    steps, batch
        Optimiser steps, and patches in each.
    patch
        Side of a patch in fine pixels.
    learning_rate
        Highest learning rate.
    """

    steps: int
    batch: int
    patch: int
    learning_rate: float


@dataclass(frozen=True)
class Plan:
    """One training of a method.

    Attributes
    ----------
    sampler
        Draws batches.
    steps, batch
        As in :class:`TrainingDefaults`.
    learning_rate
        Highest learning rate.
    response
        R (c, C) of the scenes, or zeros where it is not known.
    device
        Where the network is.
    """

    sampler: PatchSampler
    steps: int
    batch: int
    learning_rate: float
    response: np.ndarray
    device: str


@runtime_checkable
class Trainable(Protocol):
    """A method whose networks ``geofuse train`` trains and ``geofuse run --weights`` uses."""

    training: ClassVar[TrainingDefaults]
    needs_reference: ClassVar[bool]  # False: learns from the two images alone
    needs_weights: ClassVar[bool]  # False: without any it learns from the pair at hand

    def shape_options(self) -> Mapping[str, Any]:
        """Return the options that shape the network, for the card."""

    def make_network(self, card: Card, generator: torch.Generator) -> nn.Module:
        """Return a new network on the CPU for the card's bands, ratio and options; random numbers come from a CPU generator."""

    def recipe(self, plan: Plan) -> Recipe:
        """Return what one step of training does."""

    def predict(self, network: nn.Module, hsi: Tensor, msi: Tensor, generator: torch.Generator) -> Tensor:
        """Fuse scaled images (B, C, h, w) and (B, c, H, W) without missing pixels into (B, C, H, W)."""

    def adopt_weights(self, path: str | Path, card: Card, tensors: Mapping[str, Tensor]) -> None:
        """Use these weights, which match the scene; called before ``fit``. Raises ``InputError`` if they are damaged."""


def validate(method: Trainable, network: nn.Module, scenes: Sequence[TrainingScene], device: str, seed: int) -> dict[str, float]:
    """Fuse scenes that have a reference with a network and return the mean scores: psnr in dB, sam in degrees, ergas."""
    rows = []
    for scene in scenes:
        hsi, msi = (torch.from_numpy(np.nan_to_num(image))[None].to(device) for image in (scene.hsi, scene.msi))
        fused = method.predict(network, hsi, msi, stream(seed, _VALIDATION))[0].float().cpu().numpy()
        rows.append(evaluate_arrays(scene.reference, fused, scene.ratio))
    return {name: float(np.mean([row[name] for row in rows])) for name in ("psnr", "sam", "ergas")}
