"""SpectraLift: spectral inversion by a small network on single pixels (Shah and Duarte 2025, arXiv 2507.13339).

The response makes an MSI on the coarse grid out of the HSI, R X. A multilayer perceptron, the spectral inversion network f, learns
to undo that by the mean absolute error,

    min_f  mean |f(R X) - X|,

and is then applied to every pixel of the fine MSI: Z = f(Y). Nothing here depends on the PSF or on the ratio, and the fused image
takes nothing from the coarse pixel that it lies in.

Departures from the authors' code: values come to [0, 1] by the least and the greatest of both images; of more than ``step_pixels``
coarse pixels each step sees a random choice, where the authors cut the image into windows; pixels with a hole in any band are left
out. On the CPU the preset ``fast`` takes smaller steps on scenes of more than 2048 coarse pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from geofuse.diffusion.random_streams import stream
from geofuse.diffusion.training_data import ValueRange
from geofuse.errors import InputError
from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads

_WEIGHTS, _ORDER = range(2)  # purposes of random streams
_FUSED_AT_ONCE = 1 << 16  # fine pixels that go through the network together
_RISING_SHARE = 0.3  # of the steps


@dataclass(frozen=True)
class SpectraLiftOptions:
    """Options of SpectraLift; the defaults are the authors', but for ``step_pixels``.

    Attributes
    ----------
    hidden
        Width of the six hidden layers.
    steps
        Steps of Adam (the authors' epochs, which are single steps on the whole image).
    first_rate, peak_rate, last_rate
        Learning rates: linear from the first to the peak in 30 % of the steps, then linear to the last.
    step_pixels
        Coarse pixels in one step at most.
    """

    hidden: int = 64
    steps: int = 2500
    first_rate: float = 1e-4
    peak_rate: float = 1e-2
    last_rate: float = 1e-6
    step_pixels: int = 1 << 16


class SpectralInversion(nn.Module):
    """Six hidden layers with leaky ReLU of slope 0.3, joined in pairs by skip connections, and a linear output layer.

    Weights start uniform in +-sqrt(6 / (inputs + outputs)) (Glorot), biases at 0.

    Parameters
    ----------
    msi_bands, bands
        c and C.
    hidden
        Width of the hidden layers.
    generator
        Source of the weights, a CPU generator.
    """

    def __init__(self, msi_bands: int, bands: int, hidden: int, generator: torch.Generator) -> None:
        """Make the layers, on the CPU."""
        super().__init__()

        def layer(inputs: int, outputs: int) -> nn.Linear:
            made = nn.utils.skip_init(nn.Linear, inputs, outputs)
            nn.init.xavier_uniform_(made.weight, generator=generator)
            nn.init.zeros_(made.bias)
            return made

        self.hidden = nn.ModuleList([layer(msi_bands, hidden), *(layer(hidden, hidden) for _ in range(5))])
        self.output = layer(hidden, bands)

    def forward(self, msi: Tensor) -> Tensor:
        """Return spectra (..., C) of pixels (..., c)."""

        def apply(number: int, values: Tensor) -> Tensor:
            return leaky_relu(self.hidden[number](values), 0.3)

        values = apply(0, msi)
        values = values + apply(1, values)
        values = values + apply(3, apply(2, values))
        values = values + apply(5, apply(4, values))
        return self.output(values)


def learning_rate(step: int, options: SpectraLiftOptions) -> float:
    """Return the learning rate of a step, counted from 1."""
    rise = _RISING_SHARE * options.steps
    if step < rise:
        return options.first_rate + (options.peak_rate - options.first_rate) * step / rise
    return options.peak_rate - (options.peak_rate - options.last_rate) * (step - rise) / (options.steps - rise)


def train(
    network: SpectralInversion, msi: Tensor, hsi: Tensor, options: SpectraLiftOptions, order: torch.Generator, report: Report
) -> list[float]:
    """Train the network to map ``msi`` (n, c) to ``hsi`` (n, C); returns the loss at every hundredth of the steps.

    ``order`` is a CPU generator that chooses the pixels of a step where there are too many. The network is left without gradients.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=options.first_rate, eps=1e-7)
    losses = []
    for step in range(1, options.steps + 1):
        optimiser.param_groups[0]["lr"] = learning_rate(step, options)
        chosen = slice(None)
        if len(hsi) > options.step_pixels:
            chosen = torch.randint(len(hsi), (options.step_pixels,), generator=order).to(hsi.device)
        loss = (network(msi[chosen]) - hsi[chosen]).abs().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if (step - 1) % max(options.steps // 100, 1) == 0:
            losses.append(float(loss.detach()))
        report("training", step, options.steps)
    network.eval().requires_grad_(False)
    return losses


class SpectraLift:
    """SpectraLift: trained once a scene on the coarse pixels of its samples, then applied to the MSI pixel by pixel."""

    Options = SpectraLiftOptions
    presets = {"paper": SpectraLiftOptions(), "fast": SpectraLiftOptions(step_pixels=2048)}
    halo = 0

    def __init__(self, options: SpectraLiftOptions | None = None) -> None:
        """Take the options; nothing is computed before :meth:`fit`."""
        self.options = options or SpectraLiftOptions()

    @staticmethod
    def default_preset(device: str) -> str:
        """Return ``paper`` for a GPU, ``fast`` for the CPU."""
        return "fast" if device == "cpu" else "paper"

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Train the network on the coarse spectra of the samples.

        Raises
        ------
        InputError
            If no pixel of the HSI has data in every band.
        """
        use_threads()
        self.model, options = model, self.options
        self.response = self._tensor(model.response)
        self.range = ValueRange.of([self._tensor(image) for s in samples for image in (s.hsi, s.msi)])
        hsi = self.range.hsi_to_unit(torch.cat([self._tensor(s.hsi[:, s.hsi_valid]) for s in samples], dim=1)).T.contiguous()
        if not len(hsi):
            raise InputError("no pixel of the hyperspectral image has data in every band; drop the bands that lack data")
        weights = stream(model.seed, _WEIGHTS)
        self.network = SpectralInversion(len(self.response), hsi.shape[1], options.hidden, weights).to(model.device)
        self.losses = train(self.network, hsi @ self.response.T, hsi, options, stream(model.seed, _ORDER), report)

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the fused tile (C, H, W) float32 in the HSI's units, within the range of the samples."""
        use_threads()
        msi = self.range.msi_to_unit(self._tensor(tile.msi), self.response).nan_to_num(nan=0.0)
        pixels = msi.flatten(1).T
        out = np.empty((self.network.output.out_features, len(pixels)), np.float32)
        for first in range(0, len(pixels), _FUSED_AT_ONCE):
            some = slice(first, first + _FUSED_AT_ONCE)
            out[:, some] = self.range.from_unit(self.network(pixels[some]).clamp(0.0, 1.0)).T.cpu().numpy()
        report("fusing", 1, 1)
        return out.reshape(-1, *msi.shape[1:])

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(array, np.float32), device=self.model.device)
