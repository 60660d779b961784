"""Which nodes are most like a node, or like a niche."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.query.answers import counted_nodes, node_table

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue


def nodes_like(
    tissue: VirtualTissue, there: VirtualTissue, *, node: str | None, niche: str | int | None, k: int | None, n: int
) -> pd.DataFrame:
    """Return the `n` nodes of a tissue most like a node or the middle of a niche of the tissue `there`, nearest first.

    Raises
    ------
    QueryError
        Both or neither of `node` and `niche`, one that is not there, or tissue seen by another model.
    """
    if n < 1:
        raise QueryError("similar_to", f"n = {n}", "n ≥ 1", "say how many nodes to list")
    if (node is None) == (niche is None):
        raise QueryError("similar_to", "both or neither of node and niche", "exactly one", "give node= or niche=")
    if there.model is not tissue.model:
        mend = "ask both of one run: run = VirtualTissue.load(RUN), then run.on(GRAPH)"
        raise QueryError("similar_to", "tissue seen by another model", "states of one model", mend)
    among, graph, level = tissue.surroundings.known, tissue.graph, tissue.base_level
    if niche is not None:
        members = there.niche(niche, k)
        if not members.any():
            raise QueryError("similar_to", f"niche {niche} has no node there", "a niche that is found there")
        to = there.surroundings.x[members].mean(axis=0)
    else:
        to = _state_of(there, str(node))
        if there is tissue:
            among = among & (graph.obs(level).index != node)
    x = tissue.surroundings.x
    distance = np.linalg.norm((x - to) / tissue.niche_rule.spread, axis=1) / np.sqrt(x.shape[1])
    table = node_table(graph, level).assign(distance=distance, supported=counted_nodes(tissue.model, graph, level))
    return table[among].nsmallest(n, "distance")


def _state_of(tissue: VirtualTissue, node: str) -> np.ndarray:
    """Return the niche state of a node (latent,)."""
    index = tissue.graph.obs(tissue.base_level).index
    if node not in index:
        raise unknown_name(QueryError, "similar_to", "node", node, index[:1000])
    if not tissue.surroundings.known[row := index.get_loc(node)]:
        raise QueryError("similar_to", f"{node}, of which nothing is known", "a node with counts")
    return np.asarray(tissue.surroundings.x[row])
