"""``--srf file.csv``: what is read, and one clear line for what cannot be."""

from pathlib import Path

import numpy as np
import pytest

from geofuse.errors import InputError, MissingFileError
from geofuse.sensors import load_response

VNIR4 = Path(__file__).parents[3] / "shared/data/srf/vnir4.csv"
GOOD = "wavelength_nm,blue,green\n400,0,0\n450,1,0\n500,0.5,0.5\n550,0,2\n600,0,0\n"


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file and gives back its path."""

    def write(content, name="sensor.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_table_is_read_with_its_column_names_in_order(write):
    response = load_response(write(GOOD))
    assert response.band_names == ("blue", "green")
    assert not response.approximate
    assert [band.kind for band in response.bands] == ["reflective"] * 2
    np.testing.assert_allclose(response.bands[1].at(np.array([390, 500, 525, 550, 700])), [0, 0.25, 0.625, 1, 0])


def test_order_of_rows_byte_order_mark_blank_lines_and_crlf_do_not_matter(write):
    header, *rows = GOOD.strip().split("\n")
    odd = "\ufeff" + "\r\n".join([" Wavelength (nm) , blue,green", "", *reversed(rows), ",,"]) + "\r\n"
    plain, other = load_response(write(GOOD)), load_response(write(odd, "odd.csv"))
    for a, b in zip(plain.bands, other.bands, strict=True):
        np.testing.assert_array_equal(a.wavelength_nm, b.wavelength_nm)
        np.testing.assert_array_equal(a.response, b.response)


def test_a_path_may_be_a_string_or_a_path_and_need_not_end_in_csv(write):
    path = write(GOOD, "sensor.txt")
    assert load_response(path).band_names == load_response(str(path)).band_names


def test_small_negative_values_of_a_measured_curve_count_as_zero(write):
    band = load_response(write("wavelength_nm,a\n400,-0.01\n450,1\n500,0\n")).bands[0]
    assert band.response.min() == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty.*wavelength_nm"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe\x00", "not a text table"),
        ("wavelength,a\n400,0\n450,1\n500,0\n", "first column is 'wavelength', expected 'wavelength_nm'"),
        ("wavelength_nm\n400\n450\n500\n", "named column for each band"),
        ("wavelength_nm,a,\n400,0,0\n450,1,1\n500,0,0\n", "named column for each band"),
        ("wavelength_nm;a\n400;0\n450;1\n500;0\n", "semicolons, expected commas"),
        ("wavelength_nm\ta\n400\t0\n", "tabs, expected commas"),
        ("wavelength_nm,a,A\n400,0,0\n450,1,1\n500,0,0\n", "more than one column"),
        ("wavelength_nm,a\n400,0\n450,high\n500,0\n", "line 3, column a: 'high' is not a number"),
        ("wavelength_nm,a\n400,0\n450,\n500,0\n", "line 3, column a: '' is not a number"),
        ("wavelength_nm,a\n400,0\n450,nan\n500,0\n", "line 3, column a: found 'nan'"),
        ("wavelength_nm,a\n400,0\n450,1,1\n500,0\n", r"line 3: found 3 values, expected 2 \(wavelength_nm, a\)"),
        ("wavelength_nm,a\n400,0\n450,1\n", "2 rows of numbers, expected at least 3"),
        ("wavelength_nm,a\n", "0 rows of numbers"),
        ("wavelength_nm,a\n0.4,0\n0.45,1\n0.5,0\n", "looks like micrometres"),
        ("wavelength_nm,a\n4,0\n450,1\n500,0\n", "expected 200 to 20000 nm"),
        ("wavelength_nm,a\n400,0\n450,1\n450,0\n", "450 nm stands there more than once"),
        ("wavelength_nm,a,b\n400,0,0\n450,1,0\n500,0,0\n", "column b holds no response"),
        ("wavelength_nm,a\n400,0\n450,1\n500,-0.5\n", "column a goes down to -0.5"),
    ],
)
def test_a_malformed_table_is_refused_in_one_line_that_names_the_file(write, content, says):
    with pytest.raises(InputError, match=says) as caught:
        load_response(write(content))
    assert "sensor.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_does_not_exist_is_said_to(tmp_path):
    with pytest.raises(MissingFileError, match="absent.csv does not exist"):
        load_response(tmp_path / "absent.csv")
    with pytest.raises(MissingFileError):
        load_response(tmp_path)


@pytest.mark.skipif(not VNIR4.is_file(), reason="shared/data/srf/vnir4.csv is absent")
def test_the_shared_vnir_table_reads():
    response = load_response(VNIR4)
    assert response.band_names == ("blue", "green", "red", "nir")
    assert [round(band.center_nm) for band in response.bands] == [480, 551, 665, 805]
