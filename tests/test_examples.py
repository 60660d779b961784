"""The examples of docstrings run, each in its module, in a folder that holds the files they name."""

from __future__ import annotations

import doctest
import importlib
import io
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.test_layers import module_files

ROOT = Path(__file__).resolve().parents[1]
# By import name: a reader imported by its path would register a second time.
MODULES = sorted(name for name, path in module_files().items() if ">>>" in path.read_text())


@pytest.fixture(scope="module")
def folder(tiny_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with finished runs, a slide, a Space Ranger output and the project's configurations."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("demo", "a", "b"):
        shutil.copytree(tiny_demo, folder / "runs" / name)
    sources = tiny_demo / "tissue" / "D1_untreated"
    for name, target in {"outs": sources / "spaceranger", "slide.ome.tif": sources / "slide.ome.tif"}.items():
        (folder / name).symlink_to(target)
    (folder / "configs").symlink_to(ROOT / "configs")
    return folder


@pytest.fixture(scope="module")
def known(folder: Path) -> dict[str, Any]:
    """Return what examples may take as given: a section, its graph, a trained tissue, a simulated section."""
    import aivc_graph as ag
    from aivc_graph.pipeline.build import read_section
    from aivc_graph.simulate.imaging import see_molecules
    from aivc_graph.simulate.presets import PRESETS
    from aivc_graph.simulate.simulate import specimens

    task = ag.load_config(folder / "runs" / "demo" / "tissue" / "config.yaml", []).task
    section = read_section(task.sections[0])
    tissue = ag.VirtualTissue.load(folder / "runs" / "demo")
    specimen, _ = next(specimens(PRESETS["tiny"], PRESETS["tiny"].donors[0], seed=0))
    known = {"section": section, "graph": ag.build_graph([section]), "tissue": tissue, "simulated": specimen.untreated}
    return {**known, "ag": ag, "see_molecules": see_molecules}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, folder: Path, known: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    module, said = importlib.import_module(name), io.StringIO()
    runner, number = doctest.DocTestRunner(), 0
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        test.globs = {**known, **test.globs}
        skipped = [one.source for one in test.examples if one.options.get(doctest.SKIP)]
        assert not skipped
        number += len(test.examples)
        runner.run(test, out=said.write)
    assert number and not runner.failures, said.getvalue()
