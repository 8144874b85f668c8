"""Cubic interpolation of the HSI alone: the floor that every fusion method has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse

from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.sensors.psf import cubic


@dataclass(frozen=True)
class BicubicOptions:
    """Bicubic interpolation has no options."""


class Bicubic:
    """Cubic convolution with a = -0.5 (Keys 1981); the MSI is used for its grid and mask only."""

    Options = BicubicOptions
    presets = {"default": BicubicOptions()}
    halo = 3

    def __init__(self, options: BicubicOptions | None = None) -> None:
        """Take the options, of which there are none."""
        self.options = options or BicubicOptions()

    @staticmethod
    def default_preset(device: str) -> str:
        """Return the only preset."""
        return "default"

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Learn nothing; keep the ratio."""
        self.ratio = model.ratio

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Interpolate the HSI (C, h, w) to (C, H, W); pixels without data are filled from the nearest one with data first."""
        height, width = tile.hsi.shape[1:]
        rows, cols = (_interpolation(size, self.ratio) for size in (height, width))
        out = np.empty((len(tile.hsi), height * self.ratio, width * self.ratio), np.float32)
        for band, image in zip(out, tile.hsi, strict=True):
            band[:] = rows @ (cols @ _filled(image).T).T
        return out


def _filled(image: np.ndarray) -> np.ndarray:
    """Fill NaN with the nearest finite value; an image without any becomes zero."""
    missing = ~np.isfinite(image)
    if not missing.any():
        return image
    if missing.all():
        return np.zeros_like(image)
    nearest = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
    return image[tuple(nearest)]


def _interpolation(size: int, ratio: int) -> sparse.csr_array:
    """Cubic interpolation along one axis, border reflected: a sparse (size * ratio, size) float32 matrix."""
    position = (np.arange(size * ratio) + 0.5) / ratio - 0.5
    source = np.floor(position).astype(int)[:, None] + np.arange(-1, 3)[None, :]
    weight = cubic(position[:, None] - source)
    source = np.mod(source, 2 * size)
    source = np.where(source >= size, 2 * size - 1 - source, source)
    row = np.repeat(np.arange(size * ratio), 4)
    return sparse.coo_array((weight.ravel().astype(np.float32), (row, source.ravel())), shape=(size * ratio, size)).tocsr()
