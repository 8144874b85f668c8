"""The fusion methods, one file each; :data:`METHODS` names them without importing any."""

from geofuse.registry import Registry

METHODS = Registry(
    "method",
    {
        "argsdiff": "geofuse.methods.argsdiff:ArgsDiff",
        "subspace": "geofuse.methods.subspace:Subspace",
        "bicubic": "geofuse.methods.bicubic:Bicubic",
        "gsa": "geofuse.methods.gsa:Gsa",
        "sfim": "geofuse.methods.sfim:Sfim",
        "glp": "geofuse.methods.glp:Glp",
        "brovey": "geofuse.methods.brovey:Brovey",
        "cnmf": "geofuse.methods.cnmf:Cnmf",
        "hysure": "geofuse.methods.hysure:Hysure",
        "fuse": "geofuse.methods.fuse:Fuse",
        "miae": "geofuse.methods.miae:Miae",
        "spectralift": "geofuse.methods.spectralift:SpectraLift",
        "ddpmfus": "geofuse.methods.ddpmfus:DdpmFus",
        "ssdiff": "geofuse.methods.ssdiff:SsDiff",
        "mossfuse": "geofuse.methods.mossfuse:MossFuse",
    },
)

__all__ = ["METHODS"]
