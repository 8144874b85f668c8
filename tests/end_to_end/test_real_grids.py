"""Real files whose grids cannot be used as they are: one line says what is wrong and what to do, and doing it helps."""

from pathlib import Path

import pytest
import rasterio

DATA = Path(__file__).parents[3] / "shared" / "data"
NEON, AVIRIS = DATA / "neon-sjer052", DATA / "aviris-spechomo"


def error_line(done):
    """The last line of stderr, of a run that has to be refused."""
    assert done.code == 2
    lines = [line for line in done.err.splitlines() if not line.startswith("geofuse: warning")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.skipif(not NEON.is_dir(), reason="the NEON plot of ../shared/data is not here")
def test_neon_without_a_crs_is_refused_and_says_how_to_set_one(geofuse, tmp_path):
    hsi, rgb = NEON / "SJER_052_hyperspectral.tif", NEON / "SJER_052_rgb.tif"
    line = error_line(geofuse("run", hsi, rgb, "--srf", "estimate", "-o", tmp_path / "out.tif"))
    assert "has no CRS" in line and "gdal_edit.py -a_srs" in line


@pytest.mark.slow
@pytest.mark.skipif(not NEON.is_dir(), reason="the NEON plot of ../shared/data is not here")
def test_neon_with_its_crs_makes_a_pair_of_ratio_ten_with_white_as_no_data(tmp_path):
    import numpy as np

    import geofuse

    with rasterio.open(NEON / "SJER_052_hyperspectral.tif") as source:
        profile, values = source.profile, source.read()
    with rasterio.open(tmp_path / "hsi.tif", "w", **(profile | {"crs": "EPSG:32611"})) as out:
        out.write(values)
    pair = geofuse.open_pair(tmp_path / "hsi.tif", NEON / "SJER_052_rgb.tif", srf="estimate", psf="gaussian:1.0")
    assert pair.attrs["ratio"] == 10 and pair.sizes["y"] == 400
    with rasterio.open(NEON / "SJER_052_rgb.tif") as rgb:
        white = (rgb.read() == 255).any(axis=0)
    np.testing.assert_array_equal(np.isnan(pair["msi"].values).any(axis=0), white)


@pytest.mark.skipif(not AVIRIS.is_dir(), reason="the AVIRIS scene of ../shared/data is not here")
def test_aviris_on_a_rotated_grid_is_refused_and_says_how_to_turn_it(geofuse, tmp_path):
    image = AVIRIS / "AV_mastercal_testdata.hdr"
    line = error_line(geofuse("run", image, image, "--srf", "landsat8", "-o", tmp_path / "out.tif"))
    assert "rotated by 71 degrees" in line and "gdalwarp" in line
