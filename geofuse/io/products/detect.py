"""Which product a path belongs to."""

from __future__ import annotations

import os
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import xarray as xr

MODULES: tuple[str, ...] = ("enmap", "desis", "prisma", "emit", "neon", "houston", "sentinel2", "landsat", "landsat_level1")
"""Modules of this folder, asked in this order."""


class Product(Protocol):
    """What a module of this folder offers."""

    TITLE: str

    def matches(self, path: Path) -> bool:
        """Tell by name and layout alone whether ``path`` is a file or folder of this product."""
        ...

    def open_product(self, path: Path, *, chunks: Any = None) -> xr.DataArray:
        """Open it as a lazy scene; ``chunks`` as for :func:`geofuse.io.open_scene`."""
        ...


def open_found(product: Product, path: Path, chunks: Any = None, mask_clouds: bool = True) -> xr.DataArray:
    """Open a product; ``mask_clouds`` says whether what its quality layers call cloud is no data, where it has such layers."""
    options = {"mask_clouds": mask_clouds} if "mask_clouds" in signature(product.open_product).parameters else {}
    return product.open_product(path, chunks=chunks, **options)


def find_product(path: str | os.PathLike[str]) -> Product | None:
    """Return the module that reads the product at ``path``, or None for anything else (also for what is not there)."""
    local = Path(path)
    try:
        if not local.exists():
            return None
        for name in MODULES:
            module: Any = import_module(f"{__name__.rpartition('.')[0]}.{name}")
            if module.matches(local):
                return module
    except OSError:  # a folder that may not be listed: the reader of plain images says so
        return None
    return None
