"""The design's rules on who may import whom, and on the size of things, held against the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (
    {"geofuse.errors", "geofuse.scene", "geofuse.registry", "geofuse.threads", "geofuse.memory", "geofuse.journal"},
    {"geofuse.io", "geofuse.sensors", "geofuse.tiling", "geofuse.metrics"},
    {"geofuse.degradation", "geofuse.align"},
    {"geofuse.diffusion", "geofuse.training"},
    {"geofuse.methods"},
    {
        f"geofuse.{name}"
        for name in (
            "pipeline",
            "fusion",
            "flow",
            "train",
            "train_scenes",
            "accessor",
            "simulate",
            "evaluate",
            "batch",
            "benchmark",
            "demo",
            "doctor",
            "lazy",
            "report",
            "result",
        )
    }
    | {"geofuse"},
    {"geofuse_cli"},
)
SIDE_BY_SIDE = (0, 5)  # layers whose files lie beside each other in geofuse/ itself: one folder, so they may import each other
ONLY_IN = {  # a library -> the only parts that may import it
    "torch": ("geofuse.degradation", "geofuse.diffusion", "geofuse.training", "geofuse.methods"),
    "click": ("geofuse_cli",),
    "rich": ("geofuse_cli",),
}
IN_FUNCTIONS_ONLY = ("rasterio", "rioxarray", "scipy", "skimage", "matplotlib", "pyrsr")  # in what `import geofuse` reaches
FILE_LINES, FUNCTION_LINES = 350, 60


def source_files() -> list[Path]:
    return sorted([*(ROOT / "geofuse").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])


def module_name(path: Path) -> str:
    relative = path.relative_to(ROOT / "cli" if path.is_relative_to(ROOT / "cli") else ROOT)
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


MODULES = {module_name(path): path for path in source_files()}


def imports(node: ast.AST, *, in_functions: bool) -> Iterator[tuple[str, int]]:
    """Yield (module, line) of every import below ``node`` but those for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not in_functions:
            continue
        if isinstance(child, ast.Import):
            yield from ((alias.name, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"relative import of {child.module} in line {child.lineno}; write it absolute"
            for alias in child.names:
                full = f"{child.module}.{alias.name}"
                yield (full if full in MODULES else child.module), child.lineno
        else:
            yield from imports(child, in_functions=in_functions)


def internal_imports(path: Path, *, in_functions: bool = True) -> list[tuple[str, int]]:
    found = imports(tree(path), in_functions=in_functions)
    return [(module, line) for module, line in found if module.split(".")[0] in ("geofuse", "geofuse_cli")]


def part(module: str) -> str:
    """The folder or top-level file that a module belongs to: ``geofuse.io.guard`` -> ``geofuse.io``."""
    return "geofuse_cli" if module.startswith("geofuse_cli") else ".".join(module.split(".")[:2])


def layer(module: str) -> int:
    return next(level for level, names in enumerate(LAYERS) if part(module) in names)


def is_allowed(importer: str, imported: str) -> bool:
    if part(importer) == part(imported) or layer(imported) < layer(importer):
        return True
    return layer(imported) == layer(importer) and layer(importer) in SIDE_BY_SIDE


def test_every_file_belongs_to_a_layer():
    known = set().union(*LAYERS)
    assert {part(module) for module in MODULES} <= known, "give the new part its place in LAYERS and in DESIGN.md"


def test_a_file_imports_only_from_lower_layers_or_its_own_folder():
    wrong = []
    for module, path in MODULES.items():
        for imported, line in internal_imports(path):
            if imported == "geofuse" and names_version_only(path, line):
                continue
            if not is_allowed(module, imported):
                where = f"{path.relative_to(ROOT)}:{line}"
                wrong.append(f"{where} (layer {layer(module)}) imports {imported} (layer {layer(imported)})")
    assert not wrong, "\n".join(wrong)


def names_version_only(path: Path, line: int) -> bool:
    """Tell whether the import in ``line`` is ``from geofuse import __version__``, which provenance needs in low layers."""
    nodes = [node for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom) and node.lineno == line]
    return all(alias.name == "__version__" for node in nodes for alias in node.names) and bool(nodes)


def test_there_is_no_import_cycle():
    graph = {module: {name for name, _ in internal_imports(path) if name in MODULES} for module, path in MODULES.items()}
    graph["geofuse"] = set()  # the front door looks its names up when they are used; the layers test covers it
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, "import cycle: " + " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for imported in sorted(graph[module]):
                visit(imported, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_with_a_place_is_imported_only_there(library):
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for module, path in MODULES.items()
        for imported, line in imports(tree(path), in_functions=True)
        if imported.split(".")[0] == library and not part(module).startswith(ONLY_IN[library])
    ]
    assert not wrong, f"{library} belongs in {', '.join(ONLY_IN[library])}: " + ", ".join(wrong)


def reached_at_import(start: str) -> set[str]:
    """Modules that importing ``start`` loads: its own imports outside functions, and the packages that hold them."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module in reached or module not in MODULES:
            continue
        reached.add(module)
        waiting += [name for name, _ in internal_imports(MODULES[module], in_functions=False)]
        waiting += [".".join(module.split(".")[:depth]) for depth in range(1, module.count(".") + 1)]
    return reached


def test_what_import_geofuse_reaches_imports_heavy_libraries_in_functions_only():
    wrong = [
        f"{module}:{line} imports {imported}"
        for module in sorted(reached_at_import("geofuse"))
        for imported, line in imports(tree(MODULES[module]), in_functions=False)
        if imported.split(".")[0] in (*IN_FUNCTIONS_ONLY, "torch")
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_has_a_name_that_says_nothing():
    names = [path for path in source_files() if any(word in path.stem for word in ("util", "helper", "manager", "misc", "common"))]
    assert not names


def test_files_stay_readable_in_length():
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in source_files()}
    assert not {path: lines for path, lines in long.items() if lines > FILE_LINES}


def test_functions_stay_readable_in_length():
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {code_lines(node)} lines"
        for path in source_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and code_lines(node) > FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    docstring = node.body[0] if ast.get_docstring(node) is not None else None
    length = node.end_lineno - node.lineno + 1
    return length - (docstring.end_lineno - docstring.lineno + 1 if docstring else 0)
