"""What a report shows, as arrays: pictures, sampled spectra, errors, scores and provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from geofuse.report.colour import Composite, Stretch
from geofuse.report.error_map import ErrorMap
from geofuse.report.placement import Box, Grid
from geofuse.scene import BandMetadata

NAMES = {"hsi": "HSI", "msi": "MSI", "fused": "Fused", "reference": "Reference"}


@dataclass(frozen=True)
class ReportLimits:
    """How large the parts of a page may be.

    Attributes
    ----------
    picture_side, picture_bytes
        Longer side of colour pictures and error maps in pixels, and bytes of all of them together, encoded.
    quicklook_side, quicklook_bytes
        Longer side of the pictures of single bands, and bytes of all of them together, encoded.
    spectra_bytes
        Bytes of all spectra together, two a value.
    """

    picture_side: int = 1000
    picture_bytes: int = 2_400_000
    quicklook_side: int = 512
    quicklook_bytes: int = 8_500_000
    spectra_bytes: int = 3_600_000


@dataclass(frozen=True)
class Layer:
    """One of the images of a report, on the fused scene's footprint.

    Attributes
    ----------
    id, name
        ``hsi``, ``msi``, ``fused`` or ``reference``, and what the page calls it.
    size
        Rows, columns and bands of the image.
    bands
        Metadata of its bands.
    band_of
        (C,) int: its band for each band of the fused scene; -1 where it has none.
    stretch
        Of each of its bands.
    box, span
        The part of the fused scene that its pictures cover, and its own rows and columns there.
    pictures
        Composite id -> (3, h, w) uint8, 0 = no data.
    quicklooks
        (n, h, w) uint8, 0 = no data: the bands in ``shown``.
    shown
        (n,) int positions of the bands that have a quicklook.
    sampled
        (band, sample rows, sample columns) float32: its values at the sampled pixels of the fused scene.
    pixel_of
        (sample rows, sample columns) int: equal numbers are the same pixel of the image; -1 outside it.
    """

    id: str
    name: str
    size: tuple[int, int, int]
    bands: BandMetadata
    band_of: np.ndarray
    stretch: Stretch
    box: Box
    span: tuple[int, int]
    pictures: Mapping[str, np.ndarray]
    quicklooks: np.ndarray
    shown: np.ndarray
    sampled: np.ndarray
    pixel_of: np.ndarray


@dataclass(frozen=True)
class ReportContent:
    """Everything that the page and the figures show.

    Attributes
    ----------
    title
        Name of the fused scene.
    grid, bands, ratio
        Of the fused scene; ``ratio`` in fine pixels per coarse one, None where it is unknown.
    layers
        HSI, MSI, fused and reference in this order, those that were given.
    views
        The colour pictures.
    sample_rows, sample_cols
        Pixels of the fused scene whose spectra are kept.
    msi_in_units
        Whether the MSI's values are of the size of the fused scene's; if not it has a stretch of its own.
    errors
        Comparison with the reference, where one was given.
    scores
        Name to value.
    provenance, sources
        Tags of the fused file, and layer id to file name; what files say is not to be trusted.
    notes
        What a reader should know, one line each.
    """

    title: str
    grid: Grid
    bands: BandMetadata
    ratio: float | None
    layers: tuple[Layer, ...]
    views: tuple[Composite, ...]
    sample_rows: np.ndarray
    sample_cols: np.ndarray
    msi_in_units: bool
    errors: ErrorMap | None
    scores: Mapping[str, float]
    provenance: Mapping[str, str]
    sources: Mapping[str, str]
    notes: tuple[str, ...]

    def layer(self, name: str) -> Layer | None:
        """Return a layer by its id, or None."""
        return next((layer for layer in self.layers if layer.id == name), None)
