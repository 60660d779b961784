"""Figures of benchmarks say what they were made by."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def result_file() -> Any:
    spec = importlib.util.spec_from_file_location("result_file", BENCHMARKS / "result_file.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git absent")
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / "benchmarks" / "results" / "a.json").write_text("{}\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_the_commit_is_told_and_whether_code_differs_from_it(result_file: Any, checkout: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
    (checkout / "benchmarks" / "results" / "a.json").write_text('{"new": 1}\n')
    made = result_file.provenance(checkout)
    assert made["commit"] == head.stdout.strip() and made["dirty"] is False
    assert {"date", "python", "libraries", "cores"} <= set(made) and made["libraries"]["torch"]
    (checkout / "code.py").write_text("x = 2\n")
    assert result_file.provenance(checkout)["dirty"] is True


def test_outside_a_checkout_there_is_no_commit(result_file: Any, tmp_path: Path) -> None:
    made = result_file.provenance(tmp_path)
    assert made["commit"] is None and made["dirty"] is False


def test_parts_and_files_written_again_tell_of_themselves(
    result_file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results" / "r.json"
    result_file.write_result(path, {"score": 1}, part="one")
    monkeypatch.setattr(result_file, "STARTED", {"commit": "later"})
    result_file.write_result(path, {"score": 2}, part="two")
    held = json.loads(path.read_text())
    assert held["one"] == {"score": 1} and held["two"] == {"score": 2}
    assert held["made"]["two"] == {"commit": "later"} and "libraries" in held["made"]["one"]
    result_file.write_result(path, {"score": 3, "made": {"commit": "earlier"}})
    assert json.loads(path.read_text()) == {"made": {"commit": "later"}, "score": 3}


def test_every_script_writes_its_figures_so() -> None:
    scripts = {path.stem: path.read_text() for path in BENCHMARKS.glob("*.py")}
    runs = {name for name, text in scripts.items() if "__main__" in text}
    assert {name for name in runs if "write_result(" not in scripts[name]} == set()
    by_hand = {name for name, text in scripts.items() if re.search(r"write_text\(\s*json|json\.dump\(", text)}
    # `hostile` and its kinds write what they damage, and what their children tell each other.
    assert by_hand == {"hostile", "hostile_kinds", "result_file"}


@pytest.mark.parametrize("benchmark", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_what_benchmarks_import_is_there(benchmark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    assert importlib.import_module(benchmark).__doc__


def test_intervals_of_draws_are_those_of_the_package() -> None:
    """The plain 95 % of draws of few units hold the truth less often than they say: `evaluation.intervals.interval`."""
    plain = re.compile(r"(?:quantile|percentile)\([^\n]*(?:0\.025|\b2\.5\b)")
    assert [path.name for path in BENCHMARKS.glob("*.py") if plain.search(path.read_text())] == []
