"""What every rule does with positions before, and with distances after, its own work."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.errors import GraphError
from aivc_graph.graph.ordering import hilbert_order

Floats = NDArray[np.float64]


def along_curve(pos_um: NDArray[np.floating[Any]], kind: str) -> tuple[NDArray[np.int32], Floats]:
    """Return the rows in Hilbert order and their positions so sorted; neighbours then share cache lines.

    Raises
    ------
    GraphError
        If positions are not (node, 2) or not all finite.
    """
    pos = np.asarray(pos_um, dtype=np.float64)
    if pos.ndim != 2 or pos.shape[1] != 2:
        raise GraphError(f"edges · {kind} · positions", f"shape {pos.shape}", "(node, 2) in µm")
    if not np.isfinite(pos).all():
        rows = np.flatnonzero(~np.isfinite(pos).all(axis=1))
        found = f"{len(rows)} NaN or infinite, first rows {rows[:5].tolist()}"
        raise GraphError(f"edges · {kind} · positions", found, "finite µm", "drop or place these nodes")
    order = hilbert_order(pos).astype(np.int32)
    return order, pos[order]


def symmetric_edges(pairs: NDArray[np.integer[Any]], order: NDArray[np.int32], pos: Floats) -> sparse.csr_matrix:
    """Return both directions of distinct `pairs` (pair, 2) of sorted points as distances between the original rows."""
    n = len(pos)
    distance = pair_distance(pairs[:, 0], pairs[:, 1], pos).astype(np.float32)
    left, right = order[pairs[:, 0]], order[pairs[:, 1]]
    both = (np.concatenate([left, right]), np.concatenate([right, left]))
    return sparse.coo_matrix((np.concatenate([distance, distance]), both), shape=(n, n)).tocsr()


def pair_distance(left: NDArray[np.integer[Any]], right: NDArray[np.integer[Any]], pos: Floats) -> Floats:
    """Return the distance between the points of each pair."""
    step = pos[left] - pos[right]
    return np.sqrt(np.einsum("ij,ij->i", step, step))


def keep_within(edges: sparse.csr_matrix, max_um: float) -> sparse.csr_matrix:
    """Return `edges` no longer than `max_um`; explicit zeros, the edges between duplicates, stay."""
    keep = edges.data <= np.float32(max_um)
    indptr = np.concatenate([[0], np.cumsum(keep)])[edges.indptr].astype(edges.indptr.dtype)
    return sparse.csr_matrix((edges.data[keep], edges.indices[keep], indptr), shape=edges.shape)
