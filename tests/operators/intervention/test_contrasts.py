"""What untreated groups express, where sections measured a part of the molecules each; and how their nodes differ."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from aivc_graph.graph.tissue_graph import to_torch_csr
from aivc_graph.operators.intervention.contrasts import _profiles, _sum_counts, beyond_counting


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


def test_groups_are_summed_and_their_nodes_compared_within_a_section_and_component() -> None:
    """Two sections, two components and two tiles of each; nodes of the second component come in bursts.

    Tiles of two nodes, as many as leave them nothing to be compared with but the other tile.
    """
    rng = np.random.default_rng(1)
    labels = [(section, component, tile, 0, 0) for section in range(40) for component in range(2) for tile in range(2)]
    groups = np.array(labels)
    of = np.repeat(np.arange(len(groups)), 2)
    expected = rng.gamma(2.0, 20.0, (40, 2, 50))[groups[of, 0], groups[of, 1]]
    burst = np.where(groups[of, 1:2] == 1, rng.gamma(2.0, 0.5, expected.shape), 1.0)  # of variance 1/2
    halves = [sparse.csr_matrix(rng.poisson(expected * burst).astype(np.float32)) for _ in range(2)]
    half = [SimpleNamespace(counts=to_torch_csr(one)) for one in halves]
    window = SimpleNamespace(core={"cell": torch.ones(len(of), dtype=bool)}, rows={"cell": torch.arange(len(of))})
    encoded = SimpleNamespace(
        plan=SimpleNamespace(level="cell", components=2, n_molecules=50),
        windows=lambda: [(window, None)],
        halves=lambda *_: half,
    )
    grouped = np.stack([of, np.where(of < 2, -1, of)])  # by the second half the first nodes are of no component
    counts, between = _sum_counts(encoded, grouped, groups)
    whole = (halves[0] + halves[1]).toarray().reshape(len(groups), 2, 50).sum(axis=1)
    np.testing.assert_array_equal(counts[2:], whole[2:])
    np.testing.assert_array_equal(counts[:2], halves[1].toarray()[:4].reshape(2, 2, 50).sum(axis=1))
    assert between[0].mean() < 0.02
    assert between[1].mean() == pytest.approx(0.5, rel=0.2)
