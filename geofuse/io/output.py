"""What is written: the form of an output image, and physical values turned into stored ones."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import OutputError, UsageError
from geofuse.io.storage import all_finite
from geofuse.scene import BandMetadata

if TYPE_CHECKING:
    from affine import Affine

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def check_dtype(dtype: str) -> None:
    """Raise ``UsageError`` if an image cannot be stored as this type."""
    if dtype not in DTYPES:
        raise UsageError(f"output type {dtype!r}; expected one of {', '.join(DTYPES)}")


def default_nodata(dtype: str) -> float:
    """Return the no-data value for a type when the input has none: NaN, else the end of the range farthest from zero's side.

    That is the lowest value of a signed type and the highest of an unsigned one, where reflectances hardly ever are.

    Raises
    ------
    UsageError
        If the type is unknown.
    """
    check_dtype(dtype)
    if np.issubdtype(dtype, np.floating):
        return float("nan")
    limits = np.iinfo(dtype)
    return float(limits.min if limits.min < 0 else limits.max)


@dataclass(frozen=True)
class OutputSpec:
    """The form of an output image; stored = (value - offset) / scale, rounded for integers, ``nodata`` where the value is NaN.

    ``transform`` is the affine of the pixel corners, ``crs`` anything rasterio accepts or None, ``tags`` dataset tags
    (``GEOFUSE_*``). ``nodata`` None means NaN for floats; an integer image without it must have no missing pixel.

    Raises
    ------
    UsageError
        If the type is unknown, the scale is no use, or the type cannot hold the no-data value.
    """

    height: int
    width: int
    bands: BandMetadata
    transform: Affine
    crs: Any = None
    dtype: str = "float32"
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the fields against each other."""
        check_dtype(self.dtype)
        if min(self.height, self.width, len(self.bands)) < 1:
            raise UsageError(f"output of {len(self.bands)} bands, {self.height} x {self.width} pixels; expected one or more")
        if not (np.isfinite(self.scale) and self.scale != 0 and np.isfinite(self.offset)):
            raise UsageError(f"output scale {self.scale} and offset {self.offset}; expected finite numbers, the scale not 0")
        if self.nodata is not None and self.is_integer:
            limits = np.iinfo(self.dtype)
            if not (float(self.nodata).is_integer() and limits.min <= self.nodata <= limits.max):
                raise UsageError(f"{self.dtype} cannot hold the no-data value {self.nodata:g}; choose another")

    @property
    def is_integer(self) -> bool:
        """Tell whether the stored type is an integer one."""
        return np.issubdtype(self.dtype, np.integer)

    @property
    def nodata_value(self) -> float | None:
        """Return the no-data value that the file declares, as the stored type holds it (NaN for floats unless another is given)."""
        if self.nodata is None:
            return None if self.is_integer else float("nan")
        return float(np.dtype(self.dtype).type(self.nodata))

    @property
    def raw_bytes(self) -> int:
        """Return the uncompressed size of the image."""
        return self.height * self.width * len(self.bands) * np.dtype(self.dtype).itemsize


def encode(values: np.ndarray, spec: OutputSpec) -> np.ndarray:
    """Turn values in physical units into stored ones.

    Values outside the range of an integer type are clipped to it; a value that would be stored as the no-data value moves to the
    nearest one beside it.

    Parameters
    ----------
    values
        Array (band, h, w) of floats; NaN and infinity mean no data.
    spec
        The form of the output.

    Returns
    -------
    numpy.ndarray
        Array (band, h, w) of ``spec.dtype``.

    Raises
    ------
    OutputError
        If a pixel is missing and the spec has no value for it.
    """
    stored = np.empty(values.shape, spec.dtype)
    for source, target in zip(values, stored, strict=True):
        _encode_plane(source, target, spec)
    return stored


def _encode_plane(source: np.ndarray, target: np.ndarray, spec: OutputSpec) -> None:
    """Turn one band (h, w) into stored values, written into ``target``."""
    narrow = target.dtype.itemsize <= 2 if spec.is_integer else (spec.scale, spec.offset) == (1.0, 0.0)
    encoded = source.astype(np.float32 if narrow else np.float64)  # float32 is exact enough where it is used, and half the work
    missing = None if all_finite(source) else ~np.isfinite(source)
    if missing is not None and missing.any():
        if spec.nodata_value is None:
            raise OutputError(f"the image has pixels without data, which {spec.dtype} cannot say; declare a no-data value")
        encoded[missing] = 0.0
    with np.errstate(over="ignore"):  # what becomes infinite is clipped
        if spec.offset != 0.0:
            encoded -= spec.offset
        if spec.scale != 1.0:
            encoded /= spec.scale
    if spec.is_integer:
        target[:] = _integers(encoded, spec)
    else:
        target[:] = encoded
        if not np.isnan(spec.nodata_value):
            mark = target.dtype.type(spec.nodata_value)
            target[target == mark] = np.nextafter(mark, target.dtype.type(0 if mark else 1))
    if missing is not None and missing.any():
        target[missing] = spec.nodata_value


def _integers(encoded: np.ndarray, spec: OutputSpec) -> np.ndarray:
    """Round to integers of the stored type, clipped to its range, none of them the no-data value."""
    limits = np.iinfo(spec.dtype)
    rounded = np.rint(encoded)
    low, high = rounded.min(), rounded.max()
    if low < limits.min or high > limits.max:
        np.clip(rounded, limits.min, limits.max, out=rounded)
        low, high = np.clip((low, high), limits.min, limits.max)
    if spec.nodata is not None and low <= spec.nodata <= high and (same := rounded == spec.nodata).any():
        up = encoded >= spec.nodata if limits.min < spec.nodata < limits.max else np.full(encoded.shape, spec.nodata == limits.min)
        rounded = np.where(same, np.where(up, rounded + 1, rounded - 1), rounded)
    return rounded.astype(spec.dtype)


def check_output_path(path: str | os.PathLike[str]) -> None:
    """Raise early if nothing can be written at a path.

    Raises
    ------
    OutputError
        If the folder is missing or not writable, the path is a folder (other than a Zarr store, for a name that ends in ``.zarr``),
        or it is not a local path.
    """
    text = os.fspath(path)
    if re.match(r"^([a-z][a-z0-9+.-]+://|/vsi)", text, re.IGNORECASE):
        raise OutputError(f"{text}: output must be a local file; write it locally and copy it")
    folder = Path(os.path.realpath(text)).parent
    is_zarr = text.lower().endswith(".zarr")
    if is_zarr and os.path.exists(text):
        _check_is_store(text)
    elif os.path.isdir(text):
        raise OutputError(f"{text}: a folder; give the name of a file")
    if not text or text.endswith((os.sep, "/")):
        raise OutputError(f"{text!r}: no file name; give the name of a file")
    if not folder.is_dir():
        raise OutputError(f"{text}: the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{text}: the folder {folder} is not writable; choose another or change its permissions")
    if os.path.exists(text) and not os.path.isfile(text) and not is_zarr:
        raise OutputError(f"{text}: not a regular file; choose another name")


def _check_is_store(text: str) -> None:
    """Raise if what stands at the path of a Zarr store is anything but one: it is replaced as a whole."""
    if not os.path.isdir(text):
        raise OutputError(f"{text}: a file, where a Zarr store is a folder; remove it or choose another name")
    for entry in os.scandir(text):
        if entry.name != "zarr.json" and not os.path.isfile(os.path.join(entry.path, "zarr.json")):
            raise OutputError(f"{text}: holds {entry.name}, no part of a Zarr store, which would be lost; choose another name")
    if not os.path.isfile(os.path.join(text, "zarr.json")):
        raise OutputError(f"{text}: a folder that is no Zarr store; choose another name")
