"""Checkpoints of a training: network, its moving average, Adam's state and the random numbers' state, as safetensors.

Everything that decides the steps to come is in the file, so a training that is continued from it goes on as if it had never
stopped. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from geofuse.errors import InputError, OutputError

_ENTRY = "geofuse_checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands.

    Attributes
    ----------
    step
        Optimiser steps done.
    fingerprint
        Hash of the scenes and settings; a training goes on only from its own checkpoint.
    loss
        Moving mean of the loss.
    """

    step: int
    fingerprint: str
    loss: float


def save_checkpoint(
    path: Path,
    checkpoint: Checkpoint,
    network: nn.Module,
    average: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    """Write a checkpoint, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    tensors["random"] = generator.get_state()
    contiguous = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    header = {"step": checkpoint.step, "fingerprint": checkpoint.fingerprint, "loss": checkpoint.loss}
    made = path.with_name(f".{path.name}.part")
    try:
        with open(made, "wb") as stream:
            stream.write(save(contiguous, {_ENTRY: json.dumps(header)}))
            stream.flush()
            os.fsync(stream.fileno())
        made.replace(path)
    except OSError as error:
        made.unlink(missing_ok=True)
        raise OutputError(f"cannot write the checkpoint {path}: {error.strerror}; free space, or choose another place") from None


def load_checkpoint(
    path: Path,
    fingerprint: str,
    network: nn.Module,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> Checkpoint:
    """Put the state of a checkpoint back into network, average, optimiser and generator.

    Raises
    ------
    InputError
        If the file is damaged, no checkpoint, or of another training.
    """
    try:
        data = path.read_bytes()
        tensors = load(data)
        header = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][_ENTRY])
        found = Checkpoint(int(header["step"]), str(header["fingerprint"]), float(header["loss"]))
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged or no checkpoint of geofuse train; remove it, or leave out --resume") from None
    if found.fingerprint != fingerprint:
        raise InputError(
            f"checkpoint {path} is of a training with other scenes or settings; repeat that command, or leave out --resume"
        )
    network.load_state_dict({name[8:]: value for name, value in tensors.items() if name.startswith("network.")})
    for name in average:
        average[name].copy_(tensors[f"average.{name}"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("adam."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    generator.set_state(tensors["random"])
    return found
