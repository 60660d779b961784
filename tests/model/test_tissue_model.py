"""The model on small tissue: symmetries, hiding, and windows that equal the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph.errors import ModelError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.graph.windows import windows
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.state import Hidden
from aivc_graph.query.predictions import expected
from aivc_graph.query.states import node_states
from aivc_graph.tissue.frame import place

CONFIG = ModelConfig(latent=4, rings=(4, 8), depth=2)
EDGES = GraphConfig(edges={"cell": {"kind": "knn", "k": 8}, "patch": {"kind": "knn", "k": 6}})


def _open_model(graph: TissueGraph) -> TissueModel:
    """Return a model whose every gate and share is open, so that all messages matter."""
    torch.manual_seed(0)
    plan = ModelPlan.of(graph, CONFIG)
    model = TissueModel(plan)
    kept = ("target_depth", "opening", "log_dispersion")
    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if value.is_floating_point() and not name.endswith(kept):
                value.add_(0.2 * torch.randn_like(value))
    return model.eval()


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    return build_graph(
        [striped_section("a", levels=("cell", "patch")), striped_section("b", seed=1, levels=("cell", "patch"))], EDGES
    )


def test_windows_give_the_states_and_gradients_of_the_whole_graph(graph: TissueGraph) -> None:
    model = _open_model(graph)

    def total_gradient(nodes_per_window: int) -> tuple[list[torch.Tensor], int]:
        model.zero_grad()
        pieces = list(windows(graph, model.plan.steps, nodes_per_window))
        for window in pieces:
            state = model(model.prepare(window.graph))
            loss = sum((state.z[v][window.core[v]] ** 2).sum() for v in window.core)
            loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None], len(pieces)

    whole, one = total_gradient(10**6)
    cut, many = total_gradient(120)
    assert one == 1 and many > 3
    largest = max(float(a.abs().max()) for a in whole)
    for a, b in zip(whole, cut, strict=True):
        assert torch.allclose(a, b, rtol=2e-3, atol=1e-6 * largest)


def test_sections_batched_equal_sections_apart(striped_section: Callable[..., Any]) -> None:
    a, b = striped_section("a"), striped_section("b", seed=1)
    both, alone = build_graph([a, b], EDGES), build_graph([a], EDGES)
    model = _open_model(both)
    together, apart = node_states(model, both)["cell"], node_states(model, _with_depth_of(alone, both))["cell"]
    rows = both.obs("cell").index.get_indexer(alone.obs("cell").index)
    assert np.allclose(together.z[rows], apart.z, atol=1e-4)


def _with_depth_of(graph: TissueGraph, other: TissueGraph) -> TissueGraph:
    """Measure `graph` at the other's depth, as a model trained there would."""
    from aivc_graph.graph.profiles import scale_counts
    from aivc_graph.graph.tissue_graph import to_scipy_csr

    graph["cell"].rna_depth = other["cell"].rna_depth
    training = graph.in_split("cell", "train").numpy()
    mean = np.asarray(
        scale_counts(to_scipy_csr(graph.counts("cell", "rna")), graph["cell"].rna_depth)[training].mean(axis=0)
    )
    graph["section"].cell_rna_mean = torch.from_numpy(mean.astype(np.float32))
    return graph


def test_moving_and_rotating_a_section_changes_no_cell(striped_section: Callable[..., Any]) -> None:
    still, moved = striped_section("a"), striped_section("a")
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle), 900.0], [np.sin(angle), np.cos(angle), -350.0], [0, 0, 1]])
    place(moved, "cell", turn)
    first, second = build_graph([still], EDGES), build_graph([moved], EDGES)
    model = _open_model(first)
    with torch.no_grad():
        for block in model.blocks:  # windows of the grid do not turn with the tissue; neighbours do
            for value in (*block["lift"].state_dict().values(), *block["project"].state_dict().values()):
                value.zero_()
        model.part("prediction", "cell", "rna").neighbour_share.fill_(0.4)
    a, b = node_states(model, first)["cell"].z, node_states(model, second)["cell"].z
    rows = second.obs("cell").index.get_indexer(first.obs("cell").index)
    assert np.allclose(a, b[rows], atol=1e-3)
    hidden = np.random.default_rng(0).random(len(rows)) < 0.25
    asked = np.zeros(len(rows), bool)
    asked[rows[hidden]] = True
    still_told, moved_told = (
        expected(model, hide_observations(graph, {("cell", "rna"): who}), "cell", who)
        for graph, who in ((first, hidden), (second, asked))
    )
    place_of = np.argsort(np.argsort(rows[hidden]))
    assert bool(still_told.around.all())
    assert torch.allclose(still_told.logs, moved_told.logs[place_of], atol=1e-3)
    assert torch.allclose(still_told.shares, moved_told.shares[place_of], rtol=1e-2, atol=1e-4)


def test_what_is_hidden_is_not_seen(graph: TissueGraph) -> None:
    model = _open_model(graph)
    inputs = model.prepare(graph)
    hidden = Hidden(
        nodes={
            ("patch", "rna"): torch.ones(inputs.n_nodes["patch"]),
            ("cell", "rna"): torch.ones(inputs.n_nodes["cell"]),
        }
    )
    first = model(inputs, hidden)
    data = inputs.measured("patch", "rna")
    data.scaled.forward_csr.values().mul_(3.0)
    second = model(inputs, hidden)
    data.scaled.forward_csr.values().div_(3.0)
    assert torch.equal(first.z["patch"], second.z["patch"])
    assert float(first.own["cell"].sum()) == 0.0


def test_a_graph_of_another_panel_is_refused_by_name(graph: TissueGraph, striped_section: Callable[..., Any]) -> None:
    section = striped_section("c")
    section.tables["cell_rna"] = section.tables["cell_rna"][:, :20].copy()
    with pytest.raises(ModelError, match=r"cell · rna: .*'G20'.*build the graph with the run's config"):
        ModelPlan.of(graph, CONFIG).check(build_graph([section], EDGES))


@pytest.mark.parametrize(
    ("relation", "said"),
    [
        ({"naer": {"kind": "near"}}, "model.relation: no relation named 'naer'; did you mean 'near'"),
        (
            {"near": {"kind": "within"}},
            "model.relation.near: expected one that does, found 'within', which does not read",
        ),
    ],
)
def test_a_relation_that_nothing_reads_is_refused(graph: TissueGraph, relation: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        ModelPlan.of(graph, ModelConfig(latent=4, relation=relation))


@pytest.mark.parametrize(
    ("measurement", "said"),
    [
        ({"rnaa": {"kind": "negative_binomial"}}, r"model.measurement: no modality named 'rnaa'; did you mean 'rna'"),
        (
            {"rna": {"kind": "intensity"}},
            r"measurement.rna: expected one of rna, found 'intensity', a measurement of int",
        ),
        ({"intensity": {"kind": "poisson"}}, r"measurement.intensity: expected one of intensity, found 'poisson', a"),
    ],
)
def test_measurements_of_what_they_cannot_read_are_refused(
    striped_section: Callable[..., Any], measurement: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        ModelPlan.of(build_graph([striped_section("a", n=60)]), ModelConfig(measurement=measurement))
