"""Maps: mass is kept, and the unknown stays unknown."""

from __future__ import annotations

import numpy as np
import pytest

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
