"""Scores without a reference: whether the fused image keeps what the two images show, and whether it explains them.

Between-band relations are measured by the universal image quality index Q (Wang and Bovik 2002, eq. 2) in blocks that cover the
same ground in the fine and the coarse images: 32 x 32 fine pixels, or more where that would be fewer than 8 x 8 coarse ones.
Blocks are averaged by the number of pixels that count. A coarse pixel counts when both coarse images have data in all bands there
and both fine images have in all its fine pixels; a fine pixel counts with its coarse pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geofuse.errors import InputError
from geofuse.metrics.blocks import blocks, pairwise_uiqi
from geofuse.metrics.masks import valid_pixels
from geofuse.metrics.q2n import q2n_over

_FINE_BLOCK, _LEAST_COARSE_BLOCK = 32, 8


@dataclass(frozen=True)
class FullScale:
    """The images that these scores compare; NaN = no data, in physical units.

    With H the spatial and R the spectral degradation, Z the fused image, X the coarse and Y the fine observation:

    Attributes
    ----------
    fused, hsi, msi
        Z (C, H, W), X (C, h, w), Y (c, H, W) with H = ratio * h and W = ratio * w.
    fused_coarse
        H(Z) (C, h, w).
    fused_msi
        R(Z) (c, H, W).
    msi_coarse
        H(Y) (c, h, w).

    Raises
    ------
    InputError
        If the shapes do not go together.
    """

    fused: np.ndarray
    hsi: np.ndarray
    msi: np.ndarray
    fused_coarse: np.ndarray
    fused_msi: np.ndarray
    msi_coarse: np.ndarray

    def __post_init__(self) -> None:
        """Check the shapes."""
        for name, shape in (
            ("fused_coarse", self.hsi.shape),
            ("fused_msi", self.msi.shape),
            ("msi_coarse", (len(self.msi), *self.hsi.shape[1:])),
            ("fused", (len(self.hsi), *self.msi.shape[1:])),
            ("msi", (len(self.msi), *(side * self.ratio for side in self.hsi.shape[1:]))),
        ):
            if getattr(self, name).shape != shape:
                raise InputError(f"{name} has the shape {getattr(self, name).shape}, expected {shape}")

    @property
    def ratio(self) -> int:
        """Fine pixels along one side of a coarse pixel."""
        return self.msi.shape[1] // self.hsi.shape[1]

    def coarse_valid(self) -> np.ndarray:
        """(h, w) bool: the coarse pixels that count in Q."""
        height, width = self.hsi.shape[1:]
        fine = _has_data(self.fused) & _has_data(self.msi)
        whole = fine.reshape(height, self.ratio, width, self.ratio).all(axis=(1, 3))
        return whole & _has_data(self.hsi) & _has_data(self.msi_coarse)


def score_without_reference(images: FullScale) -> dict[str, float]:
    """Return all scores that need no reference.

    Returns
    -------
    ``d_lambda``, ``d_s``, ``qnr`` (Alparone 2008), ``d_lambda_k`` (Khan 2009) and ``hqnr`` (Aiazzi 2014); but for ``d_lambda_k``
    these are NaN, that is, not defined, where no coarse pixel counts. ``hsi_rms`` and ``msi_rms``, the root mean squares of
    ``H(Z) - X`` and ``R(Z) - Y`` in their units, and ``hsi_db`` and ``msi_db``, the same as signal-to-noise ratios; see
    :func:`consistency`.

    Raises
    ------
    InputError
        If there is no pixel where an observation and the fused image both have data.
    """
    valid = images.coarse_valid()
    spectral, spatial = _distortions(images, valid)
    khan = khan_distortion(images.hsi, images.fused_coarse)
    hsi_rms, hsi_db = consistency(images.hsi, images.fused_coarse)
    msi_rms, msi_db = consistency(images.msi, images.fused_msi)
    return {
        "d_lambda": spectral,
        "d_s": spatial,
        "qnr": (1 - spectral) * (1 - spatial),
        "d_lambda_k": khan,
        "hqnr": (1 - khan) * (1 - spatial),
        "hsi_rms": hsi_rms,
        "hsi_db": hsi_db,
        "msi_rms": msi_rms,
        "msi_db": msi_db,
    }


def d_lambda(images: FullScale) -> float:
    """Spectral distortion (Alparone 2008, eq. 3 with p = 1): the mean of ``|Q(Z_l, Z_r) - Q(X_l, X_r)|`` over pairs of bands.

    0 is best: the bands relate to each other as they did in the coarse image. NaN where no coarse pixel counts.
    """
    return _distortions(images, images.coarse_valid())[0]


def d_s(images: FullScale) -> float:
    """Spatial distortion (Alparone 2008, eq. 4 with q = 1): the mean of ``|Q(Z_l, Y_m) - Q(X_l, H(Y)_m)|`` over all l and m.

    With one panchromatic band that is the paper's definition; with several fine bands each of them takes its turn. 0 is best. NaN
    where no coarse pixel counts.
    """
    return _distortions(images, images.coarse_valid())[1]


def khan_distortion(hsi: np.ndarray, fused_coarse: np.ndarray) -> float:
    """Spectral distortion of Khan 2009, as in HQNR: ``1 - Q2n(X, H(Z))``, here on the coarse grid itself; 0 is best.

    Raises
    ------
    InputError
        If no pixel has data in all bands of both.
    """
    return 1 - q2n_over(hsi, fused_coarse, valid_pixels(hsi, fused_coarse))


def consistency(observed: np.ndarray, predicted: np.ndarray, mask: np.ndarray | None = None) -> tuple[float, float]:
    """Return how far an observation is from what the fused image predicts for it.

    Parameters
    ----------
    observed, predicted
        X and H(Z), or Y and R(Z): (band, y, x), NaN = no data.
    mask
        Optional bool (y, x), True where a pixel may count.

    Returns
    -------
    rms, db
        Root mean square of the difference in the images' unit, and ``10 log10(mean(observed^2) / mean(difference^2))``: infinite
        when there is no difference. An image that explains an observation of 35 dB without fitting its noise has about 35 dB.

    Raises
    ------
    InputError
        If the shapes differ or no pixel counts.
    """
    valid = valid_pixels(observed, predicted, mask)
    signal = noise = 0.0
    for seen, told in zip(observed, predicted, strict=True):
        truth = seen[valid].astype(float)
        signal += float(truth @ truth)
        noise += float(np.square(told[valid] - truth).sum())
    if noise == 0:
        return 0.0, float("inf")
    with np.errstate(divide="ignore"):
        return float(np.sqrt(noise / (len(observed) * valid.sum()))), float(10 * np.log10(signal / noise))


def _distortions(images: FullScale, valid: np.ndarray) -> tuple[float, float]:
    """Return D_lambda and D_s over the ``valid`` coarse pixels."""
    if not valid.any():
        return float("nan"), float("nan")
    block = max(_LEAST_COARSE_BLOCK, -(-_FINE_BLOCK // images.ratio))
    fine_valid = valid.repeat(images.ratio, 0).repeat(images.ratio, 1)
    fine = _mean_quality(images.fused, images.msi, fine_valid, block * images.ratio)
    coarse = _mean_quality(images.hsi, images.msi_coarse, valid, block)
    change = np.abs(fine - coarse)
    n_bands = len(images.hsi)
    among = change[:, :n_bands]
    others = among.sum() - among.trace()
    return float(others / max(n_bands * (n_bands - 1), 1)), float(change[:, n_bands:].mean())


def _mean_quality(spectra: np.ndarray, guide: np.ndarray, valid: np.ndarray, size: int) -> np.ndarray:
    """Return the mean over blocks of Q of each band of ``spectra`` (C, y, x) with each of it and of ``guide``: (C, C + c)."""
    total = np.zeros((len(spectra), len(spectra) + len(guide)))
    for rows, cols in blocks(*valid.shape, size):
        inside = valid[rows, cols]
        if inside.any():
            block = np.concatenate([image[:, rows, cols][:, inside] for image in (spectra, guide)]).astype(float)
            total += inside.sum() * pairwise_uiqi(block[: len(spectra)], block)
    return total / valid.sum()


def _has_data(image: np.ndarray) -> np.ndarray:
    """Tell which pixels (y, x) of an image have data in every band."""
    return np.logical_and.reduce([np.isfinite(band) for band in image])
