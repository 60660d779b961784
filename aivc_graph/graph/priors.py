"""Hang what is known about molecules on the graph: typed relations between them, and columns that describe genes."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import Faults, GraphError
from aivc_graph.graph.fields import csr_tensor
from aivc_graph.graph.known import PRIORS, VECTOR_NAMES, VECTORS, told_of
from aivc_graph.graph.panels import measured_name
from aivc_graph.graph.screens import screened
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.io.priors.naming import matched, names_in, translated
from aivc_graph.tissue.conditions import parts_of
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.prior import Prior

log = logging.getLogger(__name__)

# From which type of molecule to which each relation leads.
ENDS = dict.fromkeys((names.REGULATES, names.BINDS, names.INTERACTS), (names.GENE, names.GENE))
ENDS |= {names.ENCODES: (names.GENE, names.PROTEIN), names.NEAR: (names.PEAK, names.GENE)}
SHOWN, MOSTLY = 3, 0.5
_PLACE = re.compile(r"^(?:chr)?([^:\-_]+)[:\-_](\d+)[\-_](\d+)$")


def add_priors(graph: TissueGraph, priors: Sequence[Prior]) -> None:
    """Add relations between molecules and vectors of genes; genes that were not measured become nodes too.

    Relations are ``(source, relation, target)`` of `ENDS` with weight above 0 and per edge ``sign`` (−1, 0, 1) and
    ``origin``, the place of its file among ``graph["gene"].priors``. An edge that several files give is that of the
    first. A gene that was not measured is in no panel.

    Raises
    ------
    GraphError
        A file that says nothing of any molecule of this tissue; all such files at once.
    """
    if not priors:
        return
    tissue, faults, found = _molecules(graph), Faults(GraphError), []
    for prior in priors:
        named, by_case = matched(translated(prior, tissue), tissue)
        own = names_in(named)
        if not own & tissue and not prior.placed:
            shown = ", ".join(sorted(own)[:SHOWN]), ", ".join(sorted(tissue)[:SHOWN])
            mend = "give a table of both kinds of names as `names_by:`, or leave the file out"
            faults.add(str(prior.facts["file"]), f"names such as {shown[0]}", f"names such as {shown[1]}", mend)
        if by_case > MOSTLY * max(len(own & tissue), 1):
            said = f"{by_case:,} of {len(own & tissue):,} genes match by letter case alone"
            doubt(str(prior.facts["file"]), said, mend="give orthologs as `names_by:` if it is of another species")
        found.append((named, {"matched": len(own & tissue), "of": len(tissue), "by_letter_case": by_case}))
    faults.raise_if_any()
    _widen(graph, [prior for prior, _ in found])
    facts: list[dict[str, Any]] = []
    for prior, counted in found:
        if prior.describes:
            counted["vectors"] = len(prior.table)
        else:
            counted["edges"] = _relate(graph, prior, len(facts))
        facts.append({**prior.facts, "relation": prior.relation, **counted})
        log.info("%s", told_of(facts[-1]))
    _describe(graph, [prior for prior, _ in found if prior.describes])
    graph[names.GENE][PRIORS] = facts
    for fact in facts:
        if not fact.get("edges", 1):
            faults.add(str(fact["file"]), f"no edge of {fact['relation']!r} in this tissue", "at least one")
    faults.raise_if_any()


def _molecules(graph: TissueGraph) -> set[str]:
    """Return the names of all that was measured of molecules, and of what was done to them."""
    found: set[str] = set()
    for molecule in names.MOLECULES:
        if molecule in graph.node_types:
            found |= set(graph.obs(molecule).index.astype(str))
    for level in graph.levels:
        for modality in (names.LOG_EXPRESSION, names.EFFECT):
            found |= set(map(str, graph[level].get(f"{modality}_names", ())))
    place = screened(graph)
    if place is not None:
        conditions = graph.obs(place[0])[names.CONDITION].dropna().astype(str).unique()
        found |= {part for condition in conditions for part in parts_of(condition)}
    return found


def _widen(graph: TissueGraph, priors: list[Prior]) -> None:
    """Make nodes of all genes that priors name; counts and panels get a column for each, in which nothing is."""
    known: set[str] = set()
    for prior in priors:
        known |= set(prior.table["source"]) if prior.relation == names.ENCODES else names_in(prior)
    there = graph.obs(names.GENE).index if names.GENE in graph.node_types else pd.Index([], dtype=str, name="symbol")
    index = there.append(pd.Index(sorted(known - set(there)), dtype=object)).rename(there.name)
    graph[names.GENE].obs, graph[names.GENE].num_nodes = pd.DataFrame(index=index), len(index)
    further = len(index) - len(there)
    for level in graph.levels:
        relation = (names.GENE, names.OBSERVED_IN, level)
        if relation not in graph.edge_types:
            continue
        counts = to_scipy_csr(graph[relation].adj_t)
        wide = sparse.csr_matrix((counts.data, counts.indices, counts.indptr), (counts.shape[0], len(index)))
        graph[relation].adj_t = to_torch_csr(wide)
        panel = f"{names.RNA}_panel"
        graph[level][panel] = torch.cat([graph[level][panel], torch.zeros(further, dtype=torch.bool)])
        key = measured_name(level, names.RNA)
        if key in graph[names.SECTION]:
            measured = graph[names.SECTION][key]
            nothing = torch.zeros(len(measured), further, dtype=torch.bool)
            graph[names.SECTION][key] = torch.cat([measured, nothing], dim=1)


def _relate(graph: TissueGraph, prior: Prior, origin: int) -> int:
    """Add the edges of one file, and return how many there are."""
    source, target = ENDS[prior.relation]
    if source not in graph.node_types or target not in graph.node_types:
        return 0
    table = _peaks(graph, prior) if prior.placed else prior.table
    at = [
        graph.obs(kind).index.get_indexer(pd.Index(table[end]))
        for kind, end in ((target, "target"), (source, "source"))
    ]
    kept = (at[0] >= 0) & (at[1] >= 0)
    edges = pd.DataFrame({"row": at[0][kept], "column": at[1][kept], "origin": origin})
    edges = edges.assign(weight=table["weight"].to_numpy()[kept], sign=table["sign"].to_numpy()[kept])
    relation = graph[source, prior.relation, target]
    if "adj_t" in relation:
        before = to_scipy_csr(relation.adj_t).tocoo()
        older = {"row": before.row, "column": before.col, "origin": relation.origin.numpy(), "weight": before.data}
        edges = pd.concat([pd.DataFrame({**older, "sign": relation.sign.numpy()}), edges], ignore_index=True)
    edges = edges.drop_duplicates(["row", "column"]).sort_values(["row", "column"], kind="stable")
    shape = (int(graph[target].num_nodes), int(graph[source].num_nodes))
    pointer = np.append(0, np.cumsum(np.bincount(edges["row"], minlength=shape[0])))
    relation.adj_t = csr_tensor(pointer, edges["column"].to_numpy(), edges["weight"].to_numpy(), shape)
    relation.sign = torch.from_numpy(edges["sign"].to_numpy(np.float32))
    relation.origin = torch.from_numpy(edges["origin"].to_numpy(np.int64))
    return int((edges["origin"] == origin).sum())


def _peaks(graph: TissueGraph, prior: Prior) -> pd.DataFrame:
    """Return peaks as edges to genes that begin within reach, by the names of peaks, such as ``chr1:100-600``.

    The weight falls with the distance d of a peak's middle as 1 / (1 + d / 1,000), as in scores of regulatory potential
    (Wang et al. 2013, doi:10.1038/nprot.2013.150).
    """
    rows = [(name, match) for name in graph.obs(names.PEAK).index if (match := _PLACE.match(str(name)))]
    genes, found = prior.table.groupby("chromosome"), []
    places = dict(list(genes))
    for name, match in rows:
        near = places.get(match[1])
        if near is None:
            continue
        away = np.abs(near["begins_bp"].to_numpy() - (int(match[2]) + int(match[3])) / 2)
        close = away <= prior.within_bp
        weight = 1 / (1 + away[close] / 1_000)
        found.append(pd.DataFrame({"source": name, "target": near["gene"].to_numpy()[close], "weight": weight}))
    edges = pd.concat(found) if found else pd.DataFrame({"source": [], "target": [], "weight": []})
    return edges.assign(sign=1.0)


def _describe(graph: TissueGraph, priors: list[Prior]) -> None:
    """Lay all vectors side by side, not a number where a file has none of a gene."""
    if not priors:
        return
    index = graph.obs(names.GENE).index
    tables = [prior.table.reindex(index).to_numpy(np.float32) for prior in priors]
    graph[names.GENE][VECTORS] = torch.from_numpy(np.concatenate(tables, axis=1))
    columns = [f"{prior.facts['file']} · {column}" for prior in priors for column in prior.table.columns]
    graph[names.GENE][VECTOR_NAMES] = columns
