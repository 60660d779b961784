"""Hang the observations of all sections on the graph: counts as relations, dense features as node attributes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import GraphError, unknown_name
from aivc_graph.graph.cofactors import add_cofactors
from aivc_graph.graph.features import check_levels, shared_panel, variable_features
from aivc_graph.graph.tissue_graph import TissueGraph, to_torch_csr
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.log_depth import log_depth
from aivc_graph.tissue.section import metadata_of

log = logging.getLogger(__name__)
MOSTLY = 0.5
# Of a panel that is a part of all genes, other cells hold more or less: five times in real ones.
OTHER_TISSUE = 10.0


def add_observations(
    graph: TissueGraph,
    sections: list[Any],
    *,
    n_genes: int | None,
    keep_genes: tuple[str, ...],
    cofactor: float | Mapping[str, float] | None = None,
) -> None:
    """Add every table of every section to its level.

    A count table becomes the relation (molecule, observed_in, level): CSR (node, molecule), and the level's attribute
    ``<modality>_panel`` (molecule,) says which molecules were measured there. A dense table becomes an attribute
    (node, feature), in which NaN was not measured; one of intensities comes with the `cofactor` of each marker, see
    `aivc_graph.graph.cofactors`. Either way ``<modality>_mask`` (node,) says who was measured; a node
    without any count was not.
    """
    for modality, molecule in names.MOLECULE_OF.items():
        tables = {level: found for level in names.LEVELS if (found := _tables(graph, sections, level, modality))}
        if tables:
            _add_counts(graph, tables, modality, molecule, n_genes, keep_genes)
    for level in graph.levels:
        dense = {key.removeprefix(f"{level}_") for s in sections for key in s.tables if key.startswith(f"{level}_")}
        for modality in sorted(dense - set(names.MOLECULE_OF)):
            _add_dense(graph, level, modality, _tables(graph, sections, level, modality))
            if modality == names.INTENSITY:
                add_cofactors(graph, level, modality, cofactor)


def anchor_count(graph: TissueGraph, level: str = names.PATCH) -> dict[str, int]:
    """Return how many patches see two measurements of the same tissue, by pair, such as ``histology+rna``."""
    seen = {modality: graph[level][names.mask_name(modality)].numpy() for modality in graph.modalities(level)}
    within = (names.CELL, names.WITHIN, level)
    if within in graph.edge_types:
        seen["cells"] = np.diff(graph[within].adj_t.crow_indices().numpy()) > 0
    keys = sorted(seen)
    return {f"{a}+{b}": int((seen[a] & seen[b]).sum()) for i, a in enumerate(keys) for b in keys[i + 1 :]}


def _tables(graph: TissueGraph, sections: list[Any], level: str, modality: str) -> dict[str, Any]:
    key = names.table_name(level, modality)
    return {metadata_of(s)["section"]: s.tables[key] for s in sections if key in s.tables and level in s.shapes}


def _rows(graph: TissueGraph, level: str, section: str, barcodes: pd.Index) -> np.ndarray:
    """Return the graph rows of a section's barcodes; joined by (section, barcode), never by order."""
    return graph.obs(level).index.get_indexer(f"{section}:" + barcodes.astype(str))


def _add_counts(
    graph: TissueGraph,
    tables: dict[str, dict[str, Any]],
    modality: str,
    molecule: str,
    n_genes: int | None,
    keep_genes: tuple[str, ...],
) -> None:
    panels, counts, empty = {}, {}, {}
    shared = {level: shared_panel(list(found.values()), f"{level} · {modality}") for level, found in tables.items()}
    if modality == names.RNA:
        check_levels(shared, modality)
    for level, found in tables.items():
        panel = shared[level]
        counts[level] = _stack(graph, level, found, panel)
        if not counts[level].count_nonzero():
            raise GraphError(f"{level} · {modality}", "zeros only", "counts", "check which matrix or `layer:` was read")
        empty[level] = np.asarray(counts[level].sum(axis=1)).ravel() == 0
        if n_genes is not None:
            training = counts[level][graph.in_split(level, names.TRAIN).numpy()]
            chosen = variable_features(training if training.shape[0] else counts[level], n_genes)
            chosen = np.union1d(chosen, np.flatnonzero(panel.isin(keep_genes)))
            panel, counts[level] = panel[chosen], counts[level][:, chosen]
        panels[level] = panel
    symbols = pd.Index(np.unique(np.concatenate([p.to_numpy().astype(str) for p in panels.values()])), name="symbol")
    for symbol in keep_genes if modality == names.RNA else ():
        if symbol not in symbols:
            raise unknown_name(GraphError, "graph.keep_genes", "gene", symbol, symbols)
    graph[molecule].obs = pd.DataFrame(index=symbols)
    graph[molecule].num_nodes = len(symbols)
    for level, found in tables.items():
        place = sparse.csr_matrix(
            (
                np.ones(len(panels[level]), np.float32),
                (np.arange(len(panels[level])), symbols.get_indexer(panels[level])),
            ),
            shape=(len(panels[level]), len(symbols)),
        )
        graph[molecule, names.OBSERVED_IN, level].adj_t = to_torch_csr(counts[level] @ place)
        graph[level][f"{modality}_panel"] = torch.from_numpy(symbols.isin(panels[level]))
        graph[level][names.mask_name(modality)] = _mask(graph, level, found) & ~torch.from_numpy(empty[level])
        _report_empty(graph, level, modality, found, empty[level])


def _report_empty(graph: TissueGraph, level: str, modality: str, found: dict[str, Any], empty: np.ndarray) -> None:
    """Say how many nodes have no count at all; they are unmeasured, so nothing is concluded from their zeros."""
    for section, table in found.items():
        number = int(empty[_rows(graph, level, section, table.obs_names)].sum())
        if number:
            said = f"{number:,} of {table.n_obs:,} without any count; they are taken as unmeasured"
            if number > MOSTLY * table.n_obs:
                doubt(f"{section} · {level} · {modality}", said)
            else:
                log.info("%s · %s · %s: %s", section, level, modality, said)


def _stack(graph: TissueGraph, level: str, found: dict[str, Any], panel: pd.Index) -> sparse.csr_matrix:
    """Return counts (node, panel) in graph order; nodes without a row stay empty."""
    blocks, rows = [], []
    for section, table in found.items():
        matrix = sparse.csr_matrix(table.X, dtype=np.float32)
        if not table.var_names.equals(panel):
            matrix = matrix[:, table.var_names.get_indexer(panel)]
        blocks.append(matrix)
        rows.append(_rows(graph, level, section, table.obs_names))
    stacked = sparse.vstack(blocks, format="csr") if len(blocks) > 1 else blocks[0]
    target = np.concatenate(rows)
    source = np.full(graph[level].num_nodes, stacked.shape[0], np.int64)
    source[target] = np.arange(len(target))
    padded = sparse.csr_matrix(
        (stacked.data, stacked.indices, np.append(stacked.indptr, stacked.indptr[-1])),
        shape=(stacked.shape[0] + 1, len(panel)),
    )
    return padded[source]


def _mask(graph: TissueGraph, level: str, found: dict[str, Any]) -> torch.Tensor:
    mask = np.zeros(graph[level].num_nodes, bool)
    for section, table in found.items():
        mask[_rows(graph, level, section, table.obs_names)] = True
    return torch.from_numpy(mask)


def _check_depths(found: dict[str, Any], panel: pd.Index, where: str) -> None:
    """Doubt that logarithms of several sections are of one depth and base."""
    depths = {section: depth for section, table in found.items() if (depth := log_depth(table[:, panel].X))}
    first = next(iter(depths), "")
    other = next((one for one in depths if not depths[one].agrees(depths[first], OTHER_TISSUE)), None)
    if other is not None:
        sums = " and ".join(f"{depths[one].total:,.5g} in {one}" for one in (other, first))
        mend = "normalise all sections alike, or give counts"
        doubt(where, f"sums of expm1 a row of {sums}", "logarithms of one depth and base", mend)


def _add_dense(graph: TissueGraph, level: str, modality: str, found: dict[str, Any]) -> None:
    panel = shared_panel(list(found.values()), f"{level} · {modality}")
    if modality == names.LOG_EXPRESSION:
        _check_depths(found, panel, f"{level} · {modality}")
    values = np.zeros((graph[level].num_nodes, len(panel)), np.float32)
    for section, table in found.items():
        values[_rows(graph, level, section, table.obs_names)] = np.asarray(table[:, panel].X, np.float32)
    graph[level][modality] = torch.from_numpy(values)
    graph[level][f"{modality}_names"] = list(panel)
    graph[level][names.mask_name(modality)] = _mask(graph, level, found)
