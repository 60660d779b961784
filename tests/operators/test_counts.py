"""Counts of a window: scaled, restricted to panels, and split in two halves that know nothing of each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.operators.counts import CountInput, log_shares, prepare_counts, thinned
from aivc_graph.operators.expected_terms import MOST, amounts_of, terms_of

DEPTH = 50.0
EDGES = GraphConfig(edges={"cell": {"kind": "knn", "k": 6}})


def without(section: Any, genes: set[str]) -> Any:
    table = section.tables["cell_rna"]
    section.tables["cell_rna"] = table[:, ~table.var_names.isin(genes)].copy()
    return section


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    """Return two sections, the second of which lacks two genes."""
    return build_graph([striped_section("a", n=60), without(striped_section("b", n=50, seed=1), {"G1", "G2"})], EDGES)


@pytest.fixture(scope="module")
def data(graph: TissueGraph) -> CountInput:
    return prepare_counts(graph, "cell", "rna", DEPTH, "cpu")


def test_scaled_counts_have_one_depth_as_far_as_a_section_measured(graph: TissueGraph, data: CountInput) -> None:
    counts, section = to_scipy_csr(data.counts).toarray(), data.section.numpy()
    back = np.expm1(to_scipy_csr(data.scaled.forward_csr).toarray())
    np.testing.assert_allclose(back.sum(axis=1), DEPTH * data.covered.numpy()[section], rtol=1e-4)
    shares = counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(back / back.sum(axis=1, keepdims=True), shares, atol=1e-5)
    assert data.covered[0] == 1.0 and 0.5 < float(data.covered[1]) < 1.0
    np.testing.assert_array_equal(counts, to_scipy_csr(graph.counts("cell", "rna")).toarray())


def test_panels_say_what_each_section_measured(graph: TissueGraph, data: CountInput) -> None:
    genes = list(graph.obs("gene").index)
    there = data.there
    assert there is not None and len(data.panels) == 2
    assert {genes[i] for i in torch.nonzero(~there[1]).ravel().tolist()} == {"G1", "G2"} and bool(there[0].all())
    assert replace(data, panels=torch.ones(1, len(genes)), panel_of=torch.zeros(2, dtype=torch.int64)).there is None


def test_halves_of_counts_add_up_and_know_nothing_of_each_other(data: CountInput) -> None:
    training = torch.arange(len(data.mask)) < 80
    kept, rest = thinned(data, training, DEPTH, 0.3, np.random.default_rng(0))
    whole, a, b = (to_scipy_csr(one.counts).toarray() for one in (data, kept, rest))
    np.testing.assert_array_equal(a + b, whole)
    assert (a[80:] == whole[80:]).all() and not b[80:].any()  # of others nothing is drawn
    assert a[:80].sum() / whole[:80].sum() == pytest.approx(0.3, abs=0.02)
    # Which counts go where is drawn count by count.
    scatter = ((a[:80] - 0.3 * whole[:80]) ** 2).sum() / (0.3 * 0.7 * whole[:80].sum())
    assert scatter == pytest.approx(1.0, abs=0.1)
    back = np.expm1(to_scipy_csr(kept.scaled.forward_csr).toarray()).sum(axis=1)
    some = a.sum(axis=1) > 0
    np.testing.assert_allclose(back[some], (DEPTH * data.covered[data.section].numpy())[some], rtol=1e-4)


def test_the_lot_of_who_trains_does_not_hang_on_the_others(data: CountInput) -> None:
    training = torch.arange(len(data.mask)) < 40
    first, _ = thinned(data, training, DEPTH, 0.5, np.random.default_rng(1))
    more = to_scipy_csr(data.counts).copy()
    more.data[more.indptr[40] :] += 3.0
    second, _ = thinned(replace(data, counts=to_torch_csr(more)), training, DEPTH, 0.5, np.random.default_rng(1))
    mine = [to_scipy_csr(one.counts).toarray()[:40] for one in (first, second)]
    np.testing.assert_array_equal(*mine)


def test_log_shares_do_not_mind_how_much_was_counted() -> None:
    values = torch.tensor([[1.0, 3.0], [10.0, 30.0], [0.0, 0.0]])
    found = log_shares(values, 100.0)
    torch.testing.assert_close(found[0], torch.log1p(torch.tensor([25.0, 75.0])))
    torch.testing.assert_close(found[0], found[1])
    assert not found[2].any()  # of nothing, nothing


def test_terms_of_intensities_lead_there_and_back() -> None:
    cofactor = (0.5, 20.0)
    amounts = torch.tensor([[0.0, 3.0], [7.0, 4e4], [-1.0, 0.1]])
    torch.testing.assert_close(amounts_of(terms_of(amounts, cofactor), cofactor), amounts, rtol=1e-4, atol=1e-4)
    assert bool(torch.isfinite(amounts_of(torch.full((1, 2), 10 * MOST), (1.0, 1.0))).all())
    torch.testing.assert_close(terms_of(torch.tensor([0.5]), 10.0), torch.log1p(torch.tensor([5.0])))
