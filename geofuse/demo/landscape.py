"""The landscape put together: plan, farmland, water, settlement, trees, light; then its reflectance on the fine grid."""

from __future__ import annotations

import numpy as np

from geofuse.demo.canvas import CELLS, SUN_EAST, SUN_SOUTH, SUN_TAN, Canvas, Frame
from geofuse.demo.fields import Soils, make_soils, paint_border, paint_parcel
from geofuse.demo.layout import Plan, divide, make_plan
from geofuse.demo.nature import Trees, line_water_with_trees, paint_water, paint_wood_floor, plant_trees
from geofuse.demo.spectra import SpectralLibrary
from geofuse.demo.texture import fractal, smoothstep
from geofuse.demo.town import build_farmsteads, line_road_with_trees, paint_block, paint_roads, paint_streets, paint_yard

FIELD_M2, BLOCK_M2, YARD_M2 = 42000.0, 7500.0, 9000.0


def draw_landscape(size: int, pixel_m: float, rng: np.random.Generator) -> Canvas:
    """Draw a landscape of ``size`` x ``size`` fine pixels of ``pixel_m``; ready to render."""
    frame = Frame(size * CELLS, pixel_m / CELLS)
    library = SpectralLibrary()
    canvas = Canvas(frame, library, library["rough grass"])
    plan = make_plan(frame, rng)
    soils = make_soils(plan, rng)
    trees = Trees()
    _draw_farmland(canvas, plan, soils, trees, rng)
    paint_water(canvas, plan, soils, rng)
    paint_roads(canvas, plan, soils)
    _draw_settlement(canvas, plan, soils, trees, rng)
    build_farmsteads(canvas, plan, trees, max(1, round(frame.extent_m / 700)), rng)
    line_water_with_trees(canvas, plan, trees, rng)
    line_road_with_trees(canvas, plan, soils, trees, rng)
    plant_trees(canvas, trees, rng)
    canvas.cast_shadows()
    canvas.sun *= _hillside_light(plan)
    return canvas


def _draw_farmland(canvas: Canvas, plan: Plan, soils: Soils, trees: Trees, rng: np.random.Generator) -> None:
    """Cut every zone into parcels; each becomes a wood or a field, by the lie of the land."""
    wooded = fractal(plan.frame.shape, plan.frame.cell_m, 900.0, rng, 2.2).ravel() + 0.05 * plan.terrain_m
    limit = np.quantile(wooded, 0.80)
    free = (plan.village_m > 0) & (plan.estate_m > 0) & (plan.lake_m > 0) & (plan.river_m > 4) & (plan.road_m > 7.5)

    def line(depth: int) -> tuple[str, float]:
        if depth < 2 or (depth == 2 and rng.random() < 0.5):
            return "track", 5.0
        if rng.random() < 0.22:
            return "hedge", 6.0
        return "margin", rng.uniform(2.0, 4.0)

    for zone in np.unique(plan.zone):
        cells = np.flatnonzero((plan.zone == zone) & free)
        parcels, borders = divide(cells, plan, FIELD_M2, line, rng)
        for border in borders:
            paint_border(canvas, soils, border.cells, border.kind)
        for parcel in parcels:
            if wooded[parcel.cells].mean() > limit:
                _draw_wood(canvas, soils, trees, parcel.cells, rng)
            else:
                paint_parcel(canvas, plan, soils, parcel, rng)
        hedge = np.zeros(plan.frame.cells**2, bool)
        for border in borders:
            hedge[border.cells] = border.kind == "hedge"
        trees.fill(canvas, hedge & (soils.middle > -0.9), "hedge", 7.0, 5.0, rng)


def _draw_wood(canvas: Canvas, soils: Soils, trees: Trees, cells: np.ndarray, rng: np.random.Generator) -> None:
    """One stand of a wood: its own species, age and spacing, with small glades."""
    paint_wood_floor(canvas, soils, cells)
    stand = ("beech", "oak", "spruce", "pine", "beech")[rng.integers(5)]
    tall = rng.uniform(11, 22)
    mask = np.zeros(canvas.frame.cells**2, bool)
    dense = soils.middle[cells] + 0.5 * soils.broad[cells]
    mask[cells] = dense > -1.75
    paint_border(canvas, soils, cells[dense < -1.9], "margin")
    trees.fill(canvas, mask, stand, tall, 3.2 + 0.19 * tall, rng)


def _draw_settlement(canvas: Canvas, plan: Plan, soils: Soils, trees: Trees, rng: np.random.Generator) -> None:
    """Village and estate: streets between blocks, then what stands in the blocks; the roads run through both."""
    clear = (plan.road_m > 7.5) & (plan.river_m > 14)
    village = np.flatnonzero((plan.village_m <= 0) & clear)
    zone = plan.zone[village]
    grid = rng.uniform(0.1, 0.3)
    for part in np.unique(zone):
        cells, turn = village[zone == part], grid + rng.normal(0, 0.08)
        blocks, streets = divide(cells, plan, BLOCK_M2, lambda depth: ("street", 7.0 if depth < 3 else 5.5), rng, grid=turn)
        paint_streets(canvas, soils, streets)
        for block in blocks:
            paint_block(canvas, plan, soils, block, trees, rng)
    estate = np.flatnonzero((plan.estate_m <= 0) & (plan.village_m > 0) & clear)
    yards, streets = divide(estate, plan, YARD_M2, lambda depth: ("street", 9.0), rng, grid=grid - 0.12)
    paint_streets(canvas, soils, streets)
    for yard in yards:
        paint_yard(canvas, plan, soils, yard, rng)


def _hillside_light(plan: Plan) -> np.ndarray:
    """Direct sun on the slopes relative to flat ground, and a slow change of brightness across the scene; flat."""
    terrain = plan.terrain_m.reshape(plan.frame.shape)
    down_y, down_x = np.gradient(terrain, plan.frame.cell_m)
    slope = 1 - (down_x * SUN_EAST + down_y * SUN_SOUTH) / SUN_TAN
    across = 1 + 0.03 * (plan.x / plan.frame.extent_m - 0.5)
    return (np.clip(slope, 0.7, 1.3).ravel() * across).astype(np.float32)


def draw_clouds(size: int, pixel_m: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (opacity of a small cloud, opacity of its shadow, brightness of its lit top), each (size, size), 0-1, fine grid."""
    side = size * pixel_m
    puffs = fractal((size, size), pixel_m, 170.0, rng, 2.1)
    axis = (np.arange(size) + 0.5) * pixel_m
    x, y = axis[None, :], axis[:, None]
    centre = np.array([rng.uniform(0.80, 0.86), rng.uniform(0.24, 0.32)]) * side
    reach = np.minimum(
        np.hypot((x - centre[0]) / (0.085 * side), (y - centre[1]) / (0.05 * side)),
        np.hypot((x - centre[0] + 0.10 * side) / (0.04 * side), (y - centre[1] + 0.05 * side) / (0.03 * side)),
    )
    depth = 1.05 - reach + 0.34 * puffs * smoothstep(reach, 2.2, 1.2)
    opacity = (0.98 * smoothstep(depth, 0.0, 0.55)).astype(np.float32)
    opacity[opacity < 0.03] = 0
    shift = 0.15 * side / pixel_m
    shadow = np.zeros_like(opacity)
    rows, cols = round(shift * SUN_SOUTH), round(shift * SUN_EAST)
    shadow[: size - rows, : size - cols] = opacity[rows:, cols:]
    top = depth + 0.10 * fractal((size, size), pixel_m, 60.0, rng, 1.8)
    south, east = np.gradient(top, pixel_m)
    relief = np.clip(0.86 - 26 * (east * SUN_EAST + south * SUN_SOUTH), 0.55, 1.05).astype(np.float32)
    return opacity, shadow, relief
