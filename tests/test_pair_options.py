"""Every command that brings two images together takes the same options, and what a run found out holds wherever its result goes."""

import json

import numpy as np
import pytest
import rasterio

from geofuse.align import Registration
from geofuse.align.smooth_field import Bend
from geofuse.benchmark import BenchmarkPlan, MethodChoice, PairSource, run_benchmark
from geofuse.errors import InputError
from geofuse.evaluate import evaluate_against_pair, evaluate_without_reference
from geofuse.io import open_scene
from geofuse.pipeline import PairOptions, open_pair
from geofuse.report.collect import _where_it_lies, gather_content
from geofuse.report.page import _provenance
from geofuse_cli.main import cli, run

PAIR = {
    "srf",
    "msi_bands",
    "min_coverage",
    "psf",
    "coregister",
    "response",
    "srf_bands",
    "wavelengths",
    "msi_average",
    "allow_remote",
}
BANDS = "B1,B2,B3,B4,B5,B6,B7"


@pytest.mark.parametrize(
    ("command", "without"),
    [("run", ()), ("evaluate", ()), ("benchmark", ()), ("coregister", ("coregister",)), ("estimate", ("response",))],
)
def test_the_command_takes_the_options_of_a_pair(command, without):
    known = {option.name for option in cli.get_command(None, command).params}
    assert PAIR - set(without) <= known


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The demo's pair with the coarse image at a wrong corner, fused with responses estimated."""
    where = tmp_path_factory.mktemp("shifted")
    assert run(["demo", str(where), "--size", "128"]) == 0
    with rasterio.open(where / "hsi.tif") as source:
        values, profile, tags = source.read(), source.profile, [source.tags(i) for i in source.indexes]
    profile.update(driver="GTiff", transform=profile["transform"] @ rasterio.Affine.translation(1.3, -0.75))
    with rasterio.open(where / "off.tif", "w", **profile) as target:
        target.write(values)
        for i, tag in enumerate(tags, 1):
            target.update_tags(i, **tag)
    arguments = ["--srf", "estimate", "--method", "bicubic", "-o", str(where / "fused.tif")]
    assert run(["run", str(where / "off.tif"), str(where / "msi.tif"), *arguments]) == 0
    return where


def test_evaluate_measures_against_the_pair_that_the_run_had(folder):
    files = (folder / "fused.tif", folder / "off.tif", folder / "msi.tif")
    fused = open_scene(files[0])
    same = open_pair(*files[1:], srf="estimate", coregister="auto")
    expected = evaluate_against_pair(fused, same).scores
    assert evaluate_without_reference(*files).scores == pytest.approx(expected, rel=1e-4)
    wrong = evaluate_without_reference(*files, PairOptions("landsat8", BANDS.split(","))).scores
    assert wrong["hsi_rms"] > 1.5 * expected["hsi_rms"]


def test_the_command_needs_no_options_for_what_is_recorded(folder, capsys):
    names = [str(folder / name) for name in ("fused.tif", "off.tif", "msi.tif")]
    assert run(["evaluate", names[0], "--hsi", names[1], "--msi", names[2], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["no_reference"]
    assert told["hsi_db"] == pytest.approx(evaluate_without_reference(*names).scores["hsi_db"])
    assert any("recorded in the fused image" in note for note in told["notes"])


def test_the_report_lays_the_coarse_image_where_it_truly_lies(folder):
    fused, off, right = (open_scene(folder / name) for name in ("fused.tif", "off.tif", "hsi.tif"))
    shown = _where_it_lies(off, fused).rio.transform()
    corner = ~right.rio.transform() @ (shown.c, shown.f)
    assert corner == pytest.approx((0, 0), abs=0.05)
    assert ~off.rio.transform() @ (shown.c, shown.f) == pytest.approx((-1.3, 0.75), abs=0.05)
    content = gather_content(folder / "fused.tif", hsi=folder / "off.tif")
    notes = dict(_provenance(content))
    assert notes["Co-registration"].startswith("the HSI lies") and "GEOFUSE_RESPONSES" not in notes


def test_the_accessor_puts_the_image_right(folder):
    hsi, msi = (open_scene(folder / name) for name in ("off.tif", "msi.tif"))
    fused = hsi.fusion.bicubic(msi, srf="landsat8", msi_bands=BANDS.split(","), coregister="auto")
    with rasterio.open(folder / "fused.tif") as written:
        np.testing.assert_allclose(fused.rio.transform(), written.transform)
        assert fused.shape == (written.count, written.height, written.width)


def plan_of(folder, mode):
    source = PairSource(folder / "off.tif", folder / "msi.tif", "estimate")
    return BenchmarkPlan((source,), (MethodChoice("bicubic"),), pair=PairOptions(coregister=mode))


def test_results_of_a_benchmark_are_kept_apart_by_the_options_of_a_pair(folder):
    jobs = [next(plan.jobs(case) for case in plan.cases())[0] for plan in (plan_of(folder, "auto"), plan_of(folder, "off"))]
    assert jobs[0].key != jobs[1].key


@pytest.mark.slow
def test_a_benchmark_of_a_pair_puts_it_right(folder):
    row = run_benchmark(plan_of(folder, "auto"), folder / "benchmark").rows[0]
    expected = evaluate_without_reference(folder / "fused.tif", folder / "off.tif", folder / "msi.tif").scores
    assert row["status"] == "done" and row["scores"]["hsi_db"] == pytest.approx(expected["hsi_db"], abs=0.02)


def test_what_is_recorded_is_read_back():
    zero, bend = (0.0, 0.0), Bend(((1.0, 2.0), (3.0, 4.0)), ((0.1, 0.2), (0.3, 0.4)), 8.0, (0.0, 0.0), (8.0, 8.0))
    straight = ((0.5, 0.25), (1.0, 2.0), (0.01, 0.01), (zero, zero), (8.0, 8.0), 0.01, 9, 9, 1.0, True)
    found = Registration("smooth", *straight, bend=bend, crs_map=(1.0, 0.0, 2.0, 0.0, 1.0, 3.0))
    assert Registration.from_tag(found.to_tag()) == found
    for text in ("", "{}", "[1]", found.to_tag().replace("0.5", '"x"'), found.to_tag().replace('"shift": [0.5', '"shift": [NaN')):
        with pytest.raises(InputError, match="GEOFUSE_COREGISTRATION"):
            Registration.from_tag(text)
