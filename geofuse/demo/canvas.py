"""The canvas: what covers each drawing cell, four cells to a fine pixel along each axis, and how the light falls on it.

A cell holds up to three spectra with their shares (soil, canopy, dry patches, say), the direct sun it gets relative to a flat open
surface, the open sky it sees, and the height of what stands there. Averaging the cells inside a fine pixel makes the pixel
mixed at borders by area, which is what a sensor does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geofuse.demo.spectra import SpectralLibrary, band_average, skylight

CELLS = 4  # drawing cells per fine pixel, along one axis
SUN_EAST, SUN_SOUTH, SUN_TAN = 0.57, 0.82, 1.25  # towards the sun in the plane, tangent of its elevation (51 degrees)

Where = np.ndarray  # a bool mask over all cells, or flat cell indices


@dataclass(frozen=True)
class Frame:
    """The drawing grid: ``cells`` x ``cells`` square cells of ``cell_m``; x runs east, y south, both in metres from the corner."""

    cells: int
    cell_m: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.cells, self.cells

    @property
    def extent_m(self) -> float:
        """Side of the scene."""
        return self.cells * self.cell_m

    def axis(self) -> np.ndarray:
        """Centres of the cells along one axis, metres, float32."""
        return ((np.arange(self.cells) + 0.5) * self.cell_m).astype(np.float32)

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Return x and y of every cell, flat, metres, float32."""
        axis = self.axis()
        return np.tile(axis, self.cells), np.repeat(axis, self.cells)

    def flat_index(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (flat index of the cell at x, y; bool: inside the scene)."""
        col, row = np.floor(x / self.cell_m).astype(np.int64), np.floor(y / self.cell_m).astype(np.int64)
        inside = (col >= 0) & (col < self.cells) & (row >= 0) & (row < self.cells)
        return np.where(inside, row * self.cells + col, 0), inside


class Canvas:
    """Cover, light and height of every cell, as flat arrays; later paint covers earlier paint."""

    def __init__(self, frame: Frame, library: SpectralLibrary, base: int) -> None:
        """Start as flat ground of the spectrum ``base`` in full sun."""
        n = frame.cells**2
        self.frame, self.library = frame, library
        self.cover = np.full((3, n), base, np.int16)
        self.share = np.zeros((2, n), np.float32)  # of the second and third spectrum
        self.sun = np.ones(n, np.float32)
        self.sky = np.ones(n, np.float32)
        self.height_m = np.zeros(n, np.float32)

    def paint(
        self,
        where: Where,
        first: int | np.ndarray,
        second: int | np.ndarray = 0,
        mix: float | np.ndarray = 0.0,
        *,
        third: int | np.ndarray = 0,
        mix_third: float | np.ndarray = 0.0,
        sun: float | np.ndarray = 1.0,
    ) -> None:
        """Cover ``where`` with flat ground: ``mix`` of the second spectrum in the first, ``mix_third`` of the third in both."""
        self.cover[0, where], self.cover[1, where], self.cover[2, where] = first, second, third
        mix_third = np.clip(mix_third, 0, 1)
        self.share[0, where] = np.clip(mix, 0, 1) * (1 - mix_third)
        self.share[1, where] = mix_third
        self.sun[where] = sun
        self.sky[where] = 1.0
        self.height_m[where] = 0.0

    def cast_shadows(self) -> None:
        """Take the direct sun from cells behind taller ones, and half of the sky from those close behind."""
        height = self.height_m.reshape(self.frame.shape)
        blocked = np.zeros(self.frame.shape, np.float32)
        step_m = self.frame.cell_m
        for i in range(1, int(height.max() / SUN_TAN / step_m) + 2):
            rows, cols = round(i * SUN_SOUTH), round(i * SUN_EAST)
            toward_sun = _shifted(height, rows, cols)
            over = toward_sun - i * step_m * SUN_TAN - height
            np.maximum(blocked, np.clip(over / 1.5, 0, 1), out=blocked)
        self.sun *= 1 - 0.95 * blocked.ravel()
        self.sky *= 1 - 0.35 * blocked.ravel()

    def render(self, centre_nm: np.ndarray, fwhm_nm: np.ndarray) -> np.ndarray:
        """Average the cells of each fine pixel and return its reflectance (bands, rows, cols), float32.

        Reflectance is relative to full sun: R = E (sun) + d E (sky - sun), with d the diffuse share of the light.
        """
        spectra = self.library.seen_by(centre_nm, fwhm_nm)
        diffuse = band_average(skylight(), centre_nm, fwhm_nm)[:, None] * spectra
        both = np.concatenate([spectra, diffuse], axis=1).T.copy()
        size = self.frame.cells // CELLS
        out = np.empty((len(spectra), size, size), np.float32)
        rows = 32
        for row in range(0, size, rows):
            n = min(rows, size - row)
            out[:, row : row + n] = (self._abundance(row, n) @ both).T.reshape(-1, n, size)
        return out

    def _abundance(self, row: int, n: int) -> Any:
        """Return the weights (n * size, 2 x spectra) of direct light, then of sky minus sun, for ``n`` rows of fine pixels.

        They are sparse; their product gives the same bits whatever the number of threads, which a dense one does not.
        """
        from scipy import sparse

        size, k = self.frame.cells // CELLS, len(self.library)
        cells = slice(row * CELLS * self.frame.cells, (row + n) * CELLS * self.frame.cells)
        fine_row = np.repeat(np.arange(n), CELLS * self.frame.cells)
        fine_col = np.tile(np.arange(self.frame.cells) // CELLS, n * CELLS)
        pixel = fine_row * size + fine_col
        share = np.concatenate([1 - self.share[:, cells].sum(axis=0, keepdims=True), self.share[:, cells]]) / CELLS**2
        spectrum = self.cover[:, cells].astype(np.int64)
        weight = np.concatenate([share * self.sun[cells], share * (self.sky[cells] - self.sun[cells])]).ravel()
        place = (np.tile(pixel, 6), np.concatenate([spectrum, spectrum + k]).ravel())
        used = weight != 0
        return sparse.csr_array((weight[used].astype(float), (place[0][used], place[1][used])), shape=(n * size, 2 * k))


def _shifted(array: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Return ``array`` read at (row + rows, col + cols), zero outside; both shifts are 0 or positive."""
    out = np.zeros_like(array)
    if rows < array.shape[0] and cols < array.shape[1]:
        out[: array.shape[0] - rows, : array.shape[1] - cols] = array[rows:, cols:]
    return out
