"""What decides the bytes of a result, by name: a run may be continued only while all of it is the same."""

from __future__ import annotations

import dataclasses
import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.result import named_hash
from geofuse.threads import choose_threads

if TYPE_CHECKING:
    from geofuse.fusion import Fusion
    from geofuse.io import OutputSpec

_LIBRARIES = ("torch", "numpy", "scipy", "rasterio", "dask")


def run_identity(fusion: Fusion, spec: OutputSpec, driver: str, options: Any) -> dict[str, str]:
    """Return what decides the bytes of a result.

    The inputs are in the tags of ``spec`` with the SHA-256 of all their bytes. Of ``options`` (a dataclass: how the pair was
    opened) files count by their bytes, not by their names. The number of threads is in it because sums come out differently.
    """
    pair = fusion.pair
    arrays = hashlib.sha256(b"".join(np.ascontiguousarray(pair[name].values).tobytes() for name in ("response", "wavelength")))
    return {
        **spec.tags,
        **{f"option {f.name}": _text(getattr(options, f.name)) for f in dataclasses.fields(options)},
        "response and wavelengths": arrays.hexdigest(),
        "grid": f"{fusion.grid.height} x {fusion.grid.width}, {spec.height} x {spec.width} written, {tuple(spec.transform)[:6]}",
        "output form": f"{driver}, {len(spec.bands)} x {spec.dtype}, {spec.scale!r}, {spec.offset!r}, {spec.nodata!r}",
        "number of threads (GEOFUSE_THREADS)": str(choose_threads().count),
        **{f"version of {name}": _version(name) for name in _LIBRARIES},
    }


def _text(value: Any) -> str:
    """Write an option; for the path of a file, its name and hash."""
    if isinstance(value, str | Path) and Path(value).is_file():
        return named_hash(value)
    return hashlib.sha256(value.tobytes()).hexdigest() if isinstance(value, np.ndarray) else str(value)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
