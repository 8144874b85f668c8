"""Claims about ``geofuse estimate`` and what ``run`` does with its file, end to end on a small scene."""

import json

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

import geofuse
from geofuse.align.response_file import read_response_file
from geofuse.errors import GeofuseError, InputError, MissingFileError, UsageError
from geofuse_cli.commands.estimate import describe
from geofuse_cli.main import cli, run


def go(*arguments):
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A folder with hsi.tif, msi.tif and reference.tif: 30 bands at ratio 4, a Gaussian PSF of 1.3, three bands of the MSI."""
    folder = tmp_path_factory.mktemp("blind")
    rng, side, nm = np.random.default_rng(5), 96, np.linspace(400, 690, 30)
    t = (nm - 400) / 290
    spectra = [0.4 + sum(rng.normal(0, 0.08) * np.sin(3 * k * t + rng.uniform(0, 6)) for k in range(1, 12)) for _ in range(8)]
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    maps = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) / np.maximum(frequency, 1 / side) ** 1.2).real for _ in spectra]
    maps = np.array([(m - m.min()) / (m.max() - m.min()) for m in maps])
    image = np.einsum("kc,kyx->cyx", np.array(spectra), maps).astype("float32")
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 30, "dtype": "float32", "crs": "EPSG:32633"}
    with rasterio.open(folder / "scene.tif", "w", **profile, transform=rasterio.Affine(10, 0, 4e5, 0, -10, 5e6)) as out:
        out.write(image)
        for i, centre in enumerate(nm):
            out.update_tags(i + 1, wavelength=f"{centre:g}", wavelength_units="nm", fwhm="10")
    rows = np.exp(-4 * np.log(2) * ((np.arange(380, 721)[:, None] - [460, 545, 630]) / 60) ** 2)
    table = np.column_stack([np.arange(380, 721), rows])
    np.savetxt(folder / "rgb.csv", table, delimiter=",", header="wavelength_nm,blue,green,red", comments="", fmt="%.6g")
    go("simulate", folder / "scene.tif", "--srf", folder / "rgb.csv", "--psf", "gaussian:1.3", "--snr", 40, "-o", folder)
    go("estimate", folder / "hsi.tif", folder / "msi.tif", "-o", folder / "r.json", "--plot", folder / "r.png")
    return folder


def psnr(folder, *options):
    go("run", folder / "hsi.tif", folder / "msi.tif", "--method", "subspace", "-o", folder / "fused.tif", *options)
    text = go("evaluate", folder / "fused.tif", "--reference", folder / "reference.tif", "--ratio", 4, "--json")
    return json.loads(text)["psnr"]


def test_the_file_holds_what_was_simulated(scene):
    content = json.loads((scene / "r.json").read_text())
    assert content["format"] == "geofuse-response" and content["ratio"] == 4
    assert abs(content["psf_fit"]["wide"] / 1.3 - 1) < 0.05 and content["psf_fit"]["standard_error"]["wide"] < 0.1
    pair = geofuse.open_pair(scene / "hsi.tif", scene / "msi.tif", srf=scene / "rgb.csv")
    found, true = np.array(content["response"]["rows"]), pair["response"].values
    cosine = (found * true).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(true, axis=1)
    assert np.degrees(np.arccos(np.minimum(cosine, 1))).max() < 5
    assert np.shape(content["response"]["standard_error"]) == found.shape and np.allclose(content["response"]["gain"], 1, atol=0.02)
    assert (scene / "r.png").read_bytes().startswith(b"\x89PNG")


def test_fusing_with_the_estimates_is_as_good_as_with_what_is_true(scene):
    known = psnr(scene, "--srf", scene / "rgb.csv")
    assert psnr(scene, "--response", scene / "r.json") > known - 0.7
    assert psnr(scene, "--srf", "estimate", "--psf", "estimate") > known - 0.7


def test_the_summary_says_what_was_estimated(scene):
    options = ("--srf", "estimate", "--psf", "estimate", "--srf-bands", scene / "limits.csv", "--method", "bicubic", "--json")
    (scene / "limits.csv").write_text("low_nm,high_nm\n390,540\n460,640\n560,720\n")
    summary = json.loads(go("run", scene / "hsi.tif", scene / "msi.tif", "-o", scene / "b.tif", *options))
    assert summary["srf"] == "estimated from the images" and "estimated from the images" in summary["psf"]
    assert any(note.startswith("response: 3 bands") for note in summary["notes"])
    assert any(note.startswith("PSF estimate: Gaussian, FWHM 1.3") for note in summary["notes"])


def test_a_known_response_leaves_the_psf_to_be_estimated(scene):
    go("estimate", scene / "hsi.tif", scene / "msi.tif", "--srf", scene / "rgb.csv", "-o", scene / "psf.json")
    content = json.loads((scene / "psf.json").read_text())
    assert content["response"]["standard_error"] is None and abs(content["psf_fit"]["wide"] / 1.3 - 1) < 0.05


def test_an_offset_between_the_images_is_taken_off_the_msi(scene):
    with rasterio.open(scene / "msi.tif") as source:
        profile, values = source.profile, source.read()
    with rasterio.open(scene / "byte.tif", "w", **{**profile, "driver": "GTiff"}) as out:
        out.write(100 * values + 60)
    options = {"psf": "gaussian:1.3", "srf": "estimate"}
    pair = geofuse.open_pair(scene / "hsi.tif", scene / "byte.tif", **options)
    assert any("offsets taken off the MSI" in note for note in pair.attrs["notes"])
    assert np.allclose(pair["msi"].values, 100 * values, atol=3)


def test_the_file_is_the_same_each_time(scene):
    go("estimate", scene / "hsi.tif", scene / "msi.tif", "-o", scene / "again.json")
    assert (scene / "again.json").read_bytes() == (scene / "r.json").read_bytes()


def test_hsi_wavelengths_are_not_needed(scene):
    with rasterio.open(scene / "hsi.tif") as source:
        profile, values = source.profile, source.read()
    with rasterio.open(scene / "bare.tif", "w", **{**profile, "driver": "GTiff"}) as out:
        out.write(values)
    pair = geofuse.open_pair(scene / "bare.tif", scene / "msi.tif", srf="estimate", psf="gaussian:1.3")
    assert pair["response"].shape == (3, 30) and np.isnan(pair["wavelength"]).all()
    assert list(pair["response"].values.argmax(axis=1)) == pytest.approx([6, 14.5, 23], abs=1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"srf": "landsat8", "response": "r.json"}, "leave out --srf"),
        ({"srf": "landsat8", "srf_bands": "rgb"}, "give --srf estimate with it"),
        ({"srf": "estimate", "msi_bands": "B2,B3,B4"}, "uses all bands"),
        ({"srf": "estimate", "srf_bands": "rgb.csv"}, "expected the columns low_nm and high_nm"),
        ({"srf": "estimate", "srf_bands": "none.csv"}, "no such file"),
        ({"srf": None, "response": "none.json"}, "does not exist"),
    ],
)
def test_options_that_contradict_are_refused(scene, options, says):
    paths = {key: scene / value if str(value).endswith(("csv", "json")) else value for key, value in options.items()}
    with pytest.raises(GeofuseError, match=says):
        geofuse.open_pair(scene / "hsi.tif", scene / "msi.tif", **paths)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(format="x"), "no file of 'geofuse estimate'"),
        (lambda c: c.update(version=9), "version is 9"),
        (lambda c: c["response"]["rows"][0].__setitem__(0, -1), "not negative"),
        (lambda c: c["response"]["rows"].pop(), "rows of shape"),
        (lambda c: c["hsi"]["band"].__setitem__(0, 2), "each stand there once"),
        (lambda c: c.update(psf={"kind": "kernel", "kernel": [[1, 2]]}), "needs even sizes"),
        (lambda c: c.update(ratio="4"), "ratio '4'"),
        (lambda c: c.pop("hsi"), "KeyError"),
        (lambda c: c["response"].update(offset=[1]), "offsets for 3 bands"),
        (lambda c: c["hsi"]["band"].__setitem__(3, [1]), "cannot be read"),
    ],
)
def test_a_spoiled_file_is_refused_in_one_line(scene, change, says):
    content = json.loads((scene / "r.json").read_text())
    change(content)
    (scene / "bad.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=says) as caught:
        read_response_file(scene / "bad.json")
    assert "bad.json" in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_said_fits_into_80_columns(scene):
    content = json.loads((scene / "r.json").read_text())
    lines = "\n".join(describe(content, ["co-registration: " + "the HSI lies well, " * 12])).splitlines()
    assert max(map(len, lines)) <= 80 and sum(line.startswith("note: ") for line in lines) == 1


def test_what_is_not_json_is_refused(scene):
    for name in ("r.png", "rgb.csv"):
        with pytest.raises(InputError, match="cannot be read .*give one that 'geofuse estimate -o FILE.json' wrote"):
            read_response_file(scene / name)
    with pytest.raises(MissingFileError):
        read_response_file(scene / "nothing.json")


def test_a_file_of_another_sensor_is_refused(scene):
    content = json.loads((scene / "r.json").read_text())
    content["hsi"]["wavelength_nm"][4] += 7
    (scene / "other.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="belongs to another sensor"):
        geofuse.open_pair(scene / "hsi.tif", scene / "msi.tif", srf=None, response=scene / "other.json")


def test_inputs_are_not_overwritten_and_something_must_be_left_to_estimate(scene, capsys):
    before = (scene / "hsi.tif").read_bytes()
    pair = [str(scene / "hsi.tif"), str(scene / "msi.tif")]
    assert run(["estimate", *pair, "-o", pair[0]]) == 2
    assert run(["run", *pair, "--response", str(scene / "r.json"), "-o", str(scene / "r.json")]) == 2
    assert (scene / "hsi.tif").read_bytes() == before and json.loads((scene / "r.json").read_text())
    assert run(["estimate", *pair, "--srf", "landsat8", "--psf", "box", "-o", str(scene / "x.json")]) == 2
    assert "nothing is left to estimate" in capsys.readouterr().err
    with pytest.raises(UsageError):
        geofuse.open_pair(*pair, srf="landsat8", response=scene / "r.json")
