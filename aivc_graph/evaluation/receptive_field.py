"""What a tested node's messages touch: training nodes never, if edges are cut; and how far they would reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.evaluation.scoring import rounded
from aivc_graph.graph.tissue_graph import Relation, TissueGraph, to_scipy_csr

Rows = NDArray[np.bool_]
Step = tuple[Relation, bool]


def receptive_field(
    graph: TissueGraph, steps: Sequence[Step], train: Mapping[str, Rows], test: Mapping[str, Rows]
) -> dict[str, Any]:
    """Return by level the share of tested nodes whose messages touch a training node, and the gap beside the reach.

    ``gap_um`` is the least distance of a tested to a training node of its section, ``reach_um`` how far messages come
    from at most. Where the gap is wider than the reach, no edge needed to be cut; where it is not, ``cut`` is the share
    of tested nodes with a training node within reach: they are kept apart by cut edges alone.

    Parameters
    ----------
    steps
        Message-passing steps in order, as (relation, reverse); `ModelPlan.steps`.
    train, test
        The sides (node,) by level.
    """
    touched, reach = touched_by(graph, steps, train), reach_um(graph, steps)
    found: dict[str, Any] = {}
    for level, asked in test.items():
        if asked.any():
            away = _nearest_um(graph, level, train[level], asked)
            gap = float(away.min())
            found[level] = {
                "overlap": rounded(float(touched[level][asked].mean())),
                "gap_um": rounded(gap),
                "reach_um": rounded(reach[level]),
                "cut": rounded(float((away <= reach[level]).mean())),
            }
    return found


def touched_by(graph: TissueGraph, steps: Sequence[Step], source: Mapping[str, Rows]) -> dict[str, Rows]:
    """Return who (node,) by level is, or hears from, a node of `source` after all steps."""
    heard = {v: source[v].copy() if v in source else np.zeros(graph[v].num_nodes, bool) for v in graph.levels}
    for (child, name, parent), reverse in steps:
        if (child, name, parent) in graph.edge_types:
            edges = _pattern(graph, (child, name, parent))
            giver, taker, edges = (parent, child, edges.T) if reverse else (child, parent, edges)
            heard[taker] |= np.asarray(edges @ heard[giver].astype(np.int64)) > 0
    return heard


def reach_um(graph: TissueGraph, steps: Sequence[Step]) -> dict[str, float]:
    """Return by level the distance [µm] beyond which no message of all steps comes to a node: longest edges added up.

    A chain of messages is as long as its steps in their order allow: neighbours, up to the patch, along patches, down.
    """
    longest = {}
    for relation in {relation for relation, _ in steps if relation in graph.edge_types}:
        source, _, target = relation
        edges = to_scipy_csr(graph[relation].adj_t).tocoo()
        ends = graph[target].pos.numpy()[edges.row], graph[source].pos.numpy()[edges.col]
        longest[relation] = float(np.hypot(*(ends[0] - ends[1]).T).max(initial=0.0))
    reach = dict.fromkeys(graph.levels, 0.0)
    for relation, reverse in steps:
        if relation in longest:
            giver, taker = (relation[2], relation[0]) if reverse else (relation[0], relation[2])
            reach[taker] = max(reach[taker], reach[giver] + longest[relation])
    return reach


def _pattern(graph: TissueGraph, relation: Relation) -> sparse.csr_matrix:
    edges = to_scipy_csr(graph[relation].adj_t)
    return sparse.csr_matrix((np.ones(edges.nnz, np.int64), edges.indices, edges.indptr), shape=edges.shape)


def _nearest_um(graph: TissueGraph, level: str, train: Rows, asked: Rows) -> NDArray[np.float64]:
    """Return the distance [µm] of each asked node to the nearest training node of its section, infinite if none."""
    from scipy.spatial import cKDTree

    section, pos = graph[level].section_index.numpy(), graph[level].pos.numpy()
    away, placed = np.full(len(section), np.inf), np.isfinite(pos).all(axis=1)
    for one in np.unique(section[asked]):
        here, known = (rows & (section == one) & placed for rows in (asked, train))
        if known.any():
            away[here] = cKDTree(pos[known]).query(pos[here])[0]
    return away[asked]
