"""Isolated nodes, separate parts and shared places are kept and counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.connectivity import connectivity
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, new_section


def test_what_stands_apart_is_kept_and_counted() -> None:
    """Three cells 10 µm apart, two in one place 1 mm away, one alone, within 20 µm of each other or not."""
    xy = np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0], [1000.0, 0.0], [1000.0, 0.0], [0.0, 2000.0]])
    section = new_section("s1")
    add_level(section, "cell", [f"c{i}" for i in range(6)], xy, 5.0, scale_affine(1.0))
    edges: dict[str, Any] = {"cell": {"kind": "radius", "radius_um": 20.0}, "patch": {"kind": "grid"}}
    graph = build_graph([section], GraphConfig(edges=edges))
    assert graph["cell"].num_nodes == 6
    assert connectivity(graph)["cell"] == {"isolated": 1, "parts": 3, "same_place": 2}


def test_places_of_two_sections_are_not_the_same(striped_section: Callable[..., Any]) -> None:
    graph = build_graph([striped_section("a", n=50), striped_section("b", n=50)])
    assert connectivity(graph)["cell"]["same_place"] == 0
