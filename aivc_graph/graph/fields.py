"""Which attributes run over nodes or edges, and so are cut and stored with their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph import names

if TYPE_CHECKING:
    from aivc_graph.graph.tissue_graph import TissueGraph

# Attributes of a level that run over molecules or corners, whatever their length.
_OVER_OTHERS = ("_panel", "_common", "_cofactor", names.OUTLINE_CORNERS, names.OUTLINE_STARTS)


def row_fields(graph: TissueGraph, node_type: str) -> dict[str, Tensor]:
    """Return the tensors of `node_type` whose first axis is the node."""
    store = graph[node_type]
    return {
        key: value
        for key, value in store.items()
        if isinstance(value, Tensor)
        and value.ndim > 0
        and len(value) == store.num_nodes
        and not key.endswith(_OVER_OTHERS)
    }


def edge_fields(graph: TissueGraph, relation: tuple[str, str, str]) -> dict[str, Tensor]:
    """Return the tensors of `relation` that run over its edges in CSR order, such as ``distance_um``."""
    return {key: value for key, value in graph[relation].items() if isinstance(value, Tensor) and key != "adj_t"}


def csr_tensor(pointer: NDArray[Any], columns: NDArray[Any], values: NDArray[Any], shape: tuple[int, int]) -> Tensor:
    """Return a sparse CSR tensor of float32 over arrays already sorted; indices are 32 bits wide where they fit."""
    index = np.int32 if max(len(columns), *shape) < 2**31 else np.int64
    return torch.sparse_csr_tensor(
        torch.from_numpy(pointer.astype(index, copy=False)),
        torch.from_numpy(columns.astype(index, copy=False)),
        torch.from_numpy(values.astype(np.float32, copy=False)),
        size=shape,
        check_invariants=False,
    )
