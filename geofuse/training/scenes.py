"""What networks are trained on: pairs in memory, scaled to about [0, 1], and the patches drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geofuse.degradation.symmetry import symmetry
from geofuse.errors import InputError, UsageError

_TOP_PERCENT = 99.9
_SCALE_PIXELS = 1_000_000  # values that a percentile is taken of, at most


@dataclass(frozen=True)
class Scales:
    """What the two images of a scene are divided by: their 99.9th percentile, over all bands.

    A network thus sees values of about [0, 1] whatever the units of a scene.
    """

    hsi: float
    msi: float

    @classmethod
    def of(cls, hsi: Sequence[np.ndarray], msi: Sequence[np.ndarray]) -> Scales:
        """Find them from windows (C, h, w) and (c, H, W) of a scene, NaN where there is no data.

        Raises
        ------
        InputError
            If an image has no value above zero.
        """
        return cls(_top(hsi, "HSI"), _top(msi, "MSI"))


def _top(windows: Sequence[np.ndarray], name: str) -> float:
    """Return the high percentile of all finite values."""
    values = np.concatenate([window[np.isfinite(window)].ravel() for window in windows])
    values = values[:: max(1, len(values) // _SCALE_PIXELS)]
    top = float(np.percentile(values, _TOP_PERCENT)) if len(values) else 0.0
    if not top > 0:
        raise InputError(f"the {name} has no values above zero (99.9th percentile {top:g}); networks need images with data")
    return top


@dataclass(frozen=True)
class TrainingScene:
    """One pair to learn from, scaled.

    Attributes
    ----------
    name
        What it is called in messages and in the weights.
    hsi, msi
        (C, h, w) and (c, H, W) float32, NaN where there is no data, H = ratio h.
    reference
        (C, H, W) float32, what fusing them should give; None for a method that learns from the pair alone.
    """

    name: str
    hsi: np.ndarray
    msi: np.ndarray
    reference: np.ndarray | None = None

    @property
    def ratio(self) -> int:
        """Fine pixels along one side of a coarse pixel."""
        return self.msi.shape[1] // self.hsi.shape[1]

    @property
    def coarse_valid(self) -> np.ndarray:
        """(h, w) bool: coarse pixels whose every value, in every image, is there."""
        r, (h, w) = self.ratio, self.hsi.shape[1:]
        valid = np.isfinite(self.hsi).all(axis=0)
        for fine in (self.msi, self.reference):
            if fine is not None:
                valid &= np.isfinite(fine).all(axis=0).reshape(h, r, w, r).all(axis=(1, 3))
        return valid


@dataclass(frozen=True)
class Batch:
    """Patches of one step.

    Attributes
    ----------
    hsi, msi
        (B, C, p / ratio, p / ratio) and (B, c, p, p), noise included.
    reference
        (B, C, p, p), or None.
    """

    hsi: Tensor
    msi: Tensor
    reference: Tensor | None


class PatchSampler:
    """Draws square patches without missing pixels from scenes, flipped and rotated, with noise of its own in each draw.

    Parameters
    ----------
    scenes
        Pairs of one ratio and the same bands.
    patch
        Side in fine pixels; lowered to a multiple of the ratio and to the smallest scene's side.
    snr_db
        Signal-to-noise ratio in dB of the noise added to both images; None adds none.

    Raises
    ------
    InputError
        If no scene has a patch without missing pixels.
    UsageError
        If the patch is smaller than a coarse pixel.
    """

    def __init__(self, scenes: Sequence[TrainingScene], patch: int, snr_db: float | None = None) -> None:
        """Find out where in each scene a whole patch fits."""
        self.ratio = scenes[0].ratio
        if patch < self.ratio:
            raise UsageError(f"a patch of {patch} fine pixels is less than one coarse pixel at ratio {self.ratio}; raise --patch")
        smallest = min(min(scene.hsi.shape[1:]) for scene in scenes)
        self.side = min(patch // self.ratio, smallest)  # coarse pixels
        self.snr_db = snr_db
        self._scenes, self._corners = [], []
        for scene in scenes:
            corners = _whole_patches(scene.coarse_valid, self.side)
            if len(corners):
                self._scenes.append(
                    tuple(None if a is None else torch.from_numpy(a) for a in (scene.hsi, scene.msi, scene.reference))
                )
                self._corners.append(corners)
        if not self._scenes:
            fine = self.side * self.ratio
            raise InputError(f"no scene has {fine} x {fine} pixels without missing data; lower --patch or give other scenes")
        self._chance = torch.tensor([float(len(corners)) for corners in self._corners])

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """Draw ``count`` patches; all random numbers come from a CPU ``generator``."""
        drawn = [self._one(generator) for _ in range(count)]
        hsi, msi, reference = ([d[i] for d in drawn] for i in range(3))
        whole = None if reference[0] is None else torch.stack(reference)
        return Batch(self._noisy(torch.stack(hsi), generator), self._noisy(torch.stack(msi), generator), whole)

    def _one(self, generator: torch.Generator) -> list[Tensor | None]:
        """Cut one patch out of every image of a scene and turn them alike."""
        k = int(torch.multinomial(self._chance, 1, generator=generator))
        row, col = self._corners[k][int(torch.randint(len(self._corners[k]), (1,), generator=generator))]
        turn = int(torch.randint(8, (1,), generator=generator))
        patches = []
        for image, scale in zip(self._scenes[k], (1, self.ratio, self.ratio), strict=True):
            side, top, left = self.side * scale, int(row) * scale, int(col) * scale
            patches.append(None if image is None else symmetry(image[:, top : top + side, left : left + side], turn))
        return patches

    def _noisy(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        """Add noise of the power that the SNR asks for, relative to the patches' own mean square."""
        if self.snr_db is None:
            return patches
        sigma = patches.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() * 10.0 ** (-self.snr_db / 20.0)
        return patches + sigma * torch.randn(patches.shape, generator=generator)


def _whole_patches(valid: np.ndarray, side: int) -> np.ndarray:
    """Return the corners (n, 2) of all squares of ``side`` in which every pixel (h, w) is valid."""
    missing = np.pad((~valid).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    count = missing[side:, side:] - missing[:-side, side:] - missing[side:, :-side] + missing[:-side, :-side]
    return np.argwhere(count == 0)
