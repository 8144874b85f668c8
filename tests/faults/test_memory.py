"""A limit on memory decides the size of tiles, is kept to, and is refused where nothing fits."""

from __future__ import annotations

import pytest

from geofuse.errors import UsageError
from geofuse.flow.budget import choose_tile, expected_bytes
from geofuse.fusion import Fusion, FusionSettings
from geofuse.pipeline import PairOptions
from geofuse_cli import main as command_line
from tests.faults.conftest import fuse

MIB = 2**20


class Sizes:
    """What the plan asks of a fusion, for a scene that is not there."""

    def __init__(self, height, width, bands=150, method="subspace"):
        from types import SimpleNamespace

        from geofuse.tiling import TileGrid

        self.grid = TileGrid(height, width, 4, 512, 40)
        self.settings = FusionSettings(method)
        self.pair = SimpleNamespace(sizes={"band": bands, "band_msi": 8}, attrs={"output_window": (0, height, 0, width)})
        self.n_bands = bands


def plan(scene, limit, asked=None):
    return choose_tile(scene, (128, 128), 2, limit, asked)


def test_a_higher_limit_gives_larger_tiles_and_the_plan_is_within_it():
    scene, tiles = Sizes(4096, 4096), []
    for gib in (1.3, 2, 3, 4, 8, 16):
        tiles.append(plan(scene, int(gib * 1024 * MIB)))
        assert expected_bytes(scene, tiles[-1], (128, 128), 2) <= gib * 1024 * MIB
    assert tiles == sorted(tiles) and tiles[0] < 768 < tiles[-1]


def test_what_is_expected_does_not_grow_with_the_scene():
    sizes = [expected_bytes(Sizes(side, side), 512, (128, 128), 2) for side in (4096, 16384)]
    assert sizes[0] == sizes[1]
    assert expected_bytes(Sizes(2048, 2048), 512, (128, 128), 2) == pytest.approx(sizes[0], rel=0.01)


def test_few_bands_do_not_make_the_solver_small():
    few, many = (expected_bytes(Sizes(4096, 4096, bands=bands), 1024, (128, 128), 2) for bands in (48, 150))
    assert few > 0.8 * many


def test_without_a_limit_tiles_are_512_pixels_or_what_is_asked_for():
    assert (plan(Sizes(4096, 4096), None), plan(Sizes(4096, 4096), None, 100)) == (512, 100)


def test_a_tile_that_does_not_fit_is_refused_and_so_is_a_limit_that_nothing_fits_into():
    scene = Sizes(4096, 4096)
    with pytest.raises(UsageError, match="tiles of 1024 pixels take about .* leave --tile out, or give more") as caught:
        plan(scene, 2048 * MIB, 1024)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="this pair takes, even with tiles of 64 pixels, about .* GiB; give more with --memory"):
        plan(scene, 700 * MIB)


def test_the_command_line_takes_a_limit_and_refuses_one_that_is_too_low_in_one_line(pair, names, capsys):
    arguments = ["run", pair / "hsi.tif", pair / "msi.tif", "-o", pair / "out.tif", "--srf", pair / "camera.csv", "--psf", "box"]
    more = ["--min-coverage", 0.5, "--method", "subspace", "--coregister", "off"]
    assert command_line.run([str(a) for a in (*arguments, *more, "--memory", "100MB")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("geofuse: error: --memory 0.09 GiB is too little") and said.count("\n") == 1 and not names(pair)
    assert command_line.run([str(a) for a in (*arguments, *more, "--memory", "much")]) == 2
    assert "write it like 4GiB or 800MB" in capsys.readouterr().err
    assert command_line.run([str(a) for a in (*arguments, *more, "--memory", "4 GiB")]) == 0
    assert names(pair) == {"out.tif"}


def test_a_limit_that_fits_gives_the_result_of_its_tile_size(pair):
    options = PairOptions(pair / "camera.csv", psf="box", min_coverage=0.5)
    fusion = Fusion(options.open(pair / "hsi.tif", pair / "msi.tif"), FusionSettings("subspace", tile=32, overlap=16))
    fuse(pair, name="a.tif", memory_bytes=expected_bytes(fusion, 32, (512, 512), 4))
    fuse(pair, name="b.tif")
    assert (pair / "a.tif").read_bytes() == (pair / "b.tif").read_bytes()
