"""Places in a tissue: who of the base level a question is about, and what its answers are averaged over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.query.answers import node_table

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue

NICHE = "niche"


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
    tissue: VirtualTissue, by: str, k: int | None = None, resolution: float = 1.0
) -> tuple[pd.DataFrame, sparse.csr_matrix]:
    """Return the table of places of one kind, and the matrix (place, base node) whose rows average over each.

    `by` is a level, or ``niche``.
    """
    graph, base = tissue.graph, tissue.base_level
    n = int(graph[base].num_nodes)
    if by == NICHE:
        member = tissue.niches(k, resolution).obs[NICHE].cat
        columns = np.flatnonzero(member.codes >= 0)
        rows, table = member.codes.to_numpy()[columns], pd.DataFrame({NICHE: member.categories})
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


def row_shares(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return a sparse matrix whose rows sum to one; empty rows stay empty."""
    total = np.asarray(matrix.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(total, 1e-12)) @ matrix)
