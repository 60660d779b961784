"""How a level hangs together: nodes without neighbours, separate parts, nodes in one place. Kept, and counted here."""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import connected_components

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr


def connectivity(graph: TissueGraph) -> dict[str, dict[str, int]]:
    """Return for each level with neighbours the number of isolated nodes, of separate parts, and of nodes whose place
    another node of the section has too; dissociated cells, which are near nobody, are not counted.
    """
    found = {}
    for level in graph.levels:
        relation = (level, names.NEAR, level)
        if relation not in graph.edge_types:
            continue
        placed = np.flatnonzero(np.isfinite(graph[level].pos.numpy()).all(axis=1))
        adjacency = to_scipy_csr(graph[relation].adj_t)[placed][:, placed]
        degree = np.diff(adjacency.indptr) + np.bincount(adjacency.indices, minlength=adjacency.shape[0])
        place = np.column_stack([graph[level].section_index.numpy(), graph[level].pos.numpy()])[placed]
        _, shared = np.unique(place, axis=0, return_counts=True)
        found[level] = {
            "isolated": int((degree == 0).sum()),
            "parts": int(connected_components(adjacency, directed=False, return_labels=False)),
            "same_place": int(shared[shared > 1].sum()),
        }
    return found
