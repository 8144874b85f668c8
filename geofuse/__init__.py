"""Fuse a coarse hyperspectral scene with a fine multispectral one into a fine hyperspectral scene.

The public names are looked up when they are first used, so that ``import geofuse`` loads neither torch nor rasterio.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import geofuse.accessor  # noqa: F401  (registers .fusion with xarray)
from geofuse.threads import wait_passively

if TYPE_CHECKING:
    from geofuse.io import open_scene as open_scene
    from geofuse.io import write_scene as write_scene
    from geofuse.pipeline import open_pair as open_pair
    from geofuse.scene import make_scene as make_scene
    from geofuse.sensors import Psf as Psf
    from geofuse.sensors import load_response as load_response

__version__ = "0.1.0"

_PUBLIC = {  # name -> the module that defines it
    "Psf": "geofuse.sensors",
    "load_response": "geofuse.sensors",
    "make_scene": "geofuse.scene",
    "open_pair": "geofuse.pipeline",
    "open_scene": "geofuse.io",
    "write_scene": "geofuse.io",
}
__all__ = ["__version__", *_PUBLIC]

wait_passively()  # before torch is imported, else it has no effect


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_PUBLIC[name]), name)
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *_PUBLIC})
