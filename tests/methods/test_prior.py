"""A prior gives back what was learnt, fits other scenes of its sensors, and a file that is no prior is refused in one line."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file, save_file

from geofuse.errors import InputError, MissingFileError
from geofuse.methods import METHODS
from geofuse.methods.argsdiff import ArgsDiff, FastOptions
from geofuse.methods.base import silent
from geofuse.methods.prior import LearnsPrior, Sensors, load_prior, require_same_sensors, save_prior

QUICK = FastOptions(spatial_steps=90, spectral_steps=40, width=16, patch=48, symmetries=2)
BANDS = ("blue", "green", "red", "nir")


def learnt(model, tile, prior=None, **changes):
    method = ArgsDiff(dataclasses.replace(QUICK, **changes))
    if prior is not None:
        method.adopt_prior(prior)
    method.fit(model, [tile], silent)
    return method


def sensors(model, **changes):
    nm = np.linspace(400, 1000, model.response.shape[1])
    return dataclasses.replace(Sensors(nm, model.response, "camera", BANDS), **changes)


@pytest.fixture(scope="module")
def scene(scenes):
    fine = scenes.landscape(side=96)
    return fine, *scenes.observe(fine, 4, snr_db=28)


@pytest.fixture(scope="module")
def teacher(scene):
    return learnt(scene[1], scene[2])


@pytest.fixture
def path(scene, teacher, tmp_path):
    path = tmp_path / "prior.safetensors"
    save_prior(path, teacher.learnt_prior(), sensors(scene[1]))
    return path


def rmse(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2)))


def test_a_prior_unchanged_on_its_own_scene_gives_the_same_result(scene, teacher, path):
    _, model, tile = scene
    again = learnt(model, tile, load_prior(path)[0], adaptation=0.0)
    assert np.allclose(again.fuse(tile, silent), teacher.fuse(tile, silent), rtol=1e-4, atol=1e-5)


def test_saving_what_was_loaded_gives_the_same_file(path, tmp_path):
    save_prior(tmp_path / "copy", *load_prior(path))
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "prior.safetensors"]


def test_a_prior_of_one_scene_helps_its_neighbour_more_than_learning_as_briefly_from_zero(scenes, scene, teacher):
    fine = scenes.landscape(side=192)[:, 96:, 96:]  # the same materials in another place
    model, tile = scenes.observe(fine, 4, snr_db=28, seed=7)
    briefly = {"spatial_steps": 20, "spectral_steps": 20}
    from_zero = learnt(model, tile, **briefly)
    adapted = learnt(model, tile, teacher.learnt_prior(), **briefly, adaptation=1.0)
    assert rmse(adapted.fuse(tile, silent), fine) < 0.97 * rmse(from_zero.fuse(tile, silent), fine)


def test_adapting_leaves_the_prior_as_it_was(scene, teacher):
    _, model, tile = scene
    prior = teacher.learnt_prior()
    before = {name: value.clone() for name, value in prior.texture.state_dict().items()}
    learnt(model, tile, prior, adaptation=0.1)
    assert all(torch.equal(before[name], value) for name, value in prior.texture.state_dict().items())


def test_another_noise_level_still_gives_unit_noise_in_the_priors_axes(scene, teacher):
    view = teacher.texture_view
    noisier = dataclasses.replace(view, noise=view.noise * np.array([1.0, 2.0, 0.5, 3.0]))
    aligned = teacher.learnt_prior().align(noisier)
    assert np.allclose((aligned.axes * noisier.noise) @ (aligned.axes * noisier.noise).T, np.eye(4), atol=1e-9)
    assert np.allclose(aligned.axes * noisier.noise, view.axes * view.noise)


def test_the_file_holds_plain_numbers_and_one_json_entry(path):
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    entry = json.loads(header["__metadata__"]["geofuse_prior"])
    assert entry["schema"] == 1 and entry["srf"] == "camera" and tuple(entry["msi_bands"]) == BANDS
    tensors = load(data)
    assert tensors["wavelength_nm"].shape == (30,) and tensors["msi_axes"].shape == (4, 4)
    assert {name.split(".")[0] for name in tensors} == {
        "wavelength_nm", "response", "msi_noise", "msi_axes", "msi_spread", "texture", "spectrum",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"wavelength_nm": np.linspace(400, 990, 29), "response": np.ones((4, 29))}, "30 bands from 400 to 1000 nm.*29 bands"),
        ({"wavelength_nm": np.linspace(410, 1000, 30)}, "band 1 lies at 400.0 nm, here it lies at 410.0 nm"),
        ({"response": np.ones((3, 30)), "msi_bands": BANDS[:3], "srf": "other"}, r"4 bands \(.*; camera\).*3 bands \(.*; other\)"),
        ({"response": np.eye(4, 30)[::-1], "srf": "other"}, "camera.*other"),
    ],
)
def test_other_sensors_are_refused_with_what_was_found_expected_and_to_do(scene, changes, says):
    model = scene[1]
    with pytest.raises(InputError, match=f"(?s)prior p.safetensors was learnt on an .*{says}.*--save-prior") as error:
        require_same_sensors("p.safetensors", sensors(model), sensors(model, **changes))
    assert "\n" not in str(error.value)


def test_the_same_sensors_by_another_name_or_a_little_shifted_are_accepted(scene):
    model = scene[1]
    nm = sensors(model).wavelength_nm
    require_same_sensors("p", sensors(model), sensors(model, srf="renamed", wavelength_nm=nm + 1.0))
    unknown = sensors(model, wavelength_nm=np.full(len(nm), np.nan))
    require_same_sensors("p", unknown, unknown)


def test_a_pickle_is_refused_and_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (tmp_path / "plain").write_bytes(pickle.dumps(Trap()))
    torch.save({"weights": Trap()}, tmp_path / "archive")
    for name in ("plain", "archive"):
        with pytest.raises(InputError, match="pickle or a PyTorch archive.*never opened.*--save-prior"):
            load_prior(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_what_is_no_prior_is_refused_in_one_line(path, tmp_path):
    data = path.read_bytes()
    cases = {"empty": b"", "text": b"hello\n" * 9, "cut": data[: len(data) // 2], "long": data + b"\0" * 99}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="is not a safetensors file"):
            load_prior(tmp_path / name)
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign")
    with pytest.raises(InputError, match="holds safetensors, but no prior"):
        load_prior(tmp_path / "foreign")
    for missing in ("absent", "."):
        with pytest.raises(MissingFileError, match="does not exist or is no file"):
            load_prior(tmp_path / missing)


def damaged(tensors, name):
    """Change one thing about the tensors."""
    changed = dict(tensors)
    if name == "no axes":
        del changed["msi_axes"]
    elif name == "nan":
        changed["texture.first.weight"] = torch.full_like(tensors["texture.first.weight"], float("nan"))
    elif name == "noise of zero":
        changed["msi_noise"] = torch.zeros(4, dtype=torch.float64)
    elif name == "axes of another size":
        changed["msi_axes"] = torch.eye(5, dtype=torch.float64)
    elif name == "a layer too few":
        del changed["texture.body.3.weight"]
    elif name == "a layer of no dimension":
        changed["texture.first.weight"] = torch.tensor(1.0)
    elif name == "a width that no memory holds":
        changed["texture.first.weight"] = torch.zeros(10**12, 0, 3, 3)
    elif name == "a flat response":
        changed["response"] = torch.ones(4, dtype=torch.float64)
    return changed


@pytest.mark.parametrize(
    "what",
    ["no axes", "nan", "noise of zero", "axes of another size", "a layer too few", "a layer of no dimension",
     "a width that no memory holds", "a flat response"],
)  # fmt: skip
def test_a_prior_whose_parts_do_not_fit_is_refused_in_one_line(path, tmp_path, what):
    header = {"schema": 1, "geofuse": "0", "method": "argsdiff", "srf": "camera", "msi_bands": BANDS}
    save_file(damaged(load_file(path), what), tmp_path / "bad", {"geofuse_prior": json.dumps(header)})
    with pytest.raises(InputError, match="is damaged .*; make it again") as error:
        load_prior(tmp_path / "bad")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("header", ["[]", "{}", "nonsense", '{"schema": 2}'])
def test_another_schema_is_refused(path, tmp_path, header):
    save_file(load_file(path), tmp_path / "other", {"geofuse_prior": header})
    with pytest.raises(InputError, match="no prior|schema 2, this version reads schema 1"):
        load_prior(tmp_path / "other")


def test_only_what_learns_a_prior_says_so():
    able = {name for name in METHODS.names() if isinstance(METHODS.get(name)(), LearnsPrior)}
    assert able == {"argsdiff"}
    assert not isinstance(ArgsDiff(ArgsDiff.presets["paper"]), LearnsPrior)
