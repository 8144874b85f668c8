"""Out of memory on the device: a smaller batch, smaller tiles, the CPU, each said in one line; the result is whole all the same."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import rasterio

import geofuse.methods.device as device_module
from geofuse.methods import METHODS
from geofuse.pipeline import FusionSettings, PairOptions, run


@pytest.fixture
def fuse_hungrily(pair, monkeypatch, caplog):
    """Run the hungry method on a pretended GPU; returns the stored values, what was said and the summary."""
    monkeypatch.setitem(METHODS._entries, "hungry", "tests.faults.hungry:Hungry")
    monkeypatch.setattr(device_module, "pick_device", lambda name: "cuda:0")

    def fuse(**options):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="geofuse.flow.device_memory"):
            summary = run(
                pair / "hsi.tif",
                pair / "msi.tif",
                pair / "out.tif",
                pair_options=PairOptions(pair / "camera.csv", psf="box", min_coverage=0.5),
                settings=FusionSettings("hungry", tile=64, options=options),
            )
        with rasterio.open(pair / "out.tif") as dataset:
            return dataset.read(), [r.getMessage() for r in caplog.records if "memory" in r.getMessage()], summary

    return fuse


def test_a_device_that_holds_everything_is_left_in_peace(fuse_hungrily):
    assert fuse_hungrily()[1] == []


def test_tiles_get_smaller_until_they_fit(fuse_hungrily):
    expected, _, _ = fuse_hungrily()
    found, said, summary = fuse_hungrily(side=40)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert said == [f"cuda:0 is out of memory: tiles are fused in {n} x {n} parts from here on" for n in (2, 4)]
    assert set(said) <= set(summary.notes) and summary.device == "cuda:0"


def test_where_no_tile_fits_the_cpu_takes_over(fuse_hungrily):
    expected, _, _ = fuse_hungrily()
    found, said, summary = fuse_hungrily(side=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert said[-1] == "cuda:0 is out of memory for the smallest tiles too: going on on the CPU" and summary.device == "cpu"


def test_learning_takes_smaller_batches_and_then_the_cpu(fuse_hungrily):
    _, said, summary = fuse_hungrily(batch=4, room=2)
    assert said == ["cuda:0 is out of memory while learning: batches of 2 instead of 4"] and summary.device == "cuda:0"
    _, said, summary = fuse_hungrily(batch=2, room=0)
    assert said[-1] == "cuda:0 is out of memory while learning: learning on the CPU" and summary.device == "cpu"


def test_other_errors_are_not_taken_for_a_lack_of_memory(fuse_hungrily, monkeypatch):
    from tests.faults.hungry import Hungry

    def fail(*args):
        raise RuntimeError("something else")

    monkeypatch.setattr(Hungry, "fuse", fail)
    with pytest.raises(RuntimeError, match="something else"):
        fuse_hungrily()
