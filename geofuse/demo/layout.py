"""The plan of the landscape: hills, a meandering river, roads, a village, a trading estate, and land cut into parcels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geofuse.demo.canvas import Frame
from geofuse.demo.texture import fractal, smoothstep

ROAD_HALF_M, LANE_HALF_M = 4.5, 3.0


@dataclass(frozen=True)
class Plan:
    """Where things lie; every array is flat over the cells. Distances are metres, negative inside."""

    frame: Frame
    x: np.ndarray
    y: np.ndarray
    bent: tuple[np.ndarray, np.ndarray]  # x and y slightly warped, for lines that are not ruled
    terrain_m: np.ndarray
    sand: np.ndarray  # what the soil is made of, zero mean, unit deviation
    river_m: np.ndarray  # to the river's bank
    lake_m: np.ndarray  # to the pit lake's shore
    road_m: np.ndarray  # to the middle of the nearest road, unsigned
    road_lane: np.ndarray  # bool: that road is a lane
    village_m: np.ndarray
    estate_m: np.ndarray
    zone: np.ndarray  # int, pieces of land between river and roads


@dataclass(frozen=True)
class Parcel:
    """One piece of land with the direction of its long side; ``cells`` are flat indices."""

    cells: np.ndarray
    angle: float


@dataclass(frozen=True)
class Border:
    """A line between parcels, as wide as its kind: ``"street"``, ``"track"``, ``"hedge"`` or ``"margin"``."""

    cells: np.ndarray
    kind: str


def make_plan(frame: Frame, rng: np.random.Generator) -> Plan:
    """Draw the plan; positions are fractions of the scene, sizes metres, so that a small scene shows less, not smaller, things."""
    x, y = frame.coordinates()
    side = frame.extent_m
    terrain = fractal(frame.shape, frame.cell_m, 900.0, rng, 2.6).ravel() * 14
    path = _river_path(side, rng)
    widening = np.interp(np.arange(len(path)), np.arange(0, len(path) + 80, 80), rng.normal(size=len(path) // 80 + 2))
    river = _distance_to_path(frame, path, np.clip(19 * (1 + 0.22 * widening), 11, 32))
    river += 1.5 * fractal(frame.shape, frame.cell_m, 60.0, rng, 1.5).ravel()
    terrain = terrain - 12 * np.exp(-np.clip(river, 0, None) / 160)
    centre = np.array([rng.uniform(0.58, 0.66), rng.uniform(0.46, 0.58)]) * side
    main, lane = _roads(x, y, centre, rng)
    village = _blob(frame, _Outline(centre, (min(330.0, 0.14 * side), min(250.0, 0.12 * side))), rng)
    away = np.array([min(640.0, 0.25 * side), min(190.0, 0.07 * side)])
    estate = _blob(frame, _Outline(centre + away, (min(230.0, 0.085 * side), min(130.0, 0.05 * side)), 0.04, 6), rng)
    pit = np.array([rng.uniform(0.10, 0.16), rng.uniform(0.78, 0.84)]) * side
    lake = _blob(frame, _Outline(pit, (min(210.0, 0.075 * side), min(140.0, 0.055 * side)), 0.38), rng)
    zone = 4 * _left_of(frame, path) + 2 * (main > 0) + (lane > 0)
    return Plan(
        frame,
        x,
        y,
        bent=_bend(frame, x, y, rng),
        terrain_m=terrain,
        sand=fractal(frame.shape, frame.cell_m, 500.0, rng, 1.5).ravel(),
        river_m=river,
        lake_m=lake,
        road_m=np.minimum(np.abs(main), np.abs(lane)),
        road_lane=np.abs(lane) < np.abs(main),
        village_m=village,
        estate_m=estate,
        zone=zone.astype(np.int8),
    )


def _river_path(side: float, rng: np.random.Generator) -> np.ndarray:
    """Points (n, 2) every 4 m down the scene along a sine-generated curve, the shape of meanders (Langbein and Leopold 1966)."""
    step_m, n = 4.0, int(side / 4.0 * 2.4)
    s = np.arange(n) * step_m
    wave = 900 * (1 + 0.25 * np.sin(s / 1300 + rng.uniform(0, 6)))
    swing = np.radians(58) * (0.75 + 0.35 * np.sin(s / 1700 + rng.uniform(0, 6)))
    heading = np.radians(96) + swing * np.sin(2 * np.pi * np.cumsum(step_m / wave) + rng.uniform(0, 6))
    points = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * step_m, axis=0)
    within = (points[:, 1] > 0.0) & (points[:, 1] < side)
    drift = np.interp(0.5 * side, points[:, 1], points[:, 0]) if within.any() else 0.0
    points[:, 0] += rng.uniform(0.27, 0.33) * side - drift
    points[:, 1] -= 120
    return points[points[:, 1] < side + 200]


def _distance_to_path(frame: Frame, path: np.ndarray, half_width: np.ndarray) -> np.ndarray:
    """Distance from every cell to the band along ``path``; exact on every eighth cell, linear between."""
    from scipy.spatial import cKDTree

    nodes = (np.arange(-1, frame.cells // 8 + 2) * 8 + 0.5) * frame.cell_m
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1)
    distance, nearest = cKDTree(path).query(grid.reshape(-1, 2))
    coarse = (distance - half_width[nearest]).reshape(len(nodes), len(nodes))
    at = (np.arange(frame.cells)) / 8 + 1
    left = at.astype(int)
    part = at - left
    rows = coarse[left] * (1 - part)[:, None] + coarse[left + 1] * part[:, None]
    return (rows[:, left] * (1 - part) + rows[:, left + 1] * part).astype(np.float32).ravel()


def _left_of(frame: Frame, path: np.ndarray) -> np.ndarray:
    """Cells west of the river, flat bool; where the river doubles back the westmost bank counts."""
    axis = frame.axis()
    order = np.argsort(path[:, 1], kind="stable")
    bank = np.interp(axis, path[order, 1], path[order, 0])
    return (axis[None, :] < bank[:, None]).ravel()


def _roads(x: np.ndarray, y: np.ndarray, centre: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances to a road across the scene and a lane down it; both pass the village."""

    def curve(along: np.ndarray, start: float, tilt: float) -> tuple[np.ndarray, np.ndarray]:
        value, slope = (along - start) * tilt, np.full_like(along, tilt)
        for amplitude, wave in ((70.0, 2300.0), (22.0, 870.0)):
            phase = rng.uniform(0, 6.28)
            value += amplitude * (np.sin(along * 6.28 / wave + phase) - np.sin(start * 6.28 / wave + phase))
            slope += amplitude * 6.28 / wave * np.cos(along * 6.28 / wave + phase)
        return value, np.sqrt(1 + slope**2)

    value, stretch = curve(x, centre[0], rng.uniform(0.1, 0.28))
    main = (y - centre[1] - value) / stretch
    value, stretch = curve(y, centre[1], rng.uniform(-0.35, -0.15))
    return main, (x - centre[0] - value) / stretch


@dataclass(frozen=True)
class _Outline:
    """An ellipse (``power`` 2) or rounded rectangle (larger), in metres, whose outline wanders by ``rough``."""

    centre: np.ndarray
    radii: tuple[float, float]
    rough: float = 0.3
    power: float = 2.0


def _blob(frame: Frame, shape: _Outline, rng: np.random.Generator) -> np.ndarray:
    """Approximate distance from every cell to an outline, negative inside."""
    x, y = frame.coordinates()
    u, v = (np.abs(at - c) / r for at, c, r in zip((x, y), shape.centre, shape.radii, strict=True))
    wander = fractal(frame.shape, frame.cell_m, 260.0, rng, 2.0).ravel()
    reach = (u**shape.power + v**shape.power) ** (1 / shape.power)
    return (reach - 1 + shape.rough * 0.5 * wander * smoothstep(reach, 2.2, 1.0)) * min(shape.radii)


def divide(
    cells: np.ndarray,
    plan: Plan,
    target_m2: float,
    line: Callable[[int], tuple[str, float]],
    rng: np.random.Generator,
    *,
    grid: float | None = None,
) -> tuple[list[Parcel], list[Border]]:
    """Cut a piece of land in two again and again, mostly across its long side, until each part is about ``target_m2``.

    ``line(depth)`` gives the kind and width of the line of a cut; with ``grid`` (radians) every line follows one street grid.
    This is how land gets its parcels, and unlike nearest-point cells it yields rows of like-oriented strips.
    """
    parcels: list[Parcel] = []
    borders: list[Border] = []
    stack = [(cells, 0)]
    while stack:
        piece, depth = stack.pop()
        area = len(piece) * plan.frame.cell_m**2
        if len(piece) < 60:
            continue
        u, v = plan.bent[0][piece], plan.bent[1][piece]
        angle, ratio = _long_side(u, v, grid)
        if area < target_m2 * np.exp(0.45 * rng.standard_normal()) or area < 0.3 * target_m2:
            parcels.append(Parcel(piece, angle))
            continue
        cut = angle + np.radians(rng.normal(0, 4 if grid is None else 1))
        if ratio < 1.9 and rng.random() < 0.35:
            cut += np.pi / 2
        along = u * np.cos(cut) + v * np.sin(cut)
        at = np.quantile(along[:: max(1, len(along) // 4000)], rng.uniform(0.36, 0.64))
        kind, width = line(depth)
        on_line = np.abs(along - at) < width / 2
        borders.append(Border(piece[on_line], kind))
        stack += [(piece[(along < at) & ~on_line], depth + 1), (piece[(along >= at) & ~on_line], depth + 1)]
    return parcels, borders


def _long_side(u: np.ndarray, v: np.ndarray, grid: float | None) -> tuple[float, float]:
    """Return the direction of the long axis (radians; of the two of ``grid`` the longer, when given) and long over short."""
    step = max(1, len(u) // 3000)
    if grid is not None:
        along = np.std(u[::step] * np.cos(grid) + v[::step] * np.sin(grid))
        across = np.std(-u[::step] * np.sin(grid) + v[::step] * np.cos(grid))
        return (grid, float(along / across)) if along > across else (grid + np.pi / 2, float(across / along))
    du, dv = u[::step].astype(float) - u[::step].mean(dtype=float), v[::step].astype(float) - v[::step].mean(dtype=float)
    uu, vv, uv = (du * du).mean(), (dv * dv).mean(), (du * dv).mean()
    spread = np.hypot(uu - vv, 2 * uv)
    return float(0.5 * np.arctan2(2 * uv, uu - vv)), float(np.sqrt((uu + vv + spread) / max(uu + vv - spread, 1e-6)))


def _bend(frame: Frame, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates displaced by a smooth random field, 14 m rms."""
    shift = [fractal(frame.shape, frame.cell_m, 700.0, rng, 2.6).ravel() * 14 for _ in range(2)]
    return x + shift[0], y + shift[1]
