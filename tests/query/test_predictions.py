"""The mean of log counts is what sampling says it is; draws of hidden nodes vary over genes as what was measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aivc_graph import names
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.operators.residual_scores import ResidualScores
from aivc_graph.query.predictions import drawn_log_expression, expected, mean_log1p
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.training.checkpoint import load_model
from aivc_graph.training.fit import fit
from tests.query.stripes import CONFIG, GRAPH

LEVEL, DRAWS = "cell", 40


def test_mean_log_of_counts_is_that_of_draws() -> None:
    rng = np.random.default_rng(0)
    mean = np.array([[0.05, 0.5], [3.0, 20.0], [150.0, 190.0]])
    dispersion = np.array([0.7, 8.0])
    draws = rng.poisson(mean * rng.gamma(dispersion, 1 / dispersion, (200_000, *mean.shape)))
    np.testing.assert_allclose(mean_log1p(mean, dispersion), np.log1p(draws).mean(axis=0), rtol=0.03, atol=0.003)
    assert (mean_log1p(mean, dispersion) < np.log1p(mean)).all()
    # Counted at a fourth of the depth and scaled up: more zeros, so a smaller mean of logs.
    scaled = mean_log1p(mean, dispersion, 4.0)
    np.testing.assert_allclose(scaled, np.log1p(4.0 * draws).mean(axis=0), rtol=0.03, atol=0.006)
    assert (scaled < mean_log1p(4.0 * mean, dispersion)).all()


def test_draws_of_hidden_nodes_vary_over_genes_as_what_was_measured_and_are_saved_with_the_run(
    striped_section: Callable[..., Any], tmp_path: Path
) -> None:
    sections = [striped_section(name, n=400, seed=seed) for seed, name in enumerate(("s1", "s2", "t"))]
    for section in sections:
        counts = section.tables["cell_rna"].X.tolil()
        counts[:, 1] = counts[:, 0]  # Two molecules that always go together.
        section.tables["cell_rna"].X = counts.tocsr()
    graph, other = build_graph(sections[:2], GRAPH), build_graph(sections[2:], GRAPH)
    fit(graph, CONFIG.model, CONFIG.training, tmp_path)
    tissue = VirtualTissue(graph, load_model(tmp_path)).on(other)
    rows = np.random.default_rng(0).random(other[LEVEL].num_nodes) < 0.25
    left = hide_observations(tissue.graph, {(LEVEL, names.RNA): rows})
    told = expected(tissue.model, left, LEVEL, rows)
    total = np.full(rows.sum(), 100.0)

    def together() -> float:
        drawn = drawn_log_expression(tissue.model, left, rows, told, total, LEVEL, np.arange(2), DRAWS)
        assert drawn.shape == (rows.sum(), DRAWS, 2) and (drawn >= 0).all()
        within = drawn - drawn.mean(axis=1, keepdims=True)
        return float(np.corrcoef(within.reshape(-1, 2).T)[0, 1])

    assert together() > 0.7
    (around,) = (part for part in tissue.model.parts_of("prediction") if part.looks_around)
    around.residuals = ResidualScores(around.plan.n_molecules)
    assert abs(together()) < 0.2
