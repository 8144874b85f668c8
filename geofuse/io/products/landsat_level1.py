"""Landsat 4-9 Level-1, the folder with one GeoTIFF a band and the metadata file (MTL) that says what the counts mean.

USGS, Landsat 8 Data Users Handbook (LSDS-1574), section 5.2: reflectance at the top of the atmosphere =
(REFLECTANCE_MULT_BAND_n * stored + REFLECTANCE_ADD_BAND_n) / sin(SUN_ELEVATION); 0 is fill.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geofuse.errors import InputError
from geofuse.io.products import band_files
from geofuse.io.products.landsat import CLOUDS, FILL, LIMITS_NM, NODATA, band_metadata, quality_mask

if TYPE_CHECKING:
    import xarray as xr

TITLE = "Landsat Level-1"
MAX_METADATA_BYTES = 2**20
_SUFFIX = "_MTL.txt"
_TIF = "[Tt][Ii][Ff]"
_FIELD = re.compile(r'^\s*(\w+)\s*=\s*"?([^"\n]*?)"?\s*$', re.MULTILINE)


@dataclass(frozen=True)
class Calibration:
    """What the metadata say: top-of-atmosphere reflectance = stored * scale + offset, by band number."""

    satellite: int
    scale: dict[int, float]
    offset: dict[int, float]


def matches(path: Path) -> bool:
    """Tell whether ``path`` is a folder of Level-1 bands with their MTL file, or that file."""
    tables = path.glob(f"*{_SUFFIX}") if path.is_dir() else [path] if path.name.endswith(_SUFFIX) else []
    return any(next(_bands_of(table, "2"), None) is not None for table in tables)


def _bands_of(table: Path, number: str) -> Any:
    """Yield the files of a band (``*`` for any) beside a metadata file."""
    return table.parent.glob(f"{table.name.removesuffix(_SUFFIX)}_B{number}.{_TIF}")


def open_product(path: Path, *, chunks: Any = None, mask_clouds: bool = True) -> xr.DataArray:
    """Open a Level-1 product as a lazy scene of reflectance at the top of the atmosphere; the reflective bands of 30 m.

    Parameters
    ----------
    path
        The product's folder, or its MTL file.
    chunks
        As for :func:`geofuse.io.open_scene`; None for all bands in windows of 1024 x 1024.
    mask_clouds
        Whether cloud, dilated cloud, cirrus and cloud shadow are no data, where there is a ``QA_PIXEL`` file (Collection 2).

    Raises
    ------
    InputError
        If a band or its calibration is missing or damaged, the folder holds several products, or the grids differ.
    """
    table = path if path.is_file() else band_files.one_file(path, f"*{_SUFFIX}")
    if table is None:
        raise InputError(f"{path}: no *{_SUFFIX}; copy the product's metadata file beside its bands")
    stem = table.name.removesuffix(_SUFFIX)
    calibration = read_calibration(table)
    files = {number: band_files.one_file(table.parent, f"{stem}_B{number}.{_TIF}") for number in calibration.scale}
    lacking = [f"{stem}_B{number}.TIF" for number, file in files.items() if file is None]
    if lacking:
        raise InputError(f"{table.parent}: no {', '.join(lacking)}; the product is not whole: download it again")
    first = band_files.open_band(files[1])
    data = []
    for number, file in files.items():
        scene = band_files.open_band(file)
        band_files.check_same_grid(first, scene)
        data.append(band_files.physical(scene.data, calibration.scale[number], calibration.offset[number], (NODATA,)))
    quality = band_files.one_file(table.parent, f"{stem}_QA_PIXEL.{_TIF}")
    if quality:
        unusable = quality_mask(first, quality, FILL | (CLOUDS if mask_clouds else 0))
        data = [band_files.masked(band, unusable) for band in data]
    read = [*files.values(), *([quality] if quality else []), table]
    attrs = band_files.product_attributes(path, TITLE, _notes(calibration, bool(quality), mask_clouds), read, _stored(calibration))
    names = tuple(f"B{number}" for number in files)
    return band_files.assemble(first, data, band_metadata(calibration.satellite, tuple(files), names), chunks, attrs)


def _notes(calibration: Calibration, has_quality: bool, mask_clouds: bool) -> list[str]:
    clouds = "clouds are not masked" + (": no QA_PIXEL file" if mask_clouds else "")
    if has_quality and mask_clouds:
        clouds = "cloud, dilated cloud, cirrus and cloud shadow are no data (QA_PIXEL)"
    return [
        f"reflectance of Landsat {calibration.satellite} at the top of the atmosphere, not corrected for the air's scattering",
        "the reflective bands of 30 m alone: panchromatic, cirrus and thermal bands left out",
        clouds,
    ]


def _stored(calibration: Calibration) -> tuple[str, float, float, float]:
    """Return the stored form of the files; that of float32 where bands differ."""
    scales, offsets = set(calibration.scale.values()), set(calibration.offset.values())
    if len(scales) == len(offsets) == 1:
        return "uint16", scales.pop(), offsets.pop(), float(NODATA)
    return "float32", 1.0, 0.0, math.nan


def read_calibration(table: Path) -> Calibration:
    """Read the satellite, the sun's elevation and the bands' factors from an MTL file.

    Raises
    ------
    InputError
        If it lacks one of them.
    """
    if table.stat().st_size > MAX_METADATA_BYTES:
        raise InputError(f"{table}: {table.stat().st_size / 1e6:.0f} MB; too large for product metadata")
    fields = dict(_FIELD.findall(table.read_text("utf-8", errors="replace")))
    spacecraft = re.fullmatch(r"LANDSAT_([45789])", fields.get("SPACECRAFT_ID", ""))
    if spacecraft is None:
        raise InputError(f"{table}: SPACECRAFT_ID is {fields.get('SPACECRAFT_ID')!r}; expected LANDSAT_4, 5, 7, 8 or 9")
    satellite = int(spacecraft[1])
    sine = math.sin(math.radians(_number(table, fields, "SUN_ELEVATION")))
    if sine <= 0:
        raise InputError(f"{table}: the sun stands below the horizon (SUN_ELEVATION); there is no reflectance to compute")
    numbers = tuple(LIMITS_NM[satellite])
    scale = {n: _number(table, fields, f"REFLECTANCE_MULT_BAND_{n}") / sine for n in numbers}
    offset = {n: _number(table, fields, f"REFLECTANCE_ADD_BAND_{n}") / sine for n in numbers}
    return Calibration(satellite, scale, offset)


def _number(table: Path, fields: dict[str, str], key: str) -> float:
    try:
        value = float(fields.get(key, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{table}: {key} is {fields.get(key)!r}; expected a number; download the product again")
    return value
