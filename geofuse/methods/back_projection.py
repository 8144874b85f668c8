"""Back-projection (Irani and Peleg 1991): what a fused image lacks of the HSI, seen through the PSF, is interpolated and added.

A trained network is taught at one resolution and used at another, on scenes it has not seen: what it gets wrong at the HSI's own
scale is there to be seen in the HSI. Three times take most of that away (docs/experiments.md); a PSF that is 15 % off does no harm.
"""

from __future__ import annotations

import torch

from geofuse.degradation.spatial import SpatialOperator
from geofuse.methods.injection import to_fine

REACH = 2  # coarse pixels that one time brings in from farther away with a weight that matters


def back_projected(fused: torch.Tensor, hsi: torch.Tensor, spatial: SpatialOperator, times: int) -> torch.Tensor:
    """Move a fused image (C, H, W) towards the HSI (C, h, w), both finite, ``times`` times."""
    for _ in range(times):
        fused = fused + to_fine(hsi - spatial.forward(fused), spatial.ratio)
    return fused
