"""Evaluate a fused image against the two images it was made from, where nobody knows the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.degradation import SpatialOperator
from geofuse.errors import InputError
from geofuse.evaluate.recorded import as_recorded
from geofuse.evaluate.reference import overlap, pair_bands
from geofuse.evaluate.tables import json_scores, note_lines, score_lines
from geofuse.metrics import FullScale, score_without_reference
from geofuse.pipeline import PairOptions
from geofuse.scene import BandMetadata, band_metadata, make_scene
from geofuse.sensors import Psf
from geofuse.simulate import coarsen, respond

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class NoReferenceEvaluation:
    """The scores of a fused image against its observations.

    Attributes
    ----------
    scores
        As :func:`geofuse.metrics.score_without_reference` returns them.
    n_bands, n_msi_bands
        Bands of the HSI and of the MSI that were compared.
    ratio
        Fine pixels along one side of a coarse pixel.
    n_pixels
        Coarse pixels that count in the distortions.
    notes
        What was taken for granted or left out, one line each.
    """

    scores: dict[str, float]
    n_bands: int
    n_msi_bands: int
    ratio: int
    n_pixels: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as what ``json.dumps`` takes; see :func:`geofuse.evaluate.json_number`."""
        counts = {"ratio": self.ratio, "bands": self.n_bands, "msi_bands": self.n_msi_bands, "coarse_pixels": self.n_pixels}
        return {**json_scores(self.scores), **counts, "notes": list(self.notes)}

    def to_text(self) -> str:
        """Return the result as a table for the terminal."""
        counts = f"{self.n_bands} and {self.n_msi_bands} bands, {self.n_pixels} coarse pixels, ratio {self.ratio}"
        return "\n".join([*score_lines(self.scores), counts, *note_lines(self.notes)])


def evaluate_without_reference(
    fused: str | Path, hsi: str | Path, msi: str | Path, pair_options: PairOptions | None = None
) -> NoReferenceEvaluation:
    """Score the fused image at one path against the two images it was made from.

    What the fused file records of its making takes the place of options that do not say otherwise: the PSF where ``psf`` is
    ``"auto"``, where the HSI truly lies where ``coregister`` is ``"recorded"``, and the estimated response where neither ``srf``
    nor ``response`` is given. Other options ought to be those of the fusion.

    Raises
    ------
    GeofuseError
        If a file cannot be read, the two do not make a pair, or the fused image lies on another grid or has other bands.
    """
    from geofuse.io import open_scene

    options = pair_options or PairOptions(coregister="recorded")
    scene = open_scene(fused, allow_remote=options.allow_remote)
    return evaluate_against_pair(scene, as_recorded(scene, options, hsi, msi))


def evaluate_against_pair(fused: xr.DataArray, pair: xr.Dataset) -> NoReferenceEvaluation:
    """Score a fused scene against the pair it was made from (see :func:`geofuse.open_pair`).

    Raises
    ------
    InputError
        If the fused scene is on another grid than the MSI, has other bands than the HSI, or shares no data with them.
    """
    estimate, notes = _on_the_pairs_grid(fused, pair)
    operator = SpatialOperator(Psf.from_tag(pair.attrs["psf"]), int(pair.attrs["ratio"]), *estimate.shape[1:])
    msi = pair["msi"].values
    images = FullScale(
        fused=estimate,
        hsi=pair["hsi"].values,
        msi=msi,
        fused_coarse=coarsen(estimate, operator),
        fused_msi=respond(estimate, pair["response"].values),
        msi_coarse=coarsen(msi, operator),
    )
    return NoReferenceEvaluation(
        scores=score_without_reference(images),
        n_bands=len(estimate),
        n_msi_bands=len(msi),
        ratio=operator.ratio,
        n_pixels=int(images.coarse_valid().sum()),
        notes=(*pair.attrs["notes"], *notes),
    )


def _on_the_pairs_grid(fused: xr.DataArray, pair: xr.Dataset) -> tuple[np.ndarray, list[str]]:
    """Return the fused scene's values (C, H, W) on the pair's fine grid and in its bands, NaN where it has none, and notes."""
    from affine import Affine

    row0, row1, col0, col1 = pair.attrs["output_window"]
    unknown = BandMetadata.unknown(pair.sizes["band_msi"])
    window = pair["msi"].data[:, row0:row1, col0:col1]
    output = make_scene(window, unknown, Affine(*pair.attrs["output_transform"]), pair.rio.crs)
    (ours_y, ours_x), (theirs_y, theirs_x), notes = overlap(fused, output, "pair")
    values = fused.isel(y=ours_y, x=ours_x).values
    has_data = np.array([np.isfinite(band).any() for band in values])
    if not has_data.any():
        raise InputError("the fused image has no data where the pair lies; check its no-data value")
    bands = BandMetadata(
        pair["wavelength"].values, pair["fwhm"].values, pair["good_band"].values, tuple(str(n) for n in pair["band_name"].values)
    )
    index, _, band_notes = pair_bands(band_metadata(fused), bands, has_data, np.ones(len(bands), bool), "pair")
    out = np.full((len(bands), pair.sizes["y"], pair.sizes["x"]), np.nan, np.float32)
    out[:, row0:row1, col0:col1][:, theirs_y, theirs_x] = values[index]
    return out, [*notes, *band_notes]
