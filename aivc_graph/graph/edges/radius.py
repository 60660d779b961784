"""Edges to all nodes within a radius."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph.errors import GraphError
from aivc_graph.graph.edges.positions import along_curve, symmetric_edges
from aivc_graph.graph.edges.rule import EDGES, AbstractEdges
from aivc_graph.tissue.evenly import evenly

_SAMPLE = 512


@EDGES.register("radius", symmetric=True)
class RadiusEdges(AbstractEdges):
    """Two nodes hear each other if they are at most `radius_um` apart.

    Symmetric; moves and turns with the points. The number of edges is predicted from the density around a sample of
    nodes before any edge is made.

    Parameters
    ----------
    radius_um
        Greatest distance [µm].
    max_degree
        Budget: neighbours a node, on average, above which the rule refuses.

    Raises
    ------
    GraphError
        If the predicted mean degree is above `max_degree`, as when positions are in millimetres or pixels.
    """

    radius_um: float = Field(gt=0)
    max_degree: float = Field(100.0, gt=0)

    def __call__(self, pos_um: NDArray[np.floating[Any]]) -> sparse.csr_matrix:
        order, pos = along_curve(pos_um, "radius")
        if not len(pos):
            return sparse.csr_matrix((0, 0), dtype=np.float32)
        tree = cKDTree(pos, leafsize=16, balanced_tree=False, compact_nodes=False)
        self._refuse_explosion(tree, pos)
        return symmetric_edges(tree.query_pairs(self.radius_um, output_type="ndarray"), order, pos)

    def _refuse_explosion(self, tree: cKDTree, pos: NDArray[np.float64]) -> None:
        sample = pos[evenly(len(pos), _SAMPLE)]
        degree = float(np.mean(tree.query_ball_point(sample, self.radius_um, return_length=True))) - 1
        if degree <= self.max_degree:
            return
        spacing = float(np.median(tree.query(sample, 2)[0][:, 1]))
        found = (
            f"about {degree:,.0f} within {self.radius_um:g} µm ({degree * len(pos):,.0f} edges over {len(pos):,} "
            f"nodes); the nearest neighbour is {spacing:.3g} µm away in the median"
        )
        mend = "are the positions in pixels or millimetres instead of µm? Otherwise lower radius_um or raise max_degree"
        raise GraphError("edges · radius", found, f"at most {self.max_degree:g} neighbours a node on average", mend)
