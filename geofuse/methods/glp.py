"""GLP: generalised Laplacian pyramid with an MTF-matched filter, hypersharpening (Selva, Aiazzi, Butera et al. 2015).

The pyramid (Aiazzi, Alparone, Baronti, Garzelli, Selva 2006) takes as detail what the fine image loses on the way to the HSI's
resolution and back, its filter being the HSI's own MTF: here the pair's operator H. Hypersharpening (IEEE JSTARS 8(6), "synthesized
band") gives every HSI band k a fine image of its own, a combination of all MSI bands regressed at the HSI's resolution,

    X_k ~ sum_j w_kj H(Y_j) + w_k0,    P_k = sum_j w_kj Y_j + w_k0,

and injects its detail as it is: Z_k = X~_k + P_k - P~_k, where ~ is interpolation to the fine grid and P~_k the interpolated
H(P_k). The gain, cov(X_k, H(P_k)) / var(H(P_k)), is one by construction of the regression. A single panchromatic band is the case
c = 1, where w_k1 is the gain of the context-based pyramid taken over the whole scene.

Departure from the papers: cubic interpolation in place of the 23-tap polynomial kernel, whose centre is half a pixel off at even
ratios.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads
from geofuse.methods.injection import HALO, hsi_on_fine, msi_with_low_pass, regress, shared_pixels


@dataclass(frozen=True)
class GlpOptions:
    """The pyramid has no options; filter and ratio are the pair's."""


class Glp:
    """Generalised Laplacian pyramid with hypersharpening; see the module's text."""

    Options = GlpOptions
    presets = {"default": GlpOptions()}
    halo = HALO

    def __init__(self, options: GlpOptions | None = None) -> None:
        """Take the options, of which there are none."""
        self.options = options or GlpOptions()

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
        weights, _ = regress(hsi, msi)  # (C, c); the intercept cancels in the detail
        self.weights, self.hsi_mean, self.msi_mean = (
            torch.as_tensor(a, dtype=torch.float32, device=model.device) for a in (weights, hsi.mean(axis=1), msi.mean(axis=1))
        )
        report("regression", 1, 1)

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the fused tile (C, H, W) float32 in the HSI's units."""
        use_threads()
        fused = hsi_on_fine(tile, self.model, self.hsi_mean)
        msi, low = msi_with_low_pass(tile, self.model, self.msi_mean)
        fused.flatten(1).addmm_(self.weights, (msi - low).flatten(1))
        return fused.cpu().numpy()
