"""How a file holds its values: which bands, what type, scale, offset, no data; and back to physical units."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import InputError

if TYPE_CHECKING:
    from rasterio import DatasetReader

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Storage:
    """The stored form of an image: value = stored * scale + offset, no data where stored equals ``nodata``.

    ``index`` holds the 1-based numbers of the bands that carry values, ``mask`` is how else the file marks no data:
    ``"alpha band N"`` (then ``alpha`` is N), ``"mask"`` or None.
    """

    dtype: str
    index: tuple[int, ...]
    scale: np.ndarray  # (band,) float64
    offset: np.ndarray  # (band,) float64
    nodata: tuple[float | None, ...]  # (band,)
    mask: str | None
    alpha: int | None

    @property
    def is_uniform(self) -> bool:
        """Tell whether all bands share one scale, offset and no-data value."""
        same_nodata = len({str(v) for v in self.nodata}) == 1
        return bool((self.scale == self.scale[0]).all() and (self.offset == self.offset[0]).all() and same_nodata)

    def select(self, bands: slice) -> Storage:
        """Return the stored form of some of the bands."""
        part = {name: getattr(self, name)[bands] for name in ("index", "scale", "offset", "nodata")}
        return replace(self, **part)

    def attributes(self) -> dict[str, Any]:
        """Return the ``stored_*`` attributes of a scene.

        Where bands differ in scale, offset or no-data value there is no one stored form to write again, and the attributes are
        those of plain float32.
        """
        if not self.is_uniform:
            return {"stored_dtype": "float32", "stored_scale": 1.0, "stored_offset": 0.0, "stored_nodata": float("nan")}
        return {
            "stored_dtype": self.dtype,
            "stored_scale": float(self.scale[0]),
            "stored_offset": float(self.offset[0]),
            "stored_nodata": self.nodata[0],
        }


def read_storage(dataset: DatasetReader, header: Mapping[str, str]) -> Storage:
    """Work out the stored form of an open dataset (``header``: fields of its ENVI header, empty for other formats).

    Raises
    ------
    InputError
        If the ENVI header's scale factors contradict each other.
    """
    alpha = _alpha_band(dataset)
    index = tuple(i for i in range(1, dataset.count + 1) if i != alpha)
    pick = np.asarray(index) - 1
    scale, offset = (np.array(values, float)[pick] for values in (dataset.scales, dataset.offsets))
    factor = _reflectance_scale(dataset.name, header)
    if factor != 1.0:
        if not (scale == 1.0).all() and not np.allclose(scale, 1.0 / factor, rtol=1e-6):
            raise InputError(
                f"{dataset.name}: 'reflectance scale factor = {factor:g}' contradicts a gain of {scale[0]:g} "
                "('data gain values', or the .aux.xml file); remove the wrong one"
            )
        scale = np.full(len(index), 1.0 / factor)
    if not (np.isfinite(scale).all() and (scale != 0).all() and np.isfinite(offset).all()):
        raise InputError(f"{dataset.name}: scale {scale.min():g}, offset {offset.min():g}; correct these metadata of the file")
    flags = {flag.name for flags in dataset.mask_flag_enums for flag in flags}
    mask = f"alpha band {alpha}" if alpha else "mask" if "per_dataset" in flags and "alpha" not in flags else None
    nodatavals = dataset.nodatavals
    nodata = tuple(nodatavals[i - 1] for i in index)
    return Storage(dataset.dtypes[0], index, scale, offset, nodata, mask, alpha)


def _reflectance_scale(name: str, header: Mapping[str, str]) -> float:
    """Return the ENVI header's ``reflectance scale factor`` (reflectance = stored / factor), 1 when it has none."""
    text = header.get("reflectance scale factor")
    if text is None:
        return 1.0
    try:
        factor = float(text.strip("{} "))
    except ValueError:
        factor = 0.0
    if not (np.isfinite(factor) and factor > 0):
        raise InputError(f"{name}: 'reflectance scale factor = {text[:20]}' in its header is not a positive number")
    return factor


def _alpha_band(dataset: DatasetReader) -> int | None:
    """Return the 1-based number of the alpha band, or None.

    GDAL labels the fourth of four 8-bit bands as alpha when it writes them unless told otherwise, so that near infrared often
    carries the label. A band so labelled counts as alpha only if it is fully opaque or transparent wherever it was sampled: 0, or
    the largest value of the type, 1 in floats, and 255, which gdalwarp writes into 32-bit types and floats.
    """
    from rasterio.enums import ColorInterp

    labelled = [i for i, c in enumerate(dataset.colorinterp, 1) if c == ColorInterp.alpha]
    if not labelled or dataset.count == 1:
        return None
    number = labelled[-1]
    opaque = np.iinfo(dataset.dtypes[0]).max if np.issubdtype(dataset.dtypes[0], np.integer) else 1.0
    if "wavelength" not in dataset.tags(number) and _sampled_values(dataset, number) <= {0, opaque, 255}:
        return number
    logger.warning("%s: band %d is labelled as alpha but holds an image; it is read as a spectral band", dataset.name, number)
    return None


def _sampled_values(dataset: DatasetReader, number: int) -> set[float]:
    """Return the values of a band in up to nine blocks spread over the image."""
    from rasterio.windows import Window

    rows, columns = dataset.block_shapes[number - 1]
    n_down, n_across = -(-dataset.height // rows), -(-dataset.width // columns)
    values: set[float] = set()
    for i in sorted({0, n_down // 2, n_down - 1}):
        for j in sorted({0, n_across // 2, n_across - 1}):
            height = min(rows, dataset.height - i * rows)
            width = min(columns, dataset.width - j * columns)
            values |= set(np.unique(dataset.read(number, window=Window(j * columns, i * rows, width, height))).tolist())
    return values


def stored_nodata(nodata: float | None, dtype: str) -> Any:
    """Return a no-data value as the stored type holds it, or None if no stored value can equal it."""
    if nodata is None or np.isnan(nodata):
        return None
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return np.dtype(dtype).type(int(nodata)) if float(nodata).is_integer() and limits.min <= nodata <= limits.max else None
    return np.dtype(dtype).type(nodata)


def decode(stored: np.ndarray, storage: Storage, valid: np.ndarray | None = None) -> np.ndarray:
    """Return stored values in physical units, NaN where there is no data.

    Parameters
    ----------
    stored
        Array (band, h, w) of the bands ``storage.index``.
    storage
        The stored form.
    valid
        Mask (h, w), False where the file's mask or alpha band says no data.

    Returns
    -------
    numpy.ndarray
        Array (band, h, w), float32.
    """
    wide = stored.dtype.itemsize > 4 or (stored.dtype.itemsize == 4 and stored.dtype.kind in "iu")
    values = stored.astype(np.float64 if wide else np.float32)
    if not (storage.scale == 1.0).all():
        values *= storage.scale.astype(values.dtype)[:, None, None]
    if not (storage.offset == 0.0).all():
        values += storage.offset.astype(values.dtype)[:, None, None]
    values = values.astype(np.float32, copy=False)
    for band, plane, nodata in zip(values, stored, storage.nodata, strict=True):
        mark = stored_nodata(nodata, storage.dtype)
        if mark is not None and (same := plane == mark).any():
            band[same] = np.nan
    if valid is not None:
        values[:, ~valid] = np.nan
    if not all_finite(values):
        values[~np.isfinite(values)] = np.nan
    return values


def all_finite(values: np.ndarray) -> bool:
    """Tell, in one pass, that all values are finite; False also where their sum overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum()))
