"""What a section did not measure is told from what it did and another modality, at least as well as by either alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from aivc_graph.graph.build import build_graph
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.terms import in_terms
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.prediction.rest_of_panel import BEFOREHAND, RestOfPanel, levelled
from aivc_graph.query.predictions import told_by_others
from tests.fitting import fit_stages, fitting_of, fold_of, model_of
from tests.operators.test_modality import CONFIG, multiome

N, K = 400, 20
SHOWN = np.arange(K) % 2 == 0
STAGES = ("encoders", "further encoders", "messages", "decoders", "answers", "last answers")


def study(of_other: float, of_own: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return molecules about their mean, what another modality tells of them, and fold, of cells of two programmes."""
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(size=(N, 3)), rng.normal(size=(N, 3))
    told = of_other * known @ rng.normal(size=(3, K))
    return told + of_own * unknown @ rng.normal(size=(3, K)) + rng.normal(size=(N, K)), told, np.arange(N) % 4


def completed(y: np.ndarray, told: np.ndarray, fold: np.ndarray, *, free: bool = False) -> tuple[Any, np.ndarray]:
    """Return the part fitted to three folds, and the errors of the molecules hidden from the last one."""
    part, train = RestOfPanel(K, free=free), fold < 3
    part.fit((y - told)[train], y[train], fold[train])
    known = np.broadcast_to(SHOWN, y[~train].shape)
    said = part(told[~train], np.where(SHOWN, y[~train], 1e9), known, np.zeros(K))
    np.testing.assert_array_equal(said[:, SHOWN], y[~train][:, SHOWN])
    return part, (said - y[~train])[:, ~SHOWN]


def error_of_ridge(y: np.ndarray, told: np.ndarray, fold: np.ndarray) -> float:
    """Return the error of ridge from the molecules shown alone."""
    train, x = fold < 3, y[:, SHOWN]
    way = np.linalg.solve(x[train].T @ x[train] + 30 * np.eye(SHOWN.sum()), x[train].T @ y[train][:, ~SHOWN])
    return float(np.square(x[~train] @ way - y[~train][:, ~SHOWN]).mean())


def test_both_together_tell_more_than_either() -> None:
    y, told, fold = study(1.0, 1.0)
    _, missed = completed(y, told, fold)
    other = float(np.square(told - y)[fold == 3][:, ~SHOWN].mean())
    noise = 1.0
    assert np.square(missed).mean() - noise < 0.6 * (min(other, error_of_ridge(y, told, fold)) - noise)


@pytest.mark.parametrize("free", [False, True])
def test_where_the_other_modality_says_nothing_it_is_as_good_as_ridge(free: bool) -> None:
    y, told, fold = study(0.0, 1.0)
    _, missed = completed(y - y.mean(axis=1, keepdims=True) * free, told, fold, free=free)
    assert np.square(missed).mean() < 1.05 * error_of_ridge(y, told, fold)


def test_where_molecules_say_nothing_of_each_other_the_other_modality_has_the_word() -> None:
    y, told, fold = study(1.0, 0.0)
    part, missed = completed(y, told, fold)
    other = float(np.square(told - y)[fold == 3][:, ~SHOWN].mean())
    assert np.square(missed).mean() < 1.02 * other
    unfitted = RestOfPanel(K, free=False)
    np.testing.assert_array_equal(unfitted.share, BEFOREHAND)
    known = np.broadcast_to(SHOWN, y.shape)
    np.testing.assert_array_equal(unfitted(told, y, known, np.zeros(K))[:, ~SHOWN], told[:, ~SHOWN])
    np.testing.assert_array_equal(part(told, y, np.zeros_like(known), np.zeros(K)), told)


def test_the_level_of_a_cell_is_found_from_the_part_that_is_known() -> None:
    rng = np.random.default_rng(0)
    told = rng.uniform(0.2, 2.0, (50, K))
    level, known = rng.normal(3.0, 1.0, (50, 1)), np.broadcast_to(SHOWN, told.shape)
    counts = np.expm1(told) * np.exp(level)
    np.testing.assert_allclose(levelled(np.where(known, counts, 1e9), known, told)[:, SHOWN], told[:, SHOWN], atol=1e-6)
    np.testing.assert_allclose(levelled(7 * counts, known, told), levelled(counts, known, told), atol=1e-6)


def test_a_section_with_a_part_of_the_panel_is_told_the_rest() -> None:
    sections = multiome(n=120)
    rng = np.random.default_rng(5)
    for section in sections:  # what RNA does not know: all proteins of the second half rise together
        section.shapes["cell"]["split"] = "test" if section is sections[-1] else "train"
        table = section.tables["cell_protein"]
        together = rng.gamma(1.0, 1.0, (120, 1)) ** (np.arange(12) > 5)
        table.X = sparse.csr_matrix(rng.poisson(5 * table.X.toarray() * together).astype(np.float32))
    graph = build_graph(sections)
    model = model_of(graph, CONFIG)
    fit_stages(fitting_of(graph, model, [fold_of(graph, model)]), STAGES)
    test = graph.in_split("cell", "test").numpy()
    lost = np.arange(12) % 2 == 1
    cut = part_of_the_panel(graph, lost)
    told = told_by_others(model, cut, "cell", "protein", test)
    alone = told_by_others(model, hidden_whole(graph, test), "cell", "protein", test)
    true = clr(graph.counts("cell", "protein").to_dense().numpy()[test])
    error, of_rna = (float(np.square(one - true)[:, lost].mean()) for one in (told, alone))
    assert error < 0.9 * of_rna
    inputs = model.prepare(cut)
    with torch.no_grad():
        state = model(inputs)
        said = model.expected(state, inputs, "cell", "protein")
    assert said.looked_at.numpy()[test].all() and not said.looked_at.numpy()[~test].any()
    torch.testing.assert_close(said.shares[test].sum(dim=1), torch.ones(int(test.sum())))


def test_the_log_ratio_of_a_part_is_to_the_mean_of_that_part() -> None:
    counts = np.random.default_rng(0).poisson(5.0, (6, K)).astype(np.float32)
    known = np.broadcast_to(SHOWN, counts.shape)
    of_part = in_terms(sparse.csr_matrix(counts * known), "protein", 1.0, known).toarray()
    np.testing.assert_allclose(of_part[:, SHOWN], clr(counts[:, SHOWN]), rtol=1e-5)
    np.testing.assert_allclose(in_terms(sparse.csr_matrix(counts), "protein", 1.0).toarray(), clr(counts), rtol=1e-5)
    assert in_terms(sparse.csr_matrix(0 * counts), "protein", 1.0, ~known & known).nnz == 0


def part_of_the_panel(graph: TissueGraph, lost: np.ndarray) -> TissueGraph:
    """Return a graph whose test section did not measure the proteins `lost`."""
    test = graph.in_split("cell", "test").numpy()
    cut = hidden_whole(graph, np.zeros_like(test))
    counts = cut["protein", "observed_in", "cell"].adj_t.to_dense()
    counts[np.ix_(test, lost)] = 0
    cut["protein", "observed_in", "cell"].adj_t = counts.to_sparse_csr()
    measured = torch.ones(3, 12, dtype=torch.bool)
    measured[2] = torch.from_numpy(~lost)
    cut["section"]["cell_protein_measured"] = measured
    return cut


def hidden_whole(graph: TissueGraph, rows: np.ndarray) -> TissueGraph:
    return hide_observations(graph, {("cell", "protein"): rows})


def clr(counts: np.ndarray) -> np.ndarray:
    return np.log1p(counts / np.exp(np.log1p(counts).mean(axis=1, keepdims=True)))
