"""ARGS-Diff as published (Zhu et al., CVPR 2025): the ``paper`` preset of ``--method argsdiff``.

Two networks are trained from scratch on the scene's own images, then each tile is found by 500 guided reverse steps from noise.
The networks, the range of values and the starting E_T belong to the scene; A_T belongs to absolute pixel positions; so tiles
differ only by what their own pixels tell. Where the authors' code departs from the text is listed in
:mod:`geofuse.diffusion.sampler`. No data: such pixels and spectra are not trained on, and their residuals weigh nothing.

It is meant for a GPU. One thread of a 2-core machine took about 45 s for each of the 30 000 training steps (two weeks in all, and
7 GB of memory) and, with 103 bands, 0.8 s for each of the 500 reverse steps of a 96 x 96 tile and 2.7 s of a 256 x 256 one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from geofuse.degradation import SpatialOperator
from geofuse.diffusion.fixed_components import abundances, archetypes, selected_band_basis
from geofuse.diffusion.guidance import Observation, from_unit
from geofuse.diffusion.options import PaperOptions
from geofuse.diffusion.random_streams import stream
from geofuse.diffusion.sampler import Component, Reconstruction, reverse_diffusion
from geofuse.diffusion.schedule import exponential_schedule, sampling_times
from geofuse.diffusion.training import Report, silent, train_spatial_network, train_spectral_network
from geofuse.diffusion.training_data import SpatialSampler, SpectralSampler, ValueRange
from geofuse.tiling.noise import standard_normal

if TYPE_CHECKING:
    from geofuse.methods.base import SceneModel, TileData

_SPECTRAL_TRAINING, _SPATIAL_TRAINING, _SPECTRAL_START, _SPATIAL_START, _ARCHETYPES = range(5)  # purposes of random streams


class PaperArgsDiff:
    """Trains the two networks once a scene, then samples tile by tile (Algorithm 1).

    Parameters
    ----------
    options
        Settings; the defaults are the paper's.

    Attributes
    ----------
    halo
        Coarse pixels that a tile needs beyond its core. The U-Net sees further, but its starting noise is the same in all tiles.
    """

    halo = 8

    def __init__(self, options: PaperOptions | None = None) -> None:
        """Hold the options; :meth:`fit` does the work."""
        self.options = options or PaperOptions()

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report = silent) -> None:
        """Train on ``samples``, pieces of the scene in physical units with NaN for no data.

        Sets the scene-wide parts: value range, networks, and the fixed component if ``options.update`` asks for one.

        Raises
        ------
        InputError
            If the samples hold no complete spectrum or no complete pixel.
        """
        options, self.model = self.options, model
        self.device = torch.device(model.device)
        self.response = torch.as_tensor(np.asarray(model.response), dtype=torch.float32, device=self.device)
        hsi, msi = ([self._tensor(getattr(sample, name)) for sample in samples] for name in ("hsi", "msi"))
        self.range = ValueRange.of([*hsi, *msi])
        spectra = SpectralSampler([self.range.hsi_to_unit(image) for image in hsi])
        msi = [self.range.msi_to_unit(image, self.response) for image in msi]
        self.spectral_network = self.spatial_network = None
        if options.update in ("both", "E"):
            self.spectral_network = train_spectral_network(spectra, options, stream(model.seed, _SPECTRAL_TRAINING), report)
        else:
            self.basis = selected_band_basis(spectra.spectra, options.d)
        if options.update in ("both", "A"):
            patches = SpatialSampler(msi, options.d, options.patch, options.patch_stride)
            self.spatial_network = train_spatial_network(patches, options, stream(model.seed, _SPATIAL_TRAINING), report)
        else:
            pixels = torch.cat([image.flatten(1).T for image in msi])
            pixels = pixels[pixels.isfinite().all(dim=1)]
            self.archetypes = archetypes(pixels, options.d, stream(model.seed, _ARCHETYPES))

    def fuse(self, tile: TileData, report: Report = silent) -> np.ndarray:
        """Return the fused tile (C, H, W), float32, physical units; finite everywhere, masking is the caller's."""
        return self.range.from_unit(self.reconstruct(tile, report).image()).cpu().numpy()

    def reconstruct(self, tile: TileData, report: Report = silent) -> Reconstruction:
        """Run Algorithm 1 on one tile and return its components and residuals, in [0, 1]."""
        options = self.options
        hsi = self.range.hsi_to_unit(self._tensor(tile.hsi))
        msi = self.range.msi_to_unit(self._tensor(tile.msi), self.response)
        operator = SpatialOperator(self.model.psf, self.model.ratio, *msi.shape[1:])
        alpha_bar = exponential_schedule(options.timesteps)
        times = sampling_times(options.timesteps, options.sampling_steps)
        return reverse_diffusion(
            Component(self.spatial_network, self._spatial_start(msi, tile.origin), as_batch=True),
            Component(self.spectral_network, self._spectral_start(hsi.shape[0]), as_batch=False),
            Observation.of(hsi, msi, operator, self.response),
            alpha_bar,
            times,
            options,
            report,
        )

    def _spatial_start(self, msi: Tensor, origin: tuple[int, int]) -> Tensor:
        """Return A_T, noise by absolute position; or the fixed A, the abundances of the archetypes in ``msi`` (c, H, W)."""
        if self.spatial_network is not None:
            rows, columns = (slice(first, first + size) for first, size in zip(origin, msi.shape[1:], strict=True))
            noise = standard_normal(self.model.seed, _SPATIAL_START, self.options.d, rows, columns)
            return torch.as_tensor(noise, device=self.device)
        pixels = msi.flatten(1).T
        weights = abundances(pixels.nan_to_num(nan=0.0), self.archetypes)
        return from_unit(weights.T.reshape(self.options.d, *msi.shape[1:]))

    def _spectral_start(self, bands: int) -> Tensor:
        """Return E_T, noise that is the same in every tile; or the fixed E."""
        if self.spectral_network is None:
            return from_unit(self.basis)
        return torch.randn(self.options.d, bands, generator=stream(self.model.seed, _SPECTRAL_START)).to(self.device)

    def _tensor(self, image: np.ndarray) -> Tensor:
        """Move an image to the device as float32."""
        return torch.as_tensor(np.asarray(image, np.float32), device=self.device)
