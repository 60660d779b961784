"""Anchors made worse in a graph are those of a graph that is built so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aivc_graph import names
from aivc_graph.graph.anchors import SHARE, SHIFT, SIGMA, AnchorConfig
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.reanchoring import nearest_join, reanchored
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr

EDGES = {"cell": {"kind": "knn", "k": 6}, "patch": {"kind": "knn", "k": 6}}
AS_BUILT = AnchorConfig(sigma_um=0.0)


def built(sections: list[Any], anchors: AnchorConfig) -> TissueGraph:
    return build_graph(sections, GraphConfig(edges=EDGES, anchors=anchors))


def within(graph: TissueGraph) -> np.ndarray:
    return to_scipy_csr(graph["cell", "within", "patch"].adj_t).toarray()


@pytest.fixture(scope="module")
def sections(striped_section: Callable[..., Any]) -> list[Any]:
    made = [striped_section(f"s{i}", n=200, seed=i, levels=("cell", "patch"), donor=f"d{i}") for i in range(2)]
    for level in ("cell", "patch"):
        made[1].shapes[level]["split"] = "test"
    return made


@pytest.mark.parametrize(
    "worse",
    [{}, {"share": 0.3}, {"shift_um": 40.0}, {"shift_um": 40.0, "sigma_um": 30.0}, {"share": 0.3, "seed": 5}],
    ids=str,
)
def test_anchors_are_those_of_a_graph_built_with_them(sections: list[Any], worse: dict[str, float]) -> None:
    graph, anchors = built(sections, AS_BUILT), AS_BUILT.model_copy(update=worse)
    before, wanted = within(graph), built(sections, anchors)
    found = reanchored(graph, anchors)
    np.testing.assert_allclose(within(found), within(wanted), atol=1e-4)
    assert (np.abs(within(found) - before).max() > 0.1) == bool(worse)
    columns = [one for one in (SIGMA, SHARE, SHIFT) if one in wanted.obs(names.SECTION)]
    assert list(found.obs(names.SECTION)[columns]) == columns == [c for c in found.obs(names.SECTION) if c in columns]
    np.testing.assert_array_equal(within(graph), before)  # the graph it was made of is as it was


def test_the_error_of_places_stays_where_none_is_stated(sections: list[Any]) -> None:
    soft = built(sections, AnchorConfig(sigma_um=30.0))
    np.testing.assert_allclose(within(reanchored(soft, AnchorConfig())), within(soft), atol=1e-4)
    assert np.abs(within(reanchored(soft, AS_BUILT)) - within(soft)).max() > 0.1


def test_each_cell_is_joined_to_the_spot_nearest_to_where_it_is_taken_to_lie(sections: list[Any]) -> None:
    graph = built(sections, AS_BUILT)
    section, split, cells, spots = (
        graph["cell"].section_index.numpy(),
        [graph[level].split.numpy() for level in ("cell", "patch")],
        *(graph[level].pos.double().numpy() for level in ("cell", "patch")),
    )
    moved = AS_BUILT.model_copy(update={"shift_um": 50.0})
    shifts = np.array([moved.shift(str(name)) for name in graph.obs(names.SECTION).index])
    far = np.linalg.norm((cells + shifts[section])[:, None] - spots[None], axis=-1)
    apart = (section[:, None] != graph["patch"].section_index.numpy()) | (split[0][:, None] != split[1])
    nearest = np.where(apart, np.inf, far).argmin(axis=1)
    join = nearest_join(graph, moved)
    assert (np.asarray(join.sum(axis=0)).ravel() == 1).all()
    assert np.array_equal(np.asarray(join.argmax(axis=0)).ravel(), nearest)
    assert (nearest != np.asarray(nearest_join(graph, AS_BUILT).argmax(axis=0)).ravel()).any()


def test_spots_that_keep_no_anchors_are_joined_to_nothing(sections: list[Any]) -> None:
    graph, few = built(sections, AS_BUILT), AS_BUILT.model_copy(update={"share": 0.2})
    joined = np.asarray(nearest_join(graph, few).sum(axis=1)).ravel() > 0
    test = graph.in_split("patch", "test").numpy()
    kept = within(reanchored(graph, few)).sum(axis=1) > 0
    assert not (joined & ~kept & ~test & (within(graph).sum(axis=1) > 0)).any()
    assert 0 < joined[~test].sum() < 0.5 * (~test).sum() < joined[test].sum() * 4
