"""Water with its shores, woods, and every single tree as a lit crown that throws a shadow."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from geofuse.demo.canvas import SUN_EAST, SUN_SOUTH, Canvas, Frame
from geofuse.demo.fields import Soils
from geofuse.demo.layout import Plan
from geofuse.demo.texture import fractal, smoothstep

STANDS = {
    "beech": ("beech", "oak", "birch"),
    "oak": ("oak", "birch", "pine"),
    "spruce": ("spruce", "spruce", "beech"),
    "pine": ("pine", "pine", "birch"),
    "shore": ("willow", "poplar", "oak"),
    "garden": ("birch", "oak", "spruce"),
    "hedge": ("willow", "oak", "birch"),
}


@dataclass
class Trees:
    """Crowns to be planted, collected on the way: lists of equally long arrays."""

    x: list[np.ndarray] = field(default_factory=list)
    y: list[np.ndarray] = field(default_factory=list)
    radius_m: list[np.ndarray] = field(default_factory=list)
    height_m: list[np.ndarray] = field(default_factory=list)
    species: list[np.ndarray] = field(default_factory=list)

    def add(self, canvas: Canvas, x: np.ndarray, y: np.ndarray, stand: str, tall_m: float, rng: np.random.Generator) -> None:
        """Add trees of a stand at the points (x, y); heights scatter about ``tall_m``, crowns go with height."""
        n = len(x)
        height = tall_m * np.exp(0.18 * rng.standard_normal(n))
        species = np.array([canvas.library[name] for name in STANDS[stand]])
        self.x.append(x)
        self.y.append(y)
        self.height_m.append(height)
        self.radius_m.append(np.clip(0.8 + 0.155 * height * np.exp(0.15 * rng.standard_normal(n)), 1.4, 5.4))
        self.species.append(species[rng.choice(3, n, p=(0.62, 0.26, 0.12))])

    def fill(self, canvas: Canvas, mask: np.ndarray, stand: str, tall_m: float, spacing_m: float, rng: np.random.Generator) -> None:
        """Add trees on a jittered triangular grid wherever ``mask`` (flat bool) holds."""
        side = canvas.frame.extent_m
        rows = np.arange(0, side, spacing_m * 0.87)
        x = np.arange(0, side, spacing_m)[None, :] + 0.5 * spacing_m * (np.arange(len(rows)) % 2)[:, None]
        y = np.broadcast_to(rows[:, None], x.shape)
        x, y = (c.ravel() + rng.uniform(-0.36, 0.36, c.size) * spacing_m for c in (x, y))
        cell, inside = canvas.frame.flat_index(x, y)
        keep = inside & mask[cell]
        self.add(canvas, x[keep], y[keep], stand, tall_m, rng)


def plant_trees(canvas: Canvas, trees: Trees, rng: np.random.Generator) -> None:
    """Paint the crowns: where they overlap the taller wins; each dome is bright towards the sun and dark behind."""
    if not trees.x:
        return
    x, y, radius = (np.concatenate(part) for part in (trees.x, trees.y, trees.radius_m))
    height, species = np.concatenate(trees.height_m), np.concatenate(trees.species)
    if len(x) == 0:
        return
    cell, who, away = _cells_under(canvas.frame, x, y, radius)
    dome = np.sqrt(np.clip(1 - away[0] ** 2 - away[1] ** 2, 0, 1))
    top = height[who] * (0.5 + 0.5 * dome)
    order = np.argsort(top, kind="stable")
    cell, who, dome, top = cell[order], who[order], dome[order], top[order]
    toward = away[0][order] * SUN_EAST + away[1][order] * SUN_SOUTH
    tone = np.exp(0.13 * rng.standard_normal(len(x)) + 0.10 * _stand_tone(canvas.frame, x, y, rng))
    light = np.clip(0.9 * (dome + 0.8 * toward) * tone[who], 0.12, 1.4)
    last = len(cell) - 1 - np.unique(cell[::-1], return_index=True)[1]
    cell, who, top, light = cell[last], who[last], top[last], light[last]
    dry = np.clip(0.1 + 0.1 * rng.standard_normal(len(x)), 0, 0.5)[who]
    canvas.paint(cell, species[who], canvas.library["lawn"], 0.12, third=canvas.library["rough grass"], mix_third=dry, sun=light)
    canvas.height_m[cell] = top


def _stand_tone(frame: Frame, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness of a tree by where it stands, so that a wood is not one tone; unit deviation."""
    cell, _ = frame.flat_index(x, y)
    return fractal(frame.shape, frame.cell_m, 120.0, rng, 1.3).ravel()[cell]


def _cells_under(
    frame: Frame, x: np.ndarray, y: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return (cell, tree, offset from the stem in crown radii) for every pair of a cell and a crown above it."""
    reach = int(np.ceil(radius.max() / frame.cell_m))
    step = np.arange(-reach, reach + 1) * frame.cell_m
    dx, dy = (d.ravel() for d in np.meshgrid(step, step))
    col_x = (np.floor(x / frame.cell_m) + 0.5) * frame.cell_m
    row_y = (np.floor(y / frame.cell_m) + 0.5) * frame.cell_m
    at_x, at_y = col_x[:, None] + dx, row_y[:, None] + dy
    away_x, away_y = (at_x - x[:, None]) / radius[:, None], (at_y - y[:, None]) / radius[:, None]
    cell, inside = frame.flat_index(at_x, at_y)
    under = inside & (away_x**2 + away_y**2 < 1)
    who = np.broadcast_to(np.arange(len(x))[:, None], under.shape)
    return cell[under], who[under], (away_x[under], away_y[under])


def paint_wood_floor(canvas: Canvas, soils: Soils, cells: np.ndarray) -> None:
    """Ground under trees: dim, leaf litter and undergrowth."""
    litter = 0.35 + 0.2 * soils.middle[cells]
    canvas.paint(cells, canvas.library["understorey"], canvas.library["soil dark"], litter, sun=0.55)


def paint_water(canvas: Canvas, plan: Plan, soils: Soils, rng: np.random.Generator) -> None:
    """River and pit lake: mud and gravel bars, reed, shallows that darken into the deep."""
    library = canvas.library
    wind = fractal(plan.frame.shape, plan.frame.cell_m, 120.0, rng, 1.4).ravel()
    bank = plan.river_m
    shore = np.flatnonzero((bank > -1) & (bank < 5 + 3 * soils.middle))
    grassy, stony = smoothstep(bank[shore], 0, 6), 0.3 * soils.middle[shore]
    canvas.paint(shore, library["mud"], library["rough grass"], grassy, third=library["gravel"], mix_third=stony)
    water = np.flatnonzero(bank <= 0)
    shallow = smoothstep(bank[water] + 2.5 * soils.broad[water], -9, 0.5)
    ripple = 1 + 0.05 * wind[water] + 0.04 * soils.grain[water]
    canvas.paint(water, library["river deep"], library["river shallow"], shallow, sun=ripple)
    bank = plan.lake_m + 4 * soils.middle
    shore = np.flatnonzero((bank > -1) & (bank < 14 + 8 * soils.broad))
    reed = smoothstep(soils.broad[shore] + 0.5 * soils.middle[shore], 0.1, 0.5)
    sandy = 0.5 + 0.3 * soils.middle[shore]
    canvas.paint(shore, library["gravel"], library["soil sand"], sandy, third=library["reed"], mix_third=reed)
    water = np.flatnonzero(bank <= 0)
    shallow = smoothstep(bank[water], -26, 0)
    green = 0.35 + 0.3 * wind[water]
    bottom, ripple = library["lake shallow"], 1 + 0.04 * wind[water]
    canvas.paint(water, library["lake deep"], library["lake green"], green, third=bottom, mix_third=shallow, sun=ripple)


def line_water_with_trees(canvas: Canvas, plan: Plan, trees: Trees, rng: np.random.Generator) -> None:
    """Gallery wood along the river, thick and thin by turns, and a fringe round the lake."""
    thick = fractal(plan.frame.shape, plan.frame.cell_m, 240.0, rng, 1.8).ravel()
    depth = 14 * thick + 6
    trees.fill(canvas, (plan.river_m > 3) & (plan.river_m < depth) & (plan.road_m > 9), "shore", 15.0, 7.0, rng)
    trees.fill(canvas, (plan.lake_m > 12) & (plan.lake_m < 12 + 16 * thick), "shore", 11.0, 6.5, rng)
