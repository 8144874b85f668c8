import json

import numpy as np
import pytest
from click.testing import CliRunner

from geofuse.errors import InputError
from geofuse.io import describe, open_sink
from geofuse_cli.commands.info import command


def info(*args):
    result = CliRunner().invoke(command, [str(a) for a in args], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


@pytest.fixture
def cog(files, tmp_path):
    values = np.random.default_rng(0).random((9, 600, 530)).astype(np.float32)
    with open_sink(tmp_path / "a.tif", files.spec_for(values.shape, "int16", scale=1e-4, offset=-0.1, nodata=-32768.0)) as sink:
        sink.write(values, 0)
    return tmp_path / "a.tif"


def test_describe_tells_what_the_file_says(cog, files):
    found = describe(cog)
    assert (found.width, found.height, found.bands, found.dtype) == (530, 600, 9, "int16")
    assert (found.scale, found.offset, found.nodata) == (1e-4, -0.1, -32768.0)
    assert found.crs == "EPSG:32633" and found.resolution == (30.0, 30.0) and found.unit == "metre"
    assert found.bounds == (365055.0, 5807085.0 - 600 * 30, 365055.0 + 530 * 30, 5807085.0)
    assert found.is_cog and found.overviews == (2,) and found.compression == "DEFLATE" and found.block == (512, 512)
    assert found.wavelength_source == "band tags" and np.isnan(found.wavelength_nm[-1]) and not found.good_band[1]
    assert found.provenance["GEOFUSE_VERSION"] == "1.2.3" and found.notes == ()
    assert found.file_bytes == cog.stat().st_size


def test_the_summary_fits_80_columns_and_names_the_main_facts(cog):
    text = info(cog, "--bands")
    lines = [line for line in text.splitlines() if str(cog) not in line]
    assert max(map(len, lines)) <= 80
    for fact in (
        "COG, int16, deflate, pixel-interleaved, blocks of 512 x 512",
        "530 x 600 pixels, 9 bands",
        "WGS 84 / UTM zone 33N (EPSG:32633)",
        "30 x 30 metre",
        "2395.67 to 2445.53 nm, 1 band unknown (from band tags), not in ascending",
        "5.8022 to 11.4329 nm",
        "3: 2, 5, 8",
        "-32768",
        "value = stored x 0.0001 -0.1",
        "1:2",
        "GEOFUSE_VERSION = 1.2.3",
    ):
        assert fact in " ".join(text.split()), fact
    assert "    1       2445.531     5.802  good first" in text


def test_json_is_one_object_with_null_for_unknown(cog):
    found = json.loads(info(cog, "--json"))
    assert found["bands"] == 9 and found["wavelength_nm"][-1] is None and found["crs"] == "EPSG:32633"
    assert found["wavelength_nm"][0] == pytest.approx(2445.5312345, abs=1e-6)


def test_contradicting_wavelengths_are_a_note_not_an_error(files, tmp_path):
    path = files.make_tif(
        tmp_path / "a.tif",
        files.counts((1, 4, 5)),
        band_tags=[{"wavelength": "460", "wavelength_units": "nm"}],
        imagery=[{"CENTRAL_WAVELENGTH_UM": "0.9"}],
        crs=None,
    )
    text = " ".join(info(path).split())
    assert "centre wavelength of band 1 is 460 nm by the band tags but 900 nm by the IMAGERY tags" in text
    assert "no CRS: it cannot be fused before it has one" in text


def test_real_scenes_are_described(enmap, aviris):
    text = info(enmap)
    assert "418.24 to 2445.53 nm (from band tags), not in ascending order" in text and "6: 130-135" in text
    assert "rotated by 71 degrees" in info(aviris.with_suffix(".hdr"))


def test_bad_input_is_an_error_for_the_caller(tmp_path):
    (tmp_path / "a.tif").write_text("text")
    with pytest.raises(InputError):
        info(tmp_path / "a.tif")
