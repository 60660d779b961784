"""A graph as a model sees it that was trained on another: the same molecules, measured against the same yardsticks."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import Faults, GraphError
from aivc_graph.graph.cofactors import cofactor_name
from aivc_graph.graph.known import know_as
from aivc_graph.graph.panels import measured_molecules, measured_name
from aivc_graph.graph.profiles import add_section_profiles, level_spread, spread_name
from aivc_graph.graph.schema import dissociated_sections
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.tissue.doubt import doubt

MEND = "build the graph with the settings of the run's config.yaml, from tissue that was measured alike"
SHOWN = 5
# Molecules in common that a state can be read from: this many, or of a small panel this share.
LEAST_SHARED, LEAST_SHARE = 20, 0.5


def seen_as(graph: TissueGraph, like: TissueGraph) -> TissueGraph:
    """Return `graph` in the terms of `like`, the graph a model was trained on; neither is changed.

    Molecules and features come in the order of `like`, with what is known of them there; further ones, and levels that
    it lacks, are left out; what was not measured at all counts as unmeasured at every node. A panel may lack
    molecules of `like`: the section attribute ``<level>_<modality>_measured`` (section, molecule) then says which there
    are. A level that held the dissociated cells of a reference alone need not be there: what was learnt of them the
    model holds. Sections are described by their own means, as those held out whole are, at the depths and against the
    common profiles of `like`.

    Raises
    ------
    GraphError
        If a level, its neighbours or features are missing, or too few molecules of a panel are shared.
    """
    found = copy.copy(graph)
    loose = bool(dissociated_sections(graph).all())
    for level in set(like.levels) - set(graph.levels):
        if loose or dissociated_sections(like)[like[level].section_index.numpy()].all():
            _lay_empty(found, like, level)
    if not loose:
        _check_levels(found, like)
    for node_type in graph.node_types:
        if node_type not in like.node_types and node_type != names.INTERVENTION:
            del found[node_type]
    for relation in graph.edge_types:
        if not {relation[0], relation[2]} <= set(found.node_types):
            del found[relation]
    lacking = (names.WITHIN, names.NEAR) if loose else (names.WITHIN,)
    for relation in like.edge_types:
        if relation[1] in lacking and relation not in found.edge_types:
            shape = (int(found[relation[2]].num_nodes), int(found[relation[0]].num_nodes))
            found[relation].adj_t = to_torch_csr(sparse.csr_matrix(shape))
            if relation[1] == names.NEAR:
                found[relation].distance_um = like[relation].distance_um[:0]
    faults = Faults(GraphError)
    for level in like.levels:
        for modality in set(found.modalities(level)) - set(like.modalities(level)):
            _leave_out(found, level, modality)
        for modality in like.modalities(level):
            if modality in names.MOLECULE_OF:
                _order_counts(found, graph, like, level, modality, faults)
            else:
                _order_features(found, like, level, modality, faults)
    faults.raise_if_any()
    for molecule in names.MOLECULE_OF.values():
        if molecule in like.node_types:
            _order_molecules(found, graph, like, molecule)
    know_as(found, like)
    add_section_profiles(found, like)
    for level in like.levels:
        for modality in set(like.modalities(level)) & set(names.MOLECULE_OF):
            _keep_spread(found, like, level, modality)
    return found


def _keep_spread(found: TissueGraph, like: TissueGraph, level: str, modality: str) -> None:
    """Keep how far the levels of molecules differed between the sections of training, where some are to be told."""
    panel = like[level][f"{modality}_panel"]
    if not bool(measured_molecules(found, level, modality)[:, panel].all()):
        spread = torch.zeros(len(panel))
        spread[panel] = torch.from_numpy(level_spread(like, level, modality)).float()
        found[level][spread_name(modality)] = spread


def _lay_empty(found: TissueGraph, like: TissueGraph, level: str) -> None:
    """Give a graph a level of `like` without any node, of which nothing was measured."""
    for key, value in like[level].items():
        if isinstance(value, torch.Tensor) and len(value) == like[level].num_nodes and not key.endswith("_mask"):
            found[level][key] = value[:0]
    found[level].obs, found[level].num_nodes = like.obs(level).iloc[:0], 0


def _check_levels(graph: TissueGraph, like: TissueGraph) -> None:
    faults = Faults(GraphError)
    for level in like.levels:
        if level not in graph.levels:
            faults.add("graph", f"no {level} nodes", f"levels {', '.join(like.levels)}", MEND)
        elif (near := (level, names.NEAR, level)) in like.edge_types and near not in graph.edge_types:
            faults.add(level, "no neighbours", "edges between them", MEND)
    faults.raise_if_any()


def _leave_out(found: TissueGraph, level: str, modality: str) -> None:
    for key in [key for key in found[level] if key == modality or key.startswith(f"{modality}_")]:
        del found[level][key]
    relation = (names.MOLECULE_OF.get(modality, ""), names.OBSERVED_IN, level)
    if relation in found.edge_types:
        del found[relation]


def _order_counts(
    found: TissueGraph, graph: TissueGraph, like: TissueGraph, level: str, modality: str, faults: Faults
) -> None:
    """Give a level its counts with one column a molecule of `like`, zero outside the panel that `like` has there."""
    molecule, panel = names.MOLECULE_OF[modality], like[level][f"{modality}_panel"]
    wanted = like.obs(molecule).index
    found[level][f"{modality}_panel"] = panel
    measured = level in graph.node_types and modality in graph.modalities(level)
    if measured:
        place = graph.obs(molecule).index.get_indexer(wanted)
        there = measured_molecules(graph, level, modality).numpy()[:, np.maximum(place, 0)] & (place >= 0)
        there &= panel.numpy()
        own = graph.obs(molecule).index[graph[level][f"{modality}_panel"].numpy()]
        sections, where = graph.obs(names.SECTION).index, f"{level} · {modality}"
        alike = bool((there == there[:1]).all())
        for one in np.unique(there, axis=0, return_index=True)[1]:
            named = where if alike else f"{sections[one]} · {where}"
            _check_enough(wanted[panel.numpy()], there[one][panel.numpy()], own, named, faults)
        found[names.SECTION][measured_name(level, modality)] = torch.from_numpy(there)
        kept = np.flatnonzero(there.any(axis=0))
        counts = to_scipy_csr(graph.counts(level, modality))
        chosen = sparse.csr_matrix(
            (np.ones(len(kept), np.float32), (place[kept], kept)), (counts.shape[1], len(wanted))
        )
        counts = counts @ chosen
    else:
        counts = sparse.csr_matrix((int(found[level].num_nodes), len(wanted)), dtype=np.float32)
        found[level][names.mask_name(modality)] = torch.zeros(counts.shape[0], dtype=torch.bool)
    found[molecule, names.OBSERVED_IN, level].adj_t = to_torch_csr(counts)


def _order_features(found: TissueGraph, like: TissueGraph, level: str, modality: str, faults: Faults) -> None:
    wanted = pd.Index(like[level][f"{modality}_names"])
    n_nodes = int(found[level].num_nodes)
    if modality not in found.modalities(level):
        found[level][modality] = torch.zeros(n_nodes, len(wanted))
        found[level][names.mask_name(modality)] = torch.zeros(n_nodes, dtype=torch.bool)
    else:
        place = pd.Index(found[level][f"{modality}_names"]).get_indexer(wanted)
        _check_all(wanted, place >= 0, f"{level} · {modality}", "features", faults)
        found[level][modality] = found[level][modality][:, torch.from_numpy(place)]
    found[level][f"{modality}_names"] = list(wanted)
    if (cofactor := cofactor_name(modality)) in like[level]:
        found[level][cofactor] = like[level][cofactor]


def _check_enough(wanted: pd.Index, there: NDArray[np.bool_], own: pd.Index, where: str, faults: Faults) -> None:
    """Doubt a panel that lacks some molecules; one that shares too few is a fault."""
    number, lacking = int(there.sum()), _shown(wanted[~there])
    if number < min(LEAST_SHARED, LEAST_SHARE * len(wanted)):
        found = f"{number:,} of the model's {len(wanted):,} molecules; missing: {lacking}"
        faults.add(
            where, found, f"at least {LEAST_SHARED} to read a state from, or half of a small panel", _mend(wanted, own)
        )
    elif number < len(wanted):
        said = f"{number:,} of the model's {len(wanted):,} molecules were measured; told from them: {lacking}"
        doubt(where, said)


def _mend(wanted: pd.Index, own: pd.Index) -> str:
    """Say what to do; where letter case alone parts most names, as between COL1A1 and Col1a1, that this is so."""
    as_wanted = dict(zip(wanted.str.upper(), wanted, strict=True))
    alike = [name for name in own.astype(str) if as_wanted.get(name.upper(), name) != name]
    if len(alike) <= LEAST_SHARE * min(len(own), len(wanted)):
        return f"{MEND} (it names them as in {', '.join(own[:SHOWN].astype(str))})"
    example = f"{alike[0]!r} for {as_wanted[alike[0].upper()]!r}"
    return f"genes are named as those of another species ({example}): ask about tissue of the run's species"


def _check_all(wanted: pd.Index, there: NDArray[np.bool_], where: str, what: str, faults: Faults) -> None:
    if not there.all():
        found = f"{int((~there).sum()):,} of the model's {len(wanted):,} {what} missing: {_shown(wanted[~there])}"
        faults.add(where, found, "all that the model was trained on", MEND)


def _shown(missing: pd.Index) -> str:
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return ", ".join(missing[:SHOWN].astype(str)) + more


def _order_molecules(found: TissueGraph, graph: TissueGraph, like: TissueGraph, molecule: str) -> None:
    """Give the graph the molecules of `like`, and interventions their targets among them."""
    found[molecule].obs, found[molecule].num_nodes = like.obs(molecule), like[molecule].num_nodes
    targets = (names.INTERVENTION, names.TARGETS, molecule)
    if targets not in graph.edge_types:
        return
    edges = to_scipy_csr(graph[targets].adj_t).tocoo()
    row = like.obs(molecule).index.get_indexer(graph.obs(molecule).index[edges.row])
    kept = np.lexsort((edges.col, row))
    kept = kept[row[kept] >= 0]
    shape = (int(like[molecule].num_nodes), int(graph[names.INTERVENTION].num_nodes))
    found[targets].adj_t = to_torch_csr(sparse.csr_matrix((edges.data[kept], (row[kept], edges.col[kept])), shape))
    found[targets].sign = graph[targets].sign[torch.from_numpy(kept)]
