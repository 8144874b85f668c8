"""Farmland: crops parcel by parcel, with rows, tramlines, headlands, soil showing through, and what grows between the parcels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geofuse.demo.canvas import Canvas
from geofuse.demo.layout import Parcel, Plan
from geofuse.demo.spectra import plant
from geofuse.demo.texture import comb, fractal, profile, smoothstep


@dataclass(frozen=True)
class Crop:
    """How a crop looks on a day in late May: spread of the canopy's pigments, ground cover, and the marks of machines."""

    weight: float  # how often it is grown
    chlorophyll: tuple[float, float]
    water: tuple[float, float]
    dry: tuple[float, float]
    cover: tuple[float, float]
    rows: float  # contrast of the rows, in cover
    tramline_m: float  # spacing of the wheel tracks, 0 for none
    patchy: float  # how strongly the soil shows in the crop
    flower: tuple[float, float] = (0.0, 0.0)


CROPS = {
    "wheat": Crop(0.23, (0.9, 1.35), (0.8, 1.2), (0.10, 0.25), (0.80, 0.97), 0.05, 24, 0.07),
    "barley": Crop(0.13, (0.22, 0.5), (0.5, 0.8), (0.35, 0.7), (0.80, 0.95), 0.06, 21, 0.08),
    "rapeseed": Crop(0.10, (0.8, 1.1), (0.9, 1.2), (0.10, 0.2), (0.86, 0.98), 0.03, 27, 0.05, (0.16, 0.42)),
    "maize": Crop(0.13, (0.7, 1.0), (0.9, 1.3), (0.05, 0.15), (0.10, 0.35), 0.10, 0, 0.12),
    "beet": Crop(0.08, (0.9, 1.3), (1.2, 1.7), (0.05, 0.15), (0.30, 0.60), 0.12, 18, 0.14),
    "bare": Crop(0.12, (0.4, 0.7), (0.6, 0.9), (0.30, 0.6), (0.00, 0.06), 0.02, 0, 0.03),
    "stubble": Crop(0.05, (0.05, 0.15), (0.1, 0.3), (0.80, 1.1), (0.40, 0.65), 0.14, 0, 0.12),
    "meadow": Crop(0.16, (0.55, 0.9), (0.6, 1.0), (0.25, 0.5), (0.88, 0.99), 0.03, 0, 0.08),
}
SOILS = ("soil dark", "soil loam", "soil sand", "soil red")


@dataclass(frozen=True)
class Soils:
    """Noise shared by all parcels, flat over the cells: broad, middle and grainy, unit deviation."""

    broad: np.ndarray
    middle: np.ndarray
    grain: np.ndarray


def make_soils(plan: Plan, rng: np.random.Generator) -> Soils:
    """Draw the noise."""
    shape, cell_m = plan.frame.shape, plan.frame.cell_m
    return Soils(*(fractal(shape, cell_m, scale, rng, slope).ravel() for scale, slope in ((240, 1.5), (60, 1.2), (9, 0.9))))


def paint_parcel(canvas: Canvas, plan: Plan, soils: Soils, parcel: Parcel, rng: np.random.Generator) -> None:
    """Choose a crop and draw it."""
    near_river = plan.river_m[parcel.cells].min() < 60
    names = list(CROPS)
    weight = np.array([crop.weight for crop in CROPS.values()])
    if near_river:
        weight = weight * np.array([0.3, 0.2, 0.2, 0.3, 0.2, 0.2, 0.1, 6.0])
    name = names[rng.choice(len(names), p=weight / weight.sum())]
    if name == "meadow":
        _paint_meadow(canvas, plan, soils, parcel, rng)
    else:
        _paint_crop(canvas, plan, soils, parcel, CROPS[name], rng)


def _canopy(canvas: Canvas, crop: Crop, rng: np.random.Generator) -> int:
    """Add this parcel's own canopy to the library."""
    draw = {key: rng.uniform(*getattr(crop, key)) for key in ("chlorophyll", "water", "dry", "flower")}
    return canvas.library.add(plant(loss=rng.uniform(0.24, 0.36), **draw))


def _soil_pair(canvas: Canvas, plan: Plan, soils: Soils, cells: np.ndarray) -> tuple[int, int, np.ndarray]:
    """Return the two soils that meet in a parcel and the share of the second in each cell, from the map of sand."""
    level = float(np.clip(plan.sand[cells].mean() * 0.9 + 1.3, 0.0, len(SOILS) - 1.001))
    first = int(level)
    local = 0.35 * (plan.sand[cells] - plan.sand[cells].mean()) + 0.16 * soils.broad[cells] + 0.05 * soils.grain[cells]
    return canvas.library[SOILS[first]], canvas.library[SOILS[first + 1]], np.clip(level - first + local, 0, 1)


def _machine_axes(parcel: Parcel, plan: Plan, headland_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (coordinate across the rows, bool headland): at both ends the machine turns and the rows run the other way."""
    u, v = plan.bent[0][parcel.cells], plan.bent[1][parcel.cells]
    along = u * np.cos(parcel.angle) + v * np.sin(parcel.angle)
    across = -u * np.sin(parcel.angle) + v * np.cos(parcel.angle)
    headland = (along < np.quantile(along, 0.002) + headland_m) | (along > np.quantile(along, 0.998) - headland_m)
    return np.where(headland, along, across), headland


def _paint_crop(canvas: Canvas, plan: Plan, soils: Soils, parcel: Parcel, crop: Crop, rng: np.random.Generator) -> None:
    """Soil, over it the canopy as dense as the soil allows, thinned along rows, tramlines and headlands."""
    cells = parcel.cells
    across, headland = _machine_axes(parcel, plan, 24.0)
    first, second, share = _soil_pair(canvas, plan, soils, cells)
    streak = profile(across, 3.0, rng) + 0.8 * profile(across, 12.0, rng)
    vigour = 0.55 * soils.broad[cells] + 0.5 * soils.middle[cells] + 0.35 * soils.grain[cells] - 0.25 * headland
    cover = rng.uniform(*crop.cover) + crop.patchy * vigour + crop.rows * streak
    if rng.random() < 0.5:  # a hollow where water stood
        cover -= 0.4 * smoothstep(soils.broad[cells] + 0.4 * soils.middle[cells], -1.6, -2.5)
    if crop.tramline_m:
        cover = cover * np.where(comb(across, crop.tramline_m, 2.6, rng.uniform(0, 20)), 0.66, 1.0)
    texture = 0.028 * streak * (1.6 if crop.cover[1] < 0.4 else 0.7) + 0.03 * soils.grain[cells] + 0.02 * soils.middle[cells]
    canvas.paint(cells, first, second, share, third=_canopy(canvas, crop, rng), mix_third=np.clip(cover, 0, 0.985), sun=1 + texture)
    if crop.flower[1]:  # flowering is uneven: greener where it is thin
        _blend_third(canvas, cells, canvas.library["lawn"], 0.22 + 0.14 * vigour)


def _blend_third(canvas: Canvas, cells: np.ndarray, spectrum: int, share: np.ndarray) -> None:
    """Swap the soil's second spectrum for another one, with this share of the cell."""
    canvas.cover[1, cells] = spectrum
    canvas.share[0, cells] = np.clip(share, 0, 1) * (1 - 0.3 * canvas.share[1, cells])
    canvas.share[1, cells] = np.minimum(canvas.share[1, cells], 1 - canvas.share[0, cells])


def _paint_meadow(canvas: Canvas, plan: Plan, soils: Soils, parcel: Parcel, rng: np.random.Generator) -> None:
    """Grass: lush in the hollows, dry on the rises; some are mown in swaths, some grazed in patches."""
    cells = parcel.cells
    across, _ = _machine_axes(parcel, plan, 0.0)
    grass, straw = canvas.library["rough grass"], canvas.library["dry grass"]
    dry = 0.16 + 0.1 * soils.broad[cells] + 0.08 * soils.middle[cells] + 0.06 * soils.grain[cells]
    dry = dry + 0.03 * profile(across, 5.0, rng)
    if rng.random() < 0.4:
        dry = dry + 0.22 * comb(across, rng.uniform(14, 22), 7.0) * smoothstep(profile(across, 60.0, rng), -0.6, 0.6)
    lush = 0.6 + 0.18 * soils.middle[cells] - 0.1 * soils.broad[cells] + 0.12 * soils.grain[cells]
    light = 1 + 0.035 * soils.grain[cells]
    canvas.paint(cells, grass, _canopy(canvas, CROPS["meadow"], rng), lush, third=straw, mix_third=dry, sun=light)


def paint_border(canvas: Canvas, soils: Soils, cells: np.ndarray, kind: str) -> None:
    """Grass on every border line; wheel tracks of bare earth on a track."""
    grain = soils.grain[cells]
    earth = canvas.library["earth track"]
    bare = np.clip(0.72 + 0.2 * grain, 0, 1) if kind == "track" else np.clip(0.05 * grain, 0, 1)
    dry = 0.3 + 0.15 * soils.middle[cells] + 0.1 * grain
    grass, straw = canvas.library["rough grass"], canvas.library["dry grass"]
    canvas.paint(cells, grass, straw, dry, third=earth, mix_third=bare, sun=1 + 0.04 * grain)
