import numpy as np
import pytest

from geofuse.errors import InputError, MissingFileError
from geofuse.io import open_scene

NM = np.array([460.25, 550.125, 650.5])


def tags(values, unit="Nanometers", fwhm=None):
    out = [{"wavelength": str(v)} | ({"wavelength_units": unit} if unit else {}) for v in values]
    if fwhm is not None:
        out = [t | {"fwhm": str(f)} for t, f in zip(out, fwhm, strict=True)]
    return out


def tif(files, path, n=3, **kwargs):
    return files.make_tif(path, files.counts((n, 6, 5)), **kwargs)


@pytest.mark.parametrize(
    ("unit", "factor"), [("Nanometers", 1), ("nm", 1), ("Micrometers", 1e-3), ("um", 1e-3), ("\u00b5m", 1e-3), ("microns", 1e-3)]
)
def test_units_of_band_tags_become_nm(files, tmp_path, unit, factor):
    scene = open_scene(tif(files, tmp_path / "a.tif", band_tags=tags(NM * factor, unit, [10 * factor] * 3)))
    np.testing.assert_allclose(scene.wavelength.values, NM)
    np.testing.assert_allclose(scene.fwhm.values, 10)


def test_the_case_of_band_tags_does_not_matter(files, tmp_path):
    shouted = [{key.upper(): value for key, value in tag.items()} for tag in tags(NM / 1000, "Micrometers", [0.01] * 3)]
    scene = open_scene(tif(files, tmp_path / "a.tif", band_tags=shouted))
    np.testing.assert_allclose(scene.wavelength.values, NM)
    np.testing.assert_allclose(scene.fwhm.values, 10)


@pytest.mark.parametrize(("factor", "word"), [(1, "nm"), (1e-3, "um")])
def test_a_missing_unit_is_guessed_from_the_size_and_said(files, tmp_path, caplog, factor, word):
    scene = open_scene(tif(files, tmp_path / "a.tif", band_tags=tags(NM * factor, None)))
    np.testing.assert_allclose(scene.wavelength.values, NM)
    assert f"without a unit, taken as {word}" in caplog.text


def test_wavenumbers_are_no_wavelengths(files, tmp_path, caplog):
    scene = open_scene(tif(files, tmp_path / "a.tif", band_tags=tags(NM, "Wavenumber")))
    assert np.isnan(scene.wavelength.values).all() and "Wavenumber" in caplog.text


def test_imagery_tags_and_descriptions_serve_when_nothing_better_is_there(files, tmp_path):
    imagery = [{"CENTRAL_WAVELENGTH_UM": str(v / 1000), "FWHM_UM": "0.0065"} for v in NM]
    scene = open_scene(tif(files, tmp_path / "a.tif", imagery=imagery))
    np.testing.assert_allclose(scene.wavelength.values, NM)
    np.testing.assert_allclose(scene.fwhm.values, 6.5)
    names = ["band 8 (460 Nanometers)", "green (0.55 Micrometers)", "B3"]
    scene = open_scene(tif(files, tmp_path / "b.tif", names=names))
    np.testing.assert_allclose(scene.wavelength.values, [460, 550, np.nan])
    assert list(scene.band_name.values) == names


def test_rounded_imagery_tags_neither_win_nor_contradict(files, tmp_path):
    imagery = [{"CENTRAL_WAVELENGTH_UM": f"{v / 1000:.3f}", "FWHM_UM": "0.006"} for v in NM]
    names = [f"band ({v:.0f} Nanometers)" for v in NM]
    path = tif(files, tmp_path / "a.tif", band_tags=tags(NM, fwhm=[6.5] * 3), imagery=imagery, names=names)
    scene = open_scene(path)
    np.testing.assert_allclose(scene.wavelength.values, NM)
    np.testing.assert_allclose(scene.fwhm.values, 6.5)


def test_a_contradiction_is_an_error_that_the_caller_can_decide(files, tmp_path):
    imagery = [{"CENTRAL_WAVELENGTH_UM": "0.9"}] * 3
    path = tif(files, tmp_path / "a.tif", band_tags=tags(NM, fwhm=[6.5] * 3), imagery=imagery)
    with pytest.raises(InputError, match=r"band 1 is 460.25 nm by the band tags but 900 nm by the IMAGERY tags; .*wavelengths="):
        open_scene(path)
    scene = open_scene(path, wavelengths=NM + 1)
    np.testing.assert_allclose(scene.wavelength.values, NM + 1)
    np.testing.assert_allclose(scene.fwhm.values, 6.5)


def test_each_band_takes_the_first_source_that_knows_it(files, tmp_path):
    band_tags = tags(NM)
    band_tags[1] = {}
    imagery = [{"CENTRAL_WAVELENGTH_UM": str(v / 1000)} for v in NM]
    scene = open_scene(tif(files, tmp_path / "a.tif", band_tags=band_tags, imagery=imagery))
    np.testing.assert_allclose(scene.wavelength.values, NM)


def test_the_envi_header_keeps_every_digit(files, tmp_path):
    files.make_envi(
        tmp_path / "a.dat",
        files.counts((3, 6, 5)),
        wavelength="{ 0.460251234,\n 0.5501255,\n0.65 }",
        wavelength_units="Micrometers",
        fwhm="{0.0065, 0.00725, 0.01}",
        bbl="{1, 0, 1}",
        band_names="{blue, green, red}",
    )
    scene = open_scene(tmp_path / "a.dat")
    np.testing.assert_allclose(scene.wavelength.values, [460.251234, 550.1255, 650], rtol=1e-12)
    np.testing.assert_allclose(scene.fwhm.values, [6.5, 7.25, 10])
    assert list(scene.good_band.values) == [True, False, True] and list(scene.band_name.values) == ["blue", "green", "red"]


def test_a_header_list_of_the_wrong_length_is_refused_unless_overridden(files, tmp_path):
    files.make_envi(tmp_path / "a.dat", files.counts((3, 6, 5)), wavelength="{460, 550}", wavelength_units="nm")
    with pytest.raises(InputError, match="lists 2 values of 'wavelength' for 3 bands"):
        open_scene(tmp_path / "a.dat")
    assert (open_scene(tmp_path / "a.dat", wavelengths=NM).wavelength.values == NM).all()


def test_bbl_tags_mark_bad_bands(files, tmp_path):
    scene = open_scene(tif(files, tmp_path / "a.tif", band_tags=[{"bbl": "1"}, {"bbl": "0"}, {}]))
    assert list(scene.good_band.values) == [True, False, True]


def test_wavelengths_come_from_a_csv_file_with_or_without_fwhm(files, tmp_path):
    path = tif(files, tmp_path / "a.tif")
    table = tmp_path / "w.csv"
    table.write_text("\ufeffname,Wavelength_nm,fwhm_nm\r\nb,460.25,10\r\ng,550.125,\r\nr,,\r\n", encoding="utf-8")
    scene = open_scene(path, wavelengths=table)
    np.testing.assert_array_equal(scene.wavelength.values, [460.25, 550.125, np.nan])
    np.testing.assert_array_equal(scene.fwhm.values, [10, np.nan, np.nan])
    table.write_text("wavelength_nm\n460.25\n550.125\n650.5\n")
    assert (open_scene(path, wavelengths=str(table)).wavelength.values == NM).all()
    pairs = np.stack([NM, [1, 2, 3]], axis=1)
    assert (open_scene(path, wavelengths=pairs).fwhm.values == [1, 2, 3]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wavelength\n460\n", "expected a CSV with a column wavelength_nm"),
        ("", "expected a CSV with a column wavelength_nm"),
        ("wavelength_nm\n460\n550\n", "2 wavelengths for an image of 3 bands"),
        ("wavelength_nm\n0.46\n0.55\n0.65\n", "found a wavelength of 0.46; expected nm"),
        ("wavelength_nm\n460\nblue\n650\n", "expected numbers in nm"),
        ("wavelength_nm,fwhm_nm\n460,1\n550,0\n650,1\n", "FWHM must be positive"),
    ],
)
def test_a_bad_wavelength_table_is_refused_with_the_reason(files, tmp_path, text, message):
    path = tif(files, tmp_path / "a.tif")
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        open_scene(path, wavelengths=tmp_path / "w.csv")
    assert "w.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_wavelength_table_is_named(files, tmp_path):
    with pytest.raises(MissingFileError, match="nope.csv: no such file"):
        open_scene(tif(files, tmp_path / "a.tif"), wavelengths=tmp_path / "nope.csv")
