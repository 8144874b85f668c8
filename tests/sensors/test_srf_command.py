"""``geofuse srf list`` and ``geofuse srf show``."""

import json

import pytest
from click.testing import CliRunner

from geofuse.errors import OutputError, UnknownNameError, UsageError
from geofuse.sensors import list_sensors, load_response, sensor_names
from geofuse_cli.commands.srf import command


def geofuse_srf(*arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_list_names_every_sensor_in_80_columns_and_marks_the_approximate_ones():
    lines = geofuse_srf("list").output.splitlines()
    assert max(map(len, lines)) <= 80
    heads = {line.split()[0]: line for line in lines if line and not line.startswith(" ")}
    for sensor in list_sensors():
        assert ("(approximate)" in heads[sensor.name]) == sensor.approximate
    text = "\n".join(lines)
    assert all(alias in text for sensor in list_sensors() for alias in sensor.aliases)


def test_list_as_json_holds_the_same():
    found = json.loads(geofuse_srf("list", "--json").output)
    assert [sensor["name"] for sensor in found] == list(sensor_names())
    landsat8 = next(sensor for sensor in found if sensor["name"] == "landsat8")
    assert landsat8["band_names"] == ["B1", "B2", "B3", "B4", "B5", "B6", "B7"]
    assert landsat8["approximate"] is False


@pytest.mark.parametrize("name", sensor_names())
def test_show_prints_one_row_for_each_band_in_80_columns(name):
    lines = geofuse_srf("show", name).output.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines[lines.index("") + 2 :]]
    response = load_response(name)
    assert [row[0] for row in rows] == list(response.band_names)
    assert [row[1] for row in rows] == [band.kind for band in response.bands]
    assert [float(row[2]) for row in rows] == pytest.approx([band.center_nm for band in response.bands], abs=0.06)


def test_show_reads_a_response_file(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("wavelength_nm,left,right\n400,0,0\n450,1,0\n500,0,1\n550,0,0\n")
    assert "left    reflective     450.0     50.0" in geofuse_srf("show", str(path)).output


@pytest.mark.parametrize("name", ["landsat8", "rgb"])
def test_show_with_an_output_draws_a_png_and_leaves_nothing_else(tmp_path, name):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    assert geofuse_srf("show", name, "-o", str(path)).output.strip() == f"wrote {path}"
    assert [item.name for item in tmp_path.iterdir()] == ["curves.png"]
    with image.open(path) as picture:
        picture.load()
        assert picture.size[0] >= 800
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20


def test_show_refuses_what_it_cannot_do_and_leaves_the_old_file(tmp_path):
    old = tmp_path / "curves.png"
    old.write_bytes(b"old")
    with pytest.raises(UnknownNameError, match="landsat8"):
        geofuse_srf("show", "landsat88", "-o", str(old))
    with pytest.raises(UsageError, match="PNG"):
        geofuse_srf("show", "landsat8", "-o", str(tmp_path / "curves.jpg"))
    with pytest.raises(OutputError, match="folder does not exist"):
        geofuse_srf("show", "landsat8", "-o", str(tmp_path / "absent" / "curves.png"))
    assert old.read_bytes() == b"old"
