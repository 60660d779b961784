"""The examples of docstrings run, each in its module, in a folder that holds the files they name."""

from __future__ import annotations

import doctest
import importlib
import io
import re
import shutil
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
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
    first, second = (read_section(one) for one in task.sections[:2])
    tissue = ag.VirtualTissue.load(folder / "runs" / "demo")
    specimen, _ = next(specimens(PRESETS["tiny"], PRESETS["tiny"].donors[0], seed=0))
    known = {"section": first, "graph": ag.build_graph([first]), "tissue": tissue, "simulated": specimen.untreated}
    return {
        **known,
        "first": first,
        "second": second,
        "ag": ag,
        "see_molecules": see_molecules,
        "adata": cells_of_six_donors(),
    }


def cells_of_six_donors() -> Any:
    """Return an AnnData of six donors' cells in two stripes, with positions, types, donors and a trait."""
    rng = np.random.default_rng(0)
    donor = np.repeat([f"P{i}" for i in range(6)], 80)
    place = rng.random((480, 2)) * 120
    left = place[:, 0] < 60
    rate = np.where(left[:, None] == (np.arange(30) < 15), 4.0, 1.0)
    columns = {"library": donor, "donor": donor, "cell_type": np.where(left, "T", "B")}
    columns["stage"] = np.where(np.isin(donor, ["P0", "P1", "P2"]), "early", "late")
    obs = pd.DataFrame(columns, index=[f"c{i}" for i in range(480)])
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(30)])
    return ad.AnnData(rng.poisson(rate).astype(np.float32), obs, var, obsm={"spatial": place})


def test_the_readme_goes_from_anndata_to_niches_in_ten_lines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    lines = [line for line in block.splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 10
    given: dict[str, Any] = {"adata": cells_of_six_donors()}
    exec(block, given)
    assert given["niches"].n_obs == 480 and set(given["by_stage"]["what"]) == {"niche", "cell type"}
    assert given["by_stage"]["p"].notna().any() and given["data"]["cell"].x.shape == (480, 30)


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
