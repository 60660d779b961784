"""GraphML: networkx reads every node, column and edge back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph.graph.build import build_graph
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.io.writing import write
from aivc_graph.tissue.intervention import drug, knockout, set_interventions


def test_nodes_and_edges_come_back(graph: TissueGraph, tmp_path: Path) -> None:
    network = nx.read_graphml(write(graph, tmp_path / "tissue", to="graphml"))
    assert (tmp_path / "tissue.graphml").is_file()
    genes = [f"gene:{symbol}" for symbol in graph.obs("gene").index]
    assert len(network) == 30 + 8 + 3 + 2 + len(genes) and network.nodes[genes[0]]["level"] == "gene"
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


def test_interventions_are_nodes_with_their_targets_and_places(graph: TissueGraph, tmp_path: Path) -> None:
    graph["intervention"].obs = pd.DataFrame({"kind": ["knockout"]}, index=["knockout:X"])
    graph["intervention"].num_nodes = 1
    first = np.zeros(1, int)
    for relation in (("intervention", "targets", "gene"), ("intervention", "applied_to", "cell")):
        shape = (graph[relation[2]].num_nodes, 1)
        graph[relation].adj_t = to_torch_csr(sparse.csr_matrix((np.ones(1, np.float32), (first, first)), shape=shape))
    network = nx.read_graphml(write(graph, tmp_path / "tissue.graphml", to="graphml"))
    gene, cell = f"gene:{graph.obs('gene').index[0]}", f"cell:{graph.obs('cell').index[0]}"
    assert network.nodes["intervention:knockout:X"]["kind"] == "knockout"
    assert network.edges["intervention:knockout:X", gene]["relation"] == "targets"
    assert network.edges["intervention:knockout:X", cell]["relation"] == "applied_to"


def test_what_was_done_is_a_node_that_leads_to_its_targets_and_to_whom_it_was_given(
    striped_section: Callable[..., Any], tmp_path: Path
) -> None:
    sections = [striped_section(name, n=40, donor=name) for name in ("a", "b")]
    done = drug('R&D <"7">', targets={"G3": -0.5, "G4": 1.0}), knockout("G5")
    set_interventions(sections[1], done)
    network = nx.read_graphml(write(build_graph(sections), tmp_path / "g.graphml", to="graphml"))
    given = [f"intervention:{one.key}" for one in done]
    assert [network.nodes[one]["level"] for one in given] == ["intervention"] * 2
    assert network.nodes[given[0]]["name"] == 'R&D <"7">' and network.nodes["gene:G29"]["level"] == "gene"
    out = {one: {target: facts["relation"] for _, target, facts in network.out_edges(one, data=True)} for one in given}
    targets = [{target for target, how in found.items() if how == "targets"} for found in out.values()]
    assert targets == [{"gene:G3", "gene:G4"}, {"gene:G5"}]
    for found in out.values():
        treated = {target for target, how in found.items() if how == "applied_to"}
        assert {one.split(":")[1] for one in treated} == {"b"} and "section:b" in treated and len(treated) == 41
