"""Maps and their agreement: mass is kept, the unknown stays unknown, and a local shift is found where it is."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.tissue.registration.agreement import agreement, block_shifts
from aivc_graph.tissue.registration.layer import Layer
from aivc_graph.tissue.registration.maps import draw_map


def cells(n=4000, seed=0, framed=False, side_um=2000.0):
    """Return points with values that are smooth in space and without symmetry."""
    xy = np.random.default_rng(seed).uniform(0, side_um, (n, 2))
    values = np.column_stack([np.sin(xy[:, 0] / 150) + 2, np.cos((xy[:, 0] + 2 * xy[:, 1]) / 200) + 2])
    return Layer(xy, values, np.eye(3), profile=framed, framed=framed)


def test_a_density_keeps_its_mass_and_is_empty_outside():
    layer = Layer(cells().xy, np.ones((4000, 1)), np.eye(3))
    drawn = draw_map(layer, 50.0, 25.0)
    assert drawn.values.sum() == pytest.approx(4000, rel=1e-3)
    values, known = drawn.at(np.array([[-5000.0, 0.0], [1000.0, 1000.0]]))
    assert known.all() and values[0, 0] == 0 and values[1, 0] == pytest.approx(4000 / 40**2, rel=0.3)


def test_a_profile_is_unknown_outside_and_blind_to_depth():
    layer = cells(framed=True)
    drawn = draw_map(layer, 50.0, 50.0)
    assert drawn.at(np.array([[-500.0, 0.0], [1000.0, 1000.0]]))[1].tolist() == [False, True]
    deeper = draw_map(Layer(layer.xy, 7 * layer.values, np.eye(3), profile=True, framed=True), 50.0, 50.0)
    np.testing.assert_allclose(drawn.values[:, drawn.valid], deeper.values[:, drawn.valid], atol=1e-9)


def test_agreement_is_one_with_itself_and_falls_with_a_shift():
    layer = cells(framed=True)
    drawn = draw_map(layer, 50.0, 50.0)
    values, known = drawn.at(layer.xy)
    scores = [agreement(layer.xy[known] + [shift, 0.0], values[known], drawn) for shift in (0.0, 50.0, 150.0)]
    assert scores[0] == pytest.approx(1.0) and scores[0] > scores[1] > scores[2]
    assert agreement(layer.xy + np.array([1500.0, 0.0]), values, drawn) == -1.0


def test_blocks_say_where_a_deformation_is():
    layer = cells(framed=True)
    drawn = draw_map(layer, 40.0, 40.0)
    values, known = drawn.at(layer.xy)
    bent = layer.xy.copy()
    bent[bent[:, 0] > 1000] += [60.0, -40.0]
    shifts = block_shifts(bent[known], values[known], drawn, 160.0, 20.0, n_blocks=2)
    assert len(shifts) == 4
    np.testing.assert_allclose(shifts[:2], 0, atol=10)
    np.testing.assert_allclose(shifts[2:], [[-60, 40]] * 2, atol=12)


def test_blocks_without_signal_are_left_out():
    layer = Layer(cells().xy, np.ones((4000, 2)), np.eye(3), profile=True, framed=True)
    drawn = draw_map(layer, 50.0, 50.0)
    values, _ = drawn.at(layer.xy)
    assert len(block_shifts(layer.xy, values, drawn, 100.0, 50.0, n_blocks=2)) == 0
