"""``geofuse coregister`` on a pair of the demo whose coarse image was given a wrong corner."""

import json

import pytest
import rasterio

from geofuse_cli.commands.coregister import describe
from geofuse_cli.main import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("demo")
    assert run(["demo", str(where), "--size", "128"]) == 0
    with rasterio.open(where / "hsi.tif") as source:
        values, profile, tags = source.read(), source.profile, [source.tags(i) for i in source.indexes]
    profile.update(driver="GTiff", transform=profile["transform"] @ rasterio.Affine.translation(1.3, -0.75))
    with rasterio.open(where / "off.tif", "w", **profile) as target:
        target.write(values)
        for i, tag in enumerate(tags, 1):
            target.update_tags(i, **tag)
    return where


def test_a_wrong_corner_is_found_and_put_right(folder, capfd):
    out = folder / "right.tif"
    arguments = [str(folder / "off.tif"), str(folder / "msi.tif"), "--srf", "landsat8", "--msi-bands", "B1,B2,B3,B4,B5,B6,B7"]
    assert run(["coregister", *arguments, "-o", str(out), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["applied"] and found["shift"] == pytest.approx([0.75, -1.3], abs=0.05)
    assert run(["coregister", str(out), *arguments[1:]]) == 0
    assert "applied     no: below 0.05 pixels" in capfd.readouterr().out


def test_what_is_said_fits_into_80_columns():
    found = {"model": "affine", "shift": [-12.3456, 12.3456], "shift_m": [371.234, -371.234], "slope": [[1e-4, -1e-4]] * 2}
    found |= {"error": [0.1, 0.1], "rms": 0.1, "n_agree": 9, "n_windows": 9, "confidence": 1.0, "applied": True, "instead": ""}
    text = "\n".join(describe(found))
    assert max(map(len, text.splitlines())) <= 80
    assert "shift       +12.346 (x), -12.346 (y, down) HSI pixels; +371.2 m east, -371.2 m" in text and "slope       x" in text
