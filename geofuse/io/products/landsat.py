"""Landsat 4-9 Collection 2 Level-2, the folder with one GeoTIFF a band.

Layout and scale: USGS, Landsat 8-9 Collection 2 Level 2 Science Product Guide (LSDS-1619) and its counterpart for Landsat 4-7
(LSDS-1618): surface reflectance = 0.0000275 * stored - 0.2, 0 is fill; ``QA_PIXEL`` holds one bit a class. Band limits: USGS, "What
are the band designations for the Landsat satellites?".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError
from geofuse.io.products import band_files
from geofuse.scene import BandMetadata

if TYPE_CHECKING:
    import xarray as xr

TITLE = "Landsat Collection 2 Level-2"
SCALE, OFFSET, NODATA = 0.0000275, -0.2, 0
_BAND = re.compile(r"(L[CEOT]0[45789]_L2S[PR]_\d{6}_\d{8}_\d{8}_02_(?:T1|T2|RT))_SR_B(\d)\.TIF", re.IGNORECASE)
_METADATA = re.compile(r"L[CEOT]0[45789]_L2S[PR]_.*_MTL\.(txt|xml|json)", re.IGNORECASE)

_OLI_NM = {1: (435, 451), 2: (452, 512), 3: (533, 590), 4: (636, 673), 5: (851, 879), 6: (1566, 1651), 7: (2107, 2294)}
_ETM_NM = {1: (441, 514), 2: (519, 601), 3: (631, 692), 4: (772, 898), 5: (1547, 1749), 7: (2064, 2345)}
_TM_NM = {1: (450, 520), 2: (520, 600), 3: (630, 690), 4: (760, 900), 5: (1550, 1750), 7: (2080, 2350)}
LIMITS_NM = {4: _TM_NM, 5: _TM_NM, 7: _ETM_NM, 8: _OLI_NM, 9: _OLI_NM}
"""By satellite and band: where the response is half its maximum, which gives centre and FWHM."""

FILL, CLOUDS = 1 << 0, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4
"""Bits of QA_PIXEL: fill; dilated cloud, cirrus (Landsat 8-9), cloud, cloud shadow."""


def matches(path: Path) -> bool:
    """Tell whether ``path`` is a folder with Level-2 bands, or the metadata file (MTL) beside them."""
    if path.is_dir():
        return next(_bands_in(path), None) is not None
    return bool(_METADATA.fullmatch(path.name)) and next(_bands_in(path.parent), None) is not None


def _bands_in(folder: Path) -> Iterator[tuple[str, int, Path]]:
    """Yield (product, band number, file) of each reflectance file in a folder."""
    for file in folder.iterdir():
        match = _BAND.fullmatch(file.name)
        if match:
            yield match[1].upper(), int(match[2]), file


def open_product(path: Path, *, chunks: Any = None, mask_clouds: bool = True) -> xr.DataArray:
    """Open a Level-2 product as a lazy scene of surface reflectance.

    Parameters
    ----------
    path
        The product's folder, or its MTL file.
    chunks
        As for :func:`geofuse.io.open_scene`; None for all bands in windows of 1024 x 1024.
    mask_clouds
        Whether cloud, dilated cloud, cirrus and cloud shadow (``QA_PIXEL``) are no data, besides fill.

    Raises
    ------
    InputError
        If a band is missing or damaged, the folder holds several products, or the grids differ.
    """
    folder = path if path.is_dir() else path.parent
    product, files = find_bands(folder)
    satellite = int(product[2:4])
    quality = band_files.one_file(folder, f"{product}_QA_PIXEL.[Tt][Ii][Ff]")
    first = band_files.open_band(next(iter(files.values())))
    data = []
    for file in files.values():
        scene = band_files.open_band(file)
        band_files.check_same_grid(first, scene)
        data.append(band_files.physical(scene.data, SCALE, OFFSET, (NODATA,)))
    notes = [f"surface reflectance of Landsat {satellite}, {product}"]
    if quality:
        unusable = quality_mask(first, quality, FILL | (CLOUDS if mask_clouds else 0))
        data = [band_files.masked(band, unusable) for band in data]
    if quality and mask_clouds:
        notes.append("cloud, dilated cloud, cirrus and cloud shadow are no data (QA_PIXEL)")
    else:
        notes.append("clouds are not masked" + (f": no {product}_QA_PIXEL.TIF" if mask_clouds else ""))
    attrs = band_files.product_attributes(
        path, TITLE, notes, [*files.values(), *([quality] if quality else [])], ("uint16", SCALE, OFFSET, float(NODATA))
    )
    names = tuple(f"SR_B{number}" for number in files)
    return band_files.assemble(first, data, band_metadata(satellite, tuple(files), names), chunks, attrs)


def find_bands(folder: Path) -> tuple[str, dict[int, Path]]:
    """Return the product's name and its reflectance files by band number, ascending.

    Raises
    ------
    InputError
        If there is not exactly one product with all its reflective bands.
    """
    found = sorted(_bands_in(folder))
    products = sorted({product for product, _, _ in found})
    if len(products) != 1:
        raise InputError(f"{folder}: bands of {len(products)} Landsat products; expected one product in a folder of its own")
    files = {number: file for _, number, file in found}
    expected = LIMITS_NM[int(products[0][2:4])]
    lacking = [f"SR_B{number}" for number in expected if number not in files]
    if lacking:
        raise InputError(f"{folder}: no {', '.join(lacking)} of {products[0]}; the product is not whole: download it again")
    return products[0], {number: files[number] for number in expected}


def band_metadata(satellite: int, numbers: tuple[int, ...], names: tuple[str, ...]) -> BandMetadata:
    """Return centre and FWHM of bands of a satellite (4, 5, 7, 8 or 9) from their limits."""
    low, high = np.array([LIMITS_NM[satellite][number] for number in numbers], float).T
    return BandMetadata((low + high) / 2, high - low, np.ones(len(numbers), bool), names)


def quality_mask(first: xr.DataArray, file: Path, bits: int) -> Any:
    """Return where ``QA_PIXEL`` has one of ``bits`` set (or is fill, its no data), (1, y, x) bool, lazily."""
    scene = band_files.open_band(file)
    band_files.check_same_grid(first, scene)
    return scene.data.map_blocks(_has_bits, bits, dtype=bool)


def _has_bits(quality: np.ndarray, bits: int) -> np.ndarray:
    return (np.nan_to_num(quality, nan=FILL).astype(np.uint16) & np.uint16(bits)) != 0
