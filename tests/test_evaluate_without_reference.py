"""A fused image is measured against the pair it was made from, on the pair's own grids."""

import json

import numpy as np
import pytest
from affine import Affine

from geofuse import metrics
from geofuse.errors import InputError
from geofuse.evaluate import evaluate_against_pair, evaluate_without_reference
from geofuse.io import open_scene, write_scene
from geofuse.pipeline import PairOptions, open_pair
from geofuse.scene import BandMetadata, make_scene
from geofuse.sensors import Psf, load_response
from geofuse.simulate import simulate_pair
from geofuse_cli.main import run

GRID = Affine(7.5, 0, 300000, 0, -7.5, 5800000)
RATIO, BANDS, SIDE = 4, 40, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a pair without noise, its reference, and a fused image that is the reference and some noise."""
    out = tmp_path_factory.mktemp("pair")
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:SIDE, :SIDE] / 8.0
    nm = np.linspace(420, 2400, BANDS)
    shape = 0.3 + 0.1 * np.sin(nm / 300)[:, None, None] * np.cos(y) + 0.1 * np.cos(nm / 500)[:, None, None] * np.sin(x)
    cube = (shape + 0.01 * rng.standard_normal((BANDS, SIDE, SIDE))).astype(np.float32)
    bands = BandMetadata(nm, np.full(BANDS, 50.0), np.ones(BANDS, bool), tuple(f"b{i}" for i in range(BANDS)))
    response = load_response("landsat8").reflective()
    scene = make_scene(cube, bands, GRID, "EPSG:32633")
    pair = simulate_pair(scene, ratio=RATIO, response=response, psf=Psf.parse("box"), snr_db=None, seed=0, min_coverage=0.5)
    for name in ("hsi", "msi", "reference"):
        write_scene(getattr(pair, name), out / f"{name}.tif")
    fused = cube + 0.02 * rng.standard_normal(cube.shape).astype(np.float32)
    write_scene(scene.copy(data=fused), out / "fused.tif")
    return out


@pytest.fixture
def pair(folder):
    return open_pair(folder / "hsi.tif", folder / "msi.tif", srf="landsat8", min_coverage=0.5)


def test_the_reference_explains_a_pair_without_noise(folder, pair):
    found = evaluate_against_pair(open_scene(folder / "reference.tif"), pair)
    assert found.scores["hsi_db"] > 100 and found.scores["msi_db"] > 100
    assert found.scores["d_lambda_k"] == pytest.approx(0, abs=1e-6)
    assert (found.ratio, found.n_bands, found.n_msi_bands, found.n_pixels) == (RATIO, BANDS, 7, (SIDE // RATIO) ** 2)


def test_the_scores_are_those_of_the_degraded_arrays(folder, pair):
    fused = open_scene(folder / "fused.tif")
    found = evaluate_against_pair(fused, pair).scores

    def box(image):
        return image.reshape(-1, SIDE // RATIO, RATIO, SIDE // RATIO, RATIO).mean(axis=(2, 4))

    cube, msi = fused.values.astype(float), pair["msi"].values
    seen = np.einsum("mc,cij->mij", pair["response"].values, cube)
    images = metrics.FullScale(cube, pair["hsi"].values, msi, box(cube), seen, box(msi))
    assert found == pytest.approx(metrics.score_without_reference(images), rel=1e-5)
    assert found["hsi_rms"] == pytest.approx(0.02 / RATIO, rel=0.05)  # the noise that a mean over 16 pixels leaves


def test_a_part_of_the_scene_is_measured_where_it_lies(folder, pair):
    fused = open_scene(folder / "fused.tif")
    part = make_scene(
        fused.values[:, 8:40, 12:60], BandMetadata.unknown(BANDS), GRID @ Affine.translation(12, 8), "EPSG:32633", fused.attrs
    )
    found = evaluate_against_pair(part, pair)
    assert found.n_pixels == 8 * 12 and 0 < found.scores["hsi_rms"] < 0.01
    assert any("32 x 48" in note for note in found.notes) and any("by their order" in note for note in found.notes)


def test_no_data_of_the_fused_image_does_not_count(folder, pair):
    fused = open_scene(folder / "fused.tif").load()
    whole = evaluate_against_pair(fused, pair)
    holed = fused.copy()
    holed[:, :9, :9] = np.nan
    found = evaluate_against_pair(holed, pair)
    assert found.n_pixels == whole.n_pixels - 9
    assert np.isfinite(list(found.scores.values())).all()


def test_another_grid_and_other_bands_are_refused(folder, pair):
    fused = open_scene(folder / "fused.tif").load()
    with pytest.raises(InputError, match="not on the same grid"):
        evaluate_against_pair(fused[:, ::2, ::2], pair)
    with pytest.raises(InputError, match="lacks 1 band"):
        evaluate_against_pair(fused.isel(band=slice(1, None)), pair)
    with pytest.raises(InputError, match="no data where the pair lies"):
        evaluate_against_pair(fused * np.nan, pair)


def test_the_command_prints_both_kinds_of_scores(folder, capsys):
    files = ["--hsi", str(folder / "hsi.tif"), "--msi", str(folder / "msi.tif"), "--srf", "landsat8"]
    expected = evaluate_without_reference(folder / "fused.tif", folder / "hsi.tif", folder / "msi.tif", PairOptions("landsat8"))
    assert run(["evaluate", str(folder / "fused.tif"), *files]) == 0
    text = capsys.readouterr().out
    assert text == expected.to_text() + "\n" and max(map(len, text.splitlines())) <= 80
    both = [*files, "--reference", str(folder / "reference.tif"), "--ratio", "4", "--json"]
    assert run(["evaluate", str(folder / "fused.tif"), *both]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["no_reference"] == json.loads(json.dumps(expected.to_json()))
    assert 20 < told["psnr"] < 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to measure against"),
        (["--hsi", "h.tif"], "go together"),
        (["--srf", "landsat8"], "go together"),
        (["--hsi", "h.tif", "--msi", "m.tif", "--per-band", "b.csv"], "need --reference"),
    ],
)
def test_half_a_request_is_bad_usage(arguments, said, capsys):
    assert run(["evaluate", "fused.tif", *arguments]) == 2
    assert said in capsys.readouterr().err
