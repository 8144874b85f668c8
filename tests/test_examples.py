"""The examples run on the sample scene, draw pictures with something in them, and use the public names only."""

import ast
import runpy
import sys

import matplotlib.image
import numpy as np
import pytest
import rasterio

EXAMPLES = ("quickstart", "your_own_sensor")
PUBLIC = {"geofuse", "geofuse.io"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    from geofuse.demo import make_demo

    folder = tmp_path_factory.mktemp("sample")
    make_demo(folder, size=64)
    return folder


@pytest.fixture
def run_example(root, sample, monkeypatch, capsys):
    """Run an example as a script on the sample scene; returns what it printed. The main method learns for a moment only."""
    from geofuse.methods.argsdiff import ArgsDiff, FastOptions

    quick = FastOptions(spatial_steps=8, spectral_steps=8, width=8, symmetries=1)
    monkeypatch.setattr(ArgsDiff, "presets", ArgsDiff.presets | {"fast": quick, "balanced": quick})

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", str(sample), *arguments])
        runpy.run_path(str(root / "examples" / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def assert_is_a_picture(path):
    picture = matplotlib.image.imread(path)
    assert min(picture.shape[:2]) > 300 and picture[..., :3].std() > 0.05, path


def assert_is_fused(path, sample):
    with rasterio.open(path) as fused, rasterio.open(sample / "msi.tif") as msi, rasterio.open(sample / "hsi.tif") as hsi:
        assert fused.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (fused.transform, fused.crs, fused.shape) == (msi.transform, msi.crs, msi.shape)
        assert (fused.count, fused.dtypes[0], fused.scales[0]) == (hsi.count, hsi.dtypes[0], hsi.scales[0])
        assert fused.tags(7)["wavelength"] == hsi.tags(7)["wavelength"]
        values = fused.read(masked=True)
        assert 0 < np.ma.count(values) and 0 < values.mean() * fused.scales[0] < 1


@pytest.mark.parametrize("method", ["argsdiff", "subspace"])
def test_quickstart_fuses_draws_and_writes_a_cog(run_example, sample, method):
    printed = run_example("quickstart", *(() if method == "argsdiff" else ("--method", method)))
    assert "fused.tif" in printed
    assert_is_fused(sample / "fused.tif", sample)
    assert_is_a_picture(sample / "overview.png")


@pytest.mark.parametrize("method", ["argsdiff", "subspace"])
def test_your_own_sensor_brings_a_response_and_a_psf_from_files(run_example, sample, method):
    printed = run_example("your_own_sensor", *(() if method == "argsdiff" else ("--method", method)))
    assert "1 = blue, 2 = green, 3 = red, 4 = nir" in printed and "kernel of 12 x 12 fine pixels" in printed
    assert_is_fused(sample / "own_sensor" / "fused.tif", sample)
    assert_is_a_picture(sample / "own_sensor" / "own_sensor.png")


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_use_the_public_names_only(root, name):
    tree = ast.parse((root / "examples" / f"{name}.py").read_text())
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert all(module in PUBLIC for module in modules if module.startswith("geofuse"))
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), f"{name}.py uses {node.attr}"


def test_every_example_is_tested(root):
    assert {path.stem for path in (root / "examples").glob("*.py")} == set(EXAMPLES)
