"""Edges to the k nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph.graph.edges.positions import along_curve, keep_within
from aivc_graph.graph.edges.rule import EDGES, AbstractEdges

Keys = NDArray[np.uint64]


@EDGES.register("knn", symmetric=False)
class KnnEdges(AbstractEdges):
    """Each node hears its k nearest others.

    Directed: a row holds exactly k sources, or all others where there are fewer, or fewer where `max_um` cuts. Moves
    and turns with the points; ties at distance k are broken by the tree.

    Parameters
    ----------
    k
        Neighbours a node.
    max_um
        Edges longer than this are dropped [µm]; None keeps all.

    Examples
    --------
    >>> import numpy as np
    >>> KnnEdges(k=1)(np.array([[0.0, 0.0], [3.0, 4.0], [9.0, 12.0]])).toarray()[2].tolist()
    [0.0, 10.0, 0.0]
    """

    k: int = Field(8, ge=1)
    max_um: float | None = Field(None, gt=0)

    def __call__(self, pos_um: NDArray[np.floating[Any]]) -> sparse.csr_matrix:
        order, pos = along_curve(pos_um, "knn")
        n, k = len(pos), min(self.k, max(len(pos) - 1, 0))
        if not k:
            return sparse.csr_matrix((n, n), dtype=np.float32)
        keys = np.empty((n, k), np.uint64)
        # A tree on sorted points is good unbalanced; leaves of 16 are then the quickest to build and to ask.
        tree = cKDTree(pos, leafsize=16, balanced_tree=False, compact_nodes=False)
        for start in range(0, n, 1 << 16):
            rows = np.arange(start, min(start + (1 << 16), n))
            distance, found = tree.query(pos[rows], k + 1, workers=-1)
            keys[order[rows]] = _others(distance, found, rows, order)
        keys.sort(axis=1)
        edges = sparse.csr_matrix((n, n), dtype=np.float32)
        edges.indices = (keys >> np.uint64(32)).astype(np.int32).ravel()
        edges.data = keys.astype(np.uint32).view(np.float32).ravel()
        edges.indptr = np.arange(0, n * k + 1, k, dtype=np.int32 if n * k < 2**31 else np.int64)
        edges.has_sorted_indices = True
        return edges if self.max_um is None else keep_within(edges, self.max_um)


def _others(distance: NDArray[Any], found: NDArray[Any], rows: NDArray[Any], order: NDArray[Any]) -> Keys:
    """Pack (column, distance) of the k found others of each row into words that sort by column."""
    first = found[:, 0] == rows
    if not first.all():
        # A node with duplicates need not come first in its own list, nor be in it at all: put it, or the last, first.
        odd = np.flatnonzero(~first)
        own = found[odd] == rows[odd, None]
        place = np.where(own.any(axis=1), own.argmax(axis=1), found.shape[1] - 1)
        for values in (distance, found):
            values[odd, place] = values[odd, 0]
    words = order[found[:, 1:]].astype(np.uint64)
    words <<= np.uint64(32)
    words |= distance[:, 1:].astype(np.float32).view(np.uint32)
    return words
