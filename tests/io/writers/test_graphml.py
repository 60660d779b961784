"""GraphML: networkx reads every node, column and edge back."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import pytest

from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.io.writing import write


def test_nodes_and_edges_come_back(graph: TissueGraph, tmp_path: Path) -> None:
    network = nx.read_graphml(write(graph, tmp_path / "tissue", to="graphml"))
    assert (tmp_path / "tissue.graphml").is_file()
    assert len(network) == 30 + 8 + 3 + 2
    node = network.nodes["cell:A/1:c1"]
    assert (node["level"], node["section"], node["niche"], node["label"]) == ("cell", "A/1", "stroma", "T")
    assert node["score"] == pytest.approx(graph.obs("cell")["score"].iloc[1])
    assert node["x_um"] == pytest.approx(float(graph["cell"].pos[1, 0]))
    assert "label" not in network.nodes["cell:A/1:c0"]
    assert network.nodes["section:A/1"]["donor"] == "D1"
    expected = sum(graph[r].adj_t.values().numel() for r in graph.edge_types if r[1] in ("near", "within"))
    assert network.number_of_edges() == expected


def test_edges_keep_direction_weight_and_distance(graph: TissueGraph, tmp_path: Path) -> None:
    network = nx.read_graphml(write(graph, tmp_path / "tissue.graphml", to="graphml"))
    share = to_scipy_csr(graph.adjacency("cell", "within", "patch")).tocoo()
    cells, patches = graph.obs("cell").index, graph.obs("patch").index
    edge = network.edges[f"cell:{cells[share.col[0]]}", f"patch:{patches[share.row[0]]}"]
    assert edge == {"relation": "within", "weight": pytest.approx(float(share.data[0]))}
    near = to_scipy_csr(graph.adjacency("cell", "near", "cell")).tocoo()
    edge = network.edges[f"cell:{cells[near.col[0]]}", f"cell:{cells[near.row[0]]}"]
    assert edge["relation"] == "near"
    assert edge["distance_um"] == pytest.approx(float(graph["cell", "near", "cell"].distance_um[0]))


def test_characters_that_xml_cannot_hold_are_dropped(graph: TissueGraph, tmp_path: Path) -> None:
    graph["cell"].obs["note"] = "a\x00<b>&\x07c"
    network = nx.read_graphml(write(graph, tmp_path / "tissue.graphml", to="graphml"))
    assert network.nodes["cell:B2:c0"]["note"] == "a<b>&c"
