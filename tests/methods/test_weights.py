"""Files of weights: what is kept, and what is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from geofuse.errors import InputError, MissingFileError
from geofuse.methods.base import SceneModel
from geofuse.methods.ddpmfus import DdpmFus
from geofuse.methods.weights import Card, fill, load_weights, require_match, save_weights
from geofuse.sensors.psf import Psf

CARD = Card(
    "ddpmfus",
    5,
    2,
    4,
    np.array([450.0, 500.0, np.nan, 600.0, 650.0]),
    np.arange(10.0).reshape(2, 5),
    "camera",
    {"width": 8},
    ("one", "two"),
    {"steps": 3},
    {"psnr": 30.0},
)


def network(seed=0):
    return DdpmFus(DdpmFus.Options(width=8)).make_network(CARD, torch.Generator().manual_seed(seed))


@pytest.fixture
def path(tmp_path):
    save_weights(tmp_path / "w.safetensors", CARD, network())
    return tmp_path / "w.safetensors"


def model(**changes):
    told = {"response": np.ones((2, 5)), "psf": Psf.parse("box"), "ratio": 4, "wavelength_nm": CARD.wavelength_nm}
    return SceneModel(**(told | changes))


def test_card_and_network_come_back(path):
    card, tensors = load_weights(path)
    for field in dataclasses.fields(Card):
        one, other = getattr(card, field.name), getattr(CARD, field.name)
        assert np.array_equal(one, other, equal_nan=True) if isinstance(other, np.ndarray) else one == other
    again = fill(network(seed=1), tensors, path)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), network().parameters(), strict=True))
    assert not any(p.requires_grad for p in again.parameters())


def test_the_right_scene_is_accepted(path):
    require_match(path, CARD, "ddpmfus", model())
    moved = CARD.wavelength_nm + 1.5
    require_match(path, CARD, "ddpmfus", model(wavelength_nm=moved))


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("ssdiff", {}, "of method ddpmfus, not ssdiff"),
        ("ddpmfus", {"response": np.ones((3, 5))}, "for 5 bands and a fine image of 2, this pair has 5 and 3"),
        ("ddpmfus", {"response": np.ones((2, 6)), "wavelength_nm": np.ones(6)}, "this pair has 6 and 2"),
        ("ddpmfus", {"ratio": 3}, "for ratio 4, this pair has ratio 3"),
        ("ddpmfus", {"wavelength_nm": CARD.wavelength_nm + 20}, "band 1 at 450.0 nm, here it lies at 470.0 nm"),
    ],
)
def test_another_scene_is_refused(path, method, changes, message):
    with pytest.raises(InputError, match=message) as error:
        require_match(path, CARD, method, model(**changes))
    assert "\n" not in str(error.value)


def test_pickles_and_archives_are_never_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Bomb()))
    torch.save({"x": torch.ones(1)}, tmp_path / "b.pt")
    for name in ("a.pkl", "b.pt"):
        with pytest.raises(InputError, match="pickle or a PyTorch archive, which is never opened"):
            load_weights(tmp_path / name)


def test_a_header_as_long_as_a_pickles_first_byte_is_no_pickle(path, tmp_path):
    for pad in range(0, 300, 8):
        bad = changed(path, tmp_path / "odd", {"srf": "s" * pad})
        assert load_weights(bad)[0].srf == "s" * pad
    firsts = {changed(path, tmp_path / "odd", {"srf": "s" * pad}).read_bytes()[:1] for pad in range(0, 300, 8)}
    assert b"\x80" in firsts


def test_truncated_foreign_and_missing_files_are_refused(path, tmp_path):
    whole = path.read_bytes()
    for size in (0, 7, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(InputError, match="not a safetensors file"):
            load_weights(tmp_path / "cut")
    save_file({"x": torch.ones(1)}, tmp_path / "foreign")
    with pytest.raises(InputError, match="holds safetensors, but no weights"):
        load_weights(tmp_path / "foreign")
    with pytest.raises(MissingFileError):
        load_weights(tmp_path / "absent")


def changed(path, out, header=None, **tensors):
    """Write the file again with other tensors, None to leave one out, or other entries of the header."""
    kept = {**load_file(path), **tensors}
    data = path.read_bytes()
    told = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["geofuse_weights"])
    told = {k: v for k, v in {**told, **(header or {})}.items() if v is not None}
    save_file({k: v for k, v in kept.items() if v is not None}, out, {"geofuse_weights": json.dumps(told)})
    return out


@pytest.mark.parametrize(
    ("header", "tensors"),
    [
        ({"bands": 6}, {}),
        ({"method": None}, {}),
        ({"trained_on": None}, {}),
        ({}, {"sensors.response": None}),
        ({}, {"sensors.wavelength_nm": torch.ones(3)}),
        ({}, {"first.weight": torch.full((8, 12, 3, 3), float("nan"))}),
    ],
)
def test_a_damaged_card_or_tensor_is_refused(path, tmp_path, header, tensors):
    with pytest.raises(InputError, match="damaged") as error:
        load_weights(changed(path, tmp_path / "bad", header, **tensors))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [{"first.weight": None}, {"first.weight": torch.zeros(8, 3, 3, 3)}, {"more": torch.ones(1)}])
def test_a_network_of_another_form_is_refused(path, tmp_path, change):
    bad = changed(path, tmp_path / "bad", None, **change)
    method = DdpmFus()
    with pytest.raises(InputError, match="damaged"):
        method.adopt_weights(bad, *load_weights(bad))


def test_options_that_no_network_has_are_refused(path, tmp_path):
    for options in ({"nonsense": 1}, {"width": "wide"}):
        bad = changed(path, tmp_path / "bad", {"options": options})
        with pytest.raises(InputError, match="damaged"):
            DdpmFus().adopt_weights(bad, *load_weights(bad))
