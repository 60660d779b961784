"""Check a tissue graph against its schema; all faults at once."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import Faults, GraphError
from aivc_graph.graph.tissue_graph import TissueGraph


def check_graph(graph: TissueGraph) -> None:
    """Raise one `GraphError` that lists every fault, or return nothing.

    Checked: node tables and fields of equal length; unique identifiers; finite positions; relations of the right shape
    without self loops; no edge across sections or splits; counts that are finite and non-negative.
    """
    faults = Faults(GraphError)
    for level in graph.levels:
        _check_nodes(graph, level, faults)
    for relation in graph.edge_types:
        _check_relation(graph, relation, faults)
    faults.raise_if_any()


def dissociated_sections(graph: TissueGraph) -> NDArray[np.bool_]:
    """Return which sections are dissociated samples, whose cells have no positions (section,)."""
    obs = graph.obs(names.SECTION)
    if names.DISSOCIATED not in obs:
        return np.zeros(len(obs), bool)
    return obs[names.DISSOCIATED].to_numpy(bool)


def _check_nodes(graph: TissueGraph, level: str, faults: Faults) -> None:
    store, n = graph[level], graph[level].num_nodes
    for field in ("pos", "size_um", "section_index", "split"):
        if field not in store:
            faults.add(
                level, f"no field {field!r}", f"{names.NODE_FIELDS[field].shape} {names.NODE_FIELDS[field].dtype}"
            )
        elif len(store[field]) != n:
            faults.add(f"{level}.{field}", f"{len(store[field])} rows", f"{n}")
    if len(store.obs) != n:
        faults.add(f"{level}.obs", f"{len(store.obs)} rows", f"{n}")
    if store.obs.index.has_duplicates:
        faults.add(
            f"{level}.obs",
            f"duplicate identifier {store.obs.index[store.obs.index.duplicated()][0]!r}",
            "unique (section, barcode)",
        )
    if "pos" in store and "section_index" in store:
        loose = torch.from_numpy(dissociated_sections(graph))[store.section_index]
        if not torch.isfinite(store.pos[~loose]).all():
            faults.add(f"{level}.pos", "positions that are NaN or infinite", "finite microns")
        if not torch.isnan(store.pos[loose]).all():
            faults.add(f"{level}.pos", "positions of dissociated cells", "NaN")


def _check_relation(graph: TissueGraph, relation: tuple[str, str, str], faults: Faults) -> None:
    source, name, target = relation
    where, adj_t = f"relation {relation}", graph[relation].adj_t
    shape = (graph[target].num_nodes, graph[source].num_nodes)
    if tuple(adj_t.shape) != shape:
        faults.add(where, f"adj_t of shape {tuple(adj_t.shape)}", f"(target, source) = {shape}")
        return
    if not torch.isfinite(adj_t.values()).all() or (adj_t.values() < 0).any():
        faults.add(where, "weights that are NaN, infinite or negative", "finite weights ≥ 0")
    if name == names.OBSERVED_IN:
        return
    column = adj_t.col_indices().numpy()
    row = np.repeat(np.arange(shape[0]), np.diff(adj_t.crow_indices().numpy()))
    if source == target and (row == column).any():
        faults.add(where, f"{int((row == column).sum())} self loops", "none")
    for field in ("section_index", "split"):
        if field not in graph[source] or field not in graph[target]:
            continue
        crossing = graph[target][field].numpy()[row] != graph[source][field].numpy()[column]
        if crossing.any():
            faults.add(where, f"{int(crossing.sum())} edges across {field.removesuffix('_index')}s", "none")
