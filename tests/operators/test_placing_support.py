"""Cells of a type that a section lacks are told, those of its own are not, by any platform."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from aivc_graph.operators import placing, placing_support
from aivc_graph.operators.placing_support import (
    LEAST_FIT,
    Support,
    _averaged,
    _deviance,
    _most_like,
    _of_platform,
    fit_support,
)

GENES, AXES = 60, np.random.default_rng(9).normal(size=(60, 12))
PROFILE = np.random.default_rng(8).dirichlet(np.full(GENES, 0.6), size=5)


def cells(
    n: int, kinds: list[int], seed: int, factor: np.ndarray | float = 1.0
) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Return coordinates and counts of cells of some of five types, some shallow and some deep."""
    rng = np.random.default_rng(seed)
    rate = PROFILE[rng.choice(kinds, n)] * factor
    counts = rng.poisson(rng.choice([100.0, 300.0], (n, 1)) * rate / rate.sum(axis=1, keepdims=True))
    logs = np.log1p(100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    return logs @ AXES, sparse.csr_matrix(counts.astype(np.float32))


@pytest.fixture(scope="module")
def support() -> Support:
    return fit_support(*cells(2_000, [0, 1, 2, 3], 0))


def nowhere(support: Support, x: np.ndarray, counts: sparse.csr_matrix) -> np.ndarray:
    return support.fit(x, counts) < LEAST_FIT


def test_a_type_that_is_absent_is_told_and_its_own_are_not(support: Support) -> None:
    own, other = cells(600, [0, 1, 2, 3], 1), cells(100, [4], 2)
    told = nowhere(support, np.vstack([own[0], other[0]]), sparse.vstack([own[1], other[1]], format="csr"))
    assert told[:600].mean() <= 0.1 and told[600:].mean() >= 0.8
    assert np.mean([nowhere(support, *cells(600, [0, 1, 2, 3], seed)).mean() for seed in (1, 5)]) <= 0.06


def test_cells_bear_each_other_out(support: Support, monkeypatch: pytest.MonkeyPatch) -> None:
    other = cells(150, [4], 2)
    together = support.fit(*other).mean()
    monkeypatch.setattr(placing_support, "ALIKE", 1)
    own = cells(2_000, [0, 1, 2, 3], 0)
    assert together < fit_support(*own).fit(*other).mean()


def test_a_platform_is_no_type(support: Support) -> None:
    factor = np.exp(0.5 * np.random.default_rng(3).normal(size=GENES))
    kinds = cells(900, [0, 1, 2, 3], 4)
    x, counts = cells(900, [0, 1, 2, 3], 4, factor)
    like = _most_like(kinds[0].astype(np.float32), support.own, 20)
    effect = _of_platform(like, support.counts, counts, x, 0)
    assert _deviance(counts, like, support.counts, effect).mean() < 0.8 * _deviance(counts, like, support.counts).mean()
    assert np.corrcoef(np.log(effect), np.log(factor))[0, 1] > 0.9


def test_deviance_is_poisson_of_a_known_depth() -> None:
    counts = sparse.csr_matrix([[3.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    nodes, like = sparse.csr_matrix(np.full((1, 3), 7.0)), np.zeros((2, 1), int)
    expected = [2 * (3 * np.log(3 / (4 / 3)) + np.log(0.75)), 0.0]
    np.testing.assert_allclose(_deviance(counts, like, nodes), expected)
    tripled = [2 * (3 * np.log(3 / (4 * 0.6)) + np.log(1 / (4 * 0.2))), 0.0]
    np.testing.assert_allclose(_deviance(counts, like, nodes, np.array([3.0, 1.0, 1.0])), tripled)


def test_no_more_is_held_than_the_budget(support: Support, monkeypatch: pytest.MonkeyPatch) -> None:
    x, counts = cells(900, [0, 1, 2, 3], 4)
    told, peak = [], []
    for budget in (placing.BUDGET, 2**17):
        monkeypatch.setattr(placing, "BUDGET", budget)
        tracemalloc.start()
        told.append(support.fit(x, counts))
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    np.testing.assert_allclose(*told, atol=1e-9)
    assert peak[1] < 0.5 * peak[0]


def test_what_is_alike_is_found_piece_by_piece_and_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    told = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    told /= np.linalg.norm(told, axis=1, keepdims=True)
    whole = np.sort(_most_like(told, told, 5), axis=1)
    monkeypatch.setattr(placing, "BUDGET", 150)
    np.testing.assert_array_equal(np.sort(_most_like(told, told, 5), axis=1), whole)
    assert all(i in row for i, row in enumerate(whole))
    np.testing.assert_allclose(_averaged(np.full(50, 0.7), told, 0), 0.7)
    assert _averaged(np.array([1.0]), told[:1], 0).tolist() == [1.0]
