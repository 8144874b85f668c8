from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from importlib import import_module

import click
import pytest

from geofuse.errors import InputError
from geofuse_cli import main as entry
from geofuse_cli.options import device_option, min_coverage_option, msi_bands_option, psf_option, seed_option

HEAVY = {"torch", "rasterio", "rioxarray", "scipy", "skimage", "matplotlib", "pyrsr"}


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def geofuse(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return python("from geofuse_cli.main import main; main()", *arguments, **environment)


def loaded_by(code: str) -> set[str]:
    """Top-level modules in memory after ``code``."""
    done = python(f"import sys\n{code}\nprint('LOADED', *sys.modules)")
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.rpartition("LOADED")[2].split()}


def processor_seconds(*codes: str) -> list[float]:
    """Processor time of a fresh interpreter running each of ``codes``, the least of five taken in turn.

    Turns, because a shared machine changes its pace: only what was measured together can be compared.
    """
    least = [float("inf")] * len(codes)
    for _ in range(5):
        for at, code in enumerate(codes):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert python(code).returncode == 0
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            least[at] = min(least[at], after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return least


@pytest.fixture
def failing(monkeypatch):
    """Make the command ``doctor`` raise what it is told to; returns the function that runs it: (exit code, one line of stderr)."""

    def run(error: BaseException, capsys, *options: str) -> tuple[int, str]:
        @click.command("doctor")
        def command() -> None:
            raise error

        monkeypatch.setattr(import_module("geofuse_cli.commands.doctor"), "command", command)
        code = entry.run(["doctor", *options])
        captured = capsys.readouterr()
        assert captured.out == ""
        return code, captured.err

    return run


def test_import_geofuse_loads_nothing_heavy():
    assert not loaded_by("import geofuse") & HEAVY


def test_help_loads_neither_xarray_nor_anything_heavy():
    code = "from geofuse_cli.main import run\nassert run(['--help']) == 0"
    assert not loaded_by(code) & (HEAVY | {"xarray", "numpy", "dask", "rich", "geofuse"})


def test_importing_costs_little_beside_xarray_and_help_is_quicker_still():
    xarray, geofuse, help_page = processor_seconds(
        "import xarray", "import geofuse", "from geofuse_cli.main import run; run(['--help'])"
    )
    assert geofuse < 1.25 * xarray
    assert help_page < 0.5 * xarray


def test_help_names_every_command_with_its_one_line():
    text = " ".join(geofuse("--help").stdout.split())
    for name, line in entry.COMMANDS.items():
        assert f"{name} {line}" in text


@pytest.mark.parametrize("name", entry.COMMANDS)
def test_the_one_line_of_a_command_is_its_own(name):
    command = entry.cli.get_command(click.Context(entry.cli), name)
    assert command.name == name
    assert command.get_short_help_str(200) == entry.COMMANDS[name]


@pytest.mark.parametrize("name", entry.COMMANDS)
def test_every_command_explains_itself_on_80_columns(name):
    shown = geofuse(name, "--help", COLUMNS="80")
    assert shown.returncode == 0 and shown.stderr == ""
    assert f"Usage: geofuse {name}" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_every_command_takes_verbose_and_debug_once():
    for name in entry.COMMANDS:
        for _ in range(2):  # a command is imported once but looked up more often
            command = entry.cli.get_command(click.Context(entry.cli), name)
        assert [param.name for param in command.params].count("debug") == 1
        assert [param.name for param in command.params].count("verbose") == 1


def test_version_is_the_packages():
    import geofuse as package

    shown = geofuse("--version")
    assert (shown.returncode, shown.stdout) == (0, f"geofuse {package.__version__}\n")


def test_no_command_shows_help_on_stderr_and_is_bad_usage():
    shown = geofuse()
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith("Usage: geofuse")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fuze"], "No such command 'fuze'.*geofuse --help"),
        (["doctor", "--jsn"], "No such option '--jsn'.*geofuse doctor --help"),
        (["benchmark", "a.tif", "--methods", "gsa", "--snr", "1,nan"], "'1,nan' is not a list.*geofuse benchmark --help"),
        (["report", "a.tif", "--wavelengths", "nm.csv"], "give the HSI with --hsi.*geofuse report --help"),
        (["doctor", "extra"], "unexpected extra argument.*geofuse doctor --help"),
    ],
)
def test_bad_usage_is_one_line_with_a_hint_and_exit_code_2(arguments, expected, capsys):
    assert entry.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert re.match(rf"geofuse: error: .*{expected}", captured.err)


def test_bad_input_is_one_line_and_exit_code_2(failing, capsys):
    assert failing(InputError("a.tif is\n  broken"), capsys) == (2, "geofuse: error: a.tif is broken\n")


def test_bad_input_with_debug_shows_where(failing, capsys):
    code, text = failing(InputError("a.tif is broken"), capsys, "--debug")
    assert code == 2
    assert text.startswith("Traceback") and text.endswith("geofuse: error: a.tif is broken\n")


def test_an_internal_error_is_one_line_and_exit_code_1(failing, capsys):
    code, text = failing(ZeroDivisionError("oh\nno"), capsys)
    assert code == 1
    assert text == "geofuse: internal error: ZeroDivisionError: oh no; run again with --debug for the traceback\n"


def test_an_internal_error_with_debug_shows_its_traceback(failing, capsys):
    code, text = failing(ZeroDivisionError("oh no"), capsys, "--debug")
    assert code == 1
    assert "Traceback" in text and text.endswith("geofuse: internal error: ZeroDivisionError: oh no\n")


def test_an_interrupt_is_exit_code_130(failing, capsys):
    assert failing(KeyboardInterrupt(), capsys) == (130, "geofuse: interrupted\n")


def test_a_reader_that_went_away_is_silent():
    code = "import subprocess, sys; from geofuse_cli.main import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()  # before the first line is written
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_warnings_of_geofuse_are_one_line_and_those_of_libraries_need_verbose(capsys):
    code = (
        "import logging, warnings; from geofuse_cli.main import set_up_logging; import sys; set_up_logging(int(sys.argv[1]));"
        "logging.getLogger('geofuse.io').warning('two\\nlines'); logging.getLogger('geofuse.io').info('progress');"
        "warnings.warn('from a library')"
    )
    assert python(code, "0").stderr == "geofuse: warning: two lines\n"
    verbose = python(code, "1").stderr.splitlines()
    assert verbose[:2] == ["geofuse: warning: two lines", "geofuse: info: progress"]
    assert len(verbose) == 3 and "from a library" in verbose[2]


def parse(option, *arguments: str) -> dict[str, object]:
    @click.command()
    @option
    def command(**values: object) -> dict[str, object]:
        return values

    return command.main(list(arguments), standalone_mode=False)


def test_band_names_are_split_at_commas():
    assert parse(msi_bands_option, "--msi-bands", "B2, B3,B4") == {"msi_bands": ("B2", "B3", "B4")}
    assert parse(msi_bands_option) == {"msi_bands": None}
    with pytest.raises(click.BadParameter, match="empty name"):
        parse(msi_bands_option, "--msi-bands", "B2,,B4")


@pytest.mark.parametrize(
    ("option", "arguments"),
    [
        (min_coverage_option, ["--min-coverage", "0"]),
        (min_coverage_option, ["--min-coverage", "90"]),
        (min_coverage_option, ["--min-coverage", "nan"]),
        (seed_option, ["--seed", "-1"]),
    ],
)
def test_numbers_out_of_range_are_bad_usage(option, arguments):
    with pytest.raises(click.BadParameter):
        parse(option, *arguments)


def test_defaults_are_what_the_design_says():
    assert parse(psf_option("auto")) == {"psf": "auto"}
    assert parse(min_coverage_option) == {"min_coverage": 0.9}
    assert parse(device_option) == {"device": "auto"}
    assert parse(seed_option) == {"seed": 0}


def test_doctor_says_that_all_is_well_and_prints_json():
    shown = geofuse("doctor", "--json")
    assert shown.returncode == 0, shown.stdout
    found = json.loads(shown.stdout)
    assert found["problems"] == []
    assert found["sections"]["geodata"]["EPSG:32633 found"] is True


def test_doctor_finds_a_broken_projection_data_base(tmp_path):
    shown = geofuse("doctor", PROJ_DATA=str(tmp_path))
    assert shown.returncode == 2
    assert "problem: PROJ cannot look up EPSG:32633" in shown.stdout and "unset PROJ_DATA" in shown.stdout
