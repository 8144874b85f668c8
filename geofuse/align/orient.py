"""Taking what the user hands over as a scene, reading its grid, and turning south-up and mirrored scenes north up.

Turning is a lazy change of order, no resampling.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from geofuse.align.grids import Grid
from geofuse.errors import InputError
from geofuse.scene import DIMS, scene_transform

_TOLERANCE = 0.01  # pixels, anywhere in the image


def as_scene(given: Any, kind: str) -> xr.DataArray:
    """Return an image as (band, y, x) with NaN where it has the no-data value that it declares (as rioxarray reads files unmasked).

    Parameters
    ----------
    given
        What should be a scene (see :mod:`geofuse.scene`); its dimensions may be in another order.
    kind
        ``HSI`` or ``MSI``, for error messages.

    Raises
    ------
    InputError
        If it is no DataArray of these dimensions.
    """
    import rioxarray  # noqa: F401  (registers .rio)

    if not isinstance(given, xr.DataArray):
        raise InputError(
            f"the {kind} is a {type(given).__name__}; expected an xarray.DataArray, such as geofuse.open_scene(path) gives"
        )
    if sorted(given.dims) != sorted(DIMS) or 0 in given.shape:
        remedy = "add the band with .expand_dims('band')" if sorted(given.dims) == ["x", "y"] else "rename or select its dimensions"
        raise InputError(f"the {kind} has dimensions {dict(given.sizes)}; expected non-empty (band, y, x): {remedy}")
    scene, nodata = given.transpose(*DIMS), given.rio.nodata
    return scene if nodata is None or np.isnan(nodata) else scene.where(scene != nodata)


def north_up(scene: xr.DataArray, name: str) -> tuple[xr.DataArray, Grid, tuple[str, ...]]:
    """Return a scene with rows from north to south and columns from west to east, its grid and what was done.

    Parameters
    ----------
    scene
        A scene (see :mod:`geofuse.scene`).
    name
        How error messages and notes call it.

    Raises
    ------
    InputError
        If the scene has no CRS or is rotated.
    """
    import rioxarray  # noqa: F401  (registers .rio)
    from affine import Affine

    if scene.rio.crs is None and "placed_by" in scene.attrs:
        remedy = "put it on a grid first, for example: gdalwarp -t_srs EPSG:32633 FILE PLACED.tif"
        raise InputError(f"{name} is placed by {scene.attrs['placed_by']} only; {remedy}")
    if scene.rio.crs is None:
        raise InputError(f"{name} has no CRS; set the right one, for example: gdal_edit.py -a_srs EPSG:32633 FILE")
    height, width = scene.sizes["y"], scene.sizes["x"]
    transform = scene_transform(scene)
    if abs(transform.b) * height > _TOLERANCE * abs(transform.a) or abs(transform.d) * width > _TOLERANCE * abs(transform.e):
        angle = np.degrees(np.arctan2(transform.d, transform.a))
        remedy = "gdalwarp FILE NORTH_UP.tif turns it north up"
        raise InputError(f"the grid of {name} is rotated by {angle:.3g} degrees; expected rows that run east-west: {remedy}")
    done = []
    if transform.e > 0:
        scene = scene.isel(y=slice(None, None, -1))
        transform = transform @ Affine(1, 0, 0, 0, -1, height)
        done.append("rows run from south to north")
    if transform.a < 0:
        scene = scene.isel(x=slice(None, None, -1))
        transform = transform @ Affine(-1, 0, width, 0, 1, 0)
        done.append("columns run from east to west")
    transform = Affine(transform.a, 0.0, transform.c, 0.0, transform.e, transform.f)
    notes = (f"{name}: {' and '.join(done)}; put in north-up order",) if done else ()
    return scene, Grid(height, width, transform, scene.rio.crs), notes
