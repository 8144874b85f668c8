from __future__ import annotations

import ast
import configparser
import fnmatch
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import geofuse

ROOT = Path(__file__).resolve().parents[1]
TOPS = {"geofuse": ROOT / "geofuse", "geofuse_cli": ROOT / "cli" / "geofuse_cli"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def distribution(requirement: str) -> str:
    """``scikit-image>=0.24`` -> ``scikit-image``, in the one spelling that metadata uses."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement).group()).lower()


def dotted(folder: Path) -> str:
    top = next(name for name, path in TOPS.items() if folder.is_relative_to(path))
    return ".".join((top, *folder.relative_to(TOPS[top]).parts))


def source_files() -> list[Path]:
    return [path for top in TOPS.values() for path in sorted(top.rglob("*.py"))]


def third_party_imports() -> dict[str, Path]:
    """Top-level names that geofuse and its command line import, type checkers' imports included -> one file that does."""
    found = {}
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            found |= {module.split(".")[0]: path for module in modules}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names and name not in TOPS}


def test_the_folder_map_lists_every_package_of_the_tree():
    listed = SETUP["options"]["packages"].split()
    with_code = {dotted(path.parent) for path in source_files()}
    assert listed == sorted(with_code), "setup.cfg lists other packages than there are folders; one not listed is left out"


def test_every_package_has_an_init_file():
    assert not [path.parent for path in source_files() if not (path.parent / "__init__.py").is_file()]


def test_every_data_file_of_a_package_is_listed():
    listed = {package: patterns.split() for package, patterns in SETUP["options.package_data"].items()}
    tracked = subprocess.run(["git", "ls-files", "geofuse", "cli"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in tracked.stdout.split("\n"):
        path = ROOT / name
        if name and path.suffix != ".py" and path.exists():
            package = next(p for p in (path, *path.parents) if (p / "__init__.py").is_file())
            patterns = listed.get(dotted(package), [])
            inside = str(path.relative_to(package))
            assert any(fnmatch.fnmatch(inside, pattern) for pattern in patterns), f"setup.cfg [options.package_data] misses {name}"


def test_every_import_is_a_declared_dependency_or_in_an_extra():
    extras = [text for extra, texts in PROJECT["optional-dependencies"].items() if extra != "dev" for text in texts]
    declared = {distribution(requirement) for requirement in [*PROJECT["dependencies"], *extras]}
    providers = importlib.metadata.packages_distributions()
    missing = {
        f"{name} ({path.relative_to(ROOT)})"
        for name, path in third_party_imports().items()
        if not declared & {distribution(provider) for provider in providers.get(name, [name])}
    }
    assert not missing


def test_every_declared_dependency_is_imported():
    providers = importlib.metadata.packages_distributions()
    used = {distribution(provider) for name in third_party_imports() for provider in providers.get(name, [name])}
    assert {distribution(requirement) for requirement in PROJECT["dependencies"]} <= used


def test_what_is_in_an_extra_is_imported_somewhere_and_tested():
    extras = PROJECT["optional-dependencies"]
    used = {distribution(name) for name in third_party_imports()}
    tested = {distribution(requirement) for requirement in extras["dev"]}
    optional = {distribution(text) for extra, texts in extras.items() if extra != "dev" for text in texts}
    assert optional <= used & tested


def test_constraints_lie_within_the_declared_ranges():
    from packaging.requirements import Requirement

    requirements = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    declared = {distribution(text): Requirement(text) for text in requirements}
    for line in (ROOT / "constraints.txt").read_text().split():
        name, version = line.split("==")
        assert declared[distribution(name)].specifier.contains(version), line


def test_the_version_stands_in_one_place():
    assert PROJECT["dynamic"] == ["version"] and "version" not in PROJECT
    assert importlib.metadata.version("geofuse") == geofuse.__version__


def test_only_geofuse_and_its_command_line_are_importable_at_top_level(tmp_path):
    top_level = importlib.metadata.distribution("geofuse").read_text("top_level.txt")
    assert set(top_level.split()) == set(TOPS)
    bare = subprocess.run([sys.executable, "-I", "-c", "import cli"], cwd=tmp_path, capture_output=True, text=True)
    assert "No module named 'cli'" in bare.stderr


@pytest.mark.slow
def test_the_wheel_holds_the_tree_and_nothing_else(tmp_path):
    source = tmp_path / "source"  # a copy, because setuptools leaves build/ behind and packs what it finds there the next time
    for name in ("geofuse", "cli"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("geofuse-*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {str(path.relative_to(ROOT)).removeprefix("cli/") for path in source_files()}
    assert {name for name in packed if name.endswith(".py")} == expected
    assert "geofuse/py.typed" in packed


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text


def readme_commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_the_readme_has_one_command_that_runs_the_main_job_and_one_that_passes_the_tests():
    job, tests = [line for line in readme_commands() if line.startswith("python3 -m venv")]
    assert "geofuse demo" in job and "geofuse run" in job and "-c constraints.txt" in job
    assert "ruff check" in tests and "-m pytest -q" in tests and "-c constraints.txt" in tests


def test_ci_takes_its_command_from_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    pattern = re.search(r"grep '(\S.*)' README.md", script).group(1)
    assert len([line for line in readme_commands() if re.match(pattern, line)]) == 1


def test_every_geofuse_command_line_of_the_readme_parses():
    from geofuse_cli.main import cli

    lines = [part.split() for line in readme_commands() for part in line.split(" && ")]
    lines = [words[1:] for words in lines if words[0].endswith("geofuse")]
    assert len(lines) >= 5
    for name, *arguments in lines:
        cli.get_command(None, name).make_context(name, arguments).close()
