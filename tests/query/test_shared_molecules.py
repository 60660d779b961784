"""Genes that new tissue lacks are told of the genes it shares, in the units of the rest, with bounds about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aivc_graph.config import Config
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.pipeline.train import train
from aivc_graph.query import shared_molecules as module
from aivc_graph.query.answers import expression_table
from aivc_graph.query.shared_molecules import shared_molecules
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.training.settings import TrainingConfig

GRAPH = GraphConfig(edges={"cell": {"kind": "knn", "k": 12}})
CONFIG = Config(model=ModelConfig(latent=2, rings=(6, 12)), training=TrainingConfig(epochs=2, device="cpu"))
GENES, LACKING = 30, [1, 6, 11, 16, 21, 26]
ALL = [f"G{i}" for i in range(GENES)]


def programme(section: Any, seed: int) -> Any:
    """Return the section with six programmes of five genes each, random over cells: more than a state of two holds."""
    rng, table = np.random.default_rng(seed), section.tables["cell_rna"]
    counts = table.X.toarray()
    for start in range(0, GENES, 5):
        factor = np.exp(rng.normal(size=(len(counts), 1)))
        counts[:, start : start + 5] = rng.poisson(counts[:, start : start + 5] * factor)
    table.X = type(table.X)(counts.astype(table.X.dtype))
    return section


@pytest.fixture(scope="module")
def home(striped_section: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> VirtualTissue:
    """Return a run of four donors."""
    sections = [programme(striped_section(f"s{i}", n=300, seed=i, donor=f"d{i}"), i) for i in range(4)]
    return train(build_graph(sections, GRAPH), CONFIG, tmp_path_factory.mktemp("run") / "run").tissue


def asked(maker: Callable[..., Any], lacking: list[int]) -> Any:
    section = programme(maker("new", n=300, seed=9, donor="d9"), 9)
    table = section.tables["cell_rna"]
    truth = pd.DataFrame(table.X.toarray(), table.obs_names)
    section.tables["cell_rna"] = section.tables["cell_rna"][:, [g for g in range(GENES) if g not in lacking]].copy()
    return build_graph([section], GRAPH), truth


def mean_r(told: Any, truth: pd.DataFrame, genes: list[int] = LACKING) -> float:
    counts = truth.loc[told.obs["barcode"]].to_numpy()
    total = counts.sum(axis=1, keepdims=True)
    measured = np.log1p(counts / np.maximum(total, 1) * np.median(total))
    return float(np.mean([np.corrcoef(np.log1p(told.X[:, g]), measured[:, g])[0, 1] for g in genes]))


def plain(tissue: VirtualTissue) -> Any:
    return expression_table(tissue.model, tissue.graph, "cell", ALL, None, "rna")


def test_what_is_shared_tells_more_than_the_state(home: VirtualTissue, striped_section: Callable[..., Any]) -> None:
    graph, truth = asked(striped_section, LACKING)
    tissue = home.on(graph)
    told = tissue.expression(ALL, at="cell")
    assert mean_r(told, truth) > mean_r(plain(tissue), truth) + 0.02
    np.testing.assert_allclose(told.X.sum(axis=1), 1e4, rtol=1e-4)
    low, high = (told.layers[name][:, LACKING] for name in ("lower", "upper"))
    assert (low < told.X[:, LACKING]).all() and (told.X[:, LACKING] < high).all() and (low > 0).all()
    again = home.on(graph).expression(ALL, at="cell")
    np.testing.assert_array_equal(told.X, again.X)


def test_niches_are_means_of_what_nodes_are_told(home: VirtualTissue, striped_section: Callable[..., Any]) -> None:
    tissue = home.on(asked(striped_section, LACKING)[0])
    nodes, niche = tissue.expression(["G1", "G2"], at="cell"), tissue.niches().obs["niche"]
    table = tissue.expression(["G1", "G2"], at="niche").set_index(["niche", "gene"])["expected"]
    for one in niche.unique():
        inside = (niche == one).to_numpy()
        np.testing.assert_allclose(nodes.X[inside].mean(axis=0), table[one][["G1", "G2"]], rtol=1e-4)


def test_a_whole_panel_and_too_few_teachers_leave_all_to_the_state(
    home: VirtualTissue, striped_section: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = (home.on(asked(striped_section, lacking)[0]) for lacking in ([], LACKING))
    assert shared_molecules(home.model, whole.graph, home.graph, "cell", "rna") is None
    monkeypatch.setattr(module, "LEAST_NODES", 10_000)
    np.testing.assert_array_equal(part.expression(ALL, at="cell").X, plain(part).X)


def test_sections_of_differing_panels_teach_each_other(
    striped_section: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    sections = [programme(striped_section(f"s{i}", n=300, seed=i, donor=f"d{i}"), i) for i in range(6)]
    truth, lacking = {}, {}
    for i, section in enumerate(sections):
        table = section.tables["cell_rna"]
        truth[f"s{i}"] = pd.DataFrame(table.X.toarray(), table.obs_names)
        lacking[f"s{i}"] = [5 * j + i % 3 for j in range(6)]
        section.tables["cell_rna"] = table[:, [g for g in range(GENES) if g not in lacking[f"s{i}"]]].copy()
    tissue = train(build_graph(sections, GRAPH), CONFIG, tmp_path_factory.mktemp("mosaic") / "run").tissue
    by_rule = [tissue.expression(ALL, at="cell"), plain(tissue)]
    told, alone = (
        np.mean([mean_r(one[one.obs["section"] == name], truth[name], lacking[name]) for name in truth])
        for one in by_rule
    )
    assert told > alone + 0.02
