"""Which attributes of a node type run over its nodes, and so are cut and stored with its rows."""

from __future__ import annotations

from torch import Tensor

from aivc_graph.graph.tissue_graph import TissueGraph

# Attributes of a level that run over molecules, whatever their length.
_OVER_MOLECULES = ("_panel", "_common")


def row_fields(graph: TissueGraph, node_type: str) -> dict[str, Tensor]:
    """Return the tensors of `node_type` whose first axis is the node."""
    store = graph[node_type]
    return {
        key: value
        for key, value in store.items()
        if isinstance(value, Tensor)
        and value.ndim > 0
        and len(value) == store.num_nodes
        and not key.endswith(_OVER_MOLECULES)
    }


def edge_fields(graph: TissueGraph, relation: tuple[str, str, str]) -> dict[str, Tensor]:
    """Return the tensors of `relation` that run over its edges in CSR order, such as ``distance_um``."""
    return {key: value for key, value in graph[relation].items() if isinstance(value, Tensor) and key != "adj_t"}
