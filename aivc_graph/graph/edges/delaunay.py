"""Edges of the Delaunay triangulation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from scipy.spatial import Delaunay, QhullError

from aivc_graph.graph.edges.positions import along_curve, keep_within, pair_distance, symmetric_edges
from aivc_graph.graph.edges.rule import EDGES, AbstractEdges


@EDGES.register("delaunay", symmetric=True)
class DelaunayEdges(AbstractEdges):
    """Two nodes hear each other if they share a side of a Delaunay triangle.

    Symmetric; moves, turns and scales with the points. Of duplicates one is triangulated and the others hang on it by
    an edge of length zero. Points on one line, or fewer than three, are joined to a chain.

    Parameters
    ----------
    max_um
        Edges longer than this are dropped [µm], such as those across holes and along the hull; None keeps all.

    References
    ----------
    Barber et al. 1996, doi:10.1145/235815.235821 (Quickhull).
    """

    max_um: float | None = Field(None, gt=0)

    def __call__(self, pos_um: NDArray[np.floating[Any]]) -> sparse.csr_matrix:
        order, pos = along_curve(pos_um, "delaunay")
        try:
            # Points moved to the origin: far from it Qhull merges what it cannot tell apart.
            mesh = Delaunay(pos - pos.mean(axis=0)) if len(pos) > 2 else None
        except QhullError:
            mesh = None
        edges = _chain(order, pos) if mesh is None else _sides(mesh, order, pos)
        return edges if self.max_um is None else keep_within(edges, self.max_um)


def _sides(mesh: Delaunay, order: NDArray[np.int32], pos: NDArray[np.float64]) -> sparse.csr_matrix:
    start, neighbours = mesh.vertex_neighbor_vertices
    rows = np.repeat(np.arange(len(pos), dtype=np.int32), np.diff(start))
    once = rows < neighbours
    pairs = np.stack([rows[once], neighbours[once]], axis=1)
    if len(mesh.coplanar):
        pairs = np.concatenate([pairs, mesh.coplanar[:, [0, 2]]])
    return symmetric_edges(pairs, order, pos)


def _chain(order: NDArray[np.int32], pos: NDArray[np.float64]) -> sparse.csr_matrix:
    if len(pos) < 2:
        return sparse.csr_matrix((len(pos), len(pos)), dtype=np.float32)
    ends = np.zeros(len(pos), np.intp)
    far = np.argmax(pair_distance(np.arange(len(pos)), ends, pos))
    line = np.argsort((pos - pos[0]) @ (pos[far] - pos[0]), kind="stable")
    return symmetric_edges(np.stack([line[:-1], line[1:]], axis=1), order, pos)
