"""Training window by window equals training on the whole graph."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc_graph.errors import GraphError
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.graph.windows import Window, cut, receptive_field, window_cores, windows

_spec = importlib.util.spec_from_file_location("tissues", Path(__file__).with_name("tissues.py"))
tissues = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tissues)

CELLS, PATCHES = ("cell", "near", "cell"), ("patch", "near", "patch")
LIFT, UP = ("cell", "within", "patch"), ("patch", "within", "region")
BLOCK = [(CELLS, False), (PATCHES, False), (LIFT, False), (UP, False), (PATCHES, False), (UP, True), (LIFT, True)]
STEPS = [*BLOCK, (CELLS, False)]


def messages(graph: TissueGraph, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean aggregation over STEPS, each step with its own weight."""
    state = {level: graph[level].pos.double() / 1000 for level in graph.levels}
    state["cell"] = state["cell"] + graph.counts("cell", "rna").to_dense().double()[:, :2]
    state["patch"] = state["patch"] + graph["patch"].histology[:, :2]
    for (relation, reverse), weight in zip(STEPS, weights, strict=True):
        adj = graph.adjacency(*relation).to_dense().double()
        heard, hearer = (relation[2], relation[0]) if reverse else (relation[0], relation[2])
        adj = adj.T if reverse else adj
        mean = (adj @ state[heard]) / adj.sum(dim=1, keepdim=True).clamp(min=1e-9)
        state[hearer] = torch.tanh(state[hearer] + weight * mean)
    return state


def loss_and_gradient(graph, core=None):
    weights = torch.linspace(0.5, 1.5, len(STEPS), dtype=torch.float64).requires_grad_()
    state = messages(graph, weights)
    core = core or {level: torch.ones(len(state[level]), dtype=torch.bool) for level in state}
    loss = sum((state[level][core[level]] ** 2).sum() for level in state)
    loss.backward()
    return state, loss.item(), weights.grad


def check_windows(graph: TissueGraph, pieces: list[Window]) -> None:
    state, loss, gradient = loss_and_gradient(graph)
    total, summed = 0.0, torch.zeros_like(gradient)
    seen = {level: torch.zeros(graph[level].num_nodes, dtype=torch.int64) for level in graph.levels}
    for piece in pieces:
        local, part, slope = loss_and_gradient(piece.graph, piece.core)
        total, summed = total + part, summed + slope
        for level, core in piece.core.items():
            rows = piece.rows[level][core]
            seen[level][rows] += 1
            torch.testing.assert_close(local[level][core], state[level][rows], rtol=1e-10, atol=1e-12)
    assert all((count == 1).all() for count in seen.values())
    torch.testing.assert_close(summed, gradient, rtol=1e-9, atol=1e-9)
    assert total == pytest.approx(loss, rel=1e-10)


def test_windows_add_up_to_the_whole_graph():
    graph = tissues.random_tissue(900, side_um=1600.0)
    pieces = list(windows(graph, STEPS, 250))
    assert len(pieces) > 4
    check_windows(graph, pieces)


@given(st.integers(1, 300), st.integers(0, 10_000), st.integers(30, 300))
@settings(max_examples=8, deadline=None)
def test_windows_of_random_tissues(n_cells, seed, nodes_per_window):
    graph = tissues.random_tissue(n_cells, seed=seed, k=3)
    check_windows(graph, list(windows(graph, STEPS, nodes_per_window)))


def test_too_small_a_halo_is_noticed():
    graph = tissues.random_tissue(900, side_um=1600.0)
    with pytest.raises(AssertionError):
        check_windows(graph, list(windows(graph, STEPS[1:], 250)))


def test_receptive_field_is_exact():
    """Changing any node outside the field leaves the core alone; the field's rim does reach it."""
    graph = tissues.random_tissue(500, side_um=1600.0, k=3)
    core = {"cell": np.arange(5), "patch": np.arange(0), "region": np.arange(0)}
    field = receptive_field(graph, core, STEPS)
    whole = {level: graph[level].pos.clone().double() for level in graph.levels}
    inputs = {level: pos.requires_grad_() for level, pos in whole.items()}
    for level in graph.levels:
        graph[level].pos = inputs[level]
    state = messages(graph, torch.ones(len(STEPS), dtype=torch.float64))
    state["cell"][:5].sum().backward()
    for level, pos in inputs.items():
        touched = np.flatnonzero(pos.grad.abs().sum(dim=1).numpy())
        np.testing.assert_array_equal(touched, field[level])


def test_lift_to_the_section_reaches_all_of_it():
    graph = tissues.random_tissue(300)
    top = ("region", "within", "section")
    core = {"cell": np.arange(0), "patch": np.arange(0), "region": np.arange(1)}
    field = receptive_field(graph, core, [(top, False), (top, True)])
    assert len(field["region"]) == graph["region"].num_nodes and len(field["cell"]) == 0


def test_order_visits_what_it_names_and_molecules_stay_whole():
    graph = tissues.random_tissue(500, side_um=1600.0)
    cores = window_cores(graph, 150)
    chosen = list(windows(graph, STEPS[:1], 150, order=[3, 0]))
    assert len(chosen) == 2 and len(cores) > 3
    for piece, number in zip(chosen, (3, 0), strict=True):
        for level, run in cores[number].items():
            assert piece.rows[level][piece.core[level]].tolist() == list(range(run.start, run.stop))
        assert piece.graph["gene"].num_nodes == 20 and piece.graph["section"].num_nodes == 1
        assert piece.halo_share > 0
        assert piece.graph["cell"].obs.index.tolist() == graph.obs("cell").index[piece.rows["cell"].numpy()].tolist()


def test_cut_keeps_edges_between_kept_nodes_with_their_attributes():
    graph = tissues.random_tissue(200)
    keep = np.flatnonzero(np.random.default_rng(0).random(200) < 0.5)
    local = cut(graph, {"cell": keep})
    full = graph.adjacency("cell", "near", "cell").to_dense()[keep][:, keep]
    torch.testing.assert_close(local.adjacency("cell", "near", "cell").to_dense(), full)
    adj = local.adjacency("cell", "near", "cell")
    row = torch.repeat_interleave(torch.arange(len(keep)), adj.crow_indices().diff().long())
    pos = local["cell"].pos
    length = (pos[row] - pos[adj.col_indices().long()]).norm(dim=1)
    torch.testing.assert_close(local["cell", "near", "cell"].distance_um, length, rtol=1e-3, atol=1e-3)
    assert local["cell"].rna_panel.shape == (20,)


def test_rows_out_of_order_are_refused():
    graph = tissues.random_tissue(200)
    graph["cell"].region_index = graph["cell"].region_index.flip(0)
    with pytest.raises(GraphError, match=r"cell.region_index: expected rows sorted by region"):
        list(windows(graph, STEPS, 100))


def test_graph_without_region_index_is_refused():
    graph = tissues.random_tissue(50)
    del graph["cell"].region_index
    with pytest.raises(GraphError, match=r"cell\.region_index: expected the row of each node's region, found nothing"):
        window_cores(graph, 100)
