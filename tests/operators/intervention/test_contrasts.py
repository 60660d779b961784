"""What untreated groups express, where sections measured a part of the molecules each; and how their nodes differ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from aivc_graph.operators.intervention.contrasts import _profiles, beyond_counting


def test_profiles_are_of_what_groups_measured() -> None:
    rng = np.random.default_rng(0)
    share, depth = rng.dirichlet(np.ones(12)), np.array([4e8, 2e8, 1e8, 3e8])
    there = np.ones((4, 12), bool)
    there[0, :3] = there[1, 2:5] = False
    there[:, 11] = [False, False, False, True]
    counts = depth[:, None] * share * there
    due = counts.sum(axis=1) / (share * there).sum(axis=1)
    untreated, component = np.array([True, True, True, False]), np.array([0, 0, 0, 0])
    profile, known = _profiles(counts, due, there, untreated, component, 1)
    # The last molecule was measured of treated tissue alone: what it is like untreated is not known.
    assert known[0].tolist() == [True] * 11 + [False]
    np.testing.assert_allclose(profile[0, :11], share[:11] / share[:11].sum(), rtol=1e-4)
    assert profile[0, 11] < 1e-5


def test_profiles_of_whole_panels_are_pooled_counts() -> None:
    counts = np.array([[3.0, 1.0], [5.0, 7.0], [2.0, 2.0]])
    whole, everyone = np.ones((3, 2), bool), np.array([True, True, False])
    profile, known = _profiles(counts, counts.sum(axis=1), whole, everyone, np.array([0, 1, 0]), 2)
    assert known.all()
    np.testing.assert_array_equal(profile, [[3.5 / 5, 1.5 / 5], [5.5 / 13, 7.5 / 13]])


def of_kinds(kind: np.ndarray, dispersion: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return what nodes of these kinds differ by, and of what, when nodes are gamma-Poisson with this dispersion."""
    rng = np.random.default_rng(seed)
    share, depth = rng.dirichlet(np.full(60, 3.0), int(kind.max()) + 1), rng.lognormal(6.0, 0.7, len(kind))
    own = rng.gamma(1 / dispersion, dispersion, (len(kind), 60)) if dispersion else np.ones((len(kind), 60))
    counts = sparse.csr_matrix(rng.poisson(share[kind] * depth[:, None] * own).astype(float))
    return beyond_counting(counts, sparse.csr_matrix(np.eye(int(kind.max()) + 1)[kind].T))


@pytest.mark.parametrize("dispersion", [0.0, 0.1, 0.6])
def test_nodes_differ_beyond_counting_by_their_dispersion(dispersion: float) -> None:
    """Kinds of sixteen nodes each, of their own profiles: what kinds differ by is not taken for what nodes do."""
    beyond, due = of_kinds(np.repeat(np.arange(150), 16), dispersion)
    assert beyond.sum() / due.sum() == pytest.approx(dispersion, rel=0.15, abs=0.02)


def test_one_node_shows_nothing_of_how_nodes_differ() -> None:
    beyond, due = of_kinds(np.arange(50), 0.6)
    np.testing.assert_allclose(beyond, 0, atol=1e-8)
    np.testing.assert_allclose(due, 0, atol=1e-8)
