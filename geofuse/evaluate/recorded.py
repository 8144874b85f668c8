"""What a fused file records of its making, to bring its two images together in the same way again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from geofuse.align import Registration, response_from_text
from geofuse.pipeline import PairOptions
from geofuse.sensors import Psf

if TYPE_CHECKING:
    import xarray as xr

RECORDED = "recorded"


def as_recorded(fused: xr.DataArray, options: PairOptions, hsi: str | Path, msi: str | Path) -> xr.Dataset:
    """Open the pair that a fused scene was made from; see :func:`geofuse.evaluate.evaluate_without_reference`.

    Raises
    ------
    GeofuseError
        If what is recorded cannot be read, or the two images do not make a pair.
    """
    tags = fused.attrs
    if options.coregister == RECORDED:
        found = tags.get("GEOFUSE_COREGISTRATION")
        options = replace(options, coregister=Registration.from_tag(found) if found else "off")
    if options.srf is None and options.response is None and "GEOFUSE_RESPONSES" in tags:
        options = replace(options, response=response_from_text(tags["GEOFUSE_RESPONSES"], "the response recorded in it"))
    recorded_psf = tags.get("GEOFUSE_HSI_PSF") if options.psf == "auto" else None
    if recorded_psf is None:
        return options.open(hsi, msi)
    # The recorded PSF has been moved with the image; what moves it again here is set right afterwards.
    pair = replace(options, psf=Psf.from_tag(recorded_psf)).open(hsi, msi)
    source = "recorded in the fused image"
    notes = [note for note in pair.attrs["notes"] if not note.startswith("PSF:")]
    label = Psf.from_tag(recorded_psf).label
    return pair.assign_attrs(psf=recorded_psf, psf_source=source, notes=[*notes, f"PSF: {label} ({source})"])
