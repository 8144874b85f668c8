"""A method that says it is out of memory on a device, where a test wants it to."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class HungryOptions:
    """How much the pretended device holds: pixels along a side when fusing, patches of a batch when learning."""

    side: int = 1000
    room: int = 1000
    batch: int = 1


class Hungry:
    """Repeats the HSI's pixels."""

    Options = HungryOptions
    presets = {"default": HungryOptions()}
    halo = 2

    def __init__(self, options=None):
        self.options = options or HungryOptions()

    @staticmethod
    def default_preset(device):
        return "default"

    def fit(self, model, samples, report):
        if model.device != "cpu" and self.options.batch > self.options.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.model = model

    def fuse(self, tile, report):
        if self.model.device != "cpu" and max(tile.msi.shape) > self.options.side:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return tile.hsi.repeat(self.model.ratio, 1).repeat(self.model.ratio, 2)
