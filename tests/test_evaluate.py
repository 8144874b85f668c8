"""Evaluation finds the pixels and the bands that two images share, and refuses what it cannot compare."""

import csv
import json

import numpy as np
import pytest
from affine import Affine

from geofuse import metrics
from geofuse.errors import InputError, MissingFileError, OutputError, UsageError
from geofuse.evaluate import evaluate, evaluate_scenes, json_number
from geofuse.io import write_scene
from geofuse.scene import BandMetadata, make_scene

UTM = "EPSG:32633"
GRID = Affine(7.5, 0, 300000, 0, -7.5, 5800000)
N_BANDS, HEIGHT, WIDTH = 6, 24, 30


@pytest.fixture
def cube():
    rng = np.random.default_rng(2)
    return rng.uniform(0.1, 0.6, (N_BANDS, HEIGHT, WIDTH)).astype(np.float32)


def scene(data, transform=GRID, crs=UTM, wavelengths=True, attrs=None):
    n = len(data)
    bands = BandMetadata.unknown(n)
    if wavelengths is not False:
        nm = 450.0 + 100 * np.arange(n) if wavelengths is True else np.asarray(wavelengths, float)
        bands = BandMetadata(nm, np.full(n, 10.0), np.ones(n, bool), bands.band_name)
    return make_scene(data, bands, transform, crs, attrs)


def noisy(cube):
    return cube + np.random.default_rng(9).normal(0, 0.02, cube.shape).astype(np.float32)


def test_scores_are_those_of_the_arrays(cube):
    result = evaluate_scenes(scene(noisy(cube)), scene(cube), 4)
    assert result.scores == metrics.evaluate_arrays(cube, noisy(cube), 4)
    assert (result.n_pixels, len(result.band_name), result.notes) == (HEIGHT * WIDTH, N_BANDS, ())


@pytest.mark.parametrize(("down", "right"), [(-1, 1), (1, -1), (-1, -1)])
def test_a_reference_that_runs_the_other_way_is_turned(cube, down, right):
    grid = GRID @ Affine(right, 0, 0 if right > 0 else WIDTH, 0, down, 0 if down > 0 else HEIGHT)
    part = scene(cube[:, ::down, ::right][:, 2:, 3:], grid @ Affine.translation(3, 2))
    rows, cols = slice(2, None) if down > 0 else slice(None, -2), slice(3, None) if right > 0 else slice(None, -3)
    result = evaluate_scenes(scene(noisy(cube)), part, 4)
    assert result.scores == metrics.evaluate_arrays(cube[:, rows, cols], noisy(cube)[:, rows, cols], 4)


def test_bands_are_paired_by_wavelength_whatever_their_order(cube):
    order = np.array([3, 0, 5, 1, 4, 2])
    shuffled = scene(noisy(cube)[order], wavelengths=(450.0 + 100 * order + 0.04))
    result = evaluate_scenes(shuffled, scene(cube), 4)
    assert result.scores == metrics.evaluate_arrays(cube, noisy(cube), 4)
    assert list(result.wavelength_nm) == [450, 550, 650, 750, 850, 950]


def test_two_bands_of_one_wavelength_are_paired_once_each(cube):
    nm = [450, 550, 650, 650, 750, 850]
    result = evaluate_scenes(scene(noisy(cube), wavelengths=nm), scene(cube, wavelengths=nm), 4)
    assert result.scores == metrics.evaluate_arrays(cube, noisy(cube), 4)


def test_reference_bands_without_data_are_left_out(cube):
    blank = cube.copy()
    blank[[1, 2]] = np.nan
    kept = [0, 3, 4, 5]
    expected = metrics.evaluate_arrays(cube[kept], noisy(cube)[kept], 4)
    fewer = evaluate_scenes(scene(noisy(cube)[kept], wavelengths=450.0 + 100 * np.array(kept)), scene(blank), 4)
    assert (fewer.scores, fewer.notes) == (expected, ())
    as_many = evaluate_scenes(scene(noisy(cube)), scene(blank), 4)
    assert as_many.scores == expected
    assert "left out 2 bands (550.00 nm, 650.00 nm)" in as_many.notes[0]


def test_without_wavelengths_bands_are_paired_by_order(cube):
    result = evaluate_scenes(scene(noisy(cube), wavelengths=False), scene(cube), 4)
    assert result.scores == metrics.evaluate_arrays(cube, noisy(cube), 4)
    assert "by their order" in result.notes[0]
    blank = cube.copy()
    blank[1] = np.nan
    kept = [0, 2, 3, 4, 5]
    expected = metrics.evaluate_arrays(cube[kept], noisy(cube)[kept], 4)
    assert evaluate_scenes(scene(noisy(cube)[kept], wavelengths=False), scene(blank), 4).scores == expected
    assert evaluate_scenes(scene(noisy(cube), wavelengths=False), scene(blank), 4).scores == expected
    with pytest.raises(InputError, match="4 bands with data, the reference 6"):
        evaluate_scenes(scene(noisy(cube)[:4], wavelengths=False), scene(cube), 4)


def test_bands_without_a_partner_are_named(cube):
    with pytest.raises(InputError, match=r"lacks 1 band \(950.00 nm\) of the reference"):
        evaluate_scenes(scene(noisy(cube)[:5]), scene(cube), 4)
    with pytest.raises(InputError, match=r"reference lacks 2 bands \(850.00 nm, 950.00 nm\)"):
        evaluate_scenes(scene(noisy(cube)), scene(cube[:4]), 4)
    blank = noisy(cube)
    blank[2] = np.nan
    for wavelengths in (True, False):
        with pytest.raises(InputError, match="lacks 1 band"):
            evaluate_scenes(scene(blank, wavelengths=wavelengths), scene(cube), 4)


@pytest.mark.parametrize(("row", "col"), [(3, 5), (-4, 2), (0, -6), (-2, -3)])
def test_whole_pixel_offsets_are_cropped_to_the_common_part(cube, row, col):
    fused = noisy(cube)
    result = evaluate_scenes(scene(fused, GRID @ Affine.translation(col, row)), scene(cube), 4)
    h, w = HEIGHT - abs(row), WIDTH - abs(col)
    ours = fused[:, max(-row, 0) : max(-row, 0) + h, max(-col, 0) : max(-col, 0) + w]
    theirs = cube[:, max(row, 0) : max(row, 0) + h, max(col, 0) : max(col, 0) + w]
    assert result.scores == pytest.approx(metrics.evaluate_arrays(theirs, ours, 4), rel=1e-12)
    assert f"compared on the {h} x {w} pixels" in result.notes[0]


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (GRID @ Affine.scale(2), "pixels are 15 x 15 against 7.5 x 7.5"),
        (GRID @ Affine.translation(0.25, 0), "offset by 0.000 rows and 0.250 columns"),
        (GRID @ Affine.rotation(10), "rotation or axis direction differs"),
        (GRID @ Affine.translation(500, 0), "do not overlap"),
    ],
)
def test_grids_that_do_not_nest_are_refused(cube, transform, said):
    with pytest.raises(InputError, match=said):
        evaluate_scenes(scene(cube, transform), scene(cube), 4)


def test_equal_rotated_grids_are_compared(cube):
    turned = GRID @ Affine.rotation(71)
    result = evaluate_scenes(scene(noisy(cube), turned @ Affine.translation(2, 1)), scene(cube, turned), 4)
    assert result.n_pixels == (HEIGHT - 1) * (WIDTH - 2)


def test_another_crs_is_refused_and_a_missing_one_is_said(cube):
    with pytest.raises(InputError, match="EPSG:32634.*EPSG:32633"):
        evaluate_scenes(scene(cube, crs="EPSG:32634"), scene(cube), 4)
    assert "fused image has no CRS" in evaluate_scenes(scene(noisy(cube), crs=None), scene(cube), 4).notes[0]


def test_the_ratio_comes_from_the_option_or_else_from_the_tags(cube):
    tagged = scene(noisy(cube), attrs={"GEOFUSE_RATIO": "4"})
    by_tag = evaluate_scenes(tagged, scene(cube))
    assert by_tag.ratio == 4 and by_tag.scores == evaluate_scenes(tagged, scene(cube), 4).scores
    assert evaluate_scenes(tagged, scene(cube), 2).scores["ergas"] == pytest.approx(2 * by_tag.scores["ergas"])
    with pytest.raises(UsageError, match="--ratio"):
        evaluate_scenes(scene(cube), scene(cube))
    with pytest.raises(InputError, match="GEOFUSE_RATIO is 'four'"):
        evaluate_scenes(scene(cube, attrs={"GEOFUSE_RATIO": "four"}), scene(cube))


def test_an_image_without_data_is_said(cube):
    with pytest.raises(InputError, match="the reference has no data"):
        evaluate_scenes(scene(cube), scene(np.full_like(cube, np.nan)), 4)


def test_the_text_stays_within_80_columns(cube):
    text = evaluate_scenes(scene(noisy(cube), crs=None), scene(cube, wavelengths=False), 4).to_text()
    assert "note: " in text and max(len(line) for line in text.splitlines()) <= 80


def test_json_holds_infinities_as_strings_and_the_undefined_as_null(cube):
    assert [json_number(v) for v in (np.inf, -np.inf, np.nan, 1.5)] == ["inf", "-inf", None, 1.5]
    told = json.loads(json.dumps(evaluate_scenes(scene(cube), scene(cube), 4).to_json(), allow_nan=False))
    assert told["psnr"] == "inf" and told["rmse"] == 0 and told["bands"] == N_BANDS
    small = evaluate_scenes(scene(noisy(cube)[:, :6]), scene(cube[:, :6]), 4)
    assert small.to_json()["ssim"] is None and "nan" not in small.to_text()


def test_the_table_of_bands_holds_their_scores(cube, tmp_path):
    result = evaluate_scenes(scene(noisy(cube)), scene(cube), 4)
    path = tmp_path / "bands.csv"
    result.write_csv(path)
    rows = list(csv.DictReader(path.open()))
    assert [float(row["wavelength_nm"]) for row in rows] == list(result.wavelength_nm)
    for name, values in metrics.per_band(cube, noisy(cube), 4).items():
        assert [float(row[name]) for row in rows] == pytest.approx(list(values), rel=1e-9)
    assert [p.name for p in tmp_path.iterdir()] == ["bands.csv"]


def test_files_are_read_and_compared(cube, tmp_path):
    estimate = noisy(cube)
    estimate[:, 2:5, 3] = np.nan
    write_scene(scene(estimate), tmp_path / "fused.tif", tags={"GEOFUSE_RATIO": "4"})
    write_scene(scene(cube), tmp_path / "reference.tif")
    found = evaluate(tmp_path / "fused.tif", tmp_path / "reference.tif")
    assert found.scores == metrics.evaluate_arrays(cube, estimate, 4)
    assert found.n_pixels == HEIGHT * WIDTH - 3
    with pytest.raises(MissingFileError):
        evaluate(tmp_path / "absent.tif", tmp_path / "reference.tif")


def test_a_table_that_cannot_be_written_is_said(cube, tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        evaluate_scenes(scene(noisy(cube)), scene(cube), 4).write_csv(tmp_path / "no" / "bands.csv")
