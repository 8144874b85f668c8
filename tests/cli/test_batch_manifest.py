"""A manifest is checked whole before the first scene starts, and what is wrong is named with its place."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from geofuse.batch import Row, read_manifest
from geofuse.errors import GeofuseError, InputError, MissingFileError
from geofuse_cli.commands.batch import WRITTEN, option_forms
from geofuse_cli.commands.run import command as run_command


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    """An archive with empty images; the plan opens none."""
    for name in ("a_hsi.tif", "a_msi.tif", "b_hsi.tif", "b_msi.tif", "camera.csv"):
        (tmp_path / name).touch()
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def dry_run(geofuse, files):
    """Write a manifest (CSV unless it begins with a YAML key) and plan it: exit code, plan or one line of error."""

    def run(text: str, *options: object):
        is_yaml = text.startswith(("defaults:", "scenes:", "- "))
        manifest = files / ("m.yaml" if is_yaml else "m.csv")
        manifest.write_text(text)
        done = geofuse("batch", manifest, "--dry-run", "--json", *options)
        return done.code, json.loads(done.out) if done.out else done.err

    return run


def rows(path: Path, text: str) -> list[dict[str, str]]:
    path.write_text(text)
    return [dict(row.values) for row in read_manifest(path)]


def test_a_table_and_yaml_say_the_same(tmp_path):
    table = rows(tmp_path / "m.csv", 'hsi, msi,out,msi_bands,seed\na.tif,b.tif,c.tif,"B2,B3",007\n\nd.tif,e.tif,f.tif,,\n')
    text = """
defaults: {msi-bands: [B2, B3]}
scenes:
  - {hsi: a.tif, msi: b.tif, out: c.tif, seed: 007}
  - {hsi: d.tif, msi: e.tif, out: f.tif, msi_bands: ""}
"""
    assert rows(tmp_path / "m.yaml", text) == table
    assert table[0] == {"hsi": "a.tif", "msi": "b.tif", "out": "c.tif", "msi-bands": "B2,B3", "seed": "007"}


def test_yaml_values_are_text_whatever_yaml_would_make_of_them(tmp_path):
    (row,) = rows(tmp_path / "m.yaml", "- {hsi: 1.tif, msi: on, coregister: off, scale: 1e-4, seed: 0o17, out: 2026-11-20}\n")
    assert row == {"hsi": "1.tif", "msi": "on", "coregister": "off", "scale": "1e-4", "seed": "0o17", "out": "2026-11-20"}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("m.csv", "hsi,msi\n", "lists no scene"),
        ("m.csv", "hsi,hsi\na,b\n", "column hsi appears twice"),
        ("m.csv", "hsi;msi\na;b\n", "semicolons"),
        ("m.csv", "hsi\tmsi\na\tb\n", "tabs"),
        ("m.csv", "hsi,msi\na,b,c\n", "line 2: 3 cells under 2 columns"),
        ("m.csv", 'hsi,msi\n"a,b\n', "not a CSV table"),
        ("m.yaml", "scenes:\n- hsi: a\n  hsi: b\n", "line 3: hsi is given twice"),
        ("m.yaml", "scenes:\n- msi-bands: a\n  msi_bands: b\n", "given twice"),
        ("m.yaml", "scene: []\n", "expected 'scenes:'"),
        ("m.yaml", "scenes:\n- a.tif\n", "scene 1: expected names and values"),
        ("m.yaml", "scenes:\n- hsi: {a: b}\n", "hsi holds more than a value"),
        ("m.yaml", "scenes: [\n", "line 2"),
        ("m.yaml", "scenes: !!python/object/apply:os.system [id]\n", "lists no scene|expected names and values"),
        ("m.yaml", "[" * 900, "not YAML"),
    ],
)
def test_what_is_no_manifest_is_refused_with_its_place(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=expected):
        read_manifest(tmp_path / name)


def test_binary_and_missing_files_are_refused(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"II*\0\xff\xfe")
    with pytest.raises(InputError, match="not text"):
        read_manifest(tmp_path / "m.csv")
    with pytest.raises(MissingFileError):
        read_manifest(tmp_path / "n.csv")


def test_a_star_takes_every_pair_in_order_and_stands_for_the_same_text(tmp_path):
    for name in ("b x", "a", "[1]"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "h.tif").touch()
    found = rows(tmp_path / "m.csv", "hsi,msi,out,save-prior\n./*/h.tif,*/m.tif,f/*.tif,p.*\n")
    assert [row["msi"] for row in found] == ["[1]/m.tif", "a/m.tif", "b x/m.tif"]
    assert found[2] == {"hsi": "./b x/h.tif", "msi": "b x/m.tif", "out": "f/b x.tif", "save-prior": "p.b x"}


@pytest.mark.parametrize(
    ("values", "error"),
    [({"hsi": "a", "msi": "*.tif"}, InputError), ({"hsi": "*/*.tif"}, InputError), ({"hsi": "x*.tif"}, MissingFileError)],
)
def test_a_star_that_says_nothing_is_refused(tmp_path, values, error):
    from geofuse.batch.manifest import expand

    with pytest.raises(error):
        list(expand(Row("line 2", values), tmp_path))


def test_the_plan_holds_the_arguments_of_run(dry_run, files):
    code, plan = dry_run(
        "hsi,msi,out,srf,method,msi-average\na_hsi.tif,a_msi.tif,f/a.tif,camera.csv,subspace,2\nb_hsi.tif,b_msi.tif,,landsat8,,\n"
    )
    assert code == 0
    first, second = plan["scenes"]
    assert first["arguments"] == [
        "run",
        str(files / "a_hsi.tif"),
        str(files / "a_msi.tif"),
        f"--output={files}/f/a.tif",
        f"--srf={files}/camera.csv",
        "--method=subspace",
        "--msi-average=2",
    ]
    assert second["name"] == "b_hsi-fused.tif" and "--srf=landsat8" in second["arguments"]
    assert not (files / "f").exists() and not (files / "summary.json").exists()


def test_set_decides_over_the_manifest_and_may_take_away(dry_run):
    text = "defaults: {srf: landsat8, method: cnmf, preset: fast}\nscenes: [{hsi: a_hsi.tif, msi: a_msi.tif}]\n"
    code, plan = dry_run(text, "--set", "method=subspace", "--set", "preset=")
    assert code == 0
    assert plan["scenes"][0]["given"] == {"srf": "landsat8", "method": "subspace", "hsi": "a_hsi.tif", "msi": "a_msi.tif"}


@pytest.mark.parametrize(("text", "flag"), [("true", "--mask-clouds"), ("no", "--no-mask-clouds")])
def test_a_switch_that_is_on_by_itself_can_be_turned_off(dry_run, text, flag):
    code, plan = dry_run(f"hsi,msi,srf,mask-clouds,keep-going\na_hsi.tif,a_msi.tif,landsat8,{text},{text}\n")
    assert code == 0
    assert plan["scenes"][0]["arguments"][5:] == [flag, *(["--keep-going"] if text == "true" else [])]


def test_every_option_of_run_can_be_given_but_those_a_batch_gives_itself():
    flags = {name for param in run_command.params if isinstance(param, click.Option) for name in param.opts if name[:2] == "--"}
    own = flags - {form.flag for form in option_forms().values()}
    assert own <= {"--output", "--json", "--verbose", "--debug", "--resume"}


def test_every_option_of_run_that_names_a_file_is_known_as_read_or_written():
    paths = {param.name for param in run_command.params if isinstance(param, click.Option) and isinstance(param.type, click.Path)}
    read = {"prior", "weights", "response", "wavelengths", "mask"}
    assert paths <= read | WRITTEN | {"output"}, "say in commands/batch.py (WRITTEN) or here which of them 'run' writes"


HEAD = "hsi,msi,out,"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hsi,msi,methd\na_hsi.tif,a_msi.tif,x\n", "line 2: unknown column or option 'methd'; did you mean method"),
        ("hsi,msi,output\na_hsi.tif,a_msi.tif,x\n", "unknown column or option 'output'"),
        ("hsi,msi,verbose\na_hsi.tif,a_msi.tif,1\n", "unknown column or option 'verbose'"),
        ("hsi,out\na_hsi.tif,x.tif\n", "line 2: no msi"),
        ("hsi,msi\nc_hsi.tif,a_msi.tif\n", "line 2: hsi c_hsi.tif: no such file"),
        ("hsi,msi,prior\na_hsi.tif,a_msi.tif,p.safetensors\n", "prior p.safetensors: no such file"),
        ("hsi,msi,srf\na_hsi.tif,a_msi.tif,none.csv\n", "srf none.csv: no such file"),
        ("hsi,msi,srf\na_hsi.tif,a_msi.tif,landsat88\n", "line 2: unknown sensor"),
        ("hsi,msi,method\na_hsi.tif,a_msi.tif,subspac\n", "line 2: unknown method"),
        ("hsi,msi,method,preset\na_hsi.tif,a_msi.tif,subspace,quick\n", "no preset 'quick'"),
        ("hsi,msi,tile\na_hsi.tif,a_msi.tif,7\n", "line 2: .*'--tile'"),
        ("hsi,msi,coregister\na_hsi.tif,a_msi.tif,perhaps\n", "line 2: .*'--coregister'"),
        ("hsi,msi,driver\na_hsi.tif,a_msi.tif,ENVI\n", "line 2: no out"),
        ("hsi,msi,allow-remote\na_hsi.tif,a_msi.tif,yes\n", "a manifest cannot allow remote"),
        ("hsi,msi\nhttps://x/a.tif,a_msi.tif\n", "no such file"),
        (HEAD + "srf\na_hsi.tif,a_msi.tif,x.tif,landsat8\nb_hsi.tif,b_msi.tif,./x.tif,landsat8\n", "line 3: .*by line 2"),
        (HEAD + "srf\na_hsi.tif,a_msi.tif,x.tif,landsat8\nb_hsi.tif,b_msi.tif,x.tif.log,landsat8\n", "written by line 2"),
        (HEAD + "srf\na_hsi.tif,a_msi.tif,b_msi.tif,landsat8\nb_hsi.tif,b_msi.tif,y.tif,landsat8\n", "input of line 3"),
        (HEAD + "srf\na_hsi.tif,a_msi.tif,x.tif,landsat8\nb_hsi.tif,b_msi.tif,x.tif/y.tif,landsat8\n", "inside"),
        (HEAD + "srf\na_hsi.tif,a_msi.tif,summary.json,landsat8\n", "written by the summary"),
        (HEAD + "srf\na_hsi.tif,a_msi.tif,m.csv,landsat8\n", "is an input of the batch"),
        (HEAD + "prior,save-prior\na_hsi.tif,a_msi.tif,x.tif,p,p\n", "waits for|is an input of"),
        (HEAD + "prior,save-prior\na_hsi.tif,a_msi.tif,x.tif,p,q\nb_hsi.tif,b_msi.tif,y.tif,q,p\n", "waits for a prior that waits"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_before_anything_starts(dry_run, text, expected):
    import re

    code, error = dry_run(text)
    assert code == 2 and error.count("\n") == 1
    assert re.search(expected, error), error


def test_all_problems_are_named_at_once(dry_run):
    code, error = dry_run("hsi,msi,tile\nc.tif,a_msi.tif,\na_hsi.tif,a_msi.tif,7\nb_hsi.tif,,\n")
    assert code == 2 and "3 problems" in error
    assert error.index("line 2") < error.index("line 3") < error.index("line 4")


@pytest.mark.parametrize(
    "arguments",
    [[], ["m.csv", "--dfc2018", "x"], ["--dfc2018", "x"], ["m.csv", "--set", "method"], ["m.csv", "--set", "a=1", "--set", "a=2"]],
)
def test_bad_usage_is_exit_code_2(geofuse, files, monkeypatch, arguments):
    monkeypatch.chdir(files)
    (files / "m.csv").write_text("hsi,msi\na_hsi.tif,a_msi.tif\n")
    assert geofuse("batch", *arguments).code == 2


def test_an_unknown_name_in_set_is_refused(dry_run):
    code, error = dry_run("hsi,msi\na_hsi.tif,a_msi.tif\n", "--set", "methd=subspace")
    assert code == 2 and "did you mean method" in error


def test_learn_once_gives_the_first_scenes_prior_to_the_others(dry_run):
    table = "hsi,msi,srf\na_hsi.tif,a_msi.tif,landsat8\nb_hsi.tif,b_msi.tif,landsat8\n"
    code, plan = dry_run(table, "--learn-once")
    assert code == 0
    first, second = plan["scenes"]
    assert "learnt.safetensors" in first["given"]["save-prior"] and first["needs"] is None
    assert second["needs"] == first["name"] and second["given"]["prior"] == "learnt.safetensors"
    assert dry_run(table.replace("srf", "prior").replace("landsat8", "camera.csv"), "--learn-once")[0] == 2


def test_the_printed_plan_fits_80_columns(geofuse, files):
    (files / "m.csv").write_text(f"hsi,msi,srf,out\na_hsi.tif,a_msi.tif,landsat8,{'long/' * 30}x.tif\n")
    shown = geofuse("batch", files / "m.csv", "--dry-run")
    assert shown.code == 0 and max(map(len, shown.out.splitlines())) <= 80
    assert "hsi a_hsi.tif" in shown.out and "srf landsat8" in shown.out


def test_errors_are_of_this_package(tmp_path):
    with pytest.raises(GeofuseError):
        read_manifest(tmp_path)


def test_the_uncertainty_beside_a_result_is_an_output_like_any_other(dry_run, files):
    if "uncertainty" not in option_forms():
        pytest.skip("geofuse run writes no uncertainty")
    code, error = dry_run(
        "hsi,msi,out,srf,uncertainty\na_hsi.tif,a_msi.tif,f/a.tif,landsat8,4\nb_hsi.tif,b_msi.tif,f/a-uncertainty.tif,landsat8,\n"
    )
    assert code == 2 and "line 3" in error and "written by line 2" in error
