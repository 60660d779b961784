"""What is packed is what is here: the package list, the links, the wheel, the pins and the README's table."""

from __future__ import annotations

import ast
import importlib.util
import re
import socket
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from pytest_socket import SocketConnectBlockedError

ROOT = Path(__file__).resolve().parents[1]
BROUGHT_BY_USERS = {"timm", "onnxruntime", "onnx", "decoupler"}  # named where they are missing, or their tests skipped
OF_PEERS = {"scanpy"}  # imported where published tools run, in environments of their own
PACKED = ("aivc_graph", "io", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names_of(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[<>=!~\[; ]", requirement)[0]) for requirement in requirements}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {normal(line.split("==")[0]): line.split("==")[1] for line in lines if line and not line.startswith("#")}


def folders_with_code() -> set[str]:
    found = {path.parent.relative_to(ROOT) for path in (ROOT / "aivc_graph").rglob("*.py")}
    found |= {Path("aivc_graph") / path.parent.relative_to(ROOT) for path in (ROOT / "io").rglob("*.py")}
    return {".".join(folder.parts) for folder in found if "__pycache__" not in folder.parts}


def test_package_list_equals_the_folders(project: dict[str, Any]) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == folders_with_code()


def test_no_folder_without_init() -> None:
    bare = [name for name in folders_with_code() if not (ROOT / Path(*name.split(".")) / "__init__.py").exists()]
    assert bare == []


def test_root_io_is_never_a_package() -> None:
    assert not (ROOT / "io" / "__init__.py").exists()
    assert not (ROOT / "__init__.py").exists()


def test_interpreter_starts_with_the_root_on_its_path() -> None:
    command = [sys.executable, "-c", "import io; io.StringIO()"]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("room", ["readers", "writers"])
def test_links_lead_to_the_files(room: str) -> None:
    link = ROOT / "aivc_graph" / "io" / room
    assert link.is_symlink() and link.readlink() == Path("../../io") / room
    assert link.resolve() == ROOT / "io" / room


@pytest.mark.parametrize("room", ["readers", "writers"])
def test_no_file_bears_the_name_of_a_module_it_could_import(room: str, project: dict[str, Any]) -> None:
    used = {name.replace("-", "_") for name in names_of(project["project"]["dependencies"])} | sys.stdlib_module_names
    assert not {path.stem for path in (ROOT / "io" / room).glob("*.py")} & used


def test_wheel_built_from_the_sdist_holds_readers_writers_templates_and_types(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in PACKED:
        copied = subprocess.run(["cp", "-R", "-P", str(ROOT / name), str(tree / name)], check=False)
        assert copied.returncode == 0
    backend = "from setuptools import build_meta as b; import sys; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    sdist = build(backend, "build_sdist", tree, tmp_path)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    wheel = build(backend, "build_wheel", unpacked, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith(".py")}
        assert {"aivc_graph/py.typed", *templates()} <= set(archive.namelist())
    for room in ("readers", "writers"):
        assert {f"aivc_graph/io/{room}/{path.name}" for path in (ROOT / "io" / room).glob("*.py")} <= packed
    assert packed == {f"{name.replace('.', '/')}/{path.name}" for name in folders_with_code() for path in code_of(name)}


def templates() -> set[str]:
    files = (ROOT / "aivc_graph/report/templates").iterdir()
    return {str(path.relative_to(ROOT)) for path in files}


def code_of(package: str) -> list[Path]:
    return list((ROOT / Path(*package.split("."))).glob("*.py"))


def build(backend: str, what: str, tree: Path, out: Path) -> Path:
    done = subprocess.run([sys.executable, "-c", backend, what, str(out)], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


def test_every_dependency_is_pinned(project: dict[str, Any]) -> None:
    direct = names_of(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        direct |= names_of(extra)
    assert direct - set(pins()) == set()


def imported(*folders: str) -> set[str]:
    """Return the installed distributions that the code of these folders imports."""
    modules = {name for folder in folders for path in (ROOT / folder).rglob("*.py") for name in imports_of(path)}
    owners = packages_distributions()
    found = {normal(name) for module in modules for name in owners.get(module, ())}
    return found - {"aivc-graph", *BROUGHT_BY_USERS, *OF_PEERS}


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_dependencies_are_what_the_code_imports(project: dict[str, Any]) -> None:
    direct, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    optional = {name for extra, of in extras.items() if extra != "dev" for name in names_of(of)}
    code = imported("aivc_graph", "io")
    assert names_of(direct) == code - optional
    assert imported("tests", "benchmarks") - code - names_of(extras["dev"]) == set()


def test_pins_name_no_place() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"@|://|^-|\+", text, flags=re.MULTILINE)


def test_readme_table_gives_a_reason_for_every_dependency(project: dict[str, Any]) -> None:
    rows = re.findall(r"^\| `([A-Za-z0-9_.-]+)` \| *(\S.*?) *\|$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert {normal(name) for name, _ in rows} == names_of(project["project"]["dependencies"])


def test_console_script_exists(project: dict[str, Any]) -> None:
    module, _, function = project["project"]["scripts"]["aivc"].partition(":")
    assert importlib.util.find_spec(module) is not None and function == "main"


def test_network_is_closed() -> None:
    # The guard warns before it raises, and warnings are errors here.
    with pytest.raises((SocketConnectBlockedError, UserWarning), match=r"192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=0.1)
