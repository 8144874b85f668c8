"""Quality layers that products bring along: pixels they mark as cloud, cirrus or cloud shadow become no data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr


def without_clouds(scene: xr.DataArray, clouded: Any, files: Sequence[Path], note: str) -> xr.DataArray:
    """Return a product's scene with no data where a layer says cloud.

    Parameters
    ----------
    scene
        As the product's module opened it, with ``notes`` and ``files`` among its attributes.
    clouded
        Dask array (1, y, x), bool, on the scene's grid.
    files
        What the layer is read from.
    note
        Which classes are no data, and where that stands.
    """
    from geofuse.io.products.band_files import masked

    told = scene.assign_attrs(files=[*scene.attrs["files"], *map(os.fspath, files)])
    return with_note(told.copy(data=masked(told.data, clouded)), note)


def with_note(scene: xr.DataArray, note: str) -> xr.DataArray:
    """Return a product's scene with one more note."""
    return scene.assign_attrs(notes=[*scene.attrs["notes"], note])


def flagged(layer: Any, values: Sequence[int]) -> Any:
    """Return where a lazy layer (1, y, x) of classes holds one of ``values``; its no data counts as none."""
    import dask.array as da

    return da.isin(layer, np.asarray(values, np.float32))
