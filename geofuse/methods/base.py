"""What a fusion method is: it learns once a scene and fuses tile by tile; it knows nothing of files, CRS or dask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from geofuse.sensors.psf import Psf
from geofuse.tiling import Edges

if TYPE_CHECKING:
    from geofuse.methods.spectral_basis import SubspaceImage

Report = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class SceneModel:
    """What holds for the whole scene, whatever the tile.

    Attributes
    ----------
    response
        R (c, C): what each MSI band sees of the HSI's bands. Rows sum to one, but for the estimated row of a panchromatic band,
        whose sum is the gain between the two images' units.
    psf, ratio
        The spatial operator H.
    wavelength_nm
        (C,) band centres in nm, NaN where unknown.
    seed
        Seed of every random draw.
    device
        torch device, ``"cpu"`` or ``"cuda:0"``.
    """

    response: np.ndarray
    psf: Psf
    ratio: int
    wavelength_nm: np.ndarray
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class TileData:
    """One tile's pixels, in physical units, NaN where there is no data.

    Attributes
    ----------
    hsi, msi
        (C, h, w) and (c, H, W) float32 with H = ratio * h, W = ratio * w.
    origin
        Row and column of the tile's first fine pixel in the scene.
    edges
        Which sides of the tile are the scene's own border.
    msi_weight
        (H, W) float32, how far the MSI is trusted: 1 where wholly, and between 0 and 1 where less. Where it is 0 the MSI has data
        that is not to be used, so ``msi`` holds NaN there, as it does where the weight itself is NaN because the MSI has no data.
        None for a weight of 1 wherever there is data.
    """

    hsi: np.ndarray
    msi: np.ndarray
    origin: tuple[int, int]
    edges: Edges
    msi_weight: np.ndarray | None = None

    @property
    def hsi_valid(self) -> np.ndarray:
        """(h, w) bool: coarse pixels with data in every band."""
        return np.isfinite(self.hsi).all(axis=0)

    @property
    def msi_valid(self) -> np.ndarray:
        """(H, W) bool: fine pixels with data in every band that may be used."""
        return np.isfinite(self.msi).all(axis=0)

    @property
    def msi_covers(self) -> np.ndarray:
        """(H, W) bool: fine pixels where the MSI has data, trusted or not; what the result covers."""
        return self.msi_valid if self.msi_weight is None else np.isfinite(self.msi_weight)

    @property
    def trust(self) -> np.ndarray | None:
        """(H, W) float32, 0 to 1 and finite: the weight of the MSI, 0 where it has no data; None where no weight is given."""
        return None if self.msi_weight is None else np.where(self.msi_valid, self.msi_weight, 0.0).astype(np.float32)


class FusionMethod(Protocol):
    """A fusion method.

    ``halo`` says how many coarse pixels beyond its core a tile needs, so that neighbouring tiles agree where they meet.
    """

    halo: int

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Learn whatever holds for the whole scene from sample windows of it; called once, before any tile."""

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the fine hyperspectral tile (C, H, W) float32 in the HSI's units.

        Values are finite wherever MSI and HSI have data; where they have none the caller writes no data, whatever stands here.
        """


@runtime_checkable
class FusesByBand(Protocol):
    """A fusion method whose result is a few components times a basis, so that it can be given band by band."""

    def fuse_by_band(self, tile: TileData, report: Report) -> SubspaceImage:
        """Return what :meth:`FusionMethod.fuse` returns, its bands still to be computed."""
