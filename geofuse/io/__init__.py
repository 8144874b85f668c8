"""Files: open images as scenes behind a gate, describe them, write them whole or not at all."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS = {
    "open_scene": "reader",
    "describe": "info",
    "SceneInfo": "info",
    "OutputSpec": "output",
    "check_output_path": "output",
    "default_nodata": "output",
    "choose_driver": "sink",
    "open_sink": "sink",
    "RasterSink": "sink",
    "write_scene": "writer",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    """Import what is asked for only then, to keep ``import geofuse`` light."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
