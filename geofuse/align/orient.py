"""Reading a scene's grid, and turning south-up and mirrored scenes north up (a lazy change of order, no resampling)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geofuse.align.grids import Grid
from geofuse.errors import InputError

if TYPE_CHECKING:
    import xarray as xr
    from affine import Affine

_TOLERANCE = 0.01  # pixels, anywhere in the image


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
        If the scene is not one, is empty, has no CRS or is rotated.
    """
    import rioxarray  # noqa: F401  (registers .rio)
    from affine import Affine

    if scene.dims != ("band", "y", "x") or 0 in scene.shape:
        raise InputError(f"{name} has dimensions {dict(scene.sizes)}; expected non-empty (band, y, x)")
    if scene.rio.crs is None and "placed_by" in scene.attrs:
        remedy = "put it on a grid first, for example: gdalwarp -t_srs EPSG:32633 FILE PLACED.tif"
        raise InputError(f"{name} is placed by {scene.attrs['placed_by']} only; {remedy}")
    if scene.rio.crs is None:
        raise InputError(f"{name} has no CRS; set the right one, for example: gdal_edit.py -a_srs EPSG:32633 FILE")
    height, width = scene.sizes["y"], scene.sizes["x"]
    transform = _transform(scene)
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


def _transform(scene: xr.DataArray) -> Affine:
    """Return the recorded transform, or the one of the coordinates where these differ (a scene that was sliced by hand)."""
    recorded = scene.rio.transform()
    if "x" not in scene.coords or "y" not in scene.coords or min(scene.sizes["x"], scene.sizes["y"]) < 2:
        return recorded
    x, y = scene["x"].values, scene["y"].values
    cols, rows = ~recorded @ (x[[0, -1]].astype(float), y[[0, -1]].astype(float))
    expected = np.array([[0.5, scene.sizes["x"] - 0.5], [0.5, scene.sizes["y"] - 0.5]])
    if np.abs(np.array([cols, rows]) - expected).max() < _TOLERANCE:
        return recorded
    return scene.rio.transform(recalc=True)
