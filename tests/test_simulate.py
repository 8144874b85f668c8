"""Wald's protocol does what it says: blur, response, noise, no data, metadata, and the same bytes for the same seed."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from geofuse.degradation import SpatialOperator
from geofuse.errors import GeofuseError, InputError, OutputError, UnknownNameError, UsageError
from geofuse.io import open_scene, write_scene
from geofuse.metrics import psnr
from geofuse.scene import BandMetadata, band_metadata, make_scene
from geofuse.sensors import Psf, ResponseBand, SensorResponse, response_matrix
from geofuse.simulate import SimulationOptions, add_noise, coarsen, prepare_reference, respond, simulate, simulate_pair

DATA = Path(__file__).parents[2] / "shared" / "data"
UTM = "EPSG:32633"
GRID = Affine(30, 0, 300000, 0, -30, 5800000)
NM = np.arange(400.0, 1001.0, 10.0)
PSFS = [Psf("bicubic"), Psf("gaussian", 1.0), Psf("box")]


def landscape(height=48, width=64, seed=0):
    """Positive spectra mixed by smooth abundances with sharp edges and texture, (61, height, width)."""
    rng = np.random.default_rng(seed)
    spectra = np.stack([0.2 + 0.3 * rng.random() * np.sin(NM / rng.uniform(60, 250) + k) ** 2 for k in range(4)])
    y, x = np.mgrid[:height, :width]
    abundance = np.stack([((y // 7 + x // 9 + k) % 4 == 0) + 0.3 * np.sin(y / 5 + k) ** 2 for k in range(4)])
    abundance = abundance * (1 + 0.1 * rng.standard_normal((4, height, width)))
    return np.einsum("kc,kyx->cyx", spectra, abundance).astype(np.float32)


def scene(data, transform=GRID):
    return make_scene(
        data, BandMetadata(NM, np.full(len(NM), 10.0), np.ones(len(NM), bool), tuple(f"b{n:g}" for n in NM)), transform, UTM
    )


@pytest.fixture(scope="module")
def response():
    def bell(name, centre, width):
        nm = np.arange(centre - 80, centre + 81.0)
        return ResponseBand(name, nm, np.exp(-4 * np.log(2) * ((nm - centre) / width) ** 2), "reflective")

    return SensorResponse(
        "toy", "Toy sensor", (bell("blue", 490, 60), bell("red", 660, 50), bell("nir", 840, 60)), False, "this test"
    )


def pair_of(data, response, **options):
    chosen = {"ratio": 4, "response": response, "psf": Psf("bicubic"), "snr_db": None, "seed": 0, **options}
    return simulate_pair(scene(data), **chosen)


# ---- without noise


def test_the_bicubic_reduction_is_the_papers(response):
    torch = pytest.importorskip("torch")
    data = landscape()
    found = pair_of(data, response).hsi.values
    expected = torch.nn.functional.interpolate(torch.from_numpy(data)[None], (12, 16), mode="bicubic", antialias=True)[0].numpy()
    np.testing.assert_allclose(found[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2], rtol=1e-4)  # it treats borders in another way


@pytest.mark.parametrize("psf", PSFS, ids=lambda psf: psf.label)
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_seeing_coarse_then_broad_equals_seeing_broad_then_coarse(response, psf, ratio):
    pair = (
        pair_of(landscape(), response, psf=psf, ratio=ratio)
        if 64 % ratio == 0
        else pair_of(landscape(48, 63), response, psf=psf, ratio=ratio)
    )
    weights = response_matrix(response, NM, np.full(len(NM), 10.0))
    operator = SpatialOperator(psf, ratio, *pair.msi.shape[1:])
    np.testing.assert_allclose(respond(pair.hsi.values, weights), coarsen(pair.msi.values, operator), rtol=1e-5)


def test_the_msi_is_the_response_times_the_reference(response):
    data = landscape()
    weights = response_matrix(response, NM, np.full(len(NM), 10.0))
    expected = np.einsum("bc,cyx->byx", weights, data.astype(float))
    np.testing.assert_allclose(pair_of(data, response).msi.values, expected, rtol=1e-6)


def test_mean_spectra_are_preserved(response):
    data = landscape()
    spectrum = data.mean((1, 2))
    np.testing.assert_allclose(pair_of(data, response, psf=Psf("box")).hsi.values.mean((1, 2)), spectrum, rtol=1e-5)
    for psf in PSFS:
        np.testing.assert_allclose(pair_of(data, response, psf=psf).hsi.values.mean((1, 2)), spectrum, rtol=0.03)


def test_a_constant_scene_stays_constant_up_to_no_data(response):
    data = np.broadcast_to(np.linspace(1, 2, len(NM), dtype=np.float32)[:, None, None], (len(NM), 48, 64)).copy()
    data[:, 5:20, 7:9] = np.nan
    data[20, 40, 50:] = np.nan
    for psf in PSFS:
        pair = pair_of(data, response, psf=psf)
        for band, value in zip(pair.hsi.values, np.linspace(1, 2, len(NM)), strict=True):
            np.testing.assert_allclose(band[np.isfinite(band)], value, rtol=1e-5)


def test_the_reference_is_the_scene_itself(response):
    data = landscape()
    data[:, 3, 4] = np.nan
    np.testing.assert_array_equal(pair_of(data, response, snr_db=20).reference.values, data)


# ---- no data


@pytest.mark.parametrize("psf", PSFS, ids=lambda psf: psf.label)
def test_near_no_data_the_hsi_is_the_weighted_mean_of_what_there_is_or_missing(response, psf):
    hidden = np.zeros((48, 64), bool)
    hidden[10:23, 31:] = hidden[40, 5] = True
    data = landscape()
    data[:, hidden] = np.nan
    found = pair_of(data, response, psf=psf).hsi.values
    v, u = psf.separable_terms(4)[0]
    kernel = np.outer(v, u)
    reach = len(v) // 2 - 2
    padded = np.pad(data, ((0, 0), (reach, reach), (reach, reach)), mode="symmetric")
    for i in range(12):
        for j in range(16):
            window = padded[:, 4 * i : 4 * i + len(v), 4 * j : 4 * j + len(u)]
            gone = np.isnan(window[0])
            share = np.abs(kernel[gone]).sum() / np.abs(kernel).sum()
            if hidden[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].any() or share > 0.05:
                assert np.isnan(found[:, i, j]).all(), (i, j, share)
            else:
                expected = (kernel[~gone] * window[:, ~gone]).sum(1) / kernel[~gone].sum()
                np.testing.assert_allclose(found[:, i, j], expected, rtol=1e-5)


def test_each_band_has_no_data_of_its_own(response):
    data = landscape()
    data[3, 8:12, 8:12] = data[5, 30, 30] = np.nan
    missing = np.isnan(pair_of(data, response, psf=Psf("box")).hsi.values)
    assert missing[3, 2, 2] and missing[5, 7, 7] and missing.sum() == 2


def test_an_msi_value_is_missing_only_where_a_band_that_enters_it_is(response):
    data = landscape()
    data[np.flatnonzero(NM == 660)[0], 7, 9] = np.nan
    missing = np.isnan(pair_of(data, response).msi.values)
    assert missing[1, 7, 9] and missing.sum() == 1


def test_bands_without_data_are_dropped_and_the_scene_is_cropped_from_the_top_left(response):
    data = landscape(50, 70)
    data[[5, 30]] = np.nan
    reference, notes = prepare_reference(scene(data), 16)
    assert reference.shape == (len(NM) - 2, 48, 64)
    np.testing.assert_array_equal(reference.values, np.delete(data, [5, 30], 0)[:, :48, :64])
    np.testing.assert_array_equal(band_metadata(reference).wavelength_nm, np.delete(NM, [5, 30]))
    assert notes == ("dropped 2 of 61 bands that have no data: 6, 31", "cropped from 50 x 70 pixels to 48 x 64, a multiple of 16")
    with pytest.raises(InputError, match="at least 64 each way"):
        prepare_reference(scene(data), 64)
    with pytest.raises(InputError, match="no data in its first"):
        prepare_reference(scene(np.full_like(data, np.nan)), 16)


def test_the_default_crop_suits_the_ratio_and_sixteen():
    assert [SimulationOptions("x", ratio=r).multiple for r in (2, 3, 4, 10)] == [16, 48, 16, 80]
    assert SimulationOptions("x", ratio=5, crop_multiple=5).multiple == 5


# ---- noise


@pytest.mark.parametrize("snr_db", [10.0, 25.0, 35.0])
def test_the_snr_asked_for_is_the_snr_had(response, snr_db):
    data = landscape()
    data[:, :9, :9] = np.nan
    clean, noisy = pair_of(data, response), pair_of(data, response, snr_db=snr_db)
    for name in ("hsi", "msi"):
        c, n = (np.asarray(getattr(pair, name).values, float) for pair in (clean, noisy))
        np.testing.assert_array_equal(np.isnan(c), np.isnan(n))
        realised = 10 * np.log10(np.nanmean(c**2) / np.nanmean((n - c) ** 2))
        assert realised == pytest.approx(snr_db, abs=0.15), name


def test_noise_is_white_unbiased_and_of_one_power_in_all_bands():
    image = np.linspace(0.01, 1, 50, dtype=np.float32)[:, None, None] * np.ones((50, 40, 40), np.float32)
    noise = add_noise(image, 20, np.random.default_rng(3)).astype(float) - image
    sigma = np.sqrt(np.mean(image.astype(float) ** 2) / 100)
    np.testing.assert_allclose(noise.std((1, 2)), sigma, rtol=0.1)
    assert abs(noise.mean()) < 4 * sigma / np.sqrt(noise.size)
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]) < 0.02


def test_hsi_and_msi_have_noise_of_their_own(response):
    data = np.ones((len(NM), 48, 64), np.float32)
    pair = pair_of(data, response, snr_db=20)
    draws = [np.ravel(image.values - 1)[:2000] for image in (pair.hsi, pair.msi)]
    assert abs(np.corrcoef(*draws)[0, 1]) < 0.1


def test_the_seed_decides_the_noise(response):
    one, same, other = (pair_of(landscape(), response, snr_db=30, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.hsi.values, same.hsi.values)
    np.testing.assert_array_equal(one.msi.values, same.msi.values)
    assert (one.hsi.values != other.hsi.values).mean() > 0.99 and (one.msi.values != other.msi.values).mean() > 0.99


def test_no_noise_is_none_or_infinity(response):
    quiet = [pair_of(landscape(), response, snr_db=snr_db, seed=4).hsi.values for snr_db in (None, np.inf)]
    np.testing.assert_array_equal(*quiet)


@pytest.mark.parametrize("bad", [{"seed": -1}, {"snr_db": np.nan}, {"snr_db": -np.inf}, {"ratio": 1}, {"ratio": 41}])
def test_settings_out_of_range_are_refused(response, bad):
    with pytest.raises(UsageError):
        pair_of(landscape(), response, **bad)


# ---- files

RESPONSE_CSV = "wavelength_nm,blue,green,red,nir\n" + "".join(
    f"{nm},{','.join(f'{np.exp(-(((nm - centre) / 35) ** 2)):.6f}' for centre in (490, 560, 660, 840))}\n"
    for nm in range(420, 941, 5)
)


@pytest.fixture
def folder(tmp_path):
    """Hold a scene of 61 bands, one without data, 37 x 53 pixels, and a response."""
    data = landscape(37, 53)
    data[57] = np.nan
    data[:, :6, :7] = np.nan
    write_scene(scene(data), tmp_path / "scene.tif")
    (tmp_path / "four.csv").write_text(RESPONSE_CSV)
    return tmp_path


def options(folder, **others):
    return SimulationOptions(str(folder / "four.csv"), **others)


def test_the_files_hold_the_pair_on_nested_grids_with_its_metadata(folder):
    pair = simulate(folder / "scene.tif", folder / "out", options(folder, seed=3))
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["hsi.tif", "msi.tif", "reference.tif"]
    hsi, msi, reference = (open_scene(folder / "out" / f"{name}.tif") for name in ("hsi", "msi", "reference"))
    assert (hsi.shape, msi.shape, reference.shape) == ((60, 8, 12), (4, 32, 48), (60, 32, 48))
    for image, held in ((hsi, pair.hsi), (msi, pair.msi), (reference, pair.reference)):
        np.testing.assert_array_equal(image.values, held.values)
        assert image.rio.crs == UTM and image.attrs["stored_dtype"] == "float32" and np.isnan(image.attrs["stored_nodata"])
    assert hsi.rio.transform() == Affine(120, 0, 300000, 0, -120, 5800000)
    assert msi.rio.transform() == reference.rio.transform() == GRID
    for image in (hsi, reference):
        np.testing.assert_allclose(band_metadata(image).wavelength_nm, np.delete(NM, 57), atol=1e-3)
        np.testing.assert_allclose(band_metadata(image).fwhm_nm, 10, atol=1e-3)
    assert band_metadata(msi).band_name == ("blue", "green", "red", "nir")
    np.testing.assert_allclose(band_metadata(msi).wavelength_nm, [490, 560, 660, 840], atol=1)
    np.testing.assert_array_equal(reference.values, np.delete(open_scene(folder / "scene.tif").values, 57, 0)[:, :32, :48])
    assert pair.notes[0] == "dropped 1 of 61 bands that have no data: 58" and "cropped from 37 x 53" in pair.notes[1]


def test_the_tags_tell_how_the_images_were_made(folder):
    simulate(folder / "scene.tif", folder / "out", options(folder, psf="gaussian:1.2", snr_db=np.inf, seed=7, ratio=2))
    tags = {name: open_scene(folder / "out" / f"{name}.tif").attrs for name in ("hsi", "msi", "reference")}
    assert Psf.from_tag(tags["hsi"]["GEOFUSE_PSF"]) == Psf("gaussian", 1.2)
    assert "GEOFUSE_PSF" not in tags["msi"]
    for name, held in tags.items():
        told = json.loads(held["GEOFUSE_SIMULATED"])
        assert (told["image"], told["ratio"], told["srf"], told["snr_db"], told["seed"]) == (name, 2, "four.csv", None, 7)
        assert held["GEOFUSE_RATIO"] == "2" and held["GEOFUSE_VERSION"]


def digests(out):
    return [hashlib.sha256((out / f"{name}.tif").read_bytes()).hexdigest() for name in ("hsi", "msi", "reference")]


def test_the_same_seed_gives_the_same_bytes(folder):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(folder / "scene.tif", folder / out, options(folder, seed=seed))
    assert digests(folder / "a") == digests(folder / "b")
    assert digests(folder / "a")[0] != digests(folder / "c")[0]


def test_msi_bands_are_chosen_by_name_and_order(folder):
    pair = simulate(folder / "scene.tif", folder / "out", options(folder, msi_bands=("nir", "Green")))
    assert list(pair.msi["band_name"].values) == ["nir", "green"]
    with pytest.raises(UnknownNameError, match="swir"):
        simulate(folder / "scene.tif", folder / "out", options(folder, msi_bands=("swir",)))
    with pytest.raises(UsageError, match="twice"):
        simulate(folder / "scene.tif", folder / "out", options(folder, msi_bands=("nir", "nir")))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"ratio": 4, "crop_multiple": 6}, UsageError),
        ({"ratio": 0}, UsageError),
        ({"ratio": 33}, InputError),
        ({"srf": "landsat8"}, InputError),
        ({"srf": "nosuchsensor"}, UnknownNameError),
        ({"psf": "round"}, UsageError),
        ({"seed": -1}, UsageError),
    ],
)
def test_what_cannot_be_simulated_leaves_no_folder(folder, change, error):
    with pytest.raises(error):
        simulate(folder / "scene.tif", folder / "out", SimulationOptions(**{"srf": str(folder / "four.csv"), **change}))
    assert not (folder / "out").exists()


def test_the_scene_is_not_overwritten_and_the_folder_must_be_one(folder):
    write_scene(scene(landscape()), folder / "reference.tif")
    before = (folder / "reference.tif").read_bytes()
    with pytest.raises(OutputError, match="overwritten by its own"):
        simulate(folder / "reference.tif", folder, options(folder))
    assert (folder / "reference.tif").read_bytes() == before
    with pytest.raises(OutputError, match="not a folder"):
        simulate(folder / "scene.tif", folder / "four.csv", options(folder))
    with pytest.raises(OutputError, match="does not exist"):
        simulate(folder / "scene.tif", folder / "no" / "such", options(folder))
    with pytest.raises(GeofuseError, match="absent.tif"):
        simulate(folder / "absent.tif", folder / "out", options(folder))


def test_a_rotated_grid_stays_rotated(folder):
    turned = GRID @ Affine.rotation(30)
    write_scene(scene(landscape(), turned), folder / "turned.tif")
    simulate(folder / "turned.tif", folder / "out", options(folder))
    found = open_scene(folder / "out" / "hsi.tif").rio.transform()
    assert found.almost_equals(turned @ Affine.scale(4), 1e-6)


# ---- on the command line


def call(capsys, *arguments):
    from geofuse_cli.main import run

    code = run([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_the_command_writes_the_pair_and_says_so(folder, capsys):
    arguments = ("simulate", folder / "scene.tif", "--srf", folder / "four.csv", "-o", folder / "out")
    code, out, err = call(capsys, *arguments, "--snr", "inf", "--msi-bands", "blue,nir")
    assert (code, err) == (0, "")
    assert "hsi.tif: 60 bands, 8 x 12 pixels" in out and "no noise" in out and "blue, nir" in out and "note: dropped 1" in out
    assert max(len(line) for line in out.splitlines() if ".tif" not in line) <= 80
    code, out, err = call(capsys, *arguments, "--json", "--seed", "5")
    told = json.loads(out)
    assert (code, told["seed"], told["ratio"], told["images"]["msi.tif"]["shape"]) == (0, 5, 4, [4, 32, 48])
    code, out, err = call(capsys, *arguments, "--ratio", "33")
    assert code == 2 and out == "" and err.count("\n") == 1 and "expected at least 528" in err


def test_simulate_then_evaluate_by_the_command_line(folder, capsys):
    call(capsys, "simulate", folder / "scene.tif", "--srf", folder / "four.csv", "-o", folder / "out")
    reference = folder / "out" / "reference.tif"
    code, out, _ = call(capsys, "evaluate", reference, "--reference", reference, "--json", "--per-band", folder / "bands.csv")
    told = json.loads(out)
    assert (code, told["psnr"], told["sam"], told["ratio"], told["bands"]) == (0, "inf", 0, 4, 60)
    assert len((folder / "bands.csv").read_text().splitlines()) == 61
    code, out, _ = call(capsys, "evaluate", reference, "--reference", folder / "scene.tif", "--ratio", "4")
    assert code == 0 and "psnr" in out and "compared on the 32 x 48 pixels" in out
    code, out, err = call(capsys, "evaluate", folder / "out" / "hsi.tif", "--reference", reference)
    assert code == 2 and "pixels are 120 x 120 against 30 x 30" in err and err.count("\n") == 1
    code, _, err = call(capsys, "evaluate", folder / "scene.tif", "--reference", reference)
    assert code == 2 and "--ratio" in err


# ---- the reference numbers of ../shared/data/README.md

BICUBIC_35_DB = {"jasper-ridge": 24.43, "abu-airport-1": 23.84, "abu-beach-4": 31.53}


@pytest.mark.parametrize("name", BICUBIC_35_DB)
def test_the_protocol_meets_the_reference_numbers(name, tmp_path):
    torch = pytest.importorskip("torch")
    path = DATA / "scenes" / f"{name}.tif"
    if not path.exists():
        pytest.skip(f"needs {path}")
    srf = str(DATA / "srf" / "vnir4.csv") if name == "abu-beach-4" else "landsat8"
    pair = simulate(path, tmp_path, SimulationOptions(srf))
    up = torch.nn.functional.interpolate(torch.from_numpy(pair.hsi.values)[None], (96, 96), mode="bicubic", align_corners=False)
    assert psnr(pair.reference.values, up[0].numpy()) == pytest.approx(BICUBIC_35_DB[name], abs=0.3)
