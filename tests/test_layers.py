"""The floors of the house as data, and a walk over the syntax trees that keeps to them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "aivc_graph"

FLOOR_ROOMS = (
    ("names", "errors", "settings"),
    ("registry", "yaml_source", "atomic"),
    ("tissue", "setting_faults", "plot"),
    ("io", "modalities", "simulate", "splits"),
    ("graph",),
    ("operators",),
    ("model",),
    ("training", "evaluation"),
    ("query",),
    ("report",),
    ("config",),
    ("pipeline",),
    ("verbs",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOOR_ROOMS) for room in rooms}

TORCH = {"torch", "torch_geometric"}
TORCH_FROM = FLOOR["graph"]
TORCH_INSIDE_FUNCTIONS = {"aivc_graph.modalities.encoder_files"}
HEAVY = {"spatialdata", "squidpy", "skimage", "tifffile", "openslide", "geopandas", "imagecodecs"}
HEAVY_FLOORS = range(FLOOR["tissue"], FLOOR["graph"] + 1)
ROOM_WITH_KINDS = "operators"
LONGEST_FILE = 400
LONGEST_FUNCTION = 60


@dataclass(frozen=True)
class Import:
    """One imported module, in the module that imports it."""

    source: str
    target: str
    line: int
    inside_function: bool


def module_files(root: Path = ROOT) -> dict[str, Path]:
    """Return dotted name → file; ``io/readers`` and ``io/writers`` count as the rooms they are packaged into."""
    files = {}
    for folder, prefix in ((root / PACKAGE, PACKAGE), (root / "io", f"{PACKAGE}.io")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            files[".".join((prefix, *(part for part in parts if part != "__init__")))] = path
    return files


def imports_of(module: str, tree: ast.AST, modules: set[str]) -> Iterator[Import]:
    """Yield what a syntax tree imports; ``from a import b`` is ``a.b`` where that is a module."""
    inside = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = f"{'.' * node.level}{node.module or ''}"
            full = [f"{base}.{alias.name}" for alias in node.names]
            targets = [name if name in modules else base for name in full]
        for target in targets:
            yield Import(module, target, getattr(node, "lineno", 0), node in inside)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def faults_of_import(found: Import, packages: set[str]) -> Iterator[str]:
    """Yield what is wrong with one import."""
    where = f"{found.source}:{found.line}"
    here, top = room_of(found.source), found.target.split(".")[0]
    floor = FLOOR.get(here)
    if floor is None:
        return
    if found.target.startswith("."):
        yield f"{where}: relative import {found.target}; name the module in full"
    if top == PACKAGE:
        yield from _faults_inside(found, where, here, floor, packages)
    if top in TORCH and floor < TORCH_FROM and not (found.source in TORCH_INSIDE_FUNCTIONS and found.inside_function):
        yield f"{where}: {top} on floor {floor}; it appears from floor {TORCH_FROM} up"
    if top in HEAVY and floor not in HEAVY_FLOORS:
        yield f"{where}: {top} on floor {floor}; only floors {HEAVY_FLOORS[0]} to {HEAVY_FLOORS[-1]} may"
    elif top in HEAVY and not found.inside_function:
        yield f"{where}: {top} at the top of the file; import it inside the function that uses it"


def _faults_inside(found: Import, where: str, here: str, floor: int, packages: set[str]) -> Iterator[str]:
    there = room_of(found.target)
    if found.target in packages:
        yield f"{where}: the package face {found.target}; import the defining module"
    elif there not in FLOOR:
        yield f"{where}: {found.target}, a room without a floor"
    elif there != here and FLOOR[there] >= floor:
        yield f"{where}: {here} (floor {floor}) imports {there} (floor {FLOOR[there]})"
    elif here == there == ROOM_WITH_KINDS:
        own, other = found.source.split(".")[2:], found.target.split(".")[2:]
        if len(own) > 1 and len(other) > 1 and own[0] != other[0]:
            yield f"{where}: {ROOM_WITH_KINDS} {own[0]} imports {ROOM_WITH_KINDS} {other[0]}"


def faults_of_size(module: str, source: str, tree: ast.AST) -> Iterator[str]:
    """Yield what is too long in one file."""
    lines = source.count("\n")
    if lines > LONGEST_FILE:
        yield f"{module}: {lines} lines; at most {LONGEST_FILE}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1 - _docstring_lines(node)
            if length > LONGEST_FUNCTION:
                yield f"{module}:{node.lineno}: {node.name} has {length} lines; at most {LONGEST_FUNCTION}"


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1 if ast.get_docstring(node, clean=False) else 0


def faults_of_house(root: Path = ROOT) -> list[str]:
    """Return every fault of all files under `root`."""
    files = module_files(root)
    packages = {module for module, path in files.items() if path.name == "__init__.py"}
    faults = []
    for module, path in files.items():
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        faults += faults_of_size(module, source, tree)
        for found in imports_of(module, tree, set(files)):
            faults += faults_of_import(found, packages)
        if "." in module and room_of(module) not in FLOOR:
            faults.append(f"{module}: a room without a floor")
    return faults


def test_house_keeps_its_floors() -> None:
    assert faults_of_house() == []


class WithoutTypeImports(ast.NodeTransformer):
    """Leave out what only type checkers import: a fit may name the operator that calls it."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def test_no_module_imports_itself_by_way_of_others() -> None:
    files = module_files()
    graph = nx.DiGraph()
    for module, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        run = ast.fix_missing_locations(WithoutTypeImports().visit(tree))
        graph.add_edges_from((module, found.target) for found in imports_of(module, run, set(files)))
    assert [circle for circle in nx.strongly_connected_components(graph) if len(circle) > 1] == []


def test_walk_reaches_the_rooms() -> None:
    rooms = {room_of(module) for module in module_files()}
    assert all(any(room in rooms for room in floor) for floor in FLOOR_ROOMS[:9])


def test_face_exports_only() -> None:
    face = ROOT / PACKAGE / "__init__.py"
    classes = [node for node in ast.walk(ast.parse(face.read_text())) if isinstance(node, ast.ClassDef)]
    assert not classes, "the public face defines nothing of its own"


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("tissue/a", "from aivc_graph.graph.build import f", "tissue (floor 2) imports graph (floor 4)"),
        ("tissue/a", "def f():\n    import aivc_graph.graph.build", "tissue (floor 2) imports graph"),
        ("splits/a", "from aivc_graph.io.reading import read", "splits (floor 3) imports io (floor 3)"),
        ("names", "import aivc_graph.cli", "names (floor 0) imports cli (floor 13)"),
        ("graph/a", "from aivc_graph.tissue import add_level", "the package face aivc_graph.tissue"),
        ("graph/a", "from aivc_graph import VirtualTissue", "the package face aivc_graph"),
        ("graph/a", "from . import b", "relative import"),
        ("graph/a", "from aivc_graph.utils import b", "a room without a floor"),
        ("utils/a", "x = 1", "a room without a floor"),
        ("splits/a", "import torch.nn", "torch on floor 3"),
        ("modalities/a", "def f():\n    import torch", "torch on floor 3"),
        ("modalities/encoder", "import torch", "torch on floor 3"),
        ("tissue/a", "import spatialdata", "spatialdata at the top of the file"),
        ("training/a", "def f():\n    from skimage.io import imread", "skimage on floor 7"),
        ("errors", "def f():\n    import squidpy", "squidpy on floor 0"),
        ("operators/lift/a", "from aivc_graph.operators.project.b import c", "lift imports operators project"),
        ("graph/a", "x = 1\n" * 401, "401 lines; at most 400"),
        ("graph/a", "def f():\n" + "    x = 1\n" * 60, "f has 61 lines; at most 60"),
    ],
)
def test_planted_violation_is_found(tmp_path: Path, module: str, source: str, said: str) -> None:
    faults = plant(tmp_path, module, source)
    assert len(faults) >= 1 and any(said in fault for fault in faults)


@pytest.mark.parametrize("room", ["readers", "writers"])
def test_readers_and_writers_are_of_the_room_io(tmp_path: Path, room: str) -> None:
    file = tmp_path / "io" / room / "a.py"
    file.parent.mkdir(parents=True)
    file.write_text("from aivc_graph.graph.build import f\nimport tifffile\n")
    (tmp_path / PACKAGE).mkdir()
    faults = faults_of_house(tmp_path)
    assert any("io (floor 3) imports graph (floor 4)" in fault for fault in faults)
    assert any("tifffile at the top" in fault for fault in faults)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("graph/a", "import torch\nfrom aivc_graph import names\nfrom aivc_graph.tissue.section import add_level"),
        ("io/a", "def f():\n    import spatialdata"),
        ("modalities/encoder_files", "def f():\n    import torch"),
        ("operators/lift/a", "from aivc_graph.operators.product import g\nfrom aivc_graph.operators.lift.b import h"),
    ],
)
def test_allowed_import_is_no_fault(tmp_path: Path, module: str, source: str) -> None:
    assert plant(tmp_path, module, source) == []


def plant(root: Path, module: str, source: str) -> list[str]:
    for name in ("__init__", "names", "tissue/__init__", "tissue/section", "io/__init__", "operators/lift/b"):
        file = root / PACKAGE / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    file = root / PACKAGE / f"{module}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    return faults_of_house(root)
