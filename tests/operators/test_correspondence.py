"""Cells that nothing pairs: canonical correlation, transport in pieces, and a way that left-out genes choose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from aivc_graph.operators import correspondence, transport
from aivc_graph.operators.correspondence import START, Correspondence, Standard, correspond
from aivc_graph.operators.transport import barycentres

Floats = np.ndarray[Any, np.dtype[np.float64]]


def two_sides(n: int = 400, genes: int = 90, noise: float = 1.0, seed: int = 0) -> tuple[Any, Any, np.ndarray]:
    """Return the same cells told twice by the same genes (cell, gene), and the kind of each: one of five, one rare."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(5, n, p=(0.4, 0.3, 0.15, 0.1, 0.05))
    programmes = rng.normal(size=(5, genes))
    state = programmes[kind] + 0.5 * rng.normal(size=(n, 3)) @ rng.normal(size=(3, genes))
    sides = [np.maximum(state + noise * rng.normal(size=state.shape), 0.0) for _ in range(2)]
    return *(sparse.csr_matrix(one) for one in sides), kind


def groups(n: int) -> np.ndarray:
    return np.arange(n) % 4


def away(found: Correspondence) -> float:
    """Return the share of other cells that lie closer than the true partner."""
    apart = ((found.given[:, None] - found.asked[None]) ** 2).sum(axis=2)
    return float((apart < np.diag(apart)[:, None]).mean())


def right(found: Correspondence, kind: np.ndarray) -> float:
    return float((found.carry(np.eye(5)[kind]).argmax(axis=1) == kind).mean())


def test_it_begins_with_canonical_correlation_across_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    given, asked, _ = two_sides(n=120, genes=60)
    monkeypatch.setattr(correspondence, "WAYS", (START,))
    found = correspond(given, asked, groups(120))
    x, y = ((one.toarray() - one.toarray().mean(axis=0)) / one.toarray().std(axis=0) for one in (given, asked))
    left, _, right = np.linalg.svd(x @ y.T)
    for places, vectors in ((found.given, left[:, :20]), (found.asked, right[:20].T)):
        expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(places @ places.T, expected @ expected.T, atol=2e-3)
    one, other = left[:, :20], right[:20].T
    alike = (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    np.testing.assert_allclose((found.given * found.asked).sum(axis=1), alike, atol=2e-3)


def test_like_lies_beside_like_and_not_under_wrong_names() -> None:
    given, asked, kind = two_sides(noise=2.0)
    found = correspond(given, asked, groups(400))
    wrong = correspond(given, asked[:, np.random.default_rng(0).permutation(90)], groups(400))
    assert away(found) < 0.2 < 0.35 < away(wrong)
    assert right(found, kind) > 0.85 > 0.6 > right(wrong, kind)
    assert max(found.agreement.values()) > 3 * max(wrong.agreement.values())


def test_it_departs_as_far_as_genes_left_out_agree_better(monkeypatch: pytest.MonkeyPatch) -> None:
    given, asked, _ = two_sides(noise=4.0, n=600)
    found = correspond(given, asked, groups(600))
    assert found.way != START and found.agreement[found.way] == max(found.agreement.values())
    monkeypatch.setattr(correspondence, "WAYS", (START,))
    assert away(found) < away(correspond(given, asked, groups(600))) - 0.02


def test_a_way_that_is_ahead_on_some_thirds_only_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    given, asked, _ = two_sides(n=80)
    # By thirds: the start, a gambler, and one that is steady the second time.
    told = iter([0.2, 0.9, 0.3, 0.2, 0.1, 0.1, 0.2, 0.8, 0.3])
    ways = (START, START._replace(rounds=1), START._replace(rounds=2))
    monkeypatch.setattr(correspondence, "WAYS", ways)
    monkeypatch.setattr(correspondence, "_likeness", lambda *_: next(told))
    assert correspond(given, asked, groups(80)).way == START
    told = iter([0.2, 0.9, 0.3, 0.2, 0.1, 0.3, 0.2, 0.8, 0.3])
    assert correspond(given, asked, groups(80)).way == ways[2]


def test_the_order_of_cells_does_not_matter() -> None:
    given, asked, _ = two_sides(n=150)
    turn = np.random.default_rng(1).permutation(150)
    one, other = correspond(given, asked, groups(150)), correspond(given[turn], asked[turn], groups(150)[turn])
    assert one.way == other.way
    np.testing.assert_allclose(one.asked[turn] @ one.given[turn].T, other.asked @ other.given.T, atol=1e-4)


def test_features_without_spread_say_nothing() -> None:
    values = sparse.csr_matrix(np.column_stack([np.ones(5), np.arange(5.0)]))
    made = Standard.of(values)
    np.testing.assert_allclose(made.rows.toarray()[:, 0] - made.centre[0], 0.0)
    assert (made.rows.toarray()[:, 1] - made.centre[1]).std() == pytest.approx(1.0)


def test_too_few_cells_are_refused() -> None:
    given, asked, _ = two_sides(n=80)
    with pytest.raises(ValueError, match="at least 60 cells on either side, found 80, 40"):
        correspond(given, asked[:40], groups(40))


def places(kind: np.ndarray, seed: int) -> Floats:
    found = np.eye(4)[kind] + 0.1 * np.random.default_rng(seed).normal(size=(len(kind), 4))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_transport_is_the_unbalanced_plan() -> None:
    given, asked = places(np.arange(30) % 4, 0), places(np.arange(20) % 4, 1)
    cost, f = 1 - given @ asked.T, transport.SLACK / (transport.SLACK + transport.BLUR)
    kernel, u, v = np.exp(-cost / transport.BLUR) / 600, np.ones(30), np.ones(20)
    for _ in range(2_000):
        u = (1 / 30 / (kernel @ v)) ** f
        v = (1 / 20 / (kernel.T @ u)) ** f
    plan = u[:, None] * kernel * v
    expected = plan.T @ given / plan.sum(axis=0)[:, None]
    np.testing.assert_allclose(barycentres(given, asked, 0), expected, atol=1e-3)


def test_a_kind_that_one_side_lacks_stays_behind() -> None:
    given, asked = places(np.arange(300) % 4, 0), places(np.arange(300) % 3, 1)
    found = barycentres(given, asked, 0)
    assert (found.argmax(axis=1) == np.arange(300) % 3).mean() > 0.98
    # Balanced transport would send a quarter of all mass to cells of other kinds.
    assert found[:, 3].mean() < 0.17


def test_no_plan_is_larger_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    import ot

    sizes, whole = [], ot.unbalanced.sinkhorn_unbalanced
    monkeypatch.setattr(transport, "MOST_COUPLED", 50)
    monkeypatch.setattr(
        ot.unbalanced, "sinkhorn_unbalanced", lambda a, b, m, *rest: sizes.append(m.shape) or whole(a, b, m, *rest)
    )
    kind = np.arange(180) % 4
    found = barycentres(places(np.arange(300) % 4, 0), places(kind, 1), 0)
    assert sizes == [(50, 45)] * 4
    assert (found.argmax(axis=1) == kind).mean() > 0.98
