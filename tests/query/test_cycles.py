"""Whether lift and project agree: the audit tells fitted maps from plain means, and either from dealt children."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.part import BEFORE_TRAINING
from aivc_graph.operators.state import Hidden
from aivc_graph.query.cycles import cycles, energy_distance
from aivc_graph.report.cycles import cycles_of
from tests.fitting import fit_stages, fitting_of, fold_of, model_of

EDGES = GraphConfig(edges={"cell": {"kind": "knn", "k": 8}, "patch": {"kind": "knn", "k": 6}})
WAYS = ("up", "down", "down_up", "up_down")


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    made = [striped_section(f"s{i}", n=400, seed=i, levels=("cell", "patch"), donor=f"d{i}") for i in range(2)]
    return build_graph(made, EDGES)


@pytest.fixture(scope="module")
def model(graph: TissueGraph) -> TissueModel:
    made = model_of(graph, ModelConfig(latent=3, rings=(4, 8)))
    fit_stages(fitting_of(graph, made, [fold_of(graph, made)]), BEFORE_TRAINING)
    return made


def audit(model: TissueModel, graph: TissueGraph, split: str = "validation") -> dict[str, Any]:
    found = cycles(model, graph, {level: graph.in_split(level, split).numpy() for level in graph.levels})
    assert [(one["child"], one["parent"]) for one in found] == [("cell", "patch")]
    return found[0]


def test_fitted_maps_lie_nearer_than_plain_means_and_dealt_children(model: TissueModel, graph: TissueGraph) -> None:
    found = audit(model, graph)
    for way in ("up", "down"):
        assert found[way]["model"] < 0.9 * found[way]["mean_pooling"], way
        assert found[way]["model"] < 0.9 * found[way]["shuffled"], way
    assert found["down_up"]["model"] < found["down_up"]["shuffled"]
    assert found["up_down"]["model"] < found["up_down"]["shuffled"]
    assert "mean_pooling" not in found["down_up"]
    assert all(found[way]["n"] > 5 for way in WAYS)


def test_a_part_that_is_taken_away_is_seen(model: TissueModel, graph: TissueGraph) -> None:
    before, project = audit(model, graph), model.part("project", "cell", "patch")
    for name, ways in (("map", ("down", "down_up")), ("back", ("up_down",))):
        kept = getattr(project, name).clone()
        getattr(project, name).copy_(-kept)
        after = audit(model, graph)
        getattr(project, name).copy_(kept)
        assert after["up"] == before["up"]  # what no projection goes into stays
        for way in ways:
            assert after[way]["model"] > 1.2 * before[way]["model"], way
            assert after[way].get("mean_pooling") == before[way].get("mean_pooling"), way
        for way in set(WAYS) - set(ways):
            assert after[way] == before[way], way


def test_a_spot_that_its_cells_alone_have_told_tells_them_their_mean(graph: TissueGraph, model: TissueModel) -> None:
    inputs, spots = model.prepare(graph), model.part("project", "cell", "patch")
    hidden = Hidden(nodes={("patch", of): torch.ones(int(graph["patch"].num_nodes)) for of in ("rna", "histology")})
    with torch.no_grad():
        own = model.encode(inputs, hidden)
        model.part("lift", "cell", "patch").pass_on(own, inputs)
        mean = inputs["relation", "cell", "within", "patch"].up @ own.z["cell"]
        told = spots.heard(own.z["patch"], own.heard["patch"] > 0)
        there = own.heard["patch"] > 0
        error, by_map = (float((one - mean)[there].square().mean()) for one in (told, own.z["patch"] @ spots.map))
        assert error < 0.95 * by_map
        own.own["cell"], own.known["cell"] = torch.zeros_like(own.own["cell"]), torch.zeros_like(own.known["cell"])
        spots.pass_on(own, inputs)
        down = inputs["relation", "cell", "within", "patch"].down
        below = down.reached > 0
        torch.testing.assert_close(own.z["cell"][below], (down @ told)[below])


def test_levels_of_which_one_was_not_measured_are_not_audited(striped_section: Callable[..., Any]) -> None:
    graph = build_graph([striped_section("s1", n=200)], EDGES)
    model = model_of(graph, ModelConfig(latent=3, rings=(4, 8)))
    assert cycles(model, graph, {v: np.ones(int(graph[v].num_nodes), bool) for v in graph.levels}) == []
    nobody = cycles(model, graph, {v: np.zeros(int(graph[v].num_nodes), bool) for v in graph.levels})
    assert nobody == [] and cycles_of(nobody) == []


def test_the_energy_distance_is_zero_of_a_set_from_itself_and_grows_with_a_shift() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    assert energy_distance(x, x.flip(0)) == pytest.approx(0.0, abs=1e-5)
    near, far = (energy_distance(x, x + shift) for shift in (0.5, 2.0))
    assert 0 < near < far
    at_one = energy_distance(x.mean(dim=0).expand_as(x), x)
    away = 2 * (x - x.mean(dim=0)).norm(dim=1).mean() - torch.cdist(x, x).mean()
    assert at_one == pytest.approx(float(away), rel=1e-5)


def test_the_page_has_a_row_for_each_way() -> None:
    one = dict.fromkeys(("model", "mean_pooling", "shuffled"), 1.234) | {"n": 7}
    rows = cycles_of([{"child": "cell", "parent": "patch"} | dict.fromkeys(WAYS, one)])
    assert {row["mean_pooling"] for row in rows} == {"1.23"}
    del one["mean_pooling"]
    assert {row["mean_pooling"] for row in cycles_of([{"child": "cell", "parent": "patch", "up": one}])} == {""}
    assert [row["way"] for row in rows][:2] == [
        "cells → patch, against its own measurement",
        "patch → cells, against their mean",
    ]
    assert len(rows) == 4 and rows[0]["model"] == "1.23" and rows[3]["n"] == 7
