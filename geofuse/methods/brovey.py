"""Brovey: the weighted Brovey transform for one panchromatic band (Gillespie, Kahle and Walker 1987).

Every band is multiplied by the same quotient, which keeps the angle of the spectrum:

    Z_k = X~_k P / (q I),    I = sum_k r_k X~_k,

where X~ is the interpolated multispectral image, P the panchromatic band and r its spectral response, R's only row, in place of the
equal weights of the original. q = <H(P), I> / <I, I>, one number a scene, takes care of a panchromatic band in other units.

Where I is not positive there is nothing to modulate and X~ stays; the quotient is kept within 0 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from geofuse.errors import InputError, UsageError
from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads
from geofuse.methods.injection import HALO, hsi_on_fine, shared_pixels

_MOST = 5.0


@dataclass(frozen=True)
class BroveyOptions:
    """The Brovey transform has no options."""


class Brovey:
    """Weighted Brovey transform; see the module's text."""

    Options = BroveyOptions
    presets = {"default": BroveyOptions()}
    halo = HALO

    def __init__(self, options: BroveyOptions | None = None) -> None:
        """Take the options, of which there are none."""
        self.options = options or BroveyOptions()

    @staticmethod
    def default_preset(device: str) -> str:
        """Return the only preset."""
        return "default"

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Find the scale q of the panchromatic band.

        Raises
        ------
        UsageError
            If the fine image has more than one band.
        InputError
            If the images share fewer than two coarse pixels with data, or the two do not go together.
        """
        use_threads()
        if len(model.response) != 1:
            found = f"the MSI has {len(model.response)} bands"
            raise UsageError(f"brovey sharpens with one panchromatic band, and {found}; use gsa, sfim or glp instead")
        self.model = model
        hsi, pan = shared_pixels(model, samples)
        intensity = model.response[0] @ hsi
        product, power = float(pan[0] @ intensity), float(intensity @ intensity)
        if product <= 0:
            raise InputError("the panchromatic band is nowhere positive where the HSI is; check their units and no-data values")
        self.weights, self.hsi_mean = (
            torch.as_tensor(a, dtype=torch.float32, device=model.device)
            for a in (model.response[0] * (product / power), hsi.mean(axis=1))
        )
        report("scale", 1, 1)

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the fused tile (C, H, W) float32 in the HSI's units."""
        use_threads()
        fused = hsi_on_fine(tile, self.model, self.hsi_mean)
        pan = torch.as_tensor(tile.msi[0], device=self.model.device)
        intensity = torch.einsum("k,khw->hw", self.weights, fused)
        usable = torch.isfinite(pan) & (intensity > 0)
        fused *= torch.where(usable, (pan / intensity).clamp(0.0, _MOST), 1.0)
        return fused.cpu().numpy()
