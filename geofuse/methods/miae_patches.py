"""Training patches of MIAE: pieces of both images whose cores cover the scene, with a margin as wide as the PSF's reach.

A network on single pixels sees mirrored pixels as the mirror of what it sees, so patches mirrored at the scene's border make the
border of H exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pad

from geofuse.degradation.spatial import SpatialOperator
from geofuse.methods.base import SceneModel
from geofuse.tiling import Edges


@dataclass(frozen=True)
class Batch:
    """Patches with sides of k coarse pixels and cores of m; K and M on the fine grid.

    What the network sees: ``hsi_up`` (n, K, K, C), ``msi`` (n, K, K, c). What it must explain, with weights 1 where there is data:
    ``hsi`` (n, m, m, C), ``hsi_weight`` (n, m, m, 1) and ``msi_core`` (n, M, M, c), ``msi_weight`` (n, M, M, 1).
    """

    hsi_up: Tensor
    msi: Tensor
    hsi: Tensor
    hsi_weight: Tensor
    msi_core: Tensor
    msi_weight: Tensor


class Patches:
    """Pieces of the scene cut into square patches whose cores cover every coarse pixel once.

    Parameters
    ----------
    model
        Gives H.
    core
        Side m of the cores in coarse pixels.

    Attributes
    ----------
    weighed
        Number of coarse and of fine pixels with data, those whose residuals count.
    """

    def __init__(self, model: SceneModel, core: int) -> None:
        """Prepare H for patches; :meth:`add` brings their content."""
        ratio = model.ratio
        self.model, self.core = model, core
        self.reach = SpatialOperator(model.psf, ratio, ratio, ratio).reach
        self.margin = -(-self.reach // ratio)
        self.side = (core + 2 * self.margin) * ratio  # K
        inside = slice(self.margin, self.margin + core)
        matrices = SpatialOperator(model.psf, ratio, self.side, self.side).axis_matrices()
        self._blur = [[torch.as_tensor(m[inside], dtype=torch.float32, device=model.device) for m in pair] for pair in matrices]
        self._pieces: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # hsi, its weight, msi, its weight, each with a frame
        self._origins: list[tuple[int, int, int]] = []  # piece, row and column of each core, in coarse pixels
        self.weighed = [0.0, 0.0]

    def __len__(self) -> int:
        """Return the number of patches that hold data."""
        return len(self._origins)

    def add(self, hsi: Tensor, msi: Tensor, edges: Edges, default: Tensor) -> None:
        """Take a piece of the scene.

        Parameters
        ----------
        hsi, msi
            (C, h, w) and (c, H, W) in [0, 1], NaN = no data.
        edges
            Which sides are the scene's border; at the others the PSF sees pixels that the piece does not hold.
        default
            See :func:`fill_holes`.
        """
        ratio, (height, width) = self.model.ratio, hsi.shape[1:]
        complete = hsi.isfinite().all(dim=0)[None]
        fine_weight = (msi.isfinite().all(dim=0) & complete.repeat_interleave(ratio, 1).repeat_interleave(ratio, 2)).float()
        hole_in_reach = max_pool2d(1.0 - fine_weight, ratio + 2 * self.reach, ratio, self.reach)
        coarse_weight = away_from_cuts(complete * (1.0 - hole_in_reach), edges, self.margin)
        for i, weight in enumerate((coarse_weight, fine_weight)):
            self.weighed[i] += float(weight.sum())
        before = self.margin + 1  # one pixel more for the interpolation
        after = [before + -size % self.core for size in (height, width)]
        coarse = [mirror(fill_holes(hsi, default), before, after), pad(coarse_weight, (before, after[1], before, after[0]))]
        before, after = before * ratio, [n * ratio for n in after]
        fine = [mirror(msi.nan_to_num(nan=0.0), before, after), pad(fine_weight, (before, after[1], before, after[0]))]
        index = len(self._pieces)
        self._pieces.append((*coarse, *fine))
        for row, column in itertools.product(range(0, height, self.core), range(0, width, self.core)):
            rows, columns = (slice(first * ratio, (first + self.core) * ratio) for first in (row, column))
            if bool(fine_weight[:, rows, columns].any()):
                self._origins.append((index, row, column))

    def gather(self, numbers: Sequence[int]) -> Batch:
        """Return the patches with these numbers."""
        ratio, core, margin = self.model.ratio, self.core, self.margin

        def stack(kind: int, frame: int, step: int) -> Tensor:
            """Stack one of the images over the cores and ``frame`` coarse pixels around them: (n, sides, sides, channels)."""
            windows = []
            for index, *corner in (self._origins[i] for i in numbers):
                rows, columns = (slice((i + margin + 1 - frame) * step, (i + margin + 1 + core + frame) * step) for i in corner)
                windows.append(self._pieces[index][kind][:, rows, columns])
            return torch.stack(windows)

        around = stack(0, margin + 1, 1)
        hsi_up = interpolate(around, scale_factor=ratio, mode="bilinear", align_corners=False)[:, :, ratio:-ratio, ratio:-ratio]
        parts = (hsi_up, stack(2, margin, ratio), stack(0, 0, 1), stack(1, 0, 1), stack(2, 0, ratio), stack(3, 0, ratio))
        return Batch(*(part.permute(0, 2, 3, 1).contiguous() for part in parts))

    def blur(self, fine: Tensor) -> Tensor:
        """Apply H to patches (n, K, K, C); returns the cores (n, m, m, C)."""
        n, side, _, bands = fine.shape
        total = 0.0
        for along_y, along_x in self._blur:
            rows = along_y @ fine.reshape(n, side, side * bands)
            total = total + along_x @ rows.reshape(n, self.core, side, bands)
        return total

    def inside(self, fine: Tensor) -> Tensor:
        """Return the cores (n, M, M, C) of patches (n, K, K, C)."""
        kept = slice(self.margin * self.model.ratio, (self.margin + self.core) * self.model.ratio)
        return fine[:, kept, kept]

    def shuffled(self, count: int, generator: torch.Generator) -> Iterator[list[int]]:
        """Yield ``count`` patch numbers at a time without end: all patches in random order, then all in another."""
        waiting: list[int] = []
        while True:
            while len(waiting) < count:
                waiting += torch.randperm(len(self), generator=generator).tolist()
            yield waiting[:count]
            waiting = waiting[count:]


def fill_holes(image: Tensor, default: Tensor) -> Tensor:
    """Fill NaN of an image (C, h, w) with the mean of the values around it (3 x 3), or with ``default`` (C,) if there are none."""
    known = image.isfinite()
    if bool(known.all()):
        return image
    share = avg_pool2d(known.float(), 3, 1, 1)
    around = avg_pool2d(torch.where(known, image, 0.0), 3, 1, 1) / share.clamp(min=1e-6)
    return torch.where(known, image, torch.where(share > 0, around, default[:, None, None]))


def mirror(image: Tensor, before: int, after: Sequence[int]) -> Tensor:
    """Reflect an image (C, H, W) about its outer edges: ``before`` pixels above and left, ``after`` (2,) below and right."""
    for axis, more in zip((1, 2), after, strict=True):
        size = image.shape[axis]
        position = torch.arange(-before, size + more, device=image.device) % (2 * size)
        image = image.index_select(axis, torch.where(position < size, position, 2 * size - 1 - position))
    return image


def away_from_cuts(weight: Tensor, edges: Edges, width: int) -> Tensor:
    """Set a weight (1, h, w) to 0 in the ``width`` pixels along the sides that are not the scene's border."""
    weight = weight.clone()
    for axis, first, last in ((1, edges.top, edges.bottom), (2, edges.left, edges.right)):
        size = weight.shape[axis]
        if not first:
            weight.narrow(axis, 0, min(width, size)).zero_()
        if not last:
            weight.narrow(axis, max(size - width, 0), min(width, size)).zero_()
    return weight
