"""A benchmark runs every method on the same input in its own process, writes each result down at once, and continues from there."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from geofuse.benchmark import BenchmarkPlan, BenchmarkResult, MethodChoice, PairSource, SceneSource, run_benchmark, runs
from geofuse.benchmark.tables import count, markdown, short, text
from geofuse.errors import MissingFileError, OutputError, UnknownNameError, UsageError
from geofuse.evaluate import evaluate, evaluate_without_reference
from geofuse.io import write_scene
from geofuse.journal import Journal
from geofuse.pipeline import FusionSettings, OutputOptions, PairOptions
from geofuse.pipeline import run as run_pipeline
from geofuse.scene import BandMetadata, make_scene
from geofuse.simulate import SimulationOptions, simulate
from geofuse_cli.commands.benchmark import split_srf
from geofuse_cli.main import run

BANDS, SIDE = 60, 48
METHODS = (MethodChoice("bicubic"), MethodChoice("subspace"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    rng = np.random.default_rng(3)
    nm = np.linspace(400, 2450, BANDS)
    spectra = 0.3 + 0.2 * np.sin(nm / np.array([[150.0], [270.0], [610.0]]))
    rough = rng.dirichlet([0.7] * 3, (SIDE, SIDE))  # each pixel a mixture of its own
    cube = np.einsum("kb,ijk->bij", spectra, rough).astype(np.float32)
    bands = BandMetadata(nm, np.full(BANDS, 40.0), np.ones(BANDS, bool), tuple(f"b{i}" for i in range(BANDS)))
    path = tmp_path_factory.mktemp("scene") / "field.tif"
    write_scene(make_scene(cube, bands, Affine(30, 0, 500000, 0, -30, 4000000), "EPSG:32633"), path)
    return path


def plan_for(*sources, **changes) -> BenchmarkPlan:
    return BenchmarkPlan(sources, **{"methods": METHODS, "device": "cpu", **changes})


# ---- one real run, shared by the tests that follow


@pytest.fixture(scope="module")
def real(scene, tmp_path_factory):
    """Run two methods and a preset that does not exist; returns (rows by label, folder)."""
    folder = tmp_path_factory.mktemp("benchmark") / "out"
    plan = plan_for(SceneSource(scene, "landsat8"), methods=(*METHODS, MethodChoice("subspace", "none")))
    result = run_benchmark(plan, folder)
    return {row["label"]: row for row in result.rows}, folder


def test_scores_are_those_of_simulate_run_and_evaluate(real, scene, tmp_path):
    simulate(scene, tmp_path, SimulationOptions(srf="landsat8", seed=0))
    files = {name: tmp_path / f"{name}.tif" for name in ("hsi", "msi", "reference", "fused")}
    run_pipeline(
        files["hsi"],
        files["msi"],
        files["fused"],
        pair_options=PairOptions("landsat8"),
        settings=FusionSettings("subspace", device="cpu"),
        output_options=OutputOptions(driver="GTiff"),
    )
    expected = evaluate(files["fused"], files["reference"]).scores
    expected |= evaluate_without_reference(files["fused"], files["hsi"], files["msi"], PairOptions("landsat8")).scores
    assert real[0]["subspace"]["scores"] == pytest.approx(expected, rel=1e-5)


def test_the_method_that_fuses_beats_the_one_that_interpolates(real):
    rows, _ = real
    assert rows["subspace"]["scores"]["psnr"] > rows["bicubic"]["scores"]["psnr"] + 3
    assert rows["subspace"]["scores"]["hsi_db"] == pytest.approx(35, abs=2)


def test_a_run_tells_seconds_memory_and_what_was_fused(real):
    row = real[0]["subspace"]
    assert set(row["seconds"]) == {"starting", "reading", "learning", "fusing"} and min(row["seconds"].values()) > 0
    assert 50e6 < row["peak_memory_bytes"] < 4e9 and row["peak_device_memory_bytes"] == 0
    assert (row["shape"], row["ratio"], row["preset"], row["device"]) == ([BANDS, SIDE, SIDE], 4, "default", "cpu")
    assert len(row["bands"]["psnr"]) == len(row["bands"]["wavelength_nm"]) == BANDS


def test_a_method_that_fails_is_a_row_that_says_why_and_stops_nothing(real):
    row = real[0]["subspace:none"]
    assert row["status"] == "failed" and "has no preset 'none'; it has default" in row["error"]


def test_the_json_is_valid_by_the_published_schema(real, root):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((root / "docs" / "benchmark.schema.json").read_text())
    told = json.loads((real[1] / "results.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(told, schema)
    assert len(told["runs"]) == 3 and [line["failed"] for line in told["summary"]] == [0, 0, 1]
    told["runs"][0]["status"] = "failed"  # without a reason
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told, schema)


def test_the_csv_has_a_line_a_run(real):
    rows, folder = real
    lines = list(csv.DictReader((folder / "results.csv").open()))
    assert [line["label"] for line in lines] == list(rows)
    assert float(lines[1]["psnr"]) == rows["subspace"]["scores"]["psnr"]
    assert float(lines[1]["seconds_fusing"]) == rows["subspace"]["seconds"]["fusing"]
    assert lines[2]["psnr"] == "" and "no preset" in lines[2]["error"]


def test_nothing_but_results_is_left_behind(real):
    assert sorted(path.name for path in real[1].iterdir()) == ["results.csv", "results.json", "results.jsonl", "results.md"]


def test_done_runs_are_not_run_again_and_failed_ones_are(real, scene, monkeypatch):
    asked = []
    monkeypatch.setattr(runs, "_process", lambda job, report: asked.append((job["kind"], job.get("preset"))) or fake_row())
    plan = plan_for(SceneSource(scene, "landsat8"), methods=(*METHODS, MethodChoice("subspace", "none")))
    result = run_benchmark(plan, real[1])
    assert asked == [("simulate", None), ("fuse", "none")]
    assert [row["label"] for row in result.rows] == ["bicubic", "subspace", "subspace:none"] and not result.failed


# ---- with processes that do nothing


def fake_row(psnr: float = 30.0, **changes) -> dict:
    cost = {"peak_memory_bytes": 2**29, "peak_device_memory_bytes": 0, "parameters": 1_234_567}
    about = {"preset": "default", "device": "cpu", "shape": [9, 16, 16], "ratio": 4, "srf": "Landsat 8 OLI/TIRS", "psf": "bicubic"}
    seconds = {"starting": 1.0, "reading": 0.1, "learning": 12.3, "fusing": 1234.5}
    scores = {"psnr": psnr, "sam": 1.5, "ergas": 2.5, "ssim": 0.9, "qnr": 0.9, "hqnr": 0.8, "d_lambda": 0.1, "d_s": 0.1}
    return {"scores": scores, "bands": None, "seconds": seconds, **cost, **about, **changes}


@pytest.fixture
def fake(monkeypatch):
    """Replace the processes; returns the list of jobs that were asked for."""
    jobs = []

    def process(job, report):
        jobs.append(job)
        return fake_row(30.0 + job["seed"])

    monkeypatch.setattr(runs, "_process", process)
    return jobs


def test_each_case_is_simulated_once_and_all_methods_get_the_same_files(scene, tmp_path, fake):
    result = run_benchmark(plan_for(SceneSource(scene, "landsat8"), snr_db=(35.0, 25.0), seeds=2), tmp_path / "out")
    assert [job["kind"] for job in fake] == ["simulate", "fuse", "fuse"] * 4
    for i in range(0, 12, 3):
        made, first, second = fake[i : i + 3]
        assert first["hsi"] == second["hsi"] == os.path.join(made["folder"], "hsi.tif")
        assert made["seed"] == first["seed"] == second["seed"]
    assert [(row["snr_db"], row["seed"]) for row in result.rows[::2]] == [(35, 0), (35, 1), (25, 0), (25, 1)]


def test_means_and_spreads_are_over_the_seeds(scene, tmp_path, fake):
    result = run_benchmark(plan_for(SceneSource(scene, "landsat8"), seeds=3), tmp_path / "out")
    (group,) = result.groups.values()
    assert (group["bicubic"].mean["psnr"], group["bicubic"].spread["psnr"]) == (31.0, 1.0)
    assert group["bicubic"].mean["seconds_learning"] == pytest.approx(12.3)
    assert "31.00±1.00" in text(result)


def test_a_benchmark_that_is_killed_continues_with_the_next_run(scene, tmp_path, monkeypatch):
    plan = plan_for(SceneSource(scene, "landsat8"), seeds=2)
    done = []

    def killed(job, report):
        if job["kind"] == "fuse" and len(done) == 3:
            raise KeyboardInterrupt
        if job["kind"] == "fuse":
            done.append(job)
        return fake_row()

    monkeypatch.setattr(runs, "_process", killed)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(plan, tmp_path / "out")
    left = []
    monkeypatch.setattr(runs, "_process", lambda job, report: left.append(job["kind"]) or fake_row())
    assert len(run_benchmark(plan, tmp_path / "out").rows) == 4
    assert left == ["simulate", "fuse"]


def test_a_line_cut_off_by_a_crash_counts_as_never_written(tmp_path):
    path = tmp_path / "results.jsonl"
    Journal(path).add({"key": "a", "status": "done"})
    with open(path, "a") as stream:
        stream.write('{"key": "b", "status": "do')
    journal = Journal(path)
    assert journal.get("a") and journal.get("b") is None
    journal.add({"key": "c", "status": "done"})
    assert Journal(path).get("a") and Journal(path).get("c") and Journal(path).get("b") is None


def test_every_setting_that_changes_the_outcome_changes_the_key(scene, tmp_path):
    other = tmp_path / "other.tif"
    other.write_bytes(scene.read_bytes() + b" ")
    table = tmp_path / "srf.csv"
    table.write_text("wavelength_nm,a\n400,1\n")
    source = SceneSource(scene, "landsat8")
    plans = [
        plan_for(source),
        plan_for(SceneSource(other, "landsat8")),
        plan_for(SceneSource(scene, "landsat9")),
        plan_for(SceneSource(scene, str(table))),
        plan_for(PairSource(scene, scene, "landsat8")),
        *(plan_for(source, **c) for c in ({"ratio": 2}, {"snr_db": (25.0,)}, {"snr_db": (float("inf"),)}, {"psf": "box"})),
        *(
            plan_for(source, **c)
            for c in ({"device": "auto"}, {"msi_bands": ("B2",)}, {"methods": (MethodChoice("bicubic", "x"),)})
        ),
    ]
    keys = [plan.jobs(next(plan.cases()))[0].key for plan in plans]
    table.write_text("wavelength_nm,a\n400,2\n")
    changed = plan_for(SceneSource(scene, str(table)))
    keys.append(changed.jobs(next(changed.cases()))[0].key)
    assert len(set(keys)) == len(keys)
    moved = tmp_path / "moved.tif"
    moved.write_bytes(scene.read_bytes())
    again = plan_for(SceneSource(moved, "landsat8"))
    assert again.jobs(next(again.cases()))[0].key == keys[0]


def test_a_scene_that_cannot_be_simulated_fails_all_its_methods_and_no_other(scene, tmp_path, monkeypatch):
    small = tmp_path / "small.tif"
    small.write_bytes(scene.read_bytes())

    def process(job, report):
        if job["kind"] == "simulate" and "small" in job["scene"]:
            raise runs._JobFailed("the scene is too small")
        return fake_row()

    monkeypatch.setattr(runs, "_process", process)
    result = run_benchmark(plan_for(SceneSource(small, "landsat8"), SceneSource(scene, "landsat8")), tmp_path / "out")
    assert [row["error"] for row in result.rows] == ["no pair: the scene is too small"] * 2 + [None] * 2


def test_a_page_that_is_missing_has_its_run_done_again(scene, tmp_path, fake):
    plan = plan_for(SceneSource(scene, "landsat8"), seeds=2, methods=(MethodChoice("bicubic"),))
    run_benchmark(plan, tmp_path / "out", pages=True)
    pages = [job["page"] for job in fake if job["kind"] == "fuse"]
    assert pages == [str(tmp_path / "out" / "pages" / "field-35dB-bicubic.html"), None]
    Path(pages[0]).write_text("page")
    fake.clear()
    run_benchmark(plan, tmp_path / "out", pages=True)
    assert fake == []


# ---- processes


def test_a_process_that_dies_is_told_in_one_line(monkeypatch):
    for code, said in (
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL, probably out of memory"),
        ("raise ZeroDivisionError('oh no')", "exit code 1: ZeroDivisionError: oh no"),
        ("pass", "exit code 0 without a word"),
    ):
        program = [sys.executable, "-c", code]
        monkeypatch.setattr(runs, "_COMMAND", program)
        with pytest.raises(runs._JobFailed, match=f"^{said}$"):
            runs._process({}, lambda *_: None)


def test_memory_of_the_caller_is_not_counted_as_the_runs_own():
    code = "from geofuse.memory import peak_memory_bytes as p; print(p())"
    ballast = np.ones(400 * 2**20 // 8)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < ballast.nbytes


# ---- tables and the command


def some_result() -> BenchmarkResult:
    rows = []
    for kind, scene_name, snr in (("simulated", "a-scene-with-a-long-name", 35.0), ("pair", "hsi+msi", None)):
        for label in ("bicubic", "argsdiff:balanced-and-more"):
            for seed in range(2):
                row = {"key": "", "version": "", "kind": kind, "scene": scene_name, "snr_db": snr, "seed": seed}
                row |= {"method": label, "label": label, "status": "done", "error": None}
                rows.append({**row, **fake_row(48.76 + seed, peak_memory_bytes=123 * 2**30)})
    return BenchmarkResult(tuple(rows))


def test_tables_fit_80_columns():
    lines = text(some_result()).splitlines()
    assert max(map(len, lines)) <= 80
    heads = [i for i, line in enumerate(lines) if line.startswith("method")]
    assert len(heads) == 2
    for i in heads:
        assert len({len(line) for line in lines[i : i + 3]}) == 1


def test_markdown_rows_have_as_many_cells_as_their_head():
    for table in markdown(some_result()).split("### ")[1:]:
        bars = [line.count("|") for line in table.splitlines() if line.startswith("|")]
        assert len(set(bars)) == 1 and len(bars) == 4


def test_undefined_and_infinite_scores_keep_the_tables_and_the_json_valid():
    row = {"key": "", "version": "", "kind": "simulated", "scene": "s", "snr_db": None, "seed": 0, "method": "m", "label": "m"}
    rows = [{**row, "status": "done", "error": None, **fake_row("inf")} for _ in range(2)]
    rows[0]["scores"] = {**rows[0]["scores"], "ssim": None}
    result = BenchmarkResult(tuple(rows))
    json.dumps(result.to_json(), allow_nan=False)
    assert " inf " in text(result) and "no noise" in text(result)


@pytest.mark.parametrize(("number", "shown"), [(0, "0"), (999, "999"), (12_345, "12.3k"), (1_234_567, "1.23M"), (999_999, "1000k")])
def test_counts_fit_five_characters(number, shown):
    assert count(number) == shown and len(shown) <= 5


def test_numbers_keep_three_digits():
    assert [short(v) for v in (0.04, 9.87, 98.76, 1234.5, float("nan"))] == ["0.0", "9.9", "98.8", "1234", "-"]


def test_an_at_sign_names_the_sensor_unless_it_is_part_of_a_file(tmp_path):
    odd = tmp_path / "odd@name.tif"
    odd.touch()
    assert split_srf("a/b.tif@landsat8") == (Path("a/b.tif"), "landsat8")
    assert split_srf(str(odd)) == (odd, None)
    assert split_srf(f"{odd}@srf.csv") == (odd, "srf.csv")


def test_the_command_prints_the_tables_and_leaves_with_3_when_a_run_failed(scene, tmp_path, fake, capsys, monkeypatch):
    arguments = ["benchmark", str(scene), "--methods", "bicubic", "--srf", "landsat8", "-o", str(tmp_path / "out")]
    assert run(arguments) == 0
    assert "bicubic" in capsys.readouterr().out
    assert run([*arguments, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 1

    def fails(job, report):
        raise runs._JobFailed("too hard")

    monkeypatch.setattr(runs, "_process", fails)
    assert run([*arguments, "--seeds", "2"]) == 3
    assert "bicubic failed: no pair: too hard" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "bicubic", "--srf", "landsat8"], "give at least one scene or pair"),
        (["{scene}", "--srf", "landsat8"], "Missing option '--methods'"),
        (["{scene}", "--methods", "bicubic"], "no --srf for"),
        (["{scene}", "--methods", "bicubc", "--srf", "landsat8"], "did you mean bicubic"),
        (["{scene}", "--methods", "bicubic,bicubic", "--srf", "landsat8"], "a method is given twice"),
        (["{scene}", "--methods", "bicubic", "--srf", "landsat88"], "landsat8"),
        (["absent.tif", "--methods", "bicubic", "--srf", "landsat8"], "absent.tif does not exist"),
        (["{scene}", "--methods", "bicubic", "--srf", "landsat8", "--snr", "high"], "not a list of numbers"),
    ],
)
def test_what_cannot_be_run_is_bad_usage_before_anything_runs(arguments, said, scene, tmp_path, fake, capsys):
    arguments = [argument.format(scene=scene) for argument in arguments]
    assert run(["benchmark", *arguments, "-o", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err and fake == [] and not (tmp_path / "out").exists()


def test_plans_that_make_no_sense_are_refused(scene, tmp_path):
    source = SceneSource(scene, "landsat8")
    with pytest.raises(UsageError, match="seeds"):
        plan_for(source, seeds=0)
    with pytest.raises(MissingFileError):
        plan_for(PairSource(scene, tmp_path / "no.tif", None))
    with pytest.raises(UnknownNameError):
        MethodChoice.parse("nothing:like-it")
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(OutputError, match="as a folder"):
        run_benchmark(plan_for(source), blocked)


@pytest.mark.slow
def test_killed_and_started_again_gives_what_an_uninterrupted_one_gives(scene, tmp_path):
    """SIGKILL while it works, again and again, until it is through."""
    command = [sys.executable, "-c", "from geofuse_cli.main import main; main()", "benchmark", str(scene), "--srf", "landsat8"]
    command += ["--methods", "bicubic", "--seeds", "2", "--device", "cpu", "--json", "-o", str(tmp_path / "out")]
    kills = 0
    for wait_s in (5, 7, 9, None):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            out, _ = process.communicate(timeout=wait_s)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    assert process.returncode == 0 and kills
    whole = run_benchmark(plan_for(SceneSource(scene, "landsat8"), seeds=2, methods=METHODS[:1]), tmp_path / "whole")
    resumed = {row["key"]: row["scores"] for row in json.loads(out)["runs"]}
    assert resumed == {row["key"]: row["scores"] for row in whole.rows}
