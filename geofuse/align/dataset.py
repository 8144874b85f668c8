"""The parts of a pair, and the dataset they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from geofuse.align.grids import Grid, GridPlan
from geofuse.scene import BandMetadata


@dataclass(frozen=True)
class Part:
    """One image of the pair in the making: lazy values (band, rows, cols), what is known of the bands, and their file numbers."""

    values: Any
    bands: BandMetadata
    number: np.ndarray

    def select(self, index: np.ndarray) -> Part:
        """Keep the bands at the 0-based positions ``index``."""
        return Part(self.values[index], self.bands.select(index), self.number[index])


def window_attrs(plan: GridPlan, fine_grid: Grid) -> dict[str, tuple[float, ...]]:
    """Where the output lies in the pair's fine grid, and its transform."""
    inner, transform = plan.output.within(plan.fine), fine_grid.cut(plan.output).transform
    return {"output_window": (inner.row0, inner.row1, inner.col0, inner.col1), "output_transform": tuple(transform)[:6]}


def nested_dataset(
    coarse: Part, fine: Part, matrix: np.ndarray, plan: GridPlan, fine_grid: Grid, attrs: dict[str, Any]
) -> xr.Dataset:
    """Put the parts together."""
    import rioxarray  # noqa: F401  (registers .rio)

    grid = fine_grid.cut(plan.fine)
    (y, x), (y_hsi, x_hsi) = _centres(grid), _centres(grid.coarsened(plan.ratio))
    nm = {"units": "nm", "standard_name": "radiation_wavelength"}
    pair = xr.Dataset(
        {
            "hsi": (("band", "y_hsi", "x_hsi"), coarse.values),
            "msi": (("band_msi", "y", "x"), fine.values),
            "response": (("band_msi", "band"), np.asarray(matrix, float)),
        },
        coords={
            "band": ("band", coarse.number),
            "wavelength": ("band", coarse.bands.wavelength_nm, nm),
            "fwhm": ("band", coarse.bands.fwhm_nm, {"units": "nm"}),
            "good_band": ("band", coarse.bands.good_band),
            "band_name": ("band", np.asarray(coarse.bands.band_name, object)),
            "band_msi": ("band_msi", fine.number),
            "msi_band_name": ("band_msi", np.asarray(fine.bands.band_name, object)),
            "y": ("y", y),
            "x": ("x", x),
            "y_hsi": ("y_hsi", y_hsi),
            "x_hsi": ("x_hsi", x_hsi),
        },
        attrs=attrs,
    )
    return pair.rio.write_crs(fine_grid.crs).rio.write_transform(grid.transform)


def _centres(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres (y, x) in CRS units."""
    t = grid.transform
    return t.f + t.e * (np.arange(grid.height) + 0.5), t.c + t.a * (np.arange(grid.width) + 0.5)
