"""ARGS-Diff: self-learning, adaptive residual guided subspace diffusion (Zhu et al., CVPR 2025).

``--preset paper`` is the paper's algorithm (:mod:`argsdiff_paper`). The presets ``fast`` and ``balanced`` keep its parts, a
spectral and a spatial diffusion model learnt from the two images and a reverse process guided by both residuals, and change what
made it slow:

* The reverse process starts from the learning-free pilot (:mod:`subspace`) at the level of its known error instead of from pure
  noise: in coordinates with unit noise the observed MSI itself is a diffusion state (:mod:`geofuse.diffusion.ambient`), and two
  levels are left to go. Starting higher was measured and loses (docs/experiments.md).
* The networks learn from the noisy images without taking noise for texture, the spatial one along the very reverse process that
  will use it, so a few hundred steps of small networks suffice.
* Components are aligned with both images by an exact solve in place of one gradient step: with A's visible part from the spatial
  network and E from the spectral one, the rest of A follows from local regression and the penalised least-squares problem, whose
  weights are the errors that the networks are estimated to make.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from geofuse.degradation.symmetry import symmetry, undo_symmetry
from geofuse.diffusion.ambient import PROBE_STEP, draw, residual_weight, reverse_step
from geofuse.diffusion.options import PaperOptions
from geofuse.diffusion.random_streams import stream
from geofuse.diffusion.self_learning import (
    LearningOptions,
    TextureSampler,
    teach_spectrum,
    teach_texture,
    unit_noise_denoiser,
)
from geofuse.diffusion.spectrum_network import SpectrumNetwork
from geofuse.diffusion.texture_network import TextureNetwork
from geofuse.methods.argsdiff_paper import PaperArgsDiff
from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads
from geofuse.methods.local_regression import texture_gain
from geofuse.methods.prior import Prior, TurnedNetwork
from geofuse.methods.spectral_basis import SpectralBasis, SubspaceImage
from geofuse.methods.subspace import Subspace, SubspaceOptions, TileProblem

_TEXTURE, _SPECTRUM, _PROBE = range(10, 13)  # purposes of random streams; the paper preset has 0 to 4
_LEAST_ERROR = 0.15  # of a component's estimate, in units of the MSI's noise variance
_VARIANCE_BY_GAIN = 3.0  # the prediction's variance over what the pilot takes, by the MSI's texture gain, once the MSI is clean
_STRIP_PIXELS = 2**16
_CALIBRATION_PIXELS, _CALIBRATION_SIDE = 2**16, 64  # errors of larger samples are estimated on windows of them, spread evenly


@dataclass(frozen=True)
class FastOptions:
    """Options of the presets ``fast`` and ``balanced``.

    Attributes
    ----------
    rank
        Dimension d of the spectral subspace; by default found from the noise.
    spatial_steps, spectral_steps
        Optimiser steps of the two networks; 0 leaves a component as the pilot has it.
    width, depth
        Channels and inner convolutions of the spatial network.
    patch, batch
        Side in pixels and number of the patches of one step.
    reverse_levels
        Levels of the reverse process in units of the MSI's noise, falling from 1, where the observed MSI stands.
    symmetries
        Over how many symmetries of the square the spatial network's estimates are averaged, 1 to 8.
    adaptation
        Share of the steps that networks from a prior still learn, 0 to 1; without a prior it has no say, nor have width and depth
        with one.
    """

    rank: int | None = None
    spatial_steps: int = 300
    spectral_steps: int = 300
    width: int = 32
    depth: int = 4
    patch: int = 64
    batch: int = 1
    reverse_levels: tuple[float, ...] = (1.0, 0.5)
    symmetries: int = 8
    adaptation: float = 0.25


class ArgsDiff:
    """ARGS-Diff in its presets; see the module's text."""

    Options = FastOptions
    presets = {"fast": FastOptions(), "balanced": FastOptions(spatial_steps=900, batch=2), "paper": PaperOptions()}

    def __new__(cls, options: FastOptions | PaperOptions | None = None) -> ArgsDiff | PaperArgsDiff:
        """Make the implementation that the options are for."""
        return PaperArgsDiff(options) if isinstance(options, PaperOptions) else super().__new__(cls)

    def __init__(self, options: FastOptions | None = None) -> None:
        """Take the options; nothing is computed before :meth:`fit`."""
        self.options = options or FastOptions()
        self.pilot = Subspace(SubspaceOptions(self.options.rank))
        self._prior: Prior | None = None

    @staticmethod
    def default_preset(device: str) -> str:
        """Return ``balanced`` on a GPU and ``fast`` on the CPU."""
        return "balanced" if device.startswith("cuda") else "fast"

    @property
    def halo(self) -> int:
        """Coarse pixels that a tile needs beyond its core: the pilot's and, within it, the spatial network's reach."""
        return self.pilot.halo

    @property
    def parameter_count(self) -> int:
        """Number of learnt parameters of the two networks, after :meth:`fit`."""
        return sum(p.numel() for network in (self.texture, self.spectrum) for p in network.parameters())

    def adopt_prior(self, prior: Prior) -> None:
        """Start learning from these networks and adapt them in a fraction of the steps; called before :meth:`fit`."""
        self._prior = prior

    def learnt_prior(self) -> Prior:
        """Return the two networks and the view of the MSI that belongs to them, after :meth:`fit`."""
        texture = self.texture.network if isinstance(self.texture, TurnedNetwork) else self.texture
        return Prior(texture, self.spectrum, self.texture_view)

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Fit the pilot, learn the spectral component and rebuild the pilot on it, learn the spatial component.

        Raises
        ------
        InputError
            If the samples hold too few pixels with data.
        """
        use_threads()
        self.model = model
        self.pilot.fit(model, samples, report)
        basis = self._learn_spectral_component(samples, report)
        self.pilot.adopt(basis, self.pilot.state.view, samples)
        self._learn_spatial_component(samples, report)

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the fused tile (C, H, W) float32 in the HSI's units."""
        return np.asarray(self.fuse_by_band(tile, report))

    def fuse_by_band(self, tile: TileData, report: Report) -> SubspaceImage:
        """Return the fused tile (C, H, W) in the HSI's units, its bands still to be computed."""
        use_threads()
        with torch.no_grad():
            return self.pilot.to_image(self._reverse(self.pilot.prepare(tile), report))

    def _learn_spectral_component(self, samples: Sequence[TileData], report: Report) -> SpectralBasis:
        """Learn the distribution of spectra and take the noise out of the pilot's basis vectors with it."""
        options, basis = self.options, self.pilot.state.basis
        spectra = np.concatenate([s.hsi[:, s.hsi_valid] for s in samples], axis=1)
        whitened = (spectra - basis.mean[:, None]) / basis.noise[:, None]
        variance, directions = np.linalg.eigh(whitened @ whitened.T / whitened.shape[1])
        variance, directions = (self._tensor(np.ascontiguousarray(a)) for a in (variance[::-1], directions[:, ::-1]))
        if self._prior:
            self.spectrum = copy.deepcopy(self._prior.spectrum).to(self.model.device)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**31, (1,), generator=stream(self.model.seed, _SPECTRUM))))
                self.spectrum = SpectrumNetwork(len(basis.mean), width=16, depth=2).to(self.model.device)
        learning = self._learning(options.spectral_steps, 5e-3, 32)
        teach_spectrum(self.spectrum, variance.clamp(min=0), directions, learning, stream(self.model.seed, _SPECTRUM), report)
        with torch.no_grad():
            return self._cleaned_basis(basis, whitened.shape[1], variance[: basis.rank])

    def _cleaned_basis(self, basis: SpectralBasis, n_spectra: int, variance: torch.Tensor) -> SpectralBasis:
        """Estimate clean basis vectors: scaled by their singular values they carry unit noise, the spectral network's level 1."""
        scaled = self._tensor(basis.directions.T) * (n_spectra * variance).sqrt()[:, None]
        estimate = unit_noise_denoiser(self.spectrum)(scaled, torch.ones(len(scaled), device=scaled.device))
        orthonormal, triangle = np.linalg.qr(estimate.cpu().numpy().T.astype(np.float64))
        return replace(basis, directions=orthonormal * np.sign(np.diag(triangle)))

    def _learn_spatial_component(self, samples: Sequence[TileData], report: Report) -> None:
        """Learn the distribution of the MSI's components, then estimate how well the network does."""
        options = self.options
        problems = [self.pilot.prepare(s) for s in samples]
        sampler = TextureSampler([p.data.fine for p in problems], [p.data.fine_weight for p in problems], options.patch)
        self.texture_view = view = self.pilot.state.view
        if self._prior:
            self.texture_view = self._prior.align(view)
            texture = TurnedNetwork(copy.deepcopy(self._prior.texture), self.texture_view.axes @ np.linalg.inv(view.axes))
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**31, (1,), generator=stream(self.model.seed, _TEXTURE))))
                texture = TextureNetwork(torch.as_tensor(view.spread), options.width, options.depth)
        self.texture = texture.to(self.model.device, memory_format=torch.channels_last)
        learning = self._learning(options.spatial_steps, 1e-2, options.batch)
        teach_texture(self.texture, sampler, options.reverse_levels, learning, stream(self.model.seed, _TEXTURE), report)
        self._calibrate(problems)
        if learning.steps or self._prior:
            gain = texture_gain([(p.msi_on_coarse, p.regression_weight) for p in problems], problems[0].data.fine_noise)
            self.pilot.precision = self.pilot.precision / (_VARIANCE_BY_GAIN * gain)

    @torch.no_grad()
    def _calibrate(self, problems: Sequence[TileProblem]) -> None:
        """Estimate, by component, the network's error variance and how much of the MSI's residual to add back."""
        generator = stream(self.model.seed, _PROBE)
        power, divergence, count = 0.0, 0.0, 0.0
        for observed, mask in calibration_windows([(p.data.fine, p.data.fine_weight) for p in problems]):
            probe = draw(observed, generator)
            estimate = self.unguided(observed)
            moved = self.unguided(observed + PROBE_STEP * probe)
            power = power + ((estimate - observed) ** 2 * mask).sum(dim=(1, 2))
            divergence = divergence + (probe * (moved - estimate) / PROBE_STEP * mask).sum(dim=(1, 2))
            count = count + mask.sum()
        power, divergence = power / count, divergence / count
        self.residual_weight = residual_weight(power, divergence)
        keep = 1.0 - self.residual_weight
        error = keep**2 * power - 1.0 + 2.0 * (keep * divergence + self.residual_weight)
        self.error = error.clamp(_LEAST_ERROR, 1.0)

    def _reverse(self, problem: TileProblem, report: Report) -> torch.Tensor:
        """Run the reverse process on a tile and return its coefficients (d, H, W)."""
        levels, data = self.options.reverse_levels, problem.data
        state = data.fine
        for step, level in enumerate(levels):
            estimate = self._estimate(state, level)
            estimate = estimate + self.residual_weight[:, None, None] * (data.fine - estimate)
            coefficients = self._align(problem, estimate)
            if step + 1 < len(levels):
                aligned = torch.einsum("cd,dhw->chw", data.mixing, coefficients)
                state = reverse_step(state, aligned, level, levels[step + 1])
            report("reverse diffusion", step + 1, len(levels))
        return coefficients

    def unguided(self, observed: torch.Tensor) -> torch.Tensor:
        """Run the reverse process on the spatial component alone and return its last estimate."""
        levels, state = self.options.reverse_levels, observed
        for step, level in enumerate(levels):
            estimate = self._estimate(state, level)
            if step + 1 < len(levels):
                state = reverse_step(state, estimate, level, levels[step + 1])
        return estimate

    def _align(self, problem: TileProblem, visible: torch.Tensor) -> torch.Tensor:
        """Find the coefficients that agree with the estimate of what the MSI sees, the HSI and the local regression."""
        data = replace(problem.data, fine=visible, fine_noise=self.error.sqrt())
        return self.pilot.solve(replace(problem, data=data))

    def _estimate(self, state: torch.Tensor, level: float) -> torch.Tensor:
        """Estimate the clean components (c, H, W) of a state, averaged over symmetries; on the CPU in strips, for its caches."""
        levels, total = torch.tensor([level], device=state.device), torch.zeros_like(state)
        height, width = state.shape[1:]
        rows = max(_STRIP_PIXELS // width, 2 * self.texture.reach) if state.device.type == "cpu" else height
        for first in range(0, height, rows):
            top, last = max(first - self.texture.reach, 0), min(first + rows, height)
            strip = state[:, top : last + self.texture.reach]
            for index in range(self.options.symmetries):
                turned = symmetry(strip, index)[None].contiguous(memory_format=torch.channels_last)
                total[:, first:last] += undo_symmetry(self.texture(turned, levels)[0], index)[:, first - top : last - top]
        return total / self.options.symmetries

    def _learning(self, steps: int, learning_rate: float, batch: int) -> LearningOptions:
        """How to teach a network: as given from zero, in fewer steps from a prior."""
        share = self.options.adaptation if self._prior else 1.0
        return LearningOptions(round(share * steps), learning_rate, batch)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.asarray(array, np.float32), device=self.model.device)


def calibration_windows(images: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Choose what the networks' errors are estimated on: all of a small scene, else windows spread evenly, so that cost is bounded.

    Parameters
    ----------
    images
        Sample windows of the scene, each (c, H, W) and its weights (H, W).

    Returns
    -------
    Pairs of the same kind. Where the samples hold more than 2^16 pixels: at most 16 windows of 64 x 64 that have some weight.
    """
    if sum(weight.numel() for _, weight in images) <= _CALIBRATION_PIXELS:
        return list(images)
    side, parts = _CALIBRATION_SIDE, []
    for image, weight in images:
        rows, cols = (range(0, max(size - side, 0) + 1, side) for size in weight.shape)
        cuts = [(slice(r, r + side), slice(c, c + side)) for r in rows for c in cols]
        parts += [(image[:, *cut], weight[cut]) for cut in cuts if bool((weight[cut] > 0).any())]
    parts = parts or list(images)
    chosen = np.unique(np.linspace(0, len(parts) - 1, _CALIBRATION_PIXELS // side**2).round().astype(int))
    return [parts[i] for i in chosen]
