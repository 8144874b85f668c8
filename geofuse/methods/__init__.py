"""The fusion methods, one file each; :data:`METHODS` names them without importing any."""

from geofuse.registry import Registry

METHODS = Registry(
    "method",
    {
        "argsdiff": "geofuse.methods.argsdiff:ArgsDiff",
        "subspace": "geofuse.methods.subspace:Subspace",
        "bicubic": "geofuse.methods.bicubic:Bicubic",
    },
)

__all__ = ["METHODS"]
