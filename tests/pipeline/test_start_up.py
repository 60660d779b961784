"""What the command line and a question to a saved run import, and how long that takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "torch_geometric", "spatialdata", "sklearn", "scipy", "pandas", "numpy", "matplotlib", "pydantic")
# What reads sections and slides, fits, draws, or comes along with PyG.
NOT_FOR_A_QUESTION = (
    *("spatialdata", "skimage", "tifffile", "openslide", "geopandas", "squidpy", "imagecodecs"),
    *("torch_geometric", "torch._dynamo", "sklearn", "scipy.stats", "scipy.optimize", "scipy.spatial"),
    *("matplotlib", "networkx"),
)
PROBE = """
import json, sys, time
from aivc_graph.cli import main
try:
    code = main(sys.argv[2:])
except SystemExit as stopped:
    code = stopped.code
found = [name for name in json.loads(sys.argv[1]) if name in sys.modules]
print("\\nPROBE", json.dumps([code, found, time.process_time()]))
"""


def probe(names: tuple[str, ...], *words: str) -> tuple[int, list[str], float]:
    """Return the exit code of a command, which of `names` it imported, and its CPU time [s]."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROBE, json.dumps(names), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    code, found, seconds = json.loads(done.stdout.rpartition("PROBE")[2])
    return code, found, seconds


@pytest.mark.parametrize("words", [["--help"], ["build", "--help"], ["init", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code, found, seconds = probe(HEAVY, *words)
    assert code == 0 and found == [] and seconds < 1


def test_a_question_imports_no_library_of_sections_slides_or_plots(made: Path) -> None:
    code, found, _ = probe(NOT_FOR_A_QUESTION, "query", str(made / "run"), "niches", "--quiet")
    assert code == 0 and found == []


def test_a_question_starts_in_little_more_than_its_libraries_take(made: Path) -> None:
    # The clock of a busy machine runs up to twice as fast; so the libraries are timed beside the question.
    floor = "import time, torch, pandas, anndata; print(time.process_time())"
    least = min(float(subprocess.check_output([sys.executable, "-c", floor])) for _ in range(2))
    taken = min(probe((), "query", str(made / "run"), "niches", "--quiet")[2] for _ in range(2))
    assert taken < 1.5 * least
    assert min(probe((), "query", "--help")[2] for _ in range(2)) < 1.3 * least
