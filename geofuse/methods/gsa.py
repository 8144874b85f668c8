"""GSA: Gram-Schmidt adaptive (Aiazzi, Baronti and Selva 2007, IEEE TGRS 45(10), 3230-3239), band-assigned.

Component substitution: the HSI's intensity I is exchanged for the fine image P,

    Z_k = X~_k + g_k (P - I),    I = sum_k w_k X~_k + w_0,    g_k = cov(X_k, I) / var(I),

where X~ is the interpolated HSI. What makes it adaptive is w: the multivariate regression of P, brought to the HSI's resolution by
H, on the HSI's bands, so that P and I agree in all but detail. Gains are taken at the HSI's resolution, once for the whole scene.

For several MSI bands every HSI band goes with the one that it correlates with best, and each group is sharpened by itself (band
assignment, as in the comparison of Yokoya, Grohnfeldt and Chanussot 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads
from geofuse.methods.injection import HALO, hsi_on_fine, regress, shared_pixels


@dataclass(frozen=True)
class GsaOptions:
    """Gram-Schmidt adaptive has no options."""


class Gsa:
    """Gram-Schmidt adaptive with band assignment; see the module's text."""

    Options = GsaOptions
    presets = {"default": GsaOptions()}
    halo = HALO

    def __init__(self, options: GsaOptions | None = None) -> None:
        """Take the options, of which there are none."""
        self.options = options or GsaOptions()

    @staticmethod
    def default_preset(device: str) -> str:
        """Return the only preset."""
        return "default"

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Assign the bands; find every group's intensity and gains.

        Raises
        ------
        InputError
            If the images share fewer than two coarse pixels with data.
        """
        use_threads()
        self.model = model
        hsi, msi = shared_pixels(model, samples)
        assigned = assign_bands(hsi, msi)
        weights, intercept = np.zeros((len(msi), len(hsi))), np.zeros(len(msi))  # w (c, C), w_0 (c,)
        gains = np.zeros((len(hsi), len(msi)))  # g (C, c)
        for j in np.unique(assigned):
            group = np.flatnonzero(assigned == j)
            slope, constant = regress(msi[j : j + 1], hsi[group])
            weights[j, group], intercept[j] = slope[0], constant[0]
            intensity = slope[0] @ hsi[group] + constant[0]
            gains[group, j] = regress(hsi[group], intensity[None])[0][:, 0]
        self.assigned = assigned
        self.weights, self.intercept, self.gains, self.hsi_mean = (
            torch.as_tensor(a, dtype=torch.float32, device=model.device) for a in (weights, intercept, gains, hsi.mean(axis=1))
        )
        report("regression", 1, 1)

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the fused tile (C, H, W) float32 in the HSI's units."""
        use_threads()
        fused = hsi_on_fine(tile, self.model, self.hsi_mean)
        msi = torch.as_tensor(tile.msi, device=self.model.device)
        intensity = torch.einsum("ck,khw->chw", self.weights, fused) + self.intercept[:, None, None]
        detail = torch.where(torch.isfinite(msi), msi - intensity, 0.0)
        fused.flatten(1).addmm_(self.gains, detail.flatten(1))
        return fused.cpu().numpy()


def assign_bands(hsi: np.ndarray, msi: np.ndarray) -> np.ndarray:
    """Return for every HSI band (C, n) the MSI band (c, n) that it correlates with best: (C,) int."""
    x, y = (bands - bands.mean(axis=1, keepdims=True) for bands in (hsi, msi))
    scale = np.sqrt((y**2).sum(axis=1, keepdims=True))
    return np.argmax(np.abs(np.divide(y, scale, out=np.zeros_like(y), where=scale > 0) @ x.T), axis=0)
