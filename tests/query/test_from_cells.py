"""Genes that a section never measured, told by dissociated cells beside the model: better than by the model alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from aivc_graph.cli import main
from aivc_graph.config import Config
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.panels import measured_molecules
from aivc_graph.model.settings import ModelConfig
from aivc_graph.pipeline.ask import save_answer
from aivc_graph.pipeline.evaluate import evaluate
from aivc_graph.pipeline.train import train
from aivc_graph.query.from_cells import told_by_both, without_genes
from aivc_graph.query.placing import shared_genes, sides
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.training.settings import TrainingConfig
from tests.query.test_place import loose, stripe

CONFIG = Config(model=ModelConfig(latent=4, rings=(6, 12)), training=TrainingConfig(epochs=2, device="cpu"))
LACKING = ["G4", "G14", "G24"]


@pytest.fixture(scope="module")
def run(striped_section: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of tissue that lacks a gene of each stripe, and of dissociated cells that measured all."""
    section = striped_section("tissue", n=600, seed=1)
    table = section.tables["cell_rna"]
    section.tables["cell_rna"] = table[:, [name not in LACKING for name in table.var_names]].copy()
    graph = build_graph([section, loose(striped_section, "a", 2)], GraphConfig(edges={"cell": {"kind": "knn", "k": 8}}))
    return train(graph, CONFIG, tmp_path_factory.mktemp("run") / "run").folder


@pytest.fixture(scope="module")
def tissue(run: Path) -> VirtualTissue:
    return VirtualTissue.load(run)


@pytest.fixture(scope="module")
def answer(tissue: VirtualTissue) -> Any:
    return tissue.expression([*LACKING, "G5"], at="cell")


def test_what_was_never_measured_is_high_where_it_is(answer: Any) -> None:
    here = (answer.obs["section"] == "tissue").to_numpy()
    where = stripe(answer.obs["x_um"][here])
    for k, gene in enumerate(LACKING):
        told = answer[here, gene].X.ravel()
        high, low = (told[one].mean() for one in (where == f"stripe {k}", where != f"stripe {k}"))
        assert high > 2 * low
    assert np.isnan(answer[here, LACKING].layers["measured"]).all()
    assert np.isfinite(answer[here, "G5"].layers["measured"]).all()


def test_bounds_are_of_what_was_not_measured_alone(answer: Any) -> None:
    here = (answer.obs["section"] == "tissue").to_numpy()
    low, high = (answer.layers[name] for name in ("lower", "upper"))
    told = answer.X[here][:, :3]
    assert (low[here][:, :3] < told).all() and (told < high[here][:, :3]).all()
    assert np.isnan(low[here][:, 3]).all() and np.isnan(low[~here]).all()
    np.testing.assert_array_equal(answer.X[~here], answer.layers["model"][~here])
    np.testing.assert_array_equal(answer.X[:, 3], answer.layers["model"][:, 3])


def test_levels_are_those_of_the_cells(answer: Any, striped_section: Callable[..., Any]) -> None:
    counts = striped_section("tissue", n=600, seed=1).tables["cell_rna"].X.toarray()
    per = 1e4 * counts.sum(axis=0) / counts.sum()
    here = (answer.obs["section"] == "tissue").to_numpy()
    for gene in LACKING:
        assert answer[here, gene].X.mean() == pytest.approx(per[int(gene[1:])], rel=0.35)


def test_hidden_genes_choose_no_worse_than_the_model(answer: Any) -> None:
    facts = answer.uns["from_cells"]["tissue"]
    r = facts["r_of_hidden_genes"]
    assert r["answer"] >= max(r["model"], r["nearest cells"]) - 1e-9 and r["answer"] > 0.3
    assert facts["factor"] > 1.0


def test_strangers_are_not_listened_to(tissue: VirtualTissue, monkeypatch: pytest.MonkeyPatch) -> None:
    from aivc_graph.query import placing

    plain = placing.counts_of

    def shuffled(graph: Any, level: str, genes: list[str]) -> Any:
        counts = plain(graph, level, genes)
        loose_ones = np.flatnonzero(~np.isfinite(graph[level].pos.numpy()).all(axis=1))
        order = np.arange(counts.shape[0])
        # Each gene of the hidden third goes to other cells: those say nothing of one another.
        order[loose_ones] = np.random.default_rng(len(genes)).permutation(loose_ones)
        return counts[order]

    monkeypatch.setattr(placing, "counts_of", shuffled)
    told = told_by_both(tissue, sides(tissue, None, None, None), LACKING)
    assert told.facts["share_of_cells"] == 0.0
    assert told.facts["r_of_hidden_genes"]["cells"] < 0.15 < told.facts["r_of_hidden_genes"]["answer"]


def test_what_is_hidden_is_hidden_from_the_section_alone(tissue: VirtualTissue) -> None:
    who = sides(tissue, None, None, None)
    gone = shared_genes(who)[:5]
    blind = without_genes(tissue, who, gone)
    there = measured_molecules(blind.graph, "cell", "rna")
    assert (~there).sum().item() == 5 + len(LACKING)
    counts = [one.graph.counts("cell", "rna").to_dense().numpy() for one in (tissue, blind)]
    lost = counts[0] - counts[1]
    assert lost.sum() > 0 and lost[600:].sum() == 0
    assert set(np.flatnonzero(lost.sum(axis=0))) == set(tissue.graph.obs("gene").index.get_indexer(gone))
    assert not measured_molecules(tissue.graph, "cell", "rna").all(dim=1)[0] or len(LACKING) == 0


def test_it_is_written_with_what_was_chosen(tissue: VirtualTissue, answer: Any, tmp_path: Path) -> None:
    back = ad.read_h5ad(save_answer(answer, tmp_path / "told.h5ad"))
    assert back.uns["from_cells"]["tissue"]["share_of_cells"] == answer.uns["from_cells"]["tissue"]["share_of_cells"]
    np.testing.assert_allclose(back.layers["model"], answer.layers["model"])


def test_tissue_without_cells_or_that_lacks_nothing_is_told_as_before(
    tissue: VirtualTissue, striped_section: Callable[..., Any]
) -> None:
    assert "model" not in tissue.expression(["G5"], at="cell").layers
    alone = tissue.on(
        build_graph([striped_section("new", n=100)], GraphConfig(edges={"cell": {"kind": "knn", "k": 8}}))
    )
    assert "model" not in alone.expression(LACKING, at="cell").layers


def test_a_run_is_asked_where_its_cells_lie(run: Path, tmp_path: Path) -> None:
    asked = ["query", str(run), "place", "--top", "2", "--label", "stripe 2", "--plot", str(tmp_path / "map.png")]
    assert main([*asked, "--out", str(tmp_path / "places.csv")]) == 0
    table = pd.read_csv(tmp_path / "places.csv")
    assert len(table) == 400 and (tmp_path / "map.png").stat().st_size > 1_000
    first = table[table["rank"] == 1]
    assert (stripe(first["x_um"]) == first["label"]).mean() > 0.85
    assert (first["probability"].to_numpy() >= table.loc[table["rank"] == 2, "probability"].to_numpy()).all()
    assert main([*asked[:3], "--by", "place", "--out", str(tmp_path / "cells.parquet")]) == 0
    by_place = pd.read_parquet(tmp_path / "cells.parquet")
    assert by_place["cells"].sum() == pytest.approx(first["supported"].sum(), rel=1e-3)


def test_other_tissue_is_asked_by_the_same_run(tissue: VirtualTissue, striped_section: Callable[..., Any]) -> None:
    edges = GraphConfig(edges={"cell": {"kind": "knn", "k": 8}})
    new = [striped_section("new", n=600, seed=11, donor="d9"), loose(striped_section, "new cells", 12)]
    told = tissue.on(build_graph(new, edges)).ask("place")
    side = 12.0 * np.sqrt(600)
    at = np.minimum(told.obs["x_um"] / side * 3, 2).astype(int)
    assert (told.obs["placed_in"] == "new").all()
    assert ("stripe " + at.astype(str) == told.obs["label"].astype(str)).mean() > 0.85


def test_cells_that_lie_nowhere_are_asked_nothing_about_their_surroundings(run: Path) -> None:
    found = evaluate(run)
    asked = [one for one in found.results if one.task == "context_to_expression"]
    assert {"genes", "niche composition"} <= {one.readout for one in asked}
