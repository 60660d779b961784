"""Notebooks run from top to bottom on a tiny run, show what they promise, and are kept without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture
def executed(tiny_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path) -> Any:
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv("AIVC_RUN", str(tiny_demo))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    return client.execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_shows_figures_and_tables(executed: Any) -> None:
    shown = [out for cell in executed.cells if cell.cell_type == "code" for out in cell.outputs]
    said = [out["text"] for out in shown if out.get("name") == "stderr"]
    assert not [text for text in said if "IProgress not found" not in text]  # tqdm's, where there are no widgets
    kinds = [kind for out in shown for kind in out.get("data", {})]
    assert kinds.count("image/png") >= 4 and kinds.count("text/html") >= 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(cell.execution_count is None and not cell.outputs for cell in code)
    assert notebook.cells[0].cell_type == "markdown"
