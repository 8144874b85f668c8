"""SFIM: smoothing filter-based intensity modulation (Liu 2000, Int. J. Remote Sensing 21(18), 3461-3472).

The fine image P multiplies the interpolated HSI by what it has more than its own smoothed version (Liu's eq. 4), on the ground that
P / P~ is the local ratio of solar irradiance times reflectance, whatever the topography:

    Z_k = X~_k P_k / P~_k.

For several MSI bands each HSI band k has a P_k of its own, the combination of MSI bands regressed at the HSI's resolution, as in
hypersharpening (Selva 2015; "SFIM-HS" of Yokoya, Grohnfeldt and Chanussot 2017).

Departures from the paper: P~ is smoothed by the pair's PSF and taken through the HSI's own grid, which makes it exactly as smooth
as X~, where Liu takes the mean of ratio x ratio pixels; and the quotient P / P~ is kept within 1/5 and 5, and is 1 where P~ is not
positive, because bands that hold little but noise have a P~ around zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads
from geofuse.methods.injection import HALO, hsi_on_fine, msi_with_low_pass, regress, shared_pixels

_MOST = 5.0  # how many times brighter or darker than its surroundings a fine pixel may be made


@dataclass(frozen=True)
class SfimOptions:
    """SFIM has no options; smoothing filter and ratio are the pair's."""


class Sfim:
    """Smoothing filter-based intensity modulation; see the module's text."""

    Options = SfimOptions
    presets = {"default": SfimOptions()}
    halo = HALO

    def __init__(self, options: SfimOptions | None = None) -> None:
        """Take the options, of which there are none."""
        self.options = options or SfimOptions()

    @staticmethod
    def default_preset(device: str) -> str:
        """Return the only preset."""
        return "default"

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Regress every HSI band on the MSI at the HSI's resolution.

        Raises
        ------
        InputError
            If the images share fewer than two coarse pixels with data.
        """
        use_threads()
        self.model = model
        hsi, msi = shared_pixels(model, samples)
        fitted = (*regress(hsi, msi), hsi.mean(axis=1), msi.mean(axis=1))
        self.weights, self.intercept, self.hsi_mean, self.msi_mean = (
            torch.as_tensor(a, dtype=torch.float32, device=model.device) for a in fitted
        )
        report("regression", 1, 1)

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the fused tile (C, H, W) float32 in the HSI's units."""
        use_threads()
        fused = hsi_on_fine(tile, self.model, self.hsi_mean)
        msi, low = msi_with_low_pass(tile, self.model, self.msi_mean)
        for band, weights, intercept in zip(fused, self.weights, self.intercept, strict=True):  # one at a time, to save memory
            fine, coarse = (torch.einsum("c,chw->hw", weights, image) + intercept for image in (msi, low))
            band *= torch.where(coarse > 0, (fine / coarse).clamp(1 / _MOST, _MOST), 1.0)
        return fused.cpu().numpy()
