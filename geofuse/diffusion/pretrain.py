"""Teaching the generic network on generated scenes: ``python -m geofuse.diffusion.pretrain OUTPUT --steps N --seed S``.

Not part of any run: this is how the shipped weights were made, and how to make better ones. The same seed, steps and sizes on one
thread of the same kind of processor give the same weights. Each step draws patches of a generated scene, adds noise of a level
between 1 and 1.6 and takes the squared error of the network's estimate; for half of the patches also that of the second estimate
of a reverse process, at half the level (:mod:`geofuse.diffusion.ambient`). Adam, cosine schedule, moving average of the weights,
bfloat16 in the convolutions. A checkpoint is written every few hundred steps.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from geofuse.degradation.symmetry import symmetry
from geofuse.diffusion.ambient import draw, reverse_step
from geofuse.diffusion.generated_scenes import generate, observe
from geofuse.diffusion.generic_network import ENTRY, MOST_COMPONENTS, SCHEMA, GenericNetwork

_PATCH, _BATCH, _SIZE = 64, 8, 128
_HIGHEST_LEVEL, _SECOND_LEVEL = 1.6, 0.5
_MISJUDGED = 0.08  # relative error of the noise estimates that whiten an MSI
_MEMORY = 0.998
_CHECKPOINT_EVERY = 250


class Batches:
    """Draws patches of generated MSIs with their noise, from a fixed number of scenes that are seen through ever new sensors."""

    def __init__(self, scenes: int, seed: int) -> None:
        """Generate the scenes; they are kept in half precision."""
        self.scenes = [generate(np.random.default_rng([seed, k]), _SIZE).astype(np.float16) for k in range(scenes)]
        self.rng = np.random.default_rng([seed, scenes])
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return clean components and a noisy state (B, 8, p, p), its level (B,), spreads (B, 8), which exist (B, 8, 1, 1)."""
        clean = torch.zeros(_BATCH, MOST_COMPONENTS, _PATCH, _PATCH)
        spread, noise = torch.ones(_BATCH, MOST_COMPONENTS), torch.zeros(_BATCH, MOST_COMPONENTS, 1, 1)
        for k in range(_BATCH):
            if k % 2 == 0:  # two patches of each MSI
                scene = self.scenes[self.rng.integers(len(self.scenes))].astype(np.float32)
                components, spreads = observe(self.rng, scene)
                misjudged = np.exp(_MISJUDGED * self.rng.standard_normal(len(spreads))).astype(np.float32)
            n, (row, col) = len(spreads), self.rng.integers(0, _SIZE - _PATCH + 1, 2)
            patch = torch.from_numpy(components[:, row : row + _PATCH, col : col + _PATCH])
            clean[k, :n] = symmetry(patch, int(self.rng.integers(8)))
            spread[k, :n], noise[k, :n, 0, 0] = torch.from_numpy(spreads), torch.from_numpy(misjudged)
        level = 1 + (_HIGHEST_LEVEL - 1) * torch.rand(_BATCH, generator=self.generator) ** 2
        level[::3] = 1.0
        state = clean + level.view(-1, 1, 1, 1) * noise * draw(clean, self.generator)
        return clean, state, level, spread, (noise > 0).float()


def teach(network: GenericNetwork, batches: Batches, steps: int, learning_rate: float, output: Path, note: dict) -> None:
    """Teach the network in place and write it every few hundred steps and at the end."""
    optimiser = torch.optim.Adam(network.parameters(), learning_rate, betas=(0.9, 0.99))
    average = [p.detach().clone() for p in network.parameters()]
    began, losses = time.process_time(), []
    for step in range(steps):
        for group in optimiser.param_groups:
            share = min(1.0, (step + 1) / 100) * (0.505 + 0.495 * math.cos(math.pi * step / steps))
            group["lr"] = learning_rate * share
        optimiser.zero_grad(set_to_none=True)
        loss = batch_loss(network, *batches.draw())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        memory = min(_MEMORY, (step + 1) / (step + 10))
        torch._foreach_lerp_(average, [p.detach() for p in network.parameters()], 1.0 - memory)
        losses.append(loss.item())
        if (step + 1) % _CHECKPOINT_EVERY == 0 or step + 1 == steps:
            seconds = round(time.process_time() - began)
            write(output, network, average, {**note, "steps_done": step + 1, "seconds": seconds})
            print(f"{step + 1}/{steps} steps, {seconds} s, loss {np.mean(losses[-_CHECKPOINT_EVERY:]):.4f}", flush=True)
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), average, strict=True):
            parameter.copy_(value)


def batch_loss(network: GenericNetwork, clean: Tensor, state: Tensor, level: Tensor, spread: Tensor, present: Tensor) -> Tensor:
    """Squared error of the first estimate plus, for every other patch, that of the second one of a reverse process."""

    def error(noisy: Tensor, at: Tensor, k: slice) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            estimate = network(noisy, at, spread[k])
        squared = (estimate - clean[k]) ** 2 * present[k]
        return squared.sum() / (present[k].sum() * _PATCH**2), estimate.detach()

    everyone, half = slice(None), slice(None, None, 2)
    first, estimate = error(state, level, everyone)
    second, _ = error(reverse_step(state[half], estimate[half], 1.0, _SECOND_LEVEL), _SECOND_LEVEL * level[half], half)
    return first + second


def write(path: Path, network: GenericNetwork, weights: list[Tensor], note: dict) -> None:
    """Write weights in half precision, whole or not at all."""
    names = [name for name, _ in network.named_parameters()]
    tensors = {name: value.half().contiguous().clone() for name, value in zip(names, weights, strict=True)}
    made = path.with_name(f".{path.name}.part")
    made.write_bytes(save(tensors, {ENTRY: json.dumps(note)}))
    made.replace(path)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, teach, write."""
    parser = argparse.ArgumentParser(prog="python -m geofuse.diffusion.pretrain", description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path, help="safetensors file to write")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--scenes", type=int, default=500, help="how many scenes to generate (0.4 MB each)")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = GenericNetwork(options.width, options.depth)
    told = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in vars(options).items() if name != "output")
    note = {"schema": SCHEMA, "command": f"python -m geofuse.diffusion.pretrain {options.output.name} {told}"}
    note["licence"] = "Apache-2.0"
    teach(network, Batches(options.scenes, options.seed), options.steps, options.learning_rate, options.output, note)


if __name__ == "__main__":
    main()
