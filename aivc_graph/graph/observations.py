"""Hang the observations of all sections on the graph: counts as relations, dense features as node attributes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import GraphError, unknown_name
from aivc_graph.graph.cofactors import add_cofactors
from aivc_graph.graph.features import check_levels, joint_panel, shared_panel, telling_features, variable_features
from aivc_graph.graph.gene_names import named_alike, read_orthologs
from aivc_graph.graph.panels import labels, measured_name, types_of
from aivc_graph.graph.schema import dissociated_sections
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
    joint: bool,
    orthologs: Path | None,
    n_genes: int | None,
    keep_genes: tuple[str, ...],
    cofactor: float | Mapping[str, float] | None = None,
) -> None:
    """Add every table of every section to its level.

    A count table becomes the relation (molecule, observed_in, level): CSR (node, molecule), and the level's attribute
    ``<modality>_panel`` (molecule,) says which molecules were measured there: `joint`, by any training section, else by
    all. Where sections differ, their attribute ``<level>_<modality>_measured`` (section, molecule) says which each
    measured; one without a table counts as measuring all, of nobody. A dense table becomes an attribute
    (node, feature), in which NaN was not measured; one of intensities comes with the `cofactor` of each marker, see
    `aivc_graph.graph.cofactors`. Either way ``<modality>_mask`` (node,) says who was measured; a node
    without any count was not.
    """
    for modality in names.MOLECULE_OF:
        tables = {level: found for level in names.LEVELS if (found := _tables(graph, sections, level, modality))}
        if modality == names.RNA and tables:
            given = None if orthologs is None else read_orthologs(orthologs)
            tables = dict(zip(tables, named_alike(tables.values(), given), strict=True))
        if tables:
            panels = {level: _panel(graph, level, modality, found, joint) for level, found in tables.items()}
            _add_counts(graph, tables, panels, modality, n_genes, keep_genes)
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


def _panel(graph: TissueGraph, level: str, modality: str, found: dict[str, Any], joint: bool) -> pd.Index:
    """Return the molecules of a level: those that any training section measured, or all sections."""
    where = f"{level} · {modality}"
    if not joint:
        return shared_panel(list(found.values()), where)
    own = graph[level].section_index[graph.in_split(level, names.TRAIN)].unique().numpy()
    return joint_panel(found, set(graph.obs(names.SECTION).index[own]), where)


def _add_counts(
    graph: TissueGraph,
    tables: dict[str, dict[str, Any]],
    panels: dict[str, pd.Index],
    modality: str,
    n_genes: int | None,
    keep_genes: tuple[str, ...],
) -> None:
    molecule, counts, empty, measured = names.MOLECULE_OF[modality], {}, {}, {}
    if modality == names.RNA:
        check_levels(panels, modality)
    for level, found in tables.items():
        panel = panels[level]
        counts[level] = _stack(graph, level, found, panel)
        if not counts[level].count_nonzero():
            raise GraphError(f"{level} · {modality}", "zeros only", "counts", "check which matrix or `layer:` was read")
        empty[level] = np.asarray(counts[level].sum(axis=1)).ravel() == 0
        measured[level] = _measured(graph, found, panel)
    if n_genes is not None:
        kept = {*keep_genes, *(_telling(graph, counts, panels, n_genes) if modality == names.RNA else ())}
        for level, panel in panels.items():
            chosen = _most_variable(graph, level, counts[level], measured[level], n_genes)
            chosen = np.union1d(chosen, np.flatnonzero(panel.isin(kept)))
            panels[level], counts[level], measured[level] = (
                panel[chosen],
                counts[level][:, chosen],
                measured[level][:, chosen],
            )
    symbols = pd.Index(np.unique(np.concatenate([p.to_numpy().astype(str) for p in panels.values()])), name="symbol")
    for symbol in keep_genes if modality == names.RNA else ():
        if symbol not in symbols:
            raise unknown_name(GraphError, "graph.keep_genes", "gene", symbol, symbols)
    graph[molecule].obs = pd.DataFrame(index=symbols)
    graph[molecule].num_nodes = len(symbols)
    for level, found in tables.items():
        place = symbols.get_indexer(panels[level])
        graph[molecule, names.OBSERVED_IN, level].adj_t = to_torch_csr(counts[level] @ _chosen(place, len(symbols)))
        graph[level][f"{modality}_panel"] = torch.from_numpy(symbols.isin(panels[level]))
        graph[level][names.mask_name(modality)] = _mask(graph, level, found) & ~torch.from_numpy(empty[level])
        if not measured[level].all():
            whole = np.zeros((len(measured[level]), len(symbols)), bool)
            whole[:, place] = measured[level]
            graph[names.SECTION][measured_name(level, modality)] = torch.from_numpy(whole)
        _report_empty(graph, level, modality, found, empty[level])


def _chosen(place: np.ndarray, n: int) -> sparse.csr_matrix:
    """Return the matrix (column, new column) that moves each column to its `place` of `n`, and drops those at -1."""
    kept = np.flatnonzero(place >= 0)
    return sparse.csr_matrix((np.ones(len(kept), np.float32), (kept, place[kept])), shape=(len(place), n))


def _measured(graph: TissueGraph, found: dict[str, Any], panel: pd.Index) -> np.ndarray:
    """Return which molecules of the panel each section measured (section, molecule)."""
    sections = graph.obs(names.SECTION).index
    return np.stack(
        [panel.isin(found[one].var_names) if one in found else np.ones(len(panel), bool) for one in sections]
    )


def _most_variable(
    graph: TissueGraph, level: str, counts: sparse.csr_matrix, measured: np.ndarray, n_genes: int
) -> np.ndarray:
    """Return the most variable columns of the training nodes of a level, of all nodes where none trains."""
    training = graph.in_split(level, names.TRAIN).numpy()
    rows = training if training.any() else np.ones(len(training), bool)
    if measured.all():
        return variable_features(counts[rows], n_genes)
    panels, panel_of = np.unique(measured, axis=0, return_inverse=True)
    return variable_features(counts[rows], n_genes, panel_of.ravel()[graph[level].section_index.numpy()[rows]], panels)


def _telling(
    graph: TissueGraph, counts: dict[str, sparse.csr_matrix], panels: dict[str, pd.Index], n_genes: int
) -> Collection[str]:
    """Return the genes, of those that patches count too, by which labels of dissociated training cells differ most."""
    if not {names.CELL, names.PATCH} <= panels.keys() or not (types := labels(graph, names.CELL)):
        return ()
    loose = dissociated_sections(graph)[graph[names.CELL].section_index.numpy()]
    rows = np.flatnonzero(loose & graph.in_split(names.CELL, names.TRAIN).numpy())
    shared = np.flatnonzero(panels[names.CELL].isin(panels[names.PATCH]))
    kind = types_of(graph, names.CELL, types)[rows]
    if not (kind >= 0).any():
        return ()
    chosen = telling_features(counts[names.CELL][rows][:, shared], kind, n_genes)
    return list(panels[names.CELL][shared[chosen]])


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
            matrix = matrix @ _chosen(panel.get_indexer(table.var_names), len(panel))
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
