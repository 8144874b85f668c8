"""MIAE, a model-inspired autoencoder (Liu, Wu, Xiao and Wu 2022, IEEE TGRS 60, doi 10.1109/TGRS.2022.3143156).

The fine image is factored without negative numbers, Z = E S: the p spectra E (C, p) are the decoder's weights, and how much of each
a pixel holds, S (p, pixels), is what the encoder returns. The encoder unfolds an iteration for the pixel-wise fusion problem

    min_S  ||X_up - E S||^2 + ||Y - R E S||^2 + prior(S)

into layers on single pixels, X_up being the HSI interpolated bilinearly and Y the MSI:

    f = two layers of X_up,  g = a layer of Y,  S_1 = layer(f, g),  S_k = layer(layer(S_k-1), f, g)  for k = 2 ... K.

Encoder and decoder are trained together, patch by patch, on what the two images say of Z: ||H(Z) - X||_1 + ||R Z - Y||_1.

Departures from the authors' code: H and R are the scene's, not estimated blindly; values come to [0, 1] by the least and greatest
of both images; pixels near a border are mirrored there, as in H itself, rather than left out; patches widen with the PSF, so that
their cores (3 coarse pixels a side, the authors' stride) cover the scene exactly once; the two terms are those of the scene as
estimated from a step's patches, where the authors' grow with the number of patches too; pixels without data weigh nothing.

On the CPU the preset ``fast`` takes fewer and smaller steps, about a hundredth of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from geofuse.diffusion.random_streams import stream
from geofuse.diffusion.training_data import ValueRange
from geofuse.errors import InputError
from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads
from geofuse.methods.miae_patches import Batch, Patches, fill_holes

_WEIGHTS, _ORDER = range(2)  # purposes of random streams
_FUSED_AT_ONCE = 1 << 15  # fine pixels that go through the network together


@dataclass(frozen=True)
class MiaeOptions:
    """Options of MIAE; the defaults are the authors'.

    Attributes
    ----------
    spectra
        Number p of spectra in the decoder.
    stages
        Number K of estimates of S.
    steps
        Steps of Adam.
    learning_rate
        Of Adam; kept for a tenth of the steps, then lowered linearly to zero.
    weight_decay
        Of Adam, its L2 term.
    step_pixels
        Fine pixels in the patches of one step: the authors' 100 patches of 20 x 20 at ratio 4, 25 of 40 x 40 at ratio 8.
    core
        Side of a patch's core in coarse pixels; a margin as wide as the PSF's reach comes on all sides.
    """

    spectra: int = 80
    stages: int = 3
    steps: int = 10_000
    learning_rate: float = 5e-3
    weight_decay: float = 1e-3
    step_pixels: int = 40_000
    core: int = 3


class MiaeNetwork(nn.Module):
    """Encoder and decoder on single pixels; every layer of the encoder ends in a leaky ReLU of slope 0.2.

    Weights start normal with variance 1 / inputs, biases at 0, all of E at 1 / p.

    Parameters
    ----------
    bands, msi_bands
        C and c.
    options
        Gives p and K.
    generator
        Source of the weights, a CPU generator.
    """

    def __init__(self, bands: int, msi_bands: int, options: MiaeOptions, generator: torch.Generator) -> None:
        """Make the layers, on the CPU."""
        super().__init__()
        p = options.spectra

        def layer(inputs: int) -> nn.Linear:
            made = nn.utils.skip_init(nn.Linear, inputs, p)
            nn.init.trunc_normal_(made.weight, std=inputs**-0.5, generator=generator)
            nn.init.zeros_(made.bias)
            return made

        self.spectra = nn.Parameter(torch.full((p, bands), 1.0 / p))  # E transposed
        self.from_hsi = nn.ModuleList([layer(bands), layer(p)])
        self.from_msi = layer(msi_bands)
        self.start = layer(2 * p)
        self.updates = nn.ModuleList([nn.ModuleList([layer(p), layer(3 * p)]) for _ in range(options.stages - 1)])

    def encode(self, hsi: Tensor, msi: Tensor) -> Tensor:
        """Return S (..., p) in [0, 1] for pixels with interpolated HSI (..., C) and MSI (..., c) in [0, 1]."""

        def apply(layer: nn.Module, *inputs: Tensor) -> Tensor:
            return leaky_relu(layer(torch.cat(inputs, dim=-1)), 0.2)

        f = apply(self.from_hsi[1], apply(self.from_hsi[0], hsi))
        g = apply(self.from_msi, msi)
        s = apply(self.start, f, g)
        for alone, together in self.updates:
            s = apply(together, apply(alone, s), f, g)
        return s.clamp(0.0, 1.0)

    def forward(self, hsi: Tensor, msi: Tensor) -> Tensor:
        """Return the fine spectra (..., C) in [0, 1]."""
        return (self.encode(hsi, msi) @ self.spectra).clamp(0.0, 1.0)


def fidelity(network: MiaeNetwork, patches: Patches, batch: Batch, response: Tensor) -> Tensor:
    """Return ||H(Z) - X||_1 + ||R Z - Y||_1 over the whole scene, estimated from a batch of patches; ``response`` is R (c, C)."""
    fine = network(batch.hsi_up, batch.msi)
    from_hsi = ((patches.blur(fine) - batch.hsi).abs() * batch.hsi_weight).sum() / batch.hsi_weight.sum().clamp(min=1.0)
    seen = patches.inside(fine) @ response.T
    from_msi = ((seen - batch.msi_core).abs() * batch.msi_weight).sum() / batch.msi_weight.sum().clamp(min=1.0)
    return patches.weighed[0] * from_hsi + patches.weighed[1] * from_msi


def train(
    network: MiaeNetwork, patches: Patches, response: Tensor, options: MiaeOptions, order: torch.Generator, report: Report
) -> list[float]:
    """Train the network; returns the loss at every hundredth of the steps, and leaves the network without gradients.

    ``order`` is a CPU generator that shuffles the patches.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    held = options.steps // 10
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: 1.0 - max(0, i - held) / max(options.steps - held, 1))
    numbers = patches.shuffled(max(1, min(options.step_pixels // patches.side**2, len(patches))), order)
    losses = []
    for step in range(options.steps):
        loss = fidelity(network, patches, patches.gather(next(numbers)), response)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            network.spectra.clamp_(0.0, 1.0)
        if step % max(options.steps // 100, 1) == 0:
            losses.append(float(loss.detach()))
        report("training", step + 1, options.steps)
    network.eval().requires_grad_(False)
    return losses


class Miae:
    """MIAE: trained once a scene on patches of its samples, then applied pixel by pixel."""

    Options = MiaeOptions
    presets = {"paper": MiaeOptions(), "fast": MiaeOptions(steps=3000, step_pixels=1600)}
    halo = 2  # a hole is filled from one coarse pixel away, the interpolation reaches one further

    def __init__(self, options: MiaeOptions | None = None) -> None:
        """Take the options; nothing is computed before :meth:`fit`."""
        self.options = options or MiaeOptions()

    @staticmethod
    def default_preset(device: str) -> str:
        """Return ``paper`` for a GPU, ``fast`` for the CPU."""
        return "fast" if device == "cpu" else "paper"

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Train the network on sample windows of the scene.

        Raises
        ------
        InputError
            If no coarse pixel has data in both images as far as its PSF reaches.
        """
        use_threads()
        self.model, options = model, self.options
        self.response = self._tensor(model.response)
        images = [(self._tensor(s.hsi), self._tensor(s.msi)) for s in samples]
        self.range = ValueRange.of([image for pair in images for image in pair])
        images = [(self.range.hsi_to_unit(hsi), self.range.msi_to_unit(msi, self.response)) for hsi, msi in images]
        spectra = torch.cat([hsi.flatten(1) for hsi, _ in images], dim=1)
        self.mean = spectra.nanmean(dim=1).nan_to_num(nan=0.0)
        self.patches = patches = Patches(model, options.core)
        for (hsi, msi), sample in zip(images, samples, strict=True):
            patches.add(hsi, msi, sample.edges, self.mean)
        if not patches.weighed[0]:
            raise InputError("no pixel of the HSI has data in both images as far as its PSF reaches; check masks and overlap")
        bands, weights = len(self.mean), stream(model.seed, _WEIGHTS)
        self.network = MiaeNetwork(bands, len(self.response), options, weights).to(model.device)
        self.losses = train(self.network, patches, self.response, options, stream(model.seed, _ORDER), report)

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the fused tile (C, H, W) float32 in the HSI's units, within the range of the samples."""
        use_threads()
        ratio, (height, width) = self.model.ratio, tile.hsi.shape[1:]
        hsi = fill_holes(self.range.hsi_to_unit(self._tensor(tile.hsi)), self.mean)
        hsi = torch.cat([hsi[:, :1], hsi, hsi[:, -1:]], dim=1)
        msi = self.range.msi_to_unit(self._tensor(tile.msi), self.response).nan_to_num(nan=0.0)
        out = np.empty((len(hsi), height * ratio, width * ratio), np.float32)
        count = max(1, _FUSED_AT_ONCE // (width * ratio**2))  # coarse rows
        for first in range(0, height, count):
            last = min(first + count, height)
            rows = slice(first * ratio, last * ratio)
            around = interpolate(hsi[None, :, first : last + 2], scale_factor=ratio, mode="bilinear", align_corners=False)
            hsi_up = around[0, :, ratio:-ratio].permute(1, 2, 0)
            fine = self.network(hsi_up, msi[:, rows].permute(1, 2, 0))
            out[:, rows] = self.range.from_unit(fine).permute(2, 0, 1).cpu().numpy()
            report("fusing", last, height)
        return out

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(array, np.float32), device=self.model.device)
