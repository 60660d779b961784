"""Places in a tissue: who of the base level a question is about, and what its answers are averaged over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.query.answers import node_table

Floats = NDArray[np.floating]
NICHE = "niche"
MOST_GROUPS = 50


def check_groups(where: str, column: str, values: pd.Series) -> None:
    """Raise a `QueryError` if values are measurements that hardly recur, which part nodes into no groups."""
    many = values.nunique()
    if values.dtype.kind == "f" and many > MOST_GROUPS:
        found, mend = f"{many:,} different numbers in {column!r}", "ask by a column that names groups"
        raise QueryError(where, found, f"at most {MOST_GROUPS} groups of nodes", mend)


def node_mask(graph: TissueGraph, level: str, where: np.ndarray | Sequence[str] | None) -> np.ndarray:
    """Return who of `level` is meant, boolean (node,): by a mask, by names ``section:barcode``, or all."""
    index = graph.obs(level).index
    given = np.ones(len(index), bool) if where is None else np.asarray(where)
    if given.dtype != bool:
        place = index.get_indexer(pd.Index(given.astype(str)))
        if (place < 0).any():
            raise unknown_name(QueryError, "where", "node", str(given[place < 0][0]), index[:1000])
        given = np.isin(np.arange(len(index)), place)
    if given.shape != (len(index),):
        raise QueryError("where", f"a mask of shape {given.shape}", f"({len(index)},)", "one entry a node")
    return given


def averaging(
    graph: TissueGraph, base: str, by: str, niche: pd.Series | None = None
) -> tuple[pd.DataFrame, sparse.csr_matrix]:
    """Return the table of places of one kind, and the matrix (place, base node) whose rows average over each.

    Parameters
    ----------
    base
        The level of the nodes that are averaged over.
    by
        A level, or ``niche``.
    niche
        The niche of every base node (node,), where places are niches.
    """
    n = int(graph[base].num_nodes)
    if niche is not None:
        here = niche.cat.remove_unused_categories().cat  # tissue need not have every niche of the run
        columns = np.flatnonzero(here.codes >= 0)
        rows, table = here.codes.to_numpy()[columns], pd.DataFrame({NICHE: here.categories})
    elif by not in graph.levels:
        raise unknown_name(QueryError, "readout", "place", by, (*graph.levels, NICHE))
    elif by == names.REGION:
        rows, columns, table = graph[base].region_index.numpy(), np.arange(n), node_table(graph, by)
    elif by == base:
        rows, columns, table = np.arange(n), np.arange(n), node_table(graph, by)
    else:
        return node_table(graph, by), row_shares(to_scipy_csr(graph.adjacency(base, names.WITHIN, by)))
    ones = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(table), n))
    return table.assign(n_nodes=np.diff(ones.indptr)), row_shares(ones)


def on_every_level(graph: TissueGraph, base: str, shares: Floats) -> dict[str, Floats]:
    """Carry shares of niches from the base level to every other, up by overlap, then down to what has none yet."""
    found = {base: shares}
    pairs = [(s, t) for s, name, t in graph.edge_types if name == names.WITHIN and t != names.SECTION]
    order = {level: i for i, level in enumerate(names.LEVELS)}
    for child, parent in sorted(pairs, key=lambda p: (order[p[0]], order[p[1]])):
        if child in found and parent not in found:
            found[parent] = _normalised(to_scipy_csr(graph[child, names.WITHIN, parent].adj_t) @ found[child])
    for child, parent in sorted(pairs, key=lambda p: -order[p[0]]):
        if parent in found and child not in found:
            found[child] = _normalised(to_scipy_csr(graph[child, names.WITHIN, parent].adj_t).T @ found[parent])
    return found


def _normalised(shares: Floats) -> Floats:
    return shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)


def row_shares(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return a sparse matrix whose rows sum to one; empty rows stay empty."""
    total = np.asarray(matrix.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(total, 1e-12)) @ matrix)
