"""A pair of images without holes, for methods that need whole ones: what has no data is stood in for by the other image.

Only values of pixels with data in every band are used, so nothing that is masked reaches the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from geofuse.methods.base import SceneModel, TileData
from geofuse.methods.injection import fill_gaps, to_fine


@dataclass(frozen=True)
class WholePair:
    """A tile without holes, float32 on the model's device.

    Attributes
    ----------
    hsi, msi
        (C, h, w) and (c, H, W), finite, in the tile's units.
    hsi_valid, msi_valid
        (h, w) and (H, W) bool: where the values are the tile's own.
    """

    hsi: torch.Tensor
    msi: torch.Tensor
    hsi_valid: torch.Tensor
    msi_valid: torch.Tensor


def whole_pair(tile: TileData, model: SceneModel, mean: np.ndarray) -> WholePair:
    """Fill the holes of a tile.

    The HSI's holes take the mean of their neighbours, or the scene's ``mean`` (C,) where no neighbour has data; the MSI's take
    what the response sees of the HSI, interpolated, and where the MSI is trusted in part it is mixed with that.
    """
    hsi_valid, msi_valid = (torch.as_tensor(v, device=model.device) for v in (tile.hsi_valid, tile.msi_valid))
    hsi = torch.as_tensor(np.where(tile.hsi_valid, tile.hsi, np.nan), dtype=torch.float32, device=model.device)
    hsi = fill_gaps(hsi, torch.as_tensor(mean, dtype=torch.float32, device=model.device))
    msi = torch.as_tensor(tile.msi, dtype=torch.float32, device=model.device)
    if tile.trust is not None or not bool(msi_valid.all()):
        response = torch.as_tensor(model.response, dtype=torch.float32, device=model.device)
        stand_in = to_fine(torch.einsum("ck,khw->chw", response, hsi), model.ratio)
        if tile.trust is not None:
            msi = torch.lerp(stand_in, msi, torch.as_tensor(tile.trust, device=model.device))
        msi = torch.where(msi_valid, msi, stand_in)
    return WholePair(hsi, msi, hsi_valid, msi_valid)
