"""Edges taken away leave nodes as they were; edges dealt anew keep every degree, distance and size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aivc_graph import names
from aivc_graph.graph.rewiring import rewired, without_messages
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from tests.graph.tissues import random_tissue

NEAR = (names.CELL, names.NEAR, names.CELL)
WITHIN = (names.CELL, names.WITHIN, names.PATCH)


@pytest.fixture(scope="module")
def tissue() -> TissueGraph:
    """Return 300 cells, of which the first half lies in one section and the others in another."""
    graph = random_tissue(n_cells=300)
    graph[names.CELL].section_index = torch.arange(300) // 150
    near = to_scipy_csr(graph[NEAR].adj_t).tocoo()
    inside = near.row // 150 == near.col // 150
    kept = torch.from_numpy(inside)
    graph[NEAR].distance_um = graph[NEAR].distance_um[kept]
    near.data[~inside] = 0
    matrix = near.tocsr()
    matrix.eliminate_zeros()
    graph[NEAR].adj_t = to_torch_csr(matrix)
    return graph


def test_neighbours_are_others_of_the_section_and_as_many(tissue: TissueGraph) -> None:
    before, after = to_scipy_csr(tissue[NEAR].adj_t), to_scipy_csr(rewired(tissue, 0)[NEAR].adj_t)
    assert np.array_equal(np.diff(before.indptr), np.diff(after.indptr))
    assert np.array_equal(np.bincount(before.indices, minlength=300), np.bincount(after.indices, minlength=300))
    row = np.repeat(np.arange(300), np.diff(after.indptr))
    assert (row // 150 == after.indices // 150).all() and (row != after.indices).all()
    assert after.max() == 1 and after.nnz == len(set(zip(row, after.indices, strict=True)))
    assert before.multiply(after).nnz < 0.15 * before.nnz
    assert torch.equal(rewired(tissue, 0)[NEAR].distance_um, tissue[NEAR].distance_um)


def test_parents_keep_the_number_of_their_children(tissue: TissueGraph) -> None:
    before, after = to_scipy_csr(tissue[WITHIN].adj_t), to_scipy_csr(rewired(tissue, 0)[WITHIN].adj_t)
    assert np.array_equal(np.diff(before.indptr), np.diff(after.indptr))
    assert (before != after).nnz > before.nnz
    # A child goes to where another of its own section was.
    parents = [set(map(tuple, of[:, half].T.toarray())) for of in (before, after) for half in (range(150),)]
    assert parents[0] == parents[1]


def test_the_same_seed_deals_the_same_and_the_graph_stays(tissue: TissueGraph) -> None:
    kept = to_scipy_csr(tissue[NEAR].adj_t).copy()
    one, same, other = (to_scipy_csr(rewired(tissue, seed)[NEAR].adj_t) for seed in (3, 3, 4))
    assert (one != same).nnz == 0 and (one != other).nnz > 0
    assert (to_scipy_csr(tissue[NEAR].adj_t) != kept).nnz == 0


def test_two_nodes_alone_can_only_hear_each_other() -> None:
    """A section too small to be dealt anew without a fault ends, with its degrees."""
    graph = random_tissue(n_cells=7)
    assert np.array_equal(
        np.diff(to_scipy_csr(rewired(graph, 0)[NEAR].adj_t).indptr), np.diff(to_scipy_csr(graph[NEAR].adj_t).indptr)
    )


def test_without_messages_nothing_but_the_section_is_left(tissue: TissueGraph) -> None:
    left = without_messages(tissue)
    for relation in tissue.edge_types:
        number = left[relation].adj_t.values().numel()
        silent = relation[1] in (names.NEAR, names.WITHIN) and relation[2] != names.SECTION
        assert number == (0 if silent else tissue[relation].adj_t.values().numel())
        assert left[relation].adj_t.shape == tissue[relation].adj_t.shape
    assert len(left[NEAR].distance_um) == 0 < len(tissue[NEAR].distance_um)
    assert left[names.CELL].pos is tissue[names.CELL].pos
