"""Edges of a lattice of spots or bins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph.graph.edges.positions import along_curve, symmetric_edges
from aivc_graph.graph.edges.rule import EDGES, AbstractEdges

# Between the pitch and the next shell of a square lattice, √2 pitches; that of a hexagonal one is √3.
_REACH = 1.2


@EDGES.register("grid", symmetric=True)
class GridEdges(AbstractEdges):
    """Spots of a hexagonal or square lattice hear those at most `n_rings` steps away.

    A step joins two spots one pitch apart, the pitch being the median distance to the nearest other position; so an
    inner spot has six (hexagonal) or four (square) neighbours a step away. Steps go over occupied spots: a hole is
    walked around. Symmetric; moves, turns and scales with the points.

    Parameters
    ----------
    n_rings
        Steps.

    Examples
    --------
    >>> import numpy as np
    >>> spots = np.array([[x, y] for x in range(3) for y in range(3)], dtype=float) * 100
    >>> GridEdges()(spots).getnnz(axis=1).tolist()
    [2, 3, 2, 3, 4, 3, 2, 3, 2]
    """

    n_rings: int = Field(1, ge=1)

    def __call__(self, pos_um: NDArray[np.floating[Any]]) -> sparse.csr_matrix:
        order, pos = along_curve(pos_um, "grid")
        if len(pos) < 2:
            return sparse.csr_matrix((len(pos), len(pos)), dtype=np.float32)
        tree = cKDTree(pos, leafsize=16, balanced_tree=False, compact_nodes=False)
        nearest = tree.query(pos, 2, workers=-1)[0][:, 1]
        apart = nearest[nearest > 0]
        pitch = float(np.median(apart)) if len(apart) else 0.0
        pairs = tree.query_pairs(_REACH * pitch, output_type="ndarray")
        return symmetric_edges(pairs if self.n_rings == 1 else _rings(pairs, len(pos), self.n_rings), order, pos)


def _rings(pairs: NDArray[np.integer[Any]], n: int, n_rings: int) -> NDArray[np.integer[Any]]:
    """Return the distinct pairs at most `n_rings` steps of `pairs` apart."""
    step = sparse.coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n)).tocsr()
    step = (step + step.T + sparse.identity(n, dtype=bool, format="csr")).astype(bool)
    reach = step
    for _ in range(n_rings - 1):
        reach = (reach @ step).astype(bool)
    return np.stack(sparse.triu(reach, k=1).coords, axis=1)
