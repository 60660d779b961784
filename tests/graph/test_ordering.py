"""The Hilbert order: a permutation, continuous, and local."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc_graph.graph.ordering import hilbert_keys, hilbert_order, hilbert_order_within


@pytest.mark.parametrize("side", [2, 4, 16, 64])
def test_curve_visits_every_cell_of_a_square_by_single_steps(side):
    pos = np.array([[x, y] for x in range(side) for y in range(side)], dtype=float)
    walk = pos[hilbert_order(pos)]
    np.testing.assert_array_equal(np.abs(np.diff(walk, axis=0)).sum(axis=1), 1)
    assert walk[0].tolist() == [0, 0]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=60))
@settings(max_examples=50, deadline=None)
def test_order_is_a_permutation_and_keeps_equal_points_in_order(points):
    pos = np.array(points, dtype=float).reshape(-1, 2)
    order = hilbert_order(pos)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(pos)))
    keys = hilbert_keys(pos)[order].astype(np.int64)
    assert (np.diff(keys) >= 0).all()
    assert (np.diff(order)[np.diff(keys) == 0] > 0).all()


def test_the_order_inside_a_group_is_its_own():
    rng = np.random.default_rng(0)
    pos, group = rng.uniform(0, 100, (300, 2)), rng.integers(0, 3, 300)
    order = hilbert_order_within(pos, group)
    assert (np.diff(group[order]) >= 0).all()
    for one in range(3):
        rows = np.flatnonzero(group == one)
        np.testing.assert_array_equal(order[group[order] == one], rows[hilbert_order(pos[rows])])
    assert len(hilbert_order_within(pos[:0], group[:0])) == 0


def test_neighbours_on_the_curve_are_neighbours_in_tissue():
    pos = np.random.default_rng(0).uniform(0, 1000, (10_000, 2))
    step = np.linalg.norm(np.diff(pos[hilbert_order(pos)], axis=0), axis=1)
    assert step.mean() < 1.2 * 10.0


@pytest.mark.parametrize("pos", [np.empty((0, 2)), np.zeros((3, 2)), np.array([[5.0, 5.0]])])
def test_no_extent(pos):
    assert hilbert_order(pos).tolist() == list(range(len(pos)))
