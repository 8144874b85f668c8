"""Which PSF a pair gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geofuse.sensors.psf import Psf

TAG = "GEOFUSE_PSF"
ASSUMED = Psf("gaussian", 1.0)


def choose_psf(psf: str | Psf, hsi_attrs: Mapping[str, Any], ratio: int) -> tuple[Psf, str]:
    """Return the PSF to use and where it comes from.

    Parameters
    ----------
    psf
        ``"auto"`` (recorded in the HSI's tags, else a Gaussian with a FWHM of one coarse pixel), a text that
        :meth:`Psf.parse` reads, or a PSF.
    hsi_attrs
        Attributes of the HSI, the file's ``GEOFUSE_*`` tags among them.
    ratio
        Fine pixels to a coarse pixel; a sampled kernel must fit it.

    Returns
    -------
    tuple of (Psf, str)
        The string is one of ``"given"``, ``"recorded in the HSI's tags"`` and ``"assumed: nothing is recorded"``.

    Raises
    ------
    UsageError, MissingFileError, InputError
        If the text is not a PSF, its file is missing, or the kernel does not fit the ratio.
    """
    if isinstance(psf, Psf):
        chosen, source = psf, "given"
    elif psf.strip().lower() != "auto":
        chosen, source = Psf.parse(psf), "given"
    elif tag := hsi_attrs.get(TAG):
        chosen, source = Psf.from_tag(tag), "recorded in the HSI's tags"
    else:
        chosen, source = ASSUMED, "assumed: nothing is recorded"
    chosen.separable_terms(ratio)  # raises where a sampled kernel cannot be centred
    return chosen, source
