"""What detail injection methods share: the HSI on the fine grid, the MSI as coarse as the HSI, and the pixels both see.

These methods (:mod:`gsa`, :mod:`glp`, :mod:`sfim`, :mod:`brovey`) add to the interpolated HSI what the fine image shows beyond its
own coarse version. Interpolation is cubic convolution with a = -0.5 (Keys 1981) at the true places of the pixels: the centre of
coarse pixel i lies at (i + 0.5) * ratio - 0.5 fine pixels. The coarse version of the MSI comes from the pair's own operator H, then
takes the same way up, so that both sides of a difference or a quotient are equally smooth.

No data never spreads: H averages over the fine pixels that have data, and a coarse pixel without gets the mean of its neighbours,
which only pixels within the interpolation's reach ever see.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from geofuse.degradation.spatial import SpatialOperator
from geofuse.errors import InputError
from geofuse.methods.base import SceneModel, TileData
from geofuse.sensors.psf import cubic

INTERPOLATION_REACH = 2  # coarse pixels
HALO = 6 * INTERPOLATION_REACH  # coarse pixels; half of it serves: the PSF's reach (2), the interpolation's, the gaps' filling
_LEAST_SHARE = 0.5  # of the PSF's weight that must fall on data for H to be trusted
_LEAST_PIXELS = 2
_ROUNDING = 1e-6  # relative to a band's root mean square


def to_fine(coarse: torch.Tensor, ratio: int) -> torch.Tensor:
    """Interpolate (..., h, w) to (..., H, W) by cubic convolution, the border reflected."""
    rows, cols = (_interpolation(size, ratio, coarse) for size in coarse.shape[-2:])
    return rows @ (coarse @ cols.T)


def hsi_on_fine(tile: TileData, model: SceneModel, mean: torch.Tensor) -> torch.Tensor:
    """Interpolate the HSI to the fine grid: (C, H, W), finite; ``mean`` (C,) stands where nothing near has data."""
    return to_fine(fill_gaps(torch.as_tensor(tile.hsi, device=model.device), mean), model.ratio)


def msi_with_low_pass(tile: TileData, model: SceneModel, mean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the MSI (c, H, W) and, on the same grid, what is left of it at the HSI's resolution.

    Both are finite; where the MSI has no data both hold the low-pass, so that there is no detail. Where it is trusted in part, that
    part of its detail is left.
    """
    valid = torch.as_tensor(tile.msi_valid, device=model.device)
    msi = torch.where(valid, torch.as_tensor(tile.msi, device=model.device), 0.0)
    spatial = SpatialOperator(model.psf, model.ratio, *msi.shape[1:])
    low = spatial.forward(msi)
    if not bool(valid.all()):
        weight = valid.to(msi.dtype)[None]
        share, inside = spatial.forward(weight), avg_pool2d(weight, model.ratio)
        nan = torch.full_like(low, torch.nan)
        box = torch.where(inside > 0, avg_pool2d(msi, model.ratio) / inside, nan)
        low = fill_gaps(torch.where(share > _LEAST_SHARE, low / share, box), mean)
    low = to_fine(low, model.ratio)
    if tile.trust is not None:
        msi = torch.lerp(low, msi, torch.as_tensor(tile.trust, device=model.device))
    return torch.where(valid, msi, low), low


def fill_gaps(image: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
    """Fill NaN in (C, h, w) from the 8 neighbours, as far as the interpolation reaches; beyond that by ``otherwise`` (C,)."""
    known = torch.isfinite(image)
    if bool(known.all()):
        return image
    for _ in range(INTERPOLATION_REACH):
        near = avg_pool2d(known.to(image.dtype), 3, stride=1, padding=1)
        total = avg_pool2d(torch.where(known, image, 0.0), 3, stride=1, padding=1)
        image = torch.where(known, image, total / near)
        known = torch.isfinite(image)
    return torch.where(known, image, otherwise[:, None, None])


def shared_pixels(model: SceneModel, samples: Sequence[TileData]) -> tuple[np.ndarray, np.ndarray]:
    """Gather the coarse pixels that both images see whole.

    Returns
    -------
    tuple of ndarray float64
        The HSI's spectra (C, n) and H of the MSI there (c, n).

    Raises
    ------
    InputError
        If there are fewer than two.
    """
    spectra, blurred = [], []
    for sample in samples:
        spatial = SpatialOperator(model.psf, model.ratio, *sample.msi.shape[1:])
        valid = sample.msi_valid
        low = spatial.forward(np.where(valid, sample.msi, 0.0).astype(np.float64))
        whole = sample.hsi_valid & spatial.sees_only(valid) & _inside(spatial, sample)
        spectra.append(sample.hsi[:, whole].astype(np.float64))
        blurred.append(low[:, whole])
    hsi, msi = np.concatenate(spectra, axis=1), np.concatenate(blurred, axis=1)
    if hsi.shape[1] < _LEAST_PIXELS:
        found = f"HSI and MSI share {hsi.shape[1]} coarse pixels with data"
        raise InputError(f"{found}, at least {_LEAST_PIXELS} are needed; check masks and overlap")
    return hsi, msi


def regress(target: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit target (m, n) ~ slope (m, k) source (k, n) + intercept (m,) by least squares.

    Directions in which the sources do not vary, by more than rounding of 32-bit numbers, get no weight.
    """
    mean_target, mean_source = target.mean(axis=1), source.mean(axis=1)
    level = np.sqrt((source**2).mean(axis=1, keepdims=True)) + np.finfo(float).tiny
    centred = (source - mean_source[:, None]) / level
    variance, axes = np.linalg.eigh(centred @ centred.T / centred.shape[1])
    varies = variance > _ROUNDING**2
    variance, axes = variance[varies], axes[:, varies]
    cross = (target - mean_target[:, None]) @ centred.T / centred.shape[1]
    slope = cross @ (axes / variance @ axes.T) / level.T
    return slope, mean_target - slope @ mean_source


def _inside(spatial: SpatialOperator, tile: TileData) -> np.ndarray:
    """(h, w) bool: False for coarse pixels whose PSF reaches across a side of the tile that is not the scene's border."""
    reach = -(-spatial.reach // spatial.ratio)
    inside = np.zeros(spatial.coarse_shape, bool)
    (height, width), edges = inside.shape, tile.edges
    rows = slice(0 if edges.top else reach, height if edges.bottom else max(height - reach, 0))
    cols = slice(0 if edges.left else reach, width if edges.right else max(width - reach, 0))
    inside[rows, cols] = True
    return inside


def _interpolation(size: int, ratio: int, like: torch.Tensor) -> torch.Tensor:
    """Cubic interpolation along one axis as a dense (size * ratio, size) matrix, the border reflected."""
    position = (np.arange(size * ratio) + 0.5) / ratio - 0.5
    source = np.floor(position).astype(int)[:, None] + np.arange(-1, 3)[None, :]
    weight = cubic(position[:, None] - source)
    source = np.mod(source, 2 * size)
    source = np.where(source >= size, 2 * size - 1 - source, source)
    matrix = np.zeros((size * ratio, size))
    np.add.at(matrix, (np.arange(size * ratio)[:, None], source), weight)
    return torch.as_tensor(matrix, dtype=like.dtype, device=like.device)
