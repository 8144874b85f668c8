"""What the networks learn from: the two observed images alone (paper, Section 3.2, "we restructure the training samples").

Both images are brought to [0, 1] by one minimum and maximum over both (:class:`ValueRange`), so that X = H(Z) and Y = Z x_3 R stay
true between them; the networks see [0, 1] mapped to [-1, 1]. No data is NaN in all images here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geofuse.errors import InputError


@dataclass(frozen=True)
class ValueRange:
    """The range of physical values that is mapped to [0, 1]."""

    low: float
    high: float

    @classmethod
    def of(cls, images: Sequence[Tensor]) -> ValueRange:
        """Return the least and greatest value of all ``images``, NaN left out.

        Raises
        ------
        InputError
            If there is no value at all.
        """
        values = [image[image.isfinite()] for image in images]
        values = [v for v in values if v.numel()]
        if not values:
            raise InputError("the images hold no data at all; check their no-data value and their overlap")
        low = min(float(v.min()) for v in values)
        high = max(float(v.max()) for v in values)
        return cls(low, high if high > low else low + 1.0)

    def hsi_to_unit(self, hsi: Tensor) -> Tensor:
        """Map a hyperspectral image, or the fused one, from physical values to [0, 1]."""
        return (hsi - self.low) / (self.high - self.low)

    def msi_to_unit(self, msi: Tensor, response: Tensor) -> Tensor:
        """Map a multispectral image (c, H, W) so that Y = Z x_3 R holds in unit values too.

        The rows of ``response`` (c, C) normally sum to one, and this is then :meth:`hsi_to_unit`; other sums are allowed for.
        """
        return (msi - self.low * response.sum(dim=1)[:, None, None]) / (self.high - self.low)

    def from_unit(self, image: Tensor) -> Tensor:
        """Map a fused image from [0, 1] back to physical values."""
        return self.low + (self.high - self.low) * image


class SpectralSampler:
    """Draws single pixel spectra of the LR-HSI.

    The text joins d spectra to one (d, C) sample; as the network treats each spectrum by itself, a batch of spectra is the same
    thing, and is what the authors ran. Pixels without data in any band are left out.

    Parameters
    ----------
    images
        LR-HSIs (C, h, w) in [0, 1].
    """

    def __init__(self, images: Sequence[Tensor]) -> None:
        """Collect the complete spectra of ``images``.

        Raises
        ------
        InputError
            If there is none.
        """
        spectra = torch.cat([image.flatten(1).T for image in images])
        self.spectra = spectra[spectra.isfinite().all(dim=1)]  # (n, C)
        if not len(self.spectra):
            raise InputError("no pixel of the hyperspectral image has data in every band; drop the bands that lack data")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return ``count`` spectra (count, C) in [-1, 1], each drawn from all with equal chance."""
        index = torch.randint(len(self.spectra), (count,), generator=generator, device=generator.device)
        return 2.0 * self.spectra[index.to(self.spectra.device)] - 1.0


class SpatialSampler:
    """Draws square patches of the HR-MSI, each a stack of d bands chosen at random with repetition.

    Patches start every ``stride`` pixels, and one more is flush with the far border. Where an image is smaller than the patch, all
    patches shrink to the largest multiple of 8 that fits in both directions (to what fits, below 8). Patches with no data in them
    are left out as long as others exist; otherwise those with the most data are kept, their holes filled with each band's mean and
    given weight 0.

    Parameters
    ----------
    images
        HR-MSIs (c, H, W) in [0, 1].
    d
        Number of bands in a stack.
    patch, stride
        Side of a patch and distance between patch origins, in pixels.
    """

    def __init__(self, images: Sequence[Tensor], d: int, patch: int = 128, stride: int = 32) -> None:
        """List the patch origins.

        Raises
        ------
        InputError
            If no image has a pixel with data in every band.
        """
        self.d, self.device = d, images[0].device
        least = min(min(image.shape[-2:]) for image in images)
        self.patch = patch if patch <= least else (least // 8 * 8 or least)
        self._valid = [image.isfinite().all(dim=0) for image in images]
        if not any(bool(valid.any()) for valid in self._valid):
            raise InputError("no pixel of the multispectral image has data in every band; choose other bands with --msi-bands")
        self._images = [_fill(image, valid) for image, valid in zip(images, self._valid, strict=True)]
        self.origins = self._choose_origins(stride)  # (image, row, column) of each patch

    def _choose_origins(self, stride: int) -> list[tuple[int, int, int]]:
        """List the patches without holes or, if all have holes, those with at least 90 % of the best one's data."""
        share = {}
        for k, valid in enumerate(self._valid):
            for row in crop_origins(valid.shape[0], self.patch, stride):
                for column in crop_origins(valid.shape[1], self.patch, stride):
                    window = valid[row : row + self.patch, column : column + self.patch]
                    share[k, row, column] = float(window.double().mean())
        best = max(share.values())
        return [origin for origin, s in share.items() if s >= (1.0 if best == 1.0 else 0.9 * best)]

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return ``count`` stacks (count, d, patch, patch) in [-1, 1] and weights (count, 1, patch, patch), 1 where data is."""
        where = torch.randint(len(self.origins), (count,), generator=generator, device=generator.device).tolist()
        bands = torch.randint(self._images[0].shape[0], (count, self.d), generator=generator, device=generator.device)
        bands = bands.to(self.device)
        stacks, weights = [], []
        for i, origin in enumerate(where):
            k, row, column = self.origins[origin]
            rows, columns = slice(row, row + self.patch), slice(column, column + self.patch)
            stacks.append(self._images[k][:, rows, columns][bands[i]])
            weights.append(self._valid[k][None, rows, columns])
        return 2.0 * torch.stack(stacks) - 1.0, torch.stack(weights).to(stacks[0].dtype)


def crop_origins(size: int, patch: int, stride: int) -> list[int]:
    """Return the origins of patches along one axis: every ``stride`` pixels, and one flush with the end."""
    return sorted({*range(0, size - patch + 1, stride), size - patch})


def _fill(image: Tensor, valid: Tensor) -> Tensor:
    """Put each band's mean (0 where a band has none) into the pixels (H, W) of ``image`` (c, H, W) that are not ``valid``."""
    mean = image[:, valid].mean(dim=1) if bool(valid.any()) else image.new_zeros(image.shape[0])
    return torch.where(valid, image, mean[:, None, None])
