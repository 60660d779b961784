"""Sections that measured a part of the genes each: trained together, asked of what they lack, and scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph.config import Config
from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.evaluation.metrics.metric import metric
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.panels import measured_molecules, panel
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.operators.part import BEFORE_TRAINING
from aivc_graph.pipeline.train import train
from aivc_graph.query.predictions import filled, measured_log_expression
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.training.settings import TrainingConfig
from tests.fitting import fit_stages, fitting_of, fold_of, model_of

GRAPH = GraphConfig(edges={"cell": {"kind": "knn", "k": 12}})
CONFIG = Config(model=ModelConfig(latent=4, rings=(6, 12)), training=TrainingConfig(epochs=2, device="cpu"))
PANELS = ([*range(6), *range(10, 30)], [*range(20), *range(24, 30)], [*range(4, 30)])


def made(maker: Callable[..., Any], panels: Any = PANELS) -> list[Any]:
    found = [maker(f"s{i}", n=300, seed=i, donor=f"d{i}") for i in range(3)]
    for section, own in zip(found, panels, strict=True):
        section.tables["cell_rna"] = section.tables["cell_rna"][:, list(own)].copy()
    return found


@pytest.fixture(scope="module")
def whole(striped_section: Callable[..., Any]) -> TissueGraph:
    return build_graph(made(striped_section, [range(30)] * 3), GRAPH)


@pytest.fixture(scope="module")
def tissue(striped_section: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> VirtualTissue:
    return train(build_graph(made(striped_section), GRAPH), CONFIG, tmp_path_factory.mktemp("run") / "run").tissue


def lacking(tissue: VirtualTissue) -> np.ndarray:
    there = measured_molecules(tissue.graph, "cell", "rna").numpy()
    return ~there[tissue.graph["cell"].section_index.numpy()]


def test_genes_that_a_section_lacks_are_told_as_they_are(tissue: VirtualTissue, whole: TissueGraph) -> None:
    told = tissue.expression(at="cell")
    truth, hidden = measured_log_expression(tissue.model, whole, "cell"), lacking(tissue)
    section, stripe = told.obs["section"].to_numpy(), told.obs["label"].to_numpy()
    assert np.array_equal(np.isnan(told.layers["measured"]), hidden)
    r = [
        np.corrcoef(told.X[rows, gene], truth[rows, gene])[0, 1]
        for one in np.unique(section)
        for rows in [np.flatnonzero(section == one)]
        for gene in np.flatnonzero(hidden[rows[0]])
    ]
    assert len(r) == 12 and np.mean(r) > 0.45 and min(r) > 0.2
    # Twelve genes of three sections: four times as high in their stripe as elsewhere.
    high = [told.X[(section == "s0") & (stripe == f"stripe {k}")][:, told.var_names == "G7"].mean() for k in range(3)]
    assert high[0] > 2.5 * max(high[1:])


def test_what_was_not_measured_has_an_interval_that_holds_it(tissue: VirtualTissue, whole: TissueGraph) -> None:
    told, hidden = tissue.expression(at="cell"), lacking(tissue)
    low, high = told.layers["lower"], told.layers["upper"]
    assert np.array_equal(np.isfinite(low), hidden) and np.array_equal(np.isfinite(high), hidden)
    assert (low[hidden] < told.X[hidden]).all() and (told.X[hidden] < high[hidden]).all()
    counts = whole.counts("cell", "rna").to_dense().numpy()
    per = 1e4 * counts / counts.sum(axis=1, keepdims=True)
    section = told.obs["section"].to_numpy()
    inside = [
        low[rows, gene].mean() <= per[rows, gene].mean() <= high[rows, gene].mean()
        for rows in (np.flatnonzero(section == one) for one in np.unique(section))
        for gene in np.flatnonzero(hidden[rows[0]])
    ]
    assert np.mean(inside) >= 0.9


def test_a_gene_of_another_section_is_told_of_new_tissue_as_not_measured(
    tissue: VirtualTissue, striped_section: Callable[..., Any]
) -> None:
    new = striped_section("new", n=200, seed=9, donor="d9")
    new.tables["cell_rna"] = new.tables["cell_rna"][:, :26].copy()
    told = tissue.on(build_graph([new], GRAPH)).expression(["G0", "G28"], at="cell")
    assert told.var["measured"].tolist() == [True, False]
    assert np.isfinite(told.X).all() and np.isfinite(told.layers["lower"][:, 1]).all()
    assert np.isnan(told.layers["lower"][:, 0]).all()


def test_the_likelihood_has_a_term_for_each_count_that_was_measured(striped_section: Callable[..., Any]) -> None:
    graph = build_graph(made(striped_section), GRAPH)
    model = model_of(graph, ModelConfig(latent=3, rings=(6, 12)))
    fit_stages(fitting_of(graph, model, [fold_of(graph, model)]), BEFORE_TRAINING[:1])
    part, data = model.part("measurement", "cell", "rna"), model.prepare(graph).measured("cell", "rna")
    said = part.likelihood(torch.zeros(len(data.section), 3), data)
    assert said.number(data.mask, torch.ones(30)) == 300 * sum(map(len, PANELS))
    # Of the mean profile, whatever a section measured, all its counts are expected.
    counted = (said.mean() * data.there[data.section]).sum(dim=1)
    torch.testing.assert_close(counted, torch.from_numpy(np.asarray(data.counts.to_dense().sum(dim=1))))


def test_states_of_all_sections_lie_in_one_space(tissue: VirtualTissue, whole: TissueGraph) -> None:
    part = tissue.model.count_operator("cell", "rna")
    with torch.no_grad():
        z = part.encode(tissue.model.prepare(tissue.graph).measured("cell", "rna")).numpy()
    section, stripe = (tissue.graph.obs("cell")[name].to_numpy() for name in ("section", "label"))
    middles = np.stack(
        [[z[(section == s) & (stripe == k)].mean(axis=0) for k in np.unique(stripe)] for s in np.unique(section)]
    )
    between = np.linalg.norm(middles.mean(axis=0) - z.mean(axis=0), axis=1).mean()
    assert np.linalg.norm(middles - middles.mean(axis=0), axis=2).max() < 0.35 * between


def test_scores_are_of_what_was_measured() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(60, 5))
    told = truth + rng.normal(size=truth.shape)
    section, group = np.repeat(np.arange(2), 30), np.zeros(60, np.int64)
    partly = truth.copy()
    partly[30:, 3:] = np.nan
    for name in ("pearson_by_gene", "rmse_log"):
        scored = metric(name)
        found = scored.value(scored.statistics(told, partly, group, 1, section)[0])
        apart = [scored.statistics(told[:, :3], truth[:, :3], group, 1, section)]
        apart += [scored.statistics(told[:30, 3:], truth[:30, 3:], group[:30], 1, section[:30])]
        if name == "rmse_log":
            expected = scored.value(sum(one[0] for one in apart))
        else:
            expected = (3 * scored.value(apart[0][0]) + 2 * scored.value(apart[1][0])) / 5
        assert found == pytest.approx(expected)


def test_rules_learn_each_gene_from_the_sections_that_measured_it() -> None:
    rng = np.random.default_rng(1)
    section, pos = np.repeat(np.arange(3), 40), rng.random((120, 2)) * 100
    target = rng.normal(size=(120, 4)) + np.arange(3)[section][:, None]
    known = target.copy()
    known[section == 1, 3] = np.nan
    asked = np.zeros(120, bool)
    asked[::4] = True
    rows = {"train": ~asked & (section < 2), "visible": ~asked, "asked": asked}
    known[asked] = np.nan
    answers = run_baselines(Scene(known, **rows, section=section, pos_um=pos), "expression")
    plain = run_baselines(Scene(known[:, :3], **rows, section=section, pos_um=pos), "expression")
    assert set(answers) == set(plain)
    for name, answer in answers.items():
        np.testing.assert_allclose(answer[:, :3], plain[name])
    mean = answers["global_mean"][:, 3]
    np.testing.assert_allclose(mean[section[asked] == 0], known[rows["train"] & (section == 0), 3].mean())
    around = answers["mean_of_6_neighbours"][:, 3]
    assert np.array_equal(np.isnan(around), section[asked] == 1)


def test_what_is_filled_in_is_the_mean_of_who_measured() -> None:
    values = np.array([[1.0, np.nan], [3.0, 4.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(filled(values), [[1, 4], [3, 4], [2, 4]])
    assert filled(values[1:2]) is not None


def test_panels_come_in_the_order_of_the_graph(tissue: VirtualTissue) -> None:
    assert panel(tissue.graph, "cell", "rna") == tissue.model.plan.counts["cell"]["rna"]
