"""Which molecules, features, labels and relations a graph has: what a model is made after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph

MOST_TYPES = 200


def panel(graph: TissueGraph, level: str, modality: str) -> tuple[str, ...]:
    """Return the symbols of molecules counted, the names of dense features, or the types, by `modality` at `level`."""
    if modality == names.TYPE:
        return labels(graph, level)
    if modality not in names.MOLECULE_OF:
        return tuple(graph[level][f"{modality}_names"])
    index = graph.obs(names.MOLECULE_OF[modality]).index
    return tuple(index[graph[level][f"{modality}_panel"].numpy()].astype(str))


def panel_columns(graph: TissueGraph, level: str, modality: str) -> torch.Tensor:
    """Return the columns of the count matrix that the level's panel measures."""
    return torch.nonzero(graph[level][f"{modality}_panel"]).ravel()


def measured_molecules(graph: TissueGraph, level: str, modality: str) -> torch.Tensor:
    """Return which molecules each section measured at a level, boolean (section, molecule): all of the panel, or fewer.

    A graph has fewer where it is seen as one with a wider panel; see `graph/seen_as.py`.
    """
    store, panel = graph[names.SECTION], graph[level][f"{modality}_panel"]
    key = measured_name(level, modality)
    return store[key] if key in store else panel.expand(int(store.num_nodes), -1)


def panel_overlap(graph: TissueGraph) -> dict[str, dict[str, Any]]:
    """Return by ``level · modality`` how sections that measured differing molecules overlap; nothing where none differ.

    The number of ``molecules``, of those that all sections measured, and of those of each section ``by_section`` and
    of each two, ``shared``, of sections that were measured at all.
    """
    found: dict[str, dict[str, Any]] = {}
    sections = graph.obs(names.SECTION).index.astype(str)
    for level, modality in observed(graph):
        if modality not in names.MOLECULE_OF:
            continue
        measured = measured_molecules(graph, level, modality)[:, panel_columns(graph, level, modality)].numpy()
        who = np.unique(graph[level].section_index[graph[level][names.mask_name(modality)]].numpy())
        there = measured[who].astype(np.int64)
        if there.all():
            continue
        both = pd.DataFrame(there @ there.T, sections[who], sections[who])
        found[f"{level} · {modality}"] = {
            "molecules": there.shape[1],
            "in_all_sections": int(there.all(axis=0).sum()),
            "by_section": dict(zip(sections[who], there.sum(axis=1).tolist(), strict=True)),
            "shared": both.to_dict(orient="index"),
        }
    return found


def measured_name(level: str, modality: str) -> str:
    """Return the attribute of sections that says which molecules they measured, where these are not the whole panel."""
    return f"{level}_{modality}_measured"


def observed(graph: TissueGraph) -> list[tuple[str, str]]:
    """Return every (level, modality) observed: counts first, fine levels first."""
    found = [(level, modality) for level in graph.levels for modality in graph.modalities(level)]
    return sorted(found, key=lambda key: key[1] not in names.MOLECULE_OF)


def is_observed(graph: TissueGraph, level: str, modality: str) -> bool:
    """Say whether the graph has that level with that modality."""
    return level in graph.node_types and names.mask_name(modality) in graph[level]


def same_level(graph: TissueGraph) -> list[tuple[str, str, str]]:
    """Return the relations between nodes of one level, fine levels first."""
    return [r for level in graph.levels for r in graph.edge_types if r[0] == r[2] == level]


def withins(graph: TissueGraph) -> list[tuple[str, str]]:
    """Return the pairs (child, parent) of levels below the section, finest first."""
    order = {level: i for i, level in enumerate(names.LEVELS)}
    pairs = [(s, t) for s, name, t in graph.edge_types if name == names.WITHIN and t != names.SECTION]
    return sorted(pairs, key=lambda st: (order[st[0]], order[st[1]]))


def shared_columns(child: tuple[str, ...], parent: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Return the columns of two panels that hold the same molecules, in the order of the second."""
    place = {molecule: i for i, molecule in enumerate(child)}
    pairs = [(place[m], i) for i, m in enumerate(parent) if m in place]
    return [a for a, _ in pairs], [b for _, b in pairs]


def labels(graph: TissueGraph, level: str) -> tuple[str, ...]:
    """Return the types that labels of training nodes of `level` tell apart, none where they are one or too many."""
    types = distinct_labels(graph, level)
    return types if 2 <= len(types) <= MOST_TYPES else ()


def distinct_labels(graph: TissueGraph, level: str) -> tuple[str, ...]:
    """Return all labels of the training nodes of `level`, however many."""
    obs = graph.obs(level)
    if names.LABEL not in obs:
        return ()
    found = obs[names.LABEL].astype(object)[graph.in_split(level, names.TRAIN).numpy()]
    return tuple(sorted({str(label) for label in found.unique()} - set(names.NO_LABEL)))


def labels_told(graph: TissueGraph) -> str:
    """Say how many labels training nodes bear, by level; empty where there are none."""
    found = {level: len(distinct_labels(graph, level)) for level in graph.levels}
    return ", ".join(f"{n:,} label{'s' * (n > 1)} of {level} nodes" for level, n in found.items() if n)


def types_of(graph: TissueGraph, level: str, types: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the position in `types` of each node's label (node,), -1 where it has none of them."""
    obs = graph.obs(level)
    if names.LABEL not in obs:
        return np.full(len(obs), -1)
    return pd.Index(types).get_indexer(pd.Index(obs[names.LABEL].astype(str)))


def onehot_labels(graph: TissueGraph, level: str, types: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the label of each node (node, type), zeros where it has none of `types`."""
    kind = types_of(graph, level, types)
    return np.where(kind[:, None] >= 0, np.eye(len(types))[kind], 0.0)


def measured_nodes(graph: TissueGraph, level: str, modality: str, of: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return who of a level was measured by a modality, boolean (node,): of types `of`, who bears one."""
    if modality == names.TYPE:
        return types_of(graph, level, of) >= 0
    return np.asarray(graph[level][names.mask_name(modality)].numpy())


def type_shares(overlap: sparse.csr_matrix, kind: NDArray[np.int64], n_types: int) -> NDArray[np.float64]:
    """Return the overlap-weighted share of each type (parent, type); zero where no child of a type lies beneath."""
    known = np.flatnonzero(kind >= 0)
    onehot = sparse.csr_matrix((np.ones(len(known)), (known, kind[known])), shape=(len(kind), n_types))
    amount = np.asarray((overlap @ onehot).todense(), np.float64)
    return amount / np.maximum(amount.sum(axis=1, keepdims=True), 1e-12)
