"""A smooth field as the warp needs it: from a place on the ground back to the pixel of the coarse image that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from geofuse.align.grids import Grid, positions
from geofuse.align.smooth_field import Bend

if TYPE_CHECKING:
    from affine import Affine

_STEPS = 12  # of a fixed point that gains a digit or more a step, as fields change by less than a tenth from pixel to pixel


@dataclass(frozen=True)
class BentGrid:
    """What is left of a smooth field once its affine part has moved the coarse image's grid.

    Attributes
    ----------
    grid
        The pair's coarse grid on which the field was found.
    straight
        The affine part: from stated to true places on it, (x, y).
    bend
        The rest: a pixel stated at p truly lies at straight(p) + bend(p).
    """

    grid: Grid
    straight: Affine
    bend: Bend

    @cached_property
    def largest(self) -> float:
        """Largest displacement along an axis that the bend makes, in coarse pixels."""
        rows, cols = np.meshgrid(np.linspace(0, self.grid.height, 33), np.linspace(0, self.grid.width, 33), indexing="ij")
        return float(np.abs(self.bend.at(np.column_stack([rows.ravel(), cols.ravel()]))).max())

    def undo(self, target: Grid, cols: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where on ``target`` to look for what truly lies at ``cols``, ``rows`` of it, on an image whose grid is moved."""
        x, y = positions(target, self.grid, cols, rows)
        back = ~self.straight
        at_x, at_y = back @ (x, y)
        for _ in range(_STEPS):
            moved = self.bend.at(np.column_stack([at_y.ravel(), at_x.ravel()])).T.reshape(2, *x.shape)
            at_x, at_y = back @ (x - moved[1], y - moved[0])
        return positions(self.grid, target, *(self.straight @ (at_x, at_y)))
