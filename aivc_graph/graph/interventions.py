"""Interventions as nodes: what they target among the molecules, and what of the tissue they were applied to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from aivc_graph import names
from aivc_graph.errors import Faults, GraphError
from aivc_graph.graph.fields import csr_tensor
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.tissue.applied import applied_parts, screened_level
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.intervention import Intervention, interventions_of, treated
from aivc_graph.tissue.section import metadata_of


def add_interventions(graph: TissueGraph, sections: list[Any]) -> None:
    """Add one node a distinct kind and name, with its targets and what it was applied to; none, if nothing was done.

    (intervention, targets, gene) carries the strength as weight and ``sign``; (intervention, applied_to, level) the
    dose as weight, and ``dose``, ``onset_hours`` and ``hours`` as stated; a screen that states none has NaN, weight 1.

    Raises
    ------
    GraphError
        One intervention in two units or with two sets of targets, or given twice to one node.
    """
    given = [(row, part) for row, section in enumerate(sections) for part in interventions_of(section)]
    screened = {row: applied_parts(s) for row, s in enumerate(sections) if names.APPLIED in metadata_of(s)}
    parts = [part for _, part in given] + [part for _, found in screened.values() for part in found.values()]
    if not parts:
        return
    kinds = {part.key: part for part in parts}
    _check(parts, kinds)
    keys = sorted(kinds)
    facts = [{"kind": kinds[key].kind, "name": kinds[key].name, "unit": kinds[key].unit} for key in keys]
    molecule = {part.key: part.smiles for part in reversed(parts) if part.smiles}
    if molecule:
        facts = [one | {names.SMILES: molecule.get(key, "")} for one, key in zip(facts, keys, strict=True)]
    graph[names.INTERVENTION].obs = pd.DataFrame(facts, index=pd.Index(keys, name=names.INTERVENTION))
    graph[names.INTERVENTION].num_nodes = len(keys)
    _add_targets(graph, [kinds[key] for key in keys])
    edges = _to_sections(graph, sections, given, keys)
    for row, (done, _) in screened.items():
        level = screened_level(sections[row])
        node = _rows(graph, sections[row], level)[done["node"].to_numpy()]
        found = done.assign(node=node, column=pd.Index(keys).get_indexer(pd.Index(done["key"]))).drop(columns="key")
        edges.setdefault(level, []).append(found)
    _add_applied(graph, edges, keys)


def intervention_dose(graph: TissueGraph, level: str, key: str) -> np.ndarray:
    """Return the dose of an intervention at every node of a level (node,); 0 where it was not given."""
    relation = (names.INTERVENTION, names.APPLIED_TO, level)
    if relation not in graph.edge_types or key not in graph.obs(names.INTERVENTION).index:
        return np.zeros(graph[level].num_nodes, np.float32)
    column = graph.obs(names.INTERVENTION).index.get_loc(key)
    return np.asarray(to_scipy_csr(graph[relation].adj_t)[:, [column]].todense(), np.float32).ravel()


def treated_sections(graph: TissueGraph) -> np.ndarray:
    """Say of each section whether it, or a part of it, was treated when it was measured, boolean (section,)."""
    relation = (names.INTERVENTION, names.APPLIED_TO, names.SECTION)
    if relation not in graph.edge_types:
        return np.zeros(int(graph[names.SECTION].num_nodes), dtype=bool)
    return np.asarray(np.diff(to_scipy_csr(graph[relation].adj_t).indptr) > 0)


def _check(parts: list[Intervention], kinds: dict[str, Intervention]) -> None:
    faults = Faults(GraphError)
    for part in parts:
        first = kinds[part.key]
        if part.unit != first.unit:
            faults.add(part.key, f"doses in {part.unit!r} and {first.unit!r}", "one unit", "convert one of them")
        if part.targets != first.targets:
            faults.add(part.key, f"targets {part.targets} and {first.targets}", "one set", "name the drugs apart")
    faults.raise_if_any()


def _add_targets(graph: TissueGraph, parts: list[Intervention]) -> None:
    _check_targets(graph, parts)
    if names.GENE not in graph.node_types:
        return
    genes = graph.obs(names.GENE).index
    wanted = [(row, gene, strength) for row, part in enumerate(parts) for gene, strength in part.targets.items()]
    edges = sorted((genes.get_loc(gene), row, strength) for row, gene, strength in wanted if gene in genes)
    gene, row, strength = (np.array(part) for part in zip(*edges, strict=True)) if edges else (np.zeros(0),) * 3
    _relate(graph, names.TARGETS, names.GENE, gene, row, np.abs(strength), {"sign": np.sign(strength)})


def _check_targets(graph: TissueGraph, parts: list[Intervention]) -> None:
    """Doubt that targets are called as the genes are, where none is measured, or of counts some are not."""
    logs = [graph[level].get(f"{names.LOG_EXPRESSION}_names", ()) for level in graph.levels]
    counted = any((names.GENE, names.OBSERVED_IN, level) in graph.edge_types for level in graph.levels)
    genes = set(graph.obs(names.GENE).index) if counted else {name for one in logs for name in one}
    targets = {gene for part in parts for gene in part.targets}
    absent = sorted(targets - genes)
    if not genes or not absent or (not counted and len(absent) < len(targets)):
        return
    found = f"{len(absent)} of {len(targets)} targets are not among the measured genes: {', '.join(absent[:10])}"
    mend = "" if len(absent) < len(targets) else "are genes named by ids? Then name their symbols as `symbols:`"
    doubt("interventions", found, mend=mend)


def _rows(graph: TissueGraph, section: Any, level: str) -> np.ndarray:
    """Return the graph's row of each of a section's nodes."""
    barcode = section.shapes[level].index.astype(str)
    return np.asarray(graph.obs(level).index.get_indexer(f"{metadata_of(section)['section']}:" + barcode))


def _to_sections(
    graph: TissueGraph, sections: list[Any], given: list[tuple[int, Intervention]], keys: list[str]
) -> dict[str, list[pd.DataFrame]]:
    """Return by level what was done to sections or to parts of them, a row a node and intervention."""
    edges: dict[str, list[pd.DataFrame]] = {}
    for section, part in given:
        facts = {
            "dose": part.dose,
            "onset_hours": part.onset_hours,
            "hours": part.hours,
            "column": keys.index(part.key),
        }
        for level, mask in treated(sections[section], part).items():
            node = _rows(graph, sections[section], level)[mask]
            edges.setdefault(level, []).append(pd.DataFrame({"node": node, **facts}))
        edges.setdefault(names.SECTION, []).append(pd.DataFrame({"node": [section], **facts}))
    # Of screens alone no section was treated whole.
    edges.setdefault(
        names.SECTION, [pd.DataFrame(columns=["node", "dose", "onset_hours", "hours", "column"], dtype=float)]
    )
    return edges


def _add_applied(graph: TissueGraph, edges: dict[str, list[pd.DataFrame]], keys: list[str]) -> None:
    for level, parts in edges.items():
        there = [part for part in parts if len(part)] or parts[:1]
        table = pd.concat(there, ignore_index=True).sort_values(["node", "column"], kind="stable")
        twice = table.duplicated(["node", "column"])
        if twice.any() and level != names.SECTION:
            first = table[twice].iloc[0]
            where = f"{keys[int(first['column'])]} · {graph.obs(level).index[int(first['node'])]}"
            raise GraphError(where, "given twice to one node", "once", "give the parts of a section apart")
        table = table[~twice]
        stated = {key: table[key].to_numpy() for key in ("dose", "onset_hours", "hours")}
        node, column, dose = (table[key].fillna(1.0).to_numpy() for key in ("node", "column", "dose"))
        _relate(graph, names.APPLIED_TO, level, node, column, dose, stated)


def _relate(
    graph: TissueGraph,
    name: str,
    target: str,
    row: np.ndarray,
    column: np.ndarray,
    weight: np.ndarray,
    fields: dict[str, np.ndarray],
) -> None:
    """Add (intervention, `name`, `target`) from edges sorted by row; a weight of zero stays an edge."""
    shape = (int(graph[target].num_nodes), int(graph[names.INTERVENTION].num_nodes))
    pointer = np.append(0, np.cumsum(np.bincount(row.astype(np.int64), minlength=shape[0])))
    relation = graph[names.INTERVENTION, name, target]
    relation.adj_t = csr_tensor(pointer, column.astype(np.int64), weight, shape)
    for key, values in fields.items():
        relation[key] = torch.from_numpy(values.astype(np.float32))
