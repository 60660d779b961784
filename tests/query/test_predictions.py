"""The mean of log counts is what sampling says it is; draws of hidden nodes vary over genes as what was measured."""

from __future__ import annotations

import numpy as np

from aivc_graph import names
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.tissue_graph import to_scipy_csr, to_torch_csr
from aivc_graph.operators.measurement.residual_scores import ResidualScores
from aivc_graph.query.predictions import drawn_log_expression, expected, mean_log1p, residual_scores
from aivc_graph.query.virtual_tissue import VirtualTissue

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


def test_draws_of_hidden_nodes_vary_over_genes_as_what_was_measured(tissue: VirtualTissue) -> None:
    model, graph = tissue.model, hide_observations(tissue.graph, {})
    counts = to_scipy_csr(graph.counts(LEVEL, names.RNA)).tolil()
    pair = np.argsort(-counts.toarray().mean(axis=0))[:2]
    counts[:, pair[1]] = counts[:, pair[0]]  # Two molecules that always go together.
    graph[names.MOLECULE_OF[names.RNA], names.OBSERVED_IN, LEVEL].adj_t = to_torch_csr(counts.tocsr())
    rows = np.random.default_rng(0).random(graph[LEVEL].num_nodes) < 0.25
    left = hide_observations(graph, {(LEVEL, names.RNA): rows})
    told, total = expected(model, left, LEVEL, rows), np.full(rows.sum(), float(counts.sum(axis=1).mean()))
    measured = residual_scores(model, left, LEVEL, ~rows)
    alone = ResidualScores(len(model.plan.counts[LEVEL][names.RNA]), model.plan.latent)

    def together(residuals: ResidualScores) -> float:
        drawn = drawn_log_expression(model, told, residuals, total, LEVEL, pair, DRAWS)
        assert drawn.shape == (rows.sum(), DRAWS, 2) and (drawn >= 0).all()
        within = drawn - drawn.mean(axis=1, keepdims=True)
        return float(np.corrcoef(within.reshape(-1, 2).T)[0, 1])

    assert together(measured) > 0.7
    assert abs(together(alone)) < 0.2
