"""What the methods that are trained beforehand share: scaling, whole images, noise by absolute position, windows that line up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from geofuse.degradation.spatial import SpatialOperator
from geofuse.diffusion.random_streams import stream
from geofuse.errors import InputError
from geofuse.methods.back_projection import back_projected
from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads
from geofuse.methods.filling import whole_pair
from geofuse.methods.weights import Card, damaged_card, fill
from geofuse.tiling.noise import standard_normal
from geofuse.training import Scales

_NOISE = 30  # stream of the noise by absolute position


class TrainedMethod:
    """Base of the methods whose network comes from a file.

    A network may look at its input on grids coarser than the fine one (strides, attention windows). Tiles are padded so that these
    grids start at the scene's own corner, whatever the tile, and so that neighbouring tiles agree.

    Subclasses give ``Options``, ``presets``, ``halo``, ``grid`` and the three methods that raise here, and are
    :class:`geofuse.methods.trainable.Trainable`.
    """

    Options: ClassVar[type]
    grid: ClassVar[int]  # fine pixels of the coarsest grid that the network looks at
    needs_reference: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = True
    starts_from_noise: ClassVar[bool] = True  # False: :meth:`sample` gets noise of no channels

    def __init__(self, options: Any = None) -> None:
        """Take the options; nothing is computed before :meth:`fit`."""
        self.options = options or self.Options()

    def make_network(self, card: Card, generator: torch.Generator) -> nn.Module:
        """Return a new network on the CPU; see :class:`geofuse.methods.trainable.Trainable`."""
        raise NotImplementedError

    def sample(self, network: nn.Module, hsi: Tensor, msi: Tensor, noise: Tensor) -> Tensor:
        """Fuse scaled images (B, C, h, w), (B, c, H, W), starting from standard normal noise (B, C, H, W); returns (B, C, H, W)."""
        raise NotImplementedError

    def shape_options(self) -> Mapping[str, Any]:
        """Return the options that shape the network, for the card."""
        raise NotImplementedError

    @property
    def back_projections(self) -> int:
        """How many times a fused tile is moved towards its HSI; see :mod:`geofuse.methods.back_projection`."""
        return 0

    @property
    def parameter_count(self) -> int:
        """Number of learnt parameters."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def predict(self, network: nn.Module, hsi: Tensor, msi: Tensor, generator: torch.Generator) -> Tensor:
        """Fuse scaled images without missing pixels, of sides that are multiples of the ratio; noise comes from ``generator``."""
        bottom, right = (-size % self._alignment(msi.shape[2] // hsi.shape[2]) for size in msi.shape[2:])
        hsi, msi = _padded(hsi, msi, (0, 0), (bottom, right))
        noise = torch.randn((len(hsi), hsi.shape[1], *msi.shape[2:]), generator=generator).to(hsi)
        fused = self.sample(network, hsi, msi, noise)
        return fused[..., : msi.shape[2] - bottom, : msi.shape[3] - right]

    def adopt_weights(self, path: str | Path, card: Card, tensors: Mapping[str, Tensor]) -> None:
        """Use these weights, which match the scene; called before :meth:`fit`.

        Raises
        ------
        InputError
            If they are damaged.
        """
        try:
            self.options = dataclasses.replace(self.options, **card.options)
            network = self.make_network(card, stream(0, 0))
        except (TypeError, ValueError) as error:
            raise damaged_card(path, error) from None
        self.network = fill(network, tensors, path)

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Find the scales of the scene from sample windows; nothing is learnt.

        Raises
        ------
        InputError
            If the images have no values above zero.
        """
        use_threads()
        self.model = model
        self.scales = Scales.of([s.hsi for s in samples], [s.msi for s in samples])
        spectra = np.concatenate([s.hsi[:, s.hsi_valid] for s in samples], axis=1)
        if not spectra.size:
            raise InputError("the HSI has no pixel with data in every band where it was sampled; check its masks")
        self.mean = spectra.mean(axis=1)
        self.network = self.network.to(model.device)

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the fused tile (C, H, W) float32 in the HSI's units."""
        use_threads()
        pair = whole_pair(tile, self.model, self.mean)
        hsi, msi = pair.hsi[None] / self.scales.hsi, pair.msi[None] / self.scales.msi
        step, (height, width) = self._alignment(self.model.ratio), msi.shape[2:]
        before = tuple(origin % step for origin in tile.origin)
        after = tuple(-(first + size) % step for first, size in zip(before, (height, width), strict=True))
        hsi, msi = _padded(hsi, msi, before, after)
        rows, cols = (
            slice(origin - first, origin - first + size)
            for origin, first, size in zip(tile.origin, before, msi.shape[2:], strict=True)
        )
        noise = standard_normal(self.model.seed, _NOISE, hsi.shape[1], rows, cols)
        with torch.no_grad():
            fused = self.sample(self.network, hsi, msi, torch.from_numpy(noise)[None].to(hsi))[0]
        inside = fused[:, before[0] : before[0] + height, before[1] : before[1] + width].float() * self.scales.hsi
        seen = SpatialOperator(self.model.psf, self.model.ratio, height, width)
        return back_projected(inside, pair.hsi, seen, self.back_projections).cpu().numpy()

    def _alignment(self, ratio: int) -> int:
        """Fine pixels that a tile's corner is moved back to a multiple of."""
        return math.lcm(self.grid, ratio)


def _padded(hsi: Tensor, msi: Tensor, before: Sequence[int], after: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Repeat the border of both images; ``before`` and ``after`` are fine rows and columns, multiples of the ratio."""
    ratio = msi.shape[2] // hsi.shape[2]
    sides = (before[1], after[1], before[0], after[0])
    return pad(hsi, tuple(side // ratio for side in sides), mode="replicate"), pad(msi, sides, mode="replicate")
