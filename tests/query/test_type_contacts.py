"""Drawn types lie beside each other as measured ones do where the model is right; where it is not, it is seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from aivc_graph.graph.build import build_graph
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.query.type_contacts import WITHIN_UM, _around, _drawn, _frequent, _within, type_contacts
from aivc_graph.report.type_contacts import contacts_of
from tests.operators.test_types import EDGES, TYPES, fitted, section_of_types


@pytest.fixture(scope="module")
def graph() -> TissueGraph:
    return build_graph([section_of_types(f"s{d}", 600, d, mixed_up=0.3, donor=f"d{d}") for d in range(2)], EDGES)


@pytest.fixture(scope="module")
def model(graph: TissueGraph) -> TissueModel:
    return fitted(graph)


def asked(graph: TissueGraph) -> dict[str, np.ndarray]:
    return {level: np.ones(int(graph[level].num_nodes), bool) for level in graph.levels}


def inside(found: list[dict[str, Any]]) -> float:
    return float(np.mean([one["lower"] <= one["measured"] <= one["upper"] for one in found]))


def off(found: list[dict[str, Any]]) -> float:
    return float(np.mean([abs(one["measured"] - one["drawn"]) for one in found]))


def test_neighbours_are_counted_within_sections_and_never_oneself() -> None:
    pos = np.array([[0.0, 0], [10, 0], [30, 0], [0, 0]])
    near = _within(pos, np.array([0, 0, 0, 1]), np.array([0, 1, 3]), 20.0)
    np.testing.assert_array_equal(near.toarray(), [[0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])
    found = _around(
        sparse.csr_matrix(near), np.array([0, 1, 1, 0]), np.array([0, 1, 3]), np.array([0, 1, 0]), np.arange(2)
    )
    np.testing.assert_allclose(found, [[0, 0.5], [1, 1]])


def test_draws_are_as_frequent_as_their_chances_and_rare_types_are_left_out() -> None:
    chances = np.tile([0.2, 0.5, 0.3], (50, 1))
    drawn = _drawn(chances, 400, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(drawn.ravel()) / drawn.size, chances[0], atol=0.02)
    np.testing.assert_array_equal(_frequent(np.repeat([0, 1, 2], [30, 5, 40]), 3), [0, 2])


def test_a_model_that_is_right_draws_what_is_measured(model: TissueModel, graph: TissueGraph) -> None:
    found = type_contacts(model, graph, asked(graph))
    assert {(one["level"], one["within_um"]) for one in found} == {("cell", within) for within in WITHIN_UM}
    assert len(found) == 2 * len(TYPES) ** 2 and inside(found) > 0.6
    apart = next(one for one in found if (one["of"], one["around"], one["within_um"]) == ("a", "c", 20.0))
    together = next(one for one in found if (one["of"], one["around"], one["within_um"]) == ("c", "c", 20.0))
    assert apart["measured"] < 0.6 * together["measured"] and apart["drawn"] < 0.6 * together["drawn"]
    again = type_contacts(model, graph, asked(graph))
    assert again == found


def test_a_rule_that_knows_no_place_is_seen(model: TissueModel, graph: TissueGraph) -> None:
    part = model.part("measurement", "cell", "type")
    kept = part.rule_share.clone()
    part.rule_share.zero_()
    part.rule_share[..., 0] = 1.0  # the class prior
    found = type_contacts(model, graph, asked(graph))
    part.rule_share.copy_(kept)
    assert inside(found) < 0.4 and off(found) > 3 * off(type_contacts(model, graph, asked(graph)))
    (row, *_) = contacts_of(found)
    assert row["pairs"] == 9 and row["inside"] < 5 and len(row["farthest"]) == 5
    assert row["where"] == "cells within 20 µm" and contacts_of([]) == []
