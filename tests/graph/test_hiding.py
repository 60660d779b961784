"""What is hidden is gone: from counts, masks and the means of its section; all else stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from aivc_graph.graph.build import build_graph
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr


def graph_of(striped_section: Callable[..., Any], factor: float = 1.0) -> TissueGraph:
    sections = [striped_section(f"s{i}", levels=("cell", "patch"), seed=i, donor=f"d{i}") for i in range(2)]
    sections[1].tables["cell_rna"].X = sections[1].tables["cell_rna"].X * factor
    sections[1].shapes["cell"]["split"] = sections[1].shapes["patch"]["split"] = "test"
    return build_graph(sections)


def test_nothing_of_a_hidden_section_can_be_told_from_what_is_left(striped_section: Callable[..., Any]) -> None:
    left = []
    for factor in (1.0, 3.0):
        graph = graph_of(striped_section, factor)
        test = graph.in_split("cell", "test").numpy()
        left.append(hide_observations(graph, {("cell", "rna"): test}))
    for key in ("cell_rna_mean", "cell_rna_offset"):
        torch.testing.assert_close(left[0]["section"][key], left[1]["section"][key])
    assert (left[0].counts("cell", "rna").to_dense() == left[1].counts("cell", "rna").to_dense()).all()
    offset = left[0]["section"]["cell_rna_offset"]
    assert (offset[1] == 0).all() and left[0]["cell"]["rna_depth"] == left[1]["cell"]["rna_depth"]


def test_what_was_not_hidden_stays_and_the_graph_itself_is_not_changed(striped_section: Callable[..., Any]) -> None:
    graph = graph_of(striped_section)
    before = graph.counts("cell", "rna").to_dense().clone()
    rows = np.zeros(graph["cell"].num_nodes, bool)
    rows[::3] = True
    features = np.ones(graph["patch"].num_nodes, bool)
    left = hide_observations(graph, {("cell", "rna"): rows, ("patch", "histology"): features, ("cell", "atac"): rows})
    assert (graph.counts("cell", "rna").to_dense() == before).all() and graph["cell"].rna_mask.all()
    counts = to_scipy_csr(left.counts("cell", "rna"))
    assert counts[rows].nnz == 0 and (counts[~rows].toarray() == before.numpy()[~rows]).all()
    assert (left["cell"].rna_mask.numpy() == ~rows).all()
    assert not left["patch"].histology.any() and graph["patch"].histology.any()
