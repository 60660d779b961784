"""What untreated groups express, where sections measured a part of the molecules each."""

from __future__ import annotations

import numpy as np

from aivc_graph.operators.intervention.contrasts import _profiles


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
