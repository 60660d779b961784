"""The graph's own container, and the same graph as PyG's: transforms, layers and subgraphs do what PyG says of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.nn import HeteroConv, SAGEConv, to_hetero
from torch_geometric.transforms import ToUndirected

from aivc_graph.graph.build import build_graph
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr

NEAR, WITHIN = ("cell", "near", "cell"), ("cell", "within", "patch")


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    return build_graph([striped_section("a", n=120), striped_section("b", n=90, seed=1, donor="d2")])


def test_a_copy_has_fields_of_its_own(graph: TissueGraph) -> None:
    left = copy.copy(graph)
    left["cell"].pos = torch.zeros(3)
    del left[NEAR]
    assert len(graph["cell"].pos) == 210 and NEAR in graph.edge_types
    assert graph["cell"].pos is graph["cell"]["pos"]
    with pytest.raises(AttributeError, match="no field 'positions'; there are obs, "):
        _ = graph["cell"].positions


def test_edges_are_those_of_the_graph(graph: TissueGraph) -> None:
    data = graph.to_pyg()
    assert data.validate() and set(data.node_types) == set(graph.node_types)
    for relation in graph.edge_types:
        (source, target), weight = data[relation].edge_index, data[relation].edge_weight
        own = to_scipy_csr(graph[relation].adj_t).toarray()
        assert (own[target, source] == weight.numpy()).all() and len(weight) == np.count_nonzero(own)
    assert torch.equal(data["cell"].x, graph.counts("cell", "rna").to_dense())
    for mask, split in (("train_mask", "train"), ("val_mask", "validation"), ("test_mask", "test")):
        assert torch.equal(data["cell"][mask], graph.in_split("cell", split))


def test_to_undirected_adds_the_way_back(graph: TissueGraph) -> None:
    data = graph.to_pyg()
    both = ToUndirected()(data)
    there, back = data[WITHIN].edge_index, both["patch", "rev_within", "cell"].edge_index
    assert sorted(map(tuple, there.flip(0).T.tolist())) == sorted(map(tuple, back.T.tolist()))
    assert both.is_undirected()


def test_a_subgraph_keeps_the_edges_among_its_nodes(graph: TissueGraph) -> None:
    data = graph.to_pyg()
    first = data["cell"].section_index == 0
    part = data.subgraph({"cell": first})
    source, target = data[NEAR].edge_index
    inside = first[source] & first[target]
    assert part["cell"].num_nodes == 120 and torch.equal(part["cell"].pos, data["cell"].pos[first])
    assert part[NEAR].num_edges == int(inside.sum()) < data[NEAR].num_edges
    assert part[WITHIN].num_edges == int(first[data[WITHIN].edge_index[0]].sum())
    assert torch.equal(part["cell"].n_id, torch.nonzero(first).ravel())


def test_messages_of_heteroconv_are_means_over_neighbours(graph: TissueGraph) -> None:
    data = graph.to_pyg()
    layer = SAGEConv((30, 30), 30, root_weight=False)
    with torch.no_grad():
        layer.lin_l.weight.copy_(torch.eye(30))
        layer.lin_l.bias.zero_()
        x = {"cell": data["cell"].x, "patch": torch.zeros(data["patch"].num_nodes, 30)}
        convolved = HeteroConv({WITHIN: layer, NEAR: layer})
        out = convolved(x, {WITHIN: data[WITHIN].edge_index, NEAR: data[NEAR].edge_index})["patch"]
    members = (to_scipy_csr(graph[WITHIN].adj_t) > 0).astype(float)
    mean = members @ data["cell"].x.numpy() / members.sum(axis=1)
    assert torch.allclose(out.double(), torch.from_numpy(mean).double(), atol=1e-4)


def test_to_homogeneous_keeps_every_node_and_edge(graph: TissueGraph) -> None:
    data = graph.to_pyg()
    flat = data.to_homogeneous()
    assert flat.num_nodes == sum(int(graph[t].num_nodes) for t in graph.node_types)
    assert flat.num_edges == sum(graph[r].adj_t.values().numel() for r in graph.edge_types)


def test_a_model_of_pyg_runs_over_levels(graph: TissueGraph) -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = SAGEConv((-1, -1), 4)

        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return self.layer(x, edge_index)

    data = graph.to_pyg()
    among = ToUndirected()(data.node_type_subgraph(["cell", "gene"]))
    among["gene"].x = torch.eye(among["gene"].num_nodes)
    out = to_hetero(Model(), among.metadata())(among.x_dict, among.edge_index_dict)
    assert out["cell"].shape == (210, 4) and out["gene"].shape == (30, 4)
