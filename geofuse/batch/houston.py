"""The scenes of the 2018 IEEE GRSS Data Fusion Contest, found by the names they were published under.

The contest gave out the city of Houston twice. Phase 1: ``2018_IEEE_GRSS_DFC_HSI_TR`` with ``.HDR`` (2384 x 601 pixels of 1 m)
and four RGB tiles. Phase 2: ``FullHSIDataset/20170218_UH_CASI_S4_NAD83.pix`` with ``.hdr`` (4172 x 1202 pixels), and 14 tiles in
``Final RGB HR Imagery``. An RGB tile ``UH_NAD83_<x>_<y>.tif`` is named after its lower left corner and holds 11920 x 12020
pixels of 0.05 m, 596 m x 601 m.

One tile is one scene: a tile at ratio 4 is a result of 1.1 GB, seven columns of two can be shared out among jobs or machines, and
what fails or changes costs one tile. Each scene estimates response and PSF for itself, from the same camera and scanner, so that
levels can differ a little from tile to tile; who wants one response throughout gives ``response`` (from ``geofuse estimate``), and
who wants one image gives ``geofuse run`` the folder of tiles as MSI.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from geofuse.batch.manifest import Row
from geofuse.errors import InputError, MissingFileError

HSI_NAMES = ("20170218_UH_CASI_S4_NAD83.pix", "2018_IEEE_GRSS_DFC_HSI_TR")
"""Hyperspectral images; the first that is there is taken, for it holds the other."""

RATIO = 4
"""RGB pixels along a side of a hyperspectral one, after averaging."""

MIN_SIDE = 16
"""A tile that shares fewer hyperspectral pixels than this along a side is left out."""

_TILE = re.compile(r"UH_NAD83_(?P<x>\d+)_(?P<y>\d+)\.tiff?", re.IGNORECASE)
Bounds = tuple[float, float, float, float]  # left, bottom, right, top in metres


@dataclass(frozen=True)
class HoustonPlan:
    """Rows for :func:`geofuse.batch.plan.make_plan`, and what to tell about them."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def plan_houston(folder: Path) -> HoustonPlan:
    """Find the contest's files anywhere under ``folder`` and make a scene of each RGB tile that the HSI covers.

    Only headers are read. The RGB is averaged to :data:`RATIO` pixels a hyperspectral one, or the nearest that its pixel size
    allows; response and PSF are estimated from the images, as neither was published.

    Raises
    ------
    MissingFileError
        If the folder, the hyperspectral image or the tiles are not there.
    InputError
        If a file is damaged, or no tile overlaps the hyperspectral image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder; give the one that holds the contest's files")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hsi = _find_hsi(folder, files)
    tiles, notes = _find_tiles(folder, files)
    bounds, pixel_m = _header(hsi)
    rows = []
    for tile in tiles:
        tile_bounds, tile_m = _header(tile)
        if _shared_m(bounds, tile_bounds) < MIN_SIDE * pixel_m:
            notes.append(f"{tile.name} is left out: outside {hsi.name}, or nearly")
            continue
        average = _average(pixel_m, tile_m)
        values = {
            "hsi": hsi.relative_to(folder).as_posix(),
            "msi": tile.relative_to(folder).as_posix(),
            "out": f"{tile.stem}_fused.tif",
            "srf": "estimate",
            "srf-bands": "rgb",
            "psf": "estimate",
            "msi-average": str(average),
        }
        rows.append(Row(tile.name, values))
        ratio = (
            f"RGB of {tile_m:g} m averaged {average} x {average} to {tile_m * average:g} m, ratio {pixel_m / tile_m / average:g}"
        )
    if not rows:
        raise InputError(f"{folder}: no RGB tile overlaps {hsi.name}; check that both are of the same release")
    notes.insert(0, f"{hsi.relative_to(folder)} and {len(rows)} RGB tile{'s' * (len(rows) > 1)}, one scene each; {ratio}")
    return HoustonPlan(tuple(rows), tuple(notes))


def _find_hsi(folder: Path, files: list[Path]) -> Path:
    for name in HSI_NAMES:
        for path in files:
            if path.name.lower() == name.lower():
                return path
    raise MissingFileError(f"{folder}: neither {' nor '.join(HSI_NAMES)} under this folder; unpack the contest's archive there")


def _find_tiles(folder: Path, files: list[Path]) -> tuple[list[Path], list[str]]:
    """Return the tiles from west to east, the northern row first, and a note for each that is there twice."""
    found: dict[str, Path] = {}
    notes = []
    for path in files:
        if not _TILE.fullmatch(path.name):
            continue
        if path.name.lower() in found:
            notes.append(f"{path.relative_to(folder)} is left out: {found[path.name.lower()].relative_to(folder)} has its name")
        found.setdefault(path.name.lower(), path)
    if not found:
        raise MissingFileError(f"{folder}: no RGB tiles UH_NAD83_<x>_<y>.tif under this folder; unpack the contest's archive there")

    def place(path: Path) -> tuple[int, int]:
        match = _TILE.fullmatch(path.name)
        return (-int(match["y"]), int(match["x"])) if match else (0, 0)

    return sorted(found.values(), key=place), notes


def _header(path: Path) -> tuple[Bounds, float]:
    """Return bounds and pixel size in metres; all of the contest's images are in UTM zone 15 north, NAD83."""
    from geofuse.io import describe

    info = describe(path)
    return info.bounds, float(info.resolution[0])


def _shared_m(one: Bounds, other: Bounds) -> float:
    """Return the shorter side of what two rectangles share; 0 or less where they share nothing."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    return min(width, min(one[3], other[3]) - max(one[1], other[1]))


def _average(hsi_m: float, rgb_m: float) -> int:
    """Return how many RGB pixels to average along a side, so that a whole ratio as near to ``RATIO`` as possible remains."""
    native = round(hsi_m / rgb_m)
    divisors = [n for n in range(1, native + 1) if native % n == 0 and native // n >= 2]
    return min(divisors, key=lambda n: abs(native // n - RATIO), default=1)
