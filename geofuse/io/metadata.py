"""Write band metadata and provenance where each format keeps them, so that reading gives them back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geofuse.io import envi
from geofuse.io.bands import consistent_name

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

    from geofuse.io.output import OutputSpec


def number(value: float) -> str:
    """Format a number so that it reads back to within 1e-9 of itself."""
    return f"{value:.10g}"


def write_tags(dataset: DatasetWriter, spec: OutputSpec) -> None:
    """Set the band tags, descriptions, scale, offset and dataset tags of a GeoTIFF that is being written."""
    dataset.update_tags(**dict(sorted(spec.tags.items())))
    bands = spec.bands
    for i, name in enumerate(bands.band_name):
        tags, imagery = {"bbl": "1" if bands.good_band[i] else "0"}, {}
        wavelength, fwhm = bands.wavelength_nm[i], bands.fwhm_nm[i]
        if np.isfinite(wavelength):
            tags.update(wavelength=number(wavelength), wavelength_units="Nanometers")
            imagery["CENTRAL_WAVELENGTH_UM"] = number(wavelength / 1000)
        if np.isfinite(fwhm):
            tags.update(fwhm=number(fwhm), wavelength_units="Nanometers")
            imagery["FWHM_UM"] = number(fwhm / 1000)
        dataset.update_tags(i + 1, **tags)
        if imagery:
            dataset.update_tags(i + 1, ns="IMAGERY", **imagery)
        dataset.set_band_description(i + 1, consistent_name(name, wavelength))
    if (spec.scale, spec.offset) != (1.0, 0.0):
        dataset.scales = [spec.scale] * len(bands)
        dataset.offsets = [spec.offset] * len(bands)


def complete_header(path: Path, spec: OutputSpec) -> None:
    """Add to an ENVI header that GDAL wrote what GDAL leaves out, and drop what depends on where it was written."""
    fields = envi.read_header(path)
    bands = spec.bands
    fields["description"] = "{geofuse}"
    fields["band names"] = envi.braced(map(consistent_name, bands.band_name, bands.wavelength_nm))
    if np.isfinite(bands.wavelength_nm).any():
        fields["wavelength units"] = "Nanometers"
        fields["wavelength"] = envi.braced(number(v) if np.isfinite(v) else "0" for v in bands.wavelength_nm)
    if np.isfinite(bands.fwhm_nm).any():
        fields["wavelength units"] = "Nanometers"
        fields["fwhm"] = envi.braced(number(v) if np.isfinite(v) else "0" for v in bands.fwhm_nm)
    fields["bbl"] = envi.braced("1" if good else "0" for good in bands.good_band)
    if spec.nodata_value is not None:
        fields["data ignore value"] = number(spec.nodata_value)
    if spec.offset != 0.0:
        fields["data gain values"] = envi.braced([repr(spec.scale)] * len(bands))
        fields["data offset values"] = envi.braced([repr(spec.offset)] * len(bands))
    elif spec.scale != 1.0:
        fields["reflectance scale factor"] = number(1.0 / spec.scale)
    for key, value in sorted(spec.tags.items()):
        fields[key.lower().replace("_", " ")] = envi.quote(value)
    envi.write_header(path, fields)
