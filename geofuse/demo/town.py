"""What people built: roads, a village of houses in gardens, farmsteads, and a trading estate of halls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geofuse.demo.canvas import SUN_EAST, SUN_SOUTH, Canvas
from geofuse.demo.fields import Soils
from geofuse.demo.layout import LANE_HALF_M, ROAD_HALF_M, Border, Parcel, Plan
from geofuse.demo.nature import Trees
from geofuse.demo.texture import comb

HOUSE_ROOFS = ("tile bright", "tile red", "tile red", "tile old", "tile old", "slate", "bitumen")
HALL_ROOFS = ("metal white", "zinc", "bitumen", "roof gravel", "roof gravel", "metal blue", "metal green")
FARM = ((-16, 0, (12.0, 6.0), "tile old"), (8, 14, (14.0, 7.0), "tile red"), (10, -14, (16.0, 8.0), "zinc"))


def paint_roads(canvas: Canvas, plan: Plan, soils: Soils) -> None:
    """Road and lane with verges; on a bridge the verge is concrete."""
    library = canvas.library
    half = np.where(plan.road_lane, LANE_HALF_M, ROAD_HALF_M)
    over_water = (plan.river_m < 2) | (plan.lake_m < 2)
    use = ~(plan.road_lane & over_water)
    verge = np.flatnonzero((plan.road_m < half + 3.5) & ~over_water)
    dry = 0.4 + 0.15 * soils.grain[verge]
    canvas.paint(verge, library["rough grass"], library["dry grass"], dry, third=library["gravel"], mix_third=0.12)
    deck = np.flatnonzero((plan.road_m < half + 2.2) & over_water & use)
    canvas.paint(deck, library["concrete"], sun=1.0)
    road = np.flatnonzero((plan.road_m < half) & use)
    wear = np.where(plan.road_lane[road], 0.95, 0.35 + 0.12 * soils.broad[road])
    canvas.paint(road, library["asphalt new"], library["asphalt old"], wear, sun=1 + 0.05 * soils.grain[road])
    canvas.height_m[deck] = 4.0


def paint_streets(canvas: Canvas, soils: Soils, streets: list[Border]) -> None:
    """Streets of old asphalt with paved edges."""
    for street in streets:
        grain = soils.grain[street.cells]
        paved = 0.3 + 0.15 * grain
        canvas.paint(street.cells, canvas.library["asphalt old"], canvas.library["paving"], paved, sun=1 + 0.05 * grain)


def paint_block(canvas: Canvas, plan: Plan, soils: Soils, block: Parcel, trees: Trees, rng: np.random.Generator) -> None:
    """One block of the village: gardens, houses along both long sides, trees between; now and then a park or a pitch."""
    cells = block.cells
    library = canvas.library
    grain, middle = soils.grain[cells], soils.middle[cells]
    worn = np.clip(0.16 + 0.14 * middle + 0.16 * grain, 0, 1)
    tufts, light = 0.3 + 0.25 * middle, 1 + 0.05 * grain
    canvas.paint(cells, library["lawn"], library["rough grass"], tufts, third=library["paving"], mix_third=worn, sun=light)
    place = _Block(canvas, plan, block)
    kind = rng.random()
    if kind < 0.03:
        _paint_pitch(canvas, place)
        return
    if kind > 0.10:
        _build_rows(canvas, place, rng)
    n = int(len(cells) * plan.frame.cell_m**2 / (180 if kind > 0.10 else 70))
    at = rng.choice(cells, n)
    at = at[canvas.height_m[at] == 0]
    trees.add(canvas, plan.x[at], plan.y[at], "garden", 7.5, rng)


class _Block:
    """A parcel with coordinates along (u) and across (v) its long side, centred."""

    def __init__(self, canvas: Canvas, plan: Plan, parcel: Parcel) -> None:
        self.frame = canvas.frame
        self.parcel = parcel
        self.inside = np.zeros(plan.frame.cells**2, bool)
        self.inside[parcel.cells] = True
        self.cos, self.sin = np.cos(parcel.angle), np.sin(parcel.angle)
        x, y = plan.x[parcel.cells], plan.y[parcel.cells]
        self.x0, self.y0 = float(np.median(x)), float(np.median(y))
        self.u = (x - self.x0) * self.cos + (y - self.y0) * self.sin
        self.v = -(x - self.x0) * self.sin + (y - self.y0) * self.cos
        self.u_low, self.u_high = np.quantile(self.u, (0.02, 0.98))
        self.v_low, self.v_high = np.quantile(self.v, (0.02, 0.98))

    def xy(self, u: float | np.ndarray, v: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return map coordinates of block coordinates."""
        return self.x0 + u * self.cos - v * self.sin, self.y0 + u * self.sin + v * self.cos

    def holds(self, u: float, v: float, half: float) -> bool:
        """Tell whether the corners of a square about (u, v) lie in the block."""
        us, vs = np.array([-1, -1, 1, 1, 0]) * half + u, np.array([-1, 1, -1, 1, 0]) * half + v
        cell, inside = self.frame.flat_index(*self.xy(us, vs))
        return bool((inside & self.inside[cell]).all())


def _build_rows(canvas: Canvas, place: _Block, rng: np.random.Generator) -> None:
    """Houses along the two long sides, set back from the street, with sheds behind."""
    pitch, angle = rng.uniform(17, 23), place.parcel.angle
    for side, edge in ((1, place.v_high - 10), (-1, -place.v_low - 10)):
        u = place.u_low + 9 + rng.uniform(0, 5)
        while u < place.u_high - 8:
            v = side * (edge + rng.normal(0, 1.2))
            if rng.random() < 0.9 and place.holds(u, v, 6.0):
                size = (rng.uniform(4.6, 7.2), rng.uniform(4.0, 5.2))
                roof = HOUSE_ROOFS[rng.integers(len(HOUSE_ROOFS))]
                across = np.pi / 2 if rng.random() < 0.3 else 0.0
                draw_building(canvas, Building(place.xy(u, v), size, angle + across, roof, 7.0, 0.75), rng)
                if rng.random() < 0.5 and place.holds(u + 5, v - side * 15, 3.5):
                    roof = "bitumen" if rng.random() < 0.6 else "zinc"
                    draw_building(canvas, Building(place.xy(u + 5, v - side * 15), (3.5, 2.8), angle, roof, 3.0), rng)
            u += pitch * rng.uniform(0.85, 1.25)


@dataclass(frozen=True)
class Building:
    """A rectangular building, metres and radians; its ridge runs along its first axis."""

    centre: tuple[float, float]
    half: tuple[float, float]
    angle: float
    roof: str
    height_m: float
    pitch: float = 0.0  # slope of the roof, 0 for flat


def draw_building(canvas: Canvas, building: Building, rng: np.random.Generator) -> None:
    """Draw a building: the two sides of its roof are lit as they face, and no two roofs are quite alike."""
    frame, centre, half, angle, pitch = canvas.frame, building.centre, building.half, building.angle, building.pitch
    reach = int(np.ceil(np.hypot(*half) / frame.cell_m)) + 1
    step = np.arange(-reach, reach + 1) * frame.cell_m
    dx, dy = (d.ravel() for d in np.meshgrid(step, step))
    cell, inside = frame.flat_index(centre[0] + dx, centre[1] + dy)
    x = (cell % frame.cells + 0.5) * frame.cell_m - centre[0]
    y = (cell // frame.cells + 0.5) * frame.cell_m - centre[1]
    u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    under = inside & (np.abs(u) < half[0]) & (np.abs(v) < half[1])
    cell, u, v = cell[under], u[under], v[under]
    facing = (-np.sin(angle) * SUN_EAST + np.cos(angle) * SUN_SOUTH) * np.sign(v)
    light = (1 + 0.8 * pitch * facing) / np.sqrt(1 + pitch**2)
    tone = np.exp(0.1 * rng.standard_normal())
    dirt = np.clip(0.12 + 0.1 * rng.standard_normal(), 0, 0.5)
    stain = 1 + 0.04 * rng.standard_normal(len(cell))
    roof, dirty = canvas.library[building.roof], canvas.library["tile old"]
    canvas.paint(cell, roof, dirty, dirt if pitch else 0.0, sun=np.clip(light * tone * stain, 0.1, 1.5))
    canvas.height_m[cell] = building.height_m + pitch * (half[1] - np.abs(v))


def _paint_pitch(canvas: Canvas, place: _Block) -> None:
    """Lay out a sports ground: mown stripes inside a red track."""
    u, v = place.u, place.v
    half_u, half_v = min(52.0, 0.42 * (place.u_high - place.u_low)), min(34.0, 0.4 * (place.v_high - place.v_low))
    radius = np.hypot(np.clip(np.abs(u) - half_u + half_v, 0, None), v)
    track, green = place.parcel.cells[radius < half_v], radius < half_v - 6
    canvas.paint(track, canvas.library["tile red"], canvas.library["soil red"], 0.5)
    stripes = np.where(comb(u[green], 12.0, 6.0), 1.06, 0.95)
    canvas.paint(place.parcel.cells[green], canvas.library["lawn"], canvas.library["rough grass"], 0.1, sun=stripes)


def paint_yard(canvas: Canvas, plan: Plan, soils: Soils, block: Parcel, rng: np.random.Generator) -> None:
    """One plot of the estate: a concrete or asphalt yard, a hall or two, parked vehicles."""
    cells = block.cells
    library = canvas.library
    ground = library["concrete" if rng.random() < 0.5 else "asphalt old"]
    slabs = 0.25 + 0.2 * soils.middle[cells] + 0.1 * soils.grain[cells]
    canvas.paint(cells, ground, library["paving"], slabs, sun=1 + 0.04 * soils.grain[cells])
    place = _Block(canvas, plan, block)
    cars = rng.choice(cells, int(len(cells) * 0.02))
    canvas.paint(cars, library["metal white"], library["metal blue"], rng.uniform(0, 1, len(cars)), sun=0.9)
    length, width = place.u_high - place.u_low, place.v_high - place.v_low
    shift = rng.uniform(-0.06, 0.06) * length
    parts = 1 if rng.random() < 0.6 else 2
    for i in range(parts):
        half = (0.36 * length / parts - 2 * (parts - 1), rng.uniform(0.24, 0.34) * width)
        at = place.xy(shift + (i - (parts - 1) / 2) * length * 0.4, rng.uniform(-0.06, 0.06) * width)
        roof = HALL_ROOFS[rng.integers(len(HALL_ROOFS))]
        draw_building(canvas, Building(at, half, block.angle, roof, 9.0), rng)
        if rng.random() < 0.3:
            draw_building(canvas, Building(at, (half[0] * 0.8, half[1] * 0.55), block.angle, "solar panel", 9.5), rng)


def build_farmsteads(canvas: Canvas, plan: Plan, trees: Trees, count: int, rng: np.random.Generator) -> None:
    """Lonely farms beside the lane or the road: house, barns, yard, old trees."""
    lonely = (plan.village_m > 120) & (plan.estate_m > 90) & (plan.river_m > 60) & (plan.lake_m > 60)
    spots = np.flatnonzero(lonely & (plan.road_m > 35) & (plan.road_m < 60))
    if not len(spots):
        return
    for at in rng.choice(spots, count):
        x, y, angle = float(plan.x[at]), float(plan.y[at]), rng.uniform(0, np.pi)
        c, s = np.cos(angle), np.sin(angle)
        draw_building(canvas, Building((x, y), (26.0, 22.0), angle, "paving", 0.0), rng)
        for du, dv, half, roof in FARM:
            draw_building(canvas, Building((x + du * c - dv * s, y + du * s + dv * c), half, angle, roof, 8.0, 0.5), rng)
        turn, reach = rng.uniform(0, 6.28, 26), rng.uniform(34, 50, 26)
        trees.add(canvas, x + reach * np.cos(turn), y + reach * np.sin(turn), "garden", 13.0, rng)


def line_road_with_trees(canvas: Canvas, plan: Plan, soils: Soils, trees: Trees, rng: np.random.Generator) -> None:
    """Plant an avenue along stretches of the main road."""
    open_land = (plan.river_m > 10) & (plan.estate_m > 0) & (plan.village_m > -30)
    ring = (np.abs(plan.road_m - ROAD_HALF_M - 3.0) < 1.8) & ~plan.road_lane & open_land & (soils.broad > -0.2)
    trees.fill(canvas, ring, "hedge", 11.0, 9.0, rng)
