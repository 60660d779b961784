"""Outlines of nodes in a graph: corners of all nodes in one array, for maps and exports; no model looks at them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.tissue.frame import affine_of, apply_affine
from aivc_graph.tissue.section import metadata_of


def keep_outlines(graph: TissueGraph, sections: list[Any]) -> None:
    """Write the outlines that sections hold of their nodes into the graph, where any does.

    ``outline_corners`` (corner, 2) are in µm, those of node ``i`` from ``outline_starts[i]`` to
    ``outline_starts[i + 1]``; a node without outline has none. Of several pieces the largest counts, and holes do not.
    """
    for level in graph.levels:
        element = names.outlines_name(level)
        found = [_rings(section, element) for section in sections if element in section.shapes]
        if not found:
            continue
        rings = pd.concat(found)
        row = graph.obs(level).index.get_indexer(rings.index)
        rings = rings[row >= 0].iloc[np.argsort(row[row >= 0], kind="stable")]
        length = np.zeros(int(graph[level].num_nodes), np.int64)
        length[np.sort(row[row >= 0])] = [len(ring) for ring in rings]
        corners = np.concatenate([*rings, np.zeros((0, 2))])
        graph[level][names.OUTLINE_CORNERS] = torch.from_numpy(corners.astype(np.float32))
        graph[level][names.OUTLINE_STARTS] = torch.from_numpy(np.concatenate([[0], np.cumsum(length)]))


def _rings(section: Any, element: str) -> pd.Series:
    """Return the outer ring ``(corner, 2)`` [µm] of each outline, by the name of its node in the graph."""
    import shapely

    shapes, to_um = section.shapes[element], affine_of(section, element)
    parts, owner = shapely.get_parts(shapes.geometry.to_numpy(), return_index=True)
    order = np.lexsort((-shapely.area(parts), owner))
    largest = order[np.unique(owner[order], return_index=True)[1]]
    corners, ring = shapely.get_coordinates(shapely.get_exterior_ring(parts[largest]), return_index=True)
    placed = corners if to_um is None else apply_affine(corners, to_um)
    cut = np.flatnonzero(np.diff(ring)) + 1
    name = f"{metadata_of(section)['section']}:" + shapes.index[owner[largest]].astype(str)
    return pd.Series(np.split(placed, cut), index=name, dtype=object)
