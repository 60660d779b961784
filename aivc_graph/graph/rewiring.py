"""The same nodes with other edges: none at all, or as many to nodes drawn at random."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.graph.fields import csr_tensor, edge_fields
from aivc_graph.graph.tissue_graph import Relation, TissueGraph, to_scipy_csr, to_torch_csr

Ints = NDArray[np.int64]
ROUNDS = 100


def without_messages(graph: TissueGraph) -> TissueGraph:
    """Return a graph in which nobody is near anybody or within anything but a section; `graph` is not changed."""
    left = copy.copy(graph)
    for relation in _messages(graph):
        shape = tuple(graph[relation].adj_t.shape)
        left[relation].adj_t = csr_tensor(np.zeros(shape[0] + 1, np.int64), np.zeros(0, int), np.zeros(0), shape)
        for key, value in edge_fields(graph, relation).items():
            left[relation][key] = value[:0]
    return left


def rewired(graph: TissueGraph, seed: int) -> TissueGraph:
    """Return a graph whose edges lead to nodes of the same section drawn at random; `graph` is not changed.

    ``near``: each node hears as many others, at the same distances, and is heard by as many. ``within``: each parent
    keeps the number and the overlaps of its children, which are dealt anew; all relations of a child go together.
    """
    rng, left = np.random.default_rng(seed), copy.copy(graph)
    dealt: dict[str, Ints] = {}
    for relation in _messages(graph):
        source, kind, _ = relation
        adj_t, section = graph[relation].adj_t, graph[source].section_index.numpy()
        if kind == names.WITHIN:
            if source not in dealt:
                dealt[source] = _shuffled(np.arange(len(section)), section, rng)
            left[relation].adj_t = to_torch_csr(to_scipy_csr(adj_t)[:, dealt[source]])
            continue
        pointer = adj_t.crow_indices().numpy()
        row = np.repeat(np.arange(len(section)), np.diff(pointer))
        column = _dealt_neighbours(row, adj_t.col_indices().numpy().astype(np.int64), section, rng)
        left[relation].adj_t = csr_tensor(pointer, column, adj_t.values().numpy(), tuple(adj_t.shape))
    return left


def _messages(graph: TissueGraph) -> list[Relation]:
    """Return the relations that messages travel along; a section is no place in the tissue."""
    return [
        relation
        for relation in graph.edge_types
        if relation[0] in graph.levels
        and (relation[1] == names.NEAR or (relation[1] == names.WITHIN and relation[2] != names.SECTION))
    ]


def _shuffled(values: Ints, group: Ints, rng: np.random.Generator) -> Ints:
    """Return `values` in another order, each group's among its own places."""
    out = np.empty_like(values)
    out[np.argsort(group, kind="stable")] = values[np.lexsort((rng.random(len(values)), group))]
    return out


def _dealt_neighbours(row: Ints, column: Ints, section: Ints, rng: np.random.Generator) -> Ints:
    """Return another end for each edge, sorted in each row: ends are dealt anew within their section.

    Edges from a node to itself, or twice to one other, are dealt again together with as many that are sound. In a
    section so small that this does not end, the last of them stay.
    """
    column, within = _shuffled(column, section[row], rng), section[row]
    for _ in range(ROUNDS):
        order = np.lexsort((column, row))
        again = np.zeros(len(row), bool)
        again[order[1:]] = (np.diff(row[order]) == 0) & (np.diff(column[order]) == 0)
        again |= row == column
        if not again.any():
            break
        again |= rng.random(len(row)) < max(again.mean(), 20 / len(row))
        column[again] = _shuffled(column[again], within[again], rng)
    return column[np.lexsort((column, row))]
