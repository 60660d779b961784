"""Screens, pairings and tables of effects by the command line: built and inspected as tissue is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml

from aivc_graph.config import load_config
from aivc_graph.graph.store import open_store, read_store
from tests.dissociated import screen_table

Say = Callable[..., tuple[int, str, str]]
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of a screen, its proteins and a configuration with one entry of sections."""
    rna = screen_table()
    rna.write_h5ad(tmp_path / "rna.h5ad")
    protein = screen_table(seed=1)[::-1, :4].copy()
    protein.write_h5ad(tmp_path / "protein.h5ad")

    def write(split: dict[str, Any] | None = None, **entry: Any) -> Path:
        given = {"name": "s", "sources": [{"path": "./rna.h5ad", "dissociated": True}], **entry}
        path = tmp_path / "x.yaml"
        path.write_text(yaml.safe_dump({"task": {"sections": [given], **({"split": split} if split else {})}}))
        return path

    return write


def test_a_screen_becomes_a_section_a_line(config: Callable[..., Path], tmp_path: Path, say: Say) -> None:
    columns = {"column": "gene", "kind": "knockout", "dose": "dose", "hours": "time"}
    split = {"kind": "by_intervention", "test": ["TP53"]}
    path = config(split, sections_by="line", context_by="line", donor_by="batch", interventions=columns)
    code, _, err = say("build", path, "--out", tmp_path / "g.zarr")
    assert code == 0 and "a: 5 conditions; taken for nothing done: 'DMSO' (4 rows), 'NTC' (4 rows)" in err
    graph = read_store(tmp_path / "g.zarr")
    facts = graph.obs("section")
    assert facts.index.tolist() == ["a", "b"] and facts["donor"].tolist() == ["d1", "d2"]
    assert facts["context"].tolist() == ["a", "b"] and facts["dissociated"].all()
    held = set(graph.obs("cell")["condition"][graph.in_split("cell", "test").numpy()])
    assert held == {"TP53", "KLF1+TP53"}
    said = {"DMSO": 4, "NTC": 4, "safe-targeting": 4}
    assert open_store(tmp_path / "g.zarr").facts["provenance"]["controls"] == {"a": said, "b": said}
    code, out, _ = say("inspect", tmp_path / "g.zarr")
    assert code == 0 and "dissociated, no positions: a, b" in out and "safe-targeting: 4" in out


def test_a_pairing_is_a_section_of_two_sources(config: Callable[..., Path], tmp_path: Path, say: Say) -> None:
    sources = [
        {"path": "./rna.h5ad", "dissociated": True, "label": "gene"},
        {"path": "./protein.h5ad", "dissociated": True, "modality": "protein"},
    ]
    path = config({"kind": "by_group", "test": ["d2"]}, sections_by="line", donor_by="batch", sources=sources)
    assert say("build", path, "--out", tmp_path / "g.zarr", "--quiet")[0] == 0
    graph = read_store(tmp_path / "g.zarr")
    assert graph.modalities("cell") == ["protein", "rna"] and graph["cell"].num_nodes == 48
    barcode, protein = graph.obs("cell")["barcode"], screen_table(seed=1)[:, :4].to_df()
    order = [list(graph.obs("protein").index).index(name) for name in protein]
    np.testing.assert_array_equal(graph.counts("cell", "protein").to_dense()[:, order], protein.loc[barcode])


def test_effects_and_logarithms_are_dense(config: Callable[..., Path], tmp_path: Path, say: Say) -> None:
    values = np.array([[1.5, np.nan], [-2.0, 0.5], [0.0, 3.0]], np.float32)
    obs = pd.DataFrame({"drug": ["x", "y", "x"], "dose": [1.0, 1.0, 2.0]}, index=list("abc"))
    ad.AnnData(values, obs, pd.DataFrame(index=["AKT1", "viability"])).write_h5ad(tmp_path / "effects.h5ad")
    source = {"path": "./effects.h5ad", "dissociated": True, "values": "effect"}
    columns = {"column": "drug", "kind": "drug", "dose": "dose", "unit": "uM"}
    path = config({"kind": "by_dose", "test": ["2"]}, sources=[source], interventions=columns)
    assert say("build", path, "--out", tmp_path / "g.zarr", "--quiet")[0] == 0
    graph = read_store(tmp_path / "g.zarr")
    np.testing.assert_array_equal(graph["cell"].effect, values)
    assert graph["cell"].effect_names == ["AKT1", "viability"]
    assert graph.in_split("cell", "test").tolist() == [False, False, True]
    code, _, err = say("build", config(sources=[{**source, "values": "log"}]), "--out", tmp_path / "h.zarr")
    assert code == 2 and "1 values that are NaN or infinite, first in 'a', 'viability'" in err
    assert "1 negative values" in err and "`values: effect`" in err


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"sections_by": "lines"}, "no column named 'lines'; did you mean 'line'"),
        ({"donor_by": "batch"}, "expected one for the section, found 2 values, such as 'd1', 'd2'"),
        ({"interventions": {"column": "gene", "kind": "CRISPRi"}}, "no kind of intervention named 'CRISPRi' (known: "),
        ({"interventions": {"column": "gene", "kind": "knockout", "seperator": "+"}}, "did you mean 'separator'"),
        ({"donor": "d", "donor_by": "batch"}, "give either `donor:` or `donor_by:`"),
        ({"sources": [{"path": "./rna.h5ad", "level": "cell"}]}, "of cells without positions say `dissociated: true`"),
        ({"sources": [{"path": "./rna.h5ad"}]}, "of cells without positions say `dissociated: true`"),
        ({"sources": [{"path": "./rna.h5ad", "dissociated": True, "level": "patch"}]}, "has cells alone"),
    ],
)
def test_faults_are_named_with_their_mend(
    entry: dict[str, Any], said: str, config: Callable[..., Path], tmp_path: Path, say: Say
) -> None:
    code, _, err = say("build", config(**entry), "--out", tmp_path / "g.zarr")
    assert code == 2 and said in err and not (tmp_path / "g.zarr").exists()


def test_sections_of_one_file_keep_their_own_places(tmp_path: Path, say: Say) -> None:
    table = screen_table()
    step = 10.0 * np.arange(24)
    table.obsm["spatial"] = np.column_stack([np.tile(step, 2), np.repeat([0.0, 50.0], 24)])
    table.write_h5ad(tmp_path / "t.h5ad")
    source = {"path": "./t.h5ad", "level": "cell", "um_per_unit": 1, "diameter_um": 8}
    entry = {"name": "t", "sections_by": ["line", "batch"], "sources": [source]}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump({"task": {"sections": [entry]}}))
    assert say("build", tmp_path / "t.yaml", "--out", tmp_path / "t.zarr", "--quiet")[0] == 0
    graph = read_store(tmp_path / "t.zarr")
    assert graph.obs("section").index.tolist() == ["a-d1", "b-d2"] and "dissociated" not in graph.obs("section")
    of = graph.obs("cell")["section"]
    assert set(graph["cell"].pos[(of == "a-d1").to_numpy(), 1].tolist()) == {0.0}


@pytest.mark.parametrize(("name", "cells"), [("norman", 5961), ("bmmc", 600), ("snareseq", 10_309)])
def test_published_samples_are_built(
    name: str, cells: int, data_dir: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    if not all(source.path.exists() for one in config.task.sections for source in one.sources):
        pytest.skip("absent data")
    monkeypatch.setenv("AIVC_DATA", str(data_dir))
    code, _, err = say("build", CONFIGS / f"{name}.yaml", "--out", tmp_path / "g.zarr", "--quiet")
    assert (code, err) == (0, "")
    graph = read_store(tmp_path / "g.zarr")
    assert graph.levels == ["cell"] and graph["cell"].num_nodes == cells
