"""MossFuse: unsupervised fusion by decoupling what two images share from what each has alone (Du et al. 2025).

The network (:mod:`geofuse.methods.mossfuse_network`) learns from the two images, eq. (8)-(14): that its fused image, degraded,
gives them back; that the inputs can be restored from the decoupled features; and that shared features agree while others differ.
With ``--weights`` it comes trained from other pairs; without, it is trained on the pair at hand.

When it fuses and when it learns on the pair at hand, the degradations are the scene's own response and PSF: given, or estimated
from both images (``--srf estimate``, ``--psf estimate``). With the option ``blind`` the learning of (12) goes on from them; in
``geofuse train`` it does from the response given and a round PSF as wide as a coarse pixel. From nothing, as in the paper, (12)
alone leaves rows 10 to 63 degrees off (docs/benchmark.md).

Departures are named in the modules of the network and its layers; the largest is that the network corrects a fused image that
comes from local regression, within the scene's spectral subspace.

That image already fits the noisy MSI more closely than the clean image would, so that eq. (13) could teach it noise at most.
Learning therefore sees noisier images, and compares its result with others whose noise is independent of theirs ("recorrupted",
Pang et al. 2021): in squares, counted in the noise, the error is then that against the clean images and a constant. Beside the
MSI the network sees its detail in units of the noise. Without that detail nothing is gained in 200 steps (docs/experiments.md,
section 27). The preset ``fast`` takes a thirtieth of the paper's steps, on smaller patches.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geofuse.degradation.spatial import SpatialOperator
from geofuse.diffusion.random_streams import stream
from geofuse.errors import InputError, UsageError
from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads
from geofuse.methods.filling import whole_pair
from geofuse.methods.mossfuse_layers import collecting
from geofuse.methods.mossfuse_network import WIDTH, Degradation, LossWeights, MossFuseNetwork, losses, recorrupted, whitened_gap
from geofuse.methods.mossfuse_start import MEDIAN, SceneStatistics
from geofuse.methods.trainable import Plan, TrainingDefaults
from geofuse.methods.trained_method import TrainedMethod
from geofuse.methods.weights import Card
from geofuse.training import PatchSampler, TrainingOptions, TrainingScene, train

_WEIGHTS, _BATCHES, _WINDOWS = range(40, 43)  # purposes of random streams
_LEAST_RATE = 1e-3  # of the learning rate, at the end
_LEAST_PATCH = 4  # coarse pixels
_SCENE_WINDOWS = 8  # patches that what is scene-wide is computed from
_WITHIN_NOISE = 1.25  # times what noise alone would leave, in the median over pixels and bands


@dataclass(frozen=True)
class MossFuseOptions:
    """Options of MossFuse; the defaults are the paper's.

    Attributes
    ----------
    steps, batch, patch
        Of learning from the pair at hand: optimiser steps, patches in each, their side in fine pixels (halved where no patch is
        free of missing pixels).
    learning_rate
        At the start; it falls along a cosine to a thousandth.
    width
        Channels of the features, a multiple of 4; shapes the network.
    blind
        Learn PSF and SRF on, from those that the pair came with.
    recorrupt
        In learning, noise of this share of the images' own is added to them, and the fused image is compared with images from which
        noise was taken in return (see the module's text); 0 has eq. (13) as the paper has it, and so has a pair at hand that the
        first estimate misses by more than the noise.
    clustering, constraint, degradation
        Weights of eq. (14).
    attract, repel, coarse_msi
        Whether the parts of eq. (8) and eq. (10) take part (Table 3's ablations).
    """

    steps: int = 6000
    batch: int = 1
    patch: int = 128
    learning_rate: float = 1e-3
    width: int = WIDTH
    blind: bool = False
    recorrupt: float = 0.5
    clustering: float = 0.1
    constraint: float = 1.0
    degradation: float = 1.0
    attract: bool = True
    repel: bool = True
    coarse_msi: bool = True

    def __post_init__(self) -> None:
        """Refuse a width that cannot be split into heads, and a negative share of noise.

        Raises
        ------
        UsageError
            If the width is not a multiple of 4, or ``recorrupt`` is below 0.
        """
        if self.recorrupt < 0:
            raise UsageError(f"recorrupt is a share of the noise, 0 or more, found {self.recorrupt}")
        if self.width % 4 or self.width < 4:
            raise UsageError(f"width must be a multiple of 4, found {self.width}")

    @property
    def loss_weights(self) -> LossWeights:
        """The weights of the losses."""
        return LossWeights(self.clustering, self.constraint, self.degradation, self.attract, self.repel, self.coarse_msi)


class MossFuseModel(nn.Module):
    """The network and, beside it, the degradation that it may learn."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, width: int) -> None:
        """Build both."""
        super().__init__()
        self.network, self.degradation = MossFuseNetwork(bands, msi_bands, ratio, width), Degradation(bands, msi_bands, ratio)


@dataclass(frozen=True)
class KnownDegradation:
    """The scene's own PSF, and its response in the images' scales (c, C)."""

    model: SceneModel
    response: Tensor

    def blur(self, fine: Tensor) -> Tensor:
        """Apply H: (B, n, H, W) to (B, n, h, w)."""
        return SpatialOperator(self.model.psf, self.model.ratio, *fine.shape[2:]).forward(fine)

    def respond(self, spectra: Tensor) -> Tensor:
        """Apply R along the bands: (B, C, ...) to (B, c, ...)."""
        return torch.einsum("ck,bkhw->bchw", self.response, spectra)


class MossFuseRecipe:
    """One step of training; ``known`` None has the degradation learnt."""

    def __init__(self, options: MossFuseOptions, plan: Plan, known: KnownDegradation | None = None) -> None:
        """Take options and plan, and how far from a patch's border a blur is not known."""
        self.options, self.plan, self.known = options, plan, known
        ratio = plan.sampler.ratio
        reach = 2 * ratio if known is None else SpatialOperator(known.model.psf, ratio, 8 * ratio, 8 * ratio).reach
        self.margin = min(-(-reach // ratio), (plan.sampler.side - 1) // 2)

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        """Draw a batch and return the total loss, eq. (14); in float32, as bfloat16 is coarser than the errors sought."""
        batch = self.plan.sampler.sample(self.plan.batch, generator)
        hsi, msi = batch.hsi.to(self.plan.device), batch.msi.to(self.plan.device)
        how, weights, alpha = self.known or network.degradation, self.options.loss_weights, self.options.recorrupt
        with torch.autocast(hsi.device.type, enabled=False):
            if not alpha:
                found = network.network(hsi, msi, how.blur(msi).detach())
                return losses(found, hsi, msi, how.blur, how.respond, weights, self.margin).total(weights)
            scenes = network.network.estimate.scenes(hsi, msi, how.blur(msi).detach())
            hsi_noise, msi_noise = (torch.stack([getattr(s, name) for s in scenes]) for name in ("hsi_noise", "noise"))
            seen_hsi, other_hsi = recorrupted(hsi, hsi_noise, alpha, generator)
            seen_msi, other_msi = recorrupted(msi, msi_noise, alpha, generator)
            found = network.network(seen_hsi, seen_msi, how.blur(seen_msi).detach())
            terms = losses(found, hsi, msi, how.blur, how.respond, weights, self.margin)
            rows, cols = (slice(self.margin, size - self.margin) for size in hsi.shape[2:])
            gap = whitened_gap(how.respond(found.fused), other_msi, msi_noise)
            gap = gap + whitened_gap(how.blur(found.fused)[..., rows, cols], other_hsi[..., rows, cols], hsi_noise)
            return dataclasses.replace(terms, aggregation=gap).total(weights)

    def learning_rate(self, step: int) -> float:
        """Fall along a cosine to a thousandth."""
        share = 0.5 * (1.0 + math.cos(math.pi * step / max(self.plan.steps, 1)))
        return self.plan.learning_rate * (_LEAST_RATE + (1.0 - _LEAST_RATE) * share)

    def frozen(self, network: nn.Module, step: int) -> Iterable[nn.Parameter]:
        """Nothing is frozen."""
        return ()


class MossFuse(TrainedMethod):
    """MossFuse; see the module's text."""

    Options = MossFuseOptions
    presets = {"fast": MossFuseOptions(steps=200, patch=64), "paper": MossFuseOptions()}
    training = TrainingDefaults(steps=6000, batch=1, patch=128, learning_rate=1e-3)
    grid = 1
    needs_reference = False
    needs_weights = False
    starts_from_noise = False
    network: MossFuseModel | None = None
    known: KnownDegradation | None = None  # None: the network's own

    @staticmethod
    def default_preset(device: str) -> str:
        """Return ``paper`` for a GPU, ``fast`` for the CPU."""
        return "fast" if device == "cpu" else "paper"

    @property
    def halo(self) -> int:
        """Coarse pixels beyond its core that a tile needs: what the network sees, at the smallest ratio."""
        return -(-MossFuseNetwork.reach // 2)

    def shape_options(self) -> Mapping[str, Any]:
        """Return the options that shape the network, for the card."""
        return {"width": self.options.width}

    def make_network(self, card: Card, generator: torch.Generator) -> MossFuseModel:
        """Return a new network with random weights from ``generator``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            made = MossFuseModel(card.bands, card.msi_bands, card.ratio, self.options.width)
            made.degradation.start_from(torch.from_numpy(np.asarray(card.response, np.float32)))
            return made.to(memory_format=torch.channels_last)

    def recipe(self, plan: Plan) -> MossFuseRecipe:
        """Return what one step of training does; the degradation is learnt."""
        return MossFuseRecipe(self.options, plan)

    def sample(self, network: nn.Module, hsi: Tensor, msi: Tensor, noise: Tensor) -> Tensor:
        """Fuse in one pass; no noise takes part."""
        return network.network.fuse(hsi, msi, (self.known or network.degradation).blur(msi))

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Learn from sample windows of the scene, unless weights were given, and keep what is scene-wide.

        Raises
        ------
        InputError
            If the images have no values above zero, or nowhere a few coarse pixels without missing ones between them.
        """
        use_threads()
        trained, options = self.network is not None, self.options
        if not trained:
            bands, msi_bands = model.response.shape[1], len(model.response)
            card = Card("mossfuse", bands, msi_bands, model.ratio, model.wavelength_nm, model.response, "", {}, ())
            self.network = self.make_network(card, stream(model.seed, _WEIGHTS))
        super().fit(model, samples, report)
        response = torch.as_tensor(model.response * (self.scales.hsi / self.scales.msi), dtype=torch.float32, device=model.device)
        self.known = None if options.blind else KnownDegradation(model, response)
        scenes = [
            TrainingScene("", s.hsi.astype(np.float32) / self.scales.hsi, s.msi.astype(np.float32) / self.scales.msi)
            for s in samples
        ]
        sampler = _whole_patches(scenes, options.patch)
        if not trained:
            if options.blind:
                self.network.degradation.start_from(response, model.psf)
            self._see_scene(samples)
            plan = Plan(sampler, options.steps, options.batch, options.learning_rate, model.response, model.device)
            length = TrainingOptions(options.steps, max(options.steps, 1), memory=0.99)
            if not self._starts_within_the_noise(sampler):
                options = dataclasses.replace(options, recorrupt=0.0)
            recipe = MossFuseRecipe(options, plan, self.known)
            train(self.network, recipe, length, stream(model.seed, _BATCHES), report=report)
        self.network.requires_grad_(False)
        self._see_scene(samples)
        with collecting(self.network):
            self._see_windows(sampler)

    def _see_scene(self, samples: Sequence[TileData]) -> None:
        """Take from the sample windows what the first estimate needs of the whole scene."""
        how, windows = self.known or self.network.degradation, []
        with torch.no_grad():
            for sample in samples:
                pair = whole_pair(sample, self.model, self.mean)
                hsi, msi = pair.hsi / self.scales.hsi, pair.msi / self.scales.msi
                windows.append((hsi, msi, how.blur(msi[None])[0]))
        self.network.network.estimate.scene = SceneStatistics.of(windows)

    def _starts_within_the_noise(self, sampler: PatchSampler) -> bool:
        """Tell whether the first estimate meets both images about as closely as their noise lets the clean image, or closer.

        Then eq. (13) has nothing but noise to teach. Otherwise, as with images that have next to no noise, errors in units of the
        noise would be errors of the model: learning from them lost a third on a scene without noise.
        """
        batch = sampler.sample(_SCENE_WINDOWS, stream(self.model.seed, _WINDOWS))
        hsi, msi = batch.hsi.to(self.model.device), batch.msi.to(self.model.device)
        how, estimate = self.known or self.network.degradation, self.network.network.estimate
        with torch.no_grad():
            scenes = estimate.scenes(hsi, msi, how.blur(msi))
            start = estimate(scenes, hsi, msi, how.blur(msi))
            for seen, image, name in ((how.respond(start), msi, "noise"), (how.blur(start), hsi, "hsi_noise")):
                noise = torch.stack([getattr(scene, name) for scene in scenes])[:, :, None, None]
                if ((seen - image) / noise).abs().median() > _WITHIN_NOISE * MEDIAN:
                    return False
        return True

    def _see_windows(self, sampler: PatchSampler) -> None:
        """Fuse the windows of the scene from which blocks that are collecting keep what is scene-wide."""
        self.network.eval()
        batch = sampler.sample(_SCENE_WINDOWS, stream(self.model.seed, _WINDOWS))
        with torch.no_grad():
            self.sample(self.network, batch.hsi.to(self.model.device), batch.msi.to(self.model.device), batch.hsi)


def _whole_patches(scenes: Sequence[TrainingScene], patch: int) -> PatchSampler:
    """Sample patches of this side, or of the largest of its halves that fits between the missing pixels."""
    least = _LEAST_PATCH * scenes[0].ratio
    while True:
        try:
            return PatchSampler(scenes, patch)
        except InputError:
            if patch // 2 < least:
                why = f"nowhere have both images {patch} x {patch} fine pixels without missing ones"
                raise InputError(f"{why}, which mossfuse needs; check the masks or use another method") from None
            patch //= 2
