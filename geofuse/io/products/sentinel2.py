"""Sentinel-2 Level-2A, the SAFE folder with JPEG 2000 bands.

Layout, scale and band table: Sentinel-2 Products Specification Document (S2-PDGS-TAS-DI-PSD), issue 14: surface reflectance =
(stored + BOA_ADD_OFFSET) / BOA_QUANTIFICATION_VALUE, with an offset from processing baseline 04.00 on; 0 is no data, 65535 is
saturated.

The scene has the 10 m grid: the four bands of 10 m as they are, then the six of 20 m, interpolated. Bands of 60 m are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError
from geofuse.io.products import band_files
from geofuse.io.products.metadata_xml import read_xml
from geofuse.scene import BandMetadata

if TYPE_CHECKING:
    import xarray as xr

TITLE = "Sentinel-2 L2A"
METADATA = "MTD_MSIL2A.xml"
OFFSET_SINCE = (4, 0)
NODATA, SATURATED = 0, 65535
FINE = ("B02", "B03", "B04", "B08")
COARSE = ("B05", "B06", "B07", "B8A", "B11", "B12")
_BAND_ID = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_FWHM_NM = {"B02": 66, "B03": 36, "B04": 31, "B08": 106, "B05": 15, "B06": 15, "B07": 20, "B8A": 21, "B11": 91, "B12": 175}
_CENTER_NM = {
    **{"B02": 492.4, "B03": 559.8, "B04": 664.6, "B08": 832.8, "B05": 704.1, "B06": 740.5, "B07": 782.8, "B8A": 864.7},
    **{"B11": 1613.7, "B12": 2202.4},
}
MASKED_CLASSES = (0, 1, 3, 8, 9, 10)
"""Scene classes without usable surface: no data, saturated or defective, cloud shadow, cloud (medium, high), thin cirrus."""


@dataclass(frozen=True)
class Metadata:
    """What the product says of its radiometry: reflectance = (stored + offset) / quantification."""

    quantification: float
    offset: dict[str, float]  # by band, as B02
    center_nm: dict[str, float]  # by band
    baseline: str


def matches(path: Path) -> bool:
    """Tell whether ``path`` is a SAFE folder of Level-2A, or the metadata file in it."""
    return path.name == METADATA or (path.is_dir() and (path / METADATA).is_file())


def open_product(path: Path, *, chunks: Any = None, mask_clouds: bool = True) -> xr.DataArray:
    """Open a Level-2A product as a lazy scene of surface reflectance on its 10 m grid.

    Parameters
    ----------
    path
        The SAFE folder, or ``MTD_MSIL2A.xml`` in it.
    chunks
        As for :func:`geofuse.io.open_scene`; None for all bands in windows of 1024 x 1024.
    mask_clouds
        Whether the classes :data:`MASKED_CLASSES` of the scene classification are no data.

    Returns
    -------
    xarray.DataArray
        Bands B02, B03, B04, B08 (10 m), then B05, B06, B07, B8A, B11, B12 (20 m, bilinear), if the product holds 20 m images.

    Raises
    ------
    InputError
        If a band or the metadata are missing or damaged, or the bands' grids do not fit each other.
    """
    root = path if path.is_dir() else path.parent
    metadata = read_metadata(root / METADATA)
    images = _image_folder(root)
    fine = {name: _find(images / "R10m", f"*_{name}_10m.jp2") for name in FINE}
    coarse = {name: _find(images / "R20m", f"*_{name}_20m.jp2") for name in COARSE} if (images / "R20m").is_dir() else {}
    classes = band_files.one_file(images / "R20m", "*_SCL_20m.jp2") if mask_clouds else None
    first = band_files.open_band(fine[FINE[0]])
    data = [_read(first, file, name, metadata, factor=1) for name, file in fine.items()]
    data += [_read(first, file, name, metadata, factor=2) for name, file in coarse.items()]
    if classes:
        mask = _mask(first, classes)
        data = [band_files.masked(band, mask) for band in data]
    names = (*fine, *coarse)
    center, fwhm = (np.array([table[name] for name in names], float) for table in (metadata.center_nm, _FWHM_NM))
    bands = BandMetadata(center, fwhm, np.ones(len(names), bool), names)
    files = [*fine.values(), *coarse.values(), *([classes] if classes else []), root / METADATA]
    offsets = {metadata.offset[name] for name in names}
    stored = ("float32", 1.0, 0.0, float("nan"))
    if len(offsets) == 1:
        stored = ("uint16", 1 / metadata.quantification, offsets.pop() / metadata.quantification, float(NODATA))
    attrs = band_files.product_attributes(path, TITLE, _notes(metadata, bool(coarse), bool(classes), mask_clouds), files, stored)
    return band_files.assemble(first, data, bands, chunks, attrs)


def _read(first: xr.DataArray, file: Path, name: str, metadata: Metadata, *, factor: int) -> Any:
    """Return the reflectance of one band (1, y, x) on the grid of ``first``, lazily."""
    scene = band_files.open_band(file, chunk=band_files.CHUNK // factor)
    band_files.check_same_grid(first, scene, factor=factor)
    scale, offset = 1 / metadata.quantification, metadata.offset[name] / metadata.quantification
    data = band_files.physical(scene.data, scale, offset, (NODATA, SATURATED))
    return data if factor == 1 else band_files.twice_as_fine(data)


def _mask(first: xr.DataArray, file: Path) -> Any:
    """Return where the scene classification says that there is no usable surface, (1, y, x) bool on the grid of ``first``."""
    import dask.array as da

    scene = band_files.open_band(file, chunk=band_files.CHUNK // 2)
    band_files.check_same_grid(first, scene, factor=2)
    unusable = da.isin(scene.data, MASKED_CLASSES) | da.isnan(scene.data)
    return unusable.repeat(2, axis=1).repeat(2, axis=2)


def _notes(metadata: Metadata, has_coarse: bool, has_classes: bool, mask_clouds: bool) -> list[str]:
    notes = [f"surface reflectance, processing baseline {metadata.baseline}, stored offset {metadata.offset[FINE[0]]:g}"]
    if has_coarse:
        fine = ",".join(f"B{int(name[1:])}" for name in FINE)
        notes.append(
            f"{', '.join(COARSE)} are 20 m bands interpolated to 10 m: no detail below 20 m "
            f"(--msi-bands {fine} uses the 10 m bands alone)"
        )
    else:
        notes.append(f"no R20m folder: the 10 m bands alone ({', '.join(FINE)})")
    notes.append("60 m bands (B01, B09) left out")
    if has_classes:
        notes.append("cloud, cirrus, cloud shadow and saturated pixels are no data (scene classification)")
    else:
        notes.append("clouds are not masked" + (": no scene classification (SCL)" if mask_clouds else ""))
    return notes


def read_metadata(file: Path) -> Metadata:
    """Read scale, offsets and wavelengths from ``MTD_MSIL2A.xml``.

    Raises
    ------
    InputError
        If it is not a readable Level-2A metadata file, or says baseline 04.00 or later and lacks an offset.
    """
    root = read_xml(file)
    found = {element.tag.rpartition("}")[2]: (element.text or "").strip() for element in root.iter()}
    baseline = found.get("PROCESSING_BASELINE", "")
    offset = {_band(e.get("band_id")): _number(file, e.tag, e.text) for e in root.iter("BOA_ADD_OFFSET")}
    if not offset and _version(file, baseline) < OFFSET_SINCE:
        offset = dict.fromkeys(_BAND_ID, 0.0)
    lacking = [name for name in (*FINE, *COARSE) if name not in offset]
    if lacking:
        raise InputError(f"{file}: baseline {baseline}, but no BOA_ADD_OFFSET for {', '.join(lacking)}; download the product again")
    told = found.get("BOA_QUANTIFICATION_VALUE", found.get("L2A_BOA_QUANTIFICATION_VALUE"))  # the latter until 2018 (issue 13)
    quantification = _number(file, "BOA_QUANTIFICATION_VALUE", told)
    if quantification <= 0:
        raise InputError(f"{file}: BOA_QUANTIFICATION_VALUE {quantification:g}; expected a positive number")
    center = dict(_CENTER_NM)
    for element in root.iter("Spectral_Information"):
        text = element.findtext("Wavelength/CENTRAL")
        if text:
            center[_band(element.get("bandId"))] = _number(file, "CENTRAL", text)
    return Metadata(quantification, offset, center, baseline)


def _band(number: str | None) -> str:
    """Return the band's name for its number in the metadata, 0 to 12."""
    return _BAND_ID[int(number)] if number and number.isdecimal() and int(number) < len(_BAND_ID) else ""


def _number(file: Path, tag: str, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise InputError(f"{file}: {tag} is {text!r}; expected a number; download the product again") from None


def _version(file: Path, baseline: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in baseline.split("."))
    except ValueError:
        raise InputError(f"{file}: PROCESSING_BASELINE is {baseline!r}; expected 05.11 or such, which tells the offset") from None


def _image_folder(root: Path) -> Path:
    """Return ``GRANULE/<one>/IMG_DATA``."""
    folders = sorted((root / "GRANULE").glob("*/IMG_DATA"))
    if len(folders) != 1:
        raise InputError(
            f"{root}: {len(folders)} granules (GRANULE/*/IMG_DATA); expected one: download the product again, one tile each"
        )
    return folders[0]


def _find(folder: Path, pattern: str) -> Path:
    file = band_files.one_file(folder, pattern)
    if file is None:
        raise InputError(f"{folder}: no {pattern}; the product is not whole: download it again")
    return file
