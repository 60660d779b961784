"""What every writer needs of a tissue graph: one AnnData a level, edges as SciPy CSR, names of sections."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import ConfigError, GraphError
from aivc_graph.plot.palette import niche_colours

log = logging.getLogger(__name__)

SPATIAL, NICHE = "spatial", "niche"
_COUNTS_FIRST = (names.RNA, names.ADT, names.ATAC)


def csr_of(tensor: Any) -> sparse.csr_matrix:
    """Return a torch CSR tensor as a SciPy matrix that shares its memory."""
    parts = (tensor.values().numpy(), tensor.col_indices().numpy(), tensor.crow_indices().numpy())
    return sparse.csr_matrix(parts, shape=tuple(tensor.shape))


def section_names(graph: Any, level: str) -> NDArray[np.str_]:
    """Return the name of each node's section, ``(node,)``."""
    index = graph[names.SECTION].obs.index.to_numpy().astype(str)
    return index[graph[level].section_index.numpy()]


def placed_sections(graph: Any, path: Path) -> list[int]:
    """Return the rows of the sections that have positions; of dissociated ones it is said that they are left out.

    Raises
    ------
    ConfigError
        If no section has positions: there is nothing to write that is about places.
    """
    placed = np.zeros(len(graph[names.SECTION].obs), bool)
    for level in graph.levels:
        finite = np.isfinite(graph[level].pos.numpy()).all(axis=1)
        placed[graph[level].section_index.numpy()[finite]] = True
    left = [str(name) for name in graph[names.SECTION].obs.index[~placed]]
    if not placed.any():
        found = "dissociated sections alone, which have no positions"
        raise ConfigError(
            str(path), found, "sections with positions", "write tables instead: give a name ending in .h5ad"
        )
    if left:
        log.warning(
            "%s: %d dissociated sections without positions are left out: %s", path, len(left), ", ".join(left[:10])
        )
    return np.flatnonzero(placed).tolist()


def barcodes(graph: Any, level: str) -> NDArray[np.str_]:
    """Return each node's barcode, ``(node,)``; the identifier itself where there is no such column."""
    obs = graph[level].obs
    return obs.get(names.BARCODE, obs.index).to_numpy().astype(str)


def annotation(graph: Any, level: str) -> pd.DataFrame:
    """Return a level's ``obs`` with section, barcode, size [µm] and split, each column of a writable type."""
    obs = graph[level].obs.copy()
    obs["section"] = pd.Categorical(section_names(graph, level))
    obs[names.BARCODE] = barcodes(graph, level)
    obs[names.SIZE_UM.name] = graph[level].size_um.numpy()
    obs[names.SPLIT.name] = pd.Categorical(np.array(names.SPLITS)[graph[level].split.numpy()])
    for modality in graph.modalities(level):
        obs[f"{modality}_measured"] = graph[level][names.mask_name(modality)].numpy()
    for column in obs.columns:
        if obs[column].dtype == object and not obs[column].map(lambda value: isinstance(value, str)).all():
            text = obs[column].map(lambda value: value if isinstance(value, str) or pd.isna(value) else str(value))
            obs[column] = pd.Categorical(text)
    return obs


def near_edges(graph: Any, level: str) -> tuple[sparse.csr_matrix, sparse.csr_matrix] | None:
    """Return (distances [µm], weights) within a level as CSR (target, source), or `None` without edges."""
    relation = (level, names.NEAR, level)
    if relation not in graph.edge_types:
        return None
    weights = csr_of(graph[relation].adj_t)
    distance = graph[relation].distance_um.numpy()
    return sparse.csr_matrix((distance, weights.indices, weights.indptr), shape=weights.shape), weights


def dense_names(graph: Any, level: str, modality: str) -> list[str]:
    """Return the feature names of a dense observation; numbers where the graph names none."""
    stored = graph[level].get(f"{modality}_names")
    return list(stored) if stored is not None else [str(i) for i in range(graph[level][modality].shape[1])]


def count_table(graph: Any, level: str, modality: str) -> Any:
    """Return the counts ``(node, molecule)`` of a level as AnnData, with the molecules' own table as ``var``."""
    from anndata import AnnData

    molecule = names.MOLECULE_OF[modality]
    var = graph[molecule].obs.copy()
    panel = f"{modality}_panel"
    if panel in graph[level]:
        var["measured"] = graph[level][panel].numpy()
    counts = csr_of(graph[molecule, names.OBSERVED_IN, level].adj_t)
    return AnnData(counts, obs=pd.DataFrame(index=graph[level].obs.index.astype(str)), var=var)


def level_table(graph: Any, level: str) -> Any:
    """Return one level as AnnData, as squidpy and scanpy expect it.

    ``X`` holds the counts (RNA before protein before ATAC; empty without any), ``obsm["spatial"]`` positions [µm],
    ``obsm[<modality>]`` every other observation, ``obsp["spatial_connectivities"]`` and ``obsp["spatial_distances"]``
    the near edges, ``uns["sections"]`` the table of sections, ``uns["niche_colors"]`` the colour of each niche.

    Raises
    ------
    GraphError
        If the graph has no such level.
    """
    from anndata import AnnData

    if level not in graph.levels:
        raise GraphError("graph", f"no level {level!r}", mend=f"there are {', '.join(graph.levels) or 'none'}")
    modalities = graph.modalities(level)
    main = next((m for m in _COUNTS_FIRST if m in modalities), None)
    obs = annotation(graph, level)
    obs.index = obs.index.astype(str)
    table = (
        AnnData(sparse.csr_matrix((len(obs), 0), dtype=np.float32), obs=obs)
        if main is None
        else count_table(graph, level, main)
    )
    table.obs = obs
    if np.isfinite(pos := graph[level].pos.numpy()).any():
        table.obsm[SPATIAL] = pos.astype(np.float64)
    for modality in modalities:
        if modality != main:
            _add_observation(table, graph, level, modality)
    table.uns["sections"] = writable_sections(graph)
    if isinstance(getattr(obs.get(NICHE), "dtype", None), pd.CategoricalDtype):  # under the name that scanpy draws by
        table.uns[f"{NICHE}_colors"] = niche_colours(list(obs[NICHE].cat.categories.astype(str)))
    _add_edges(table, near_edges(graph, level))
    return table


def writable_sections(graph: Any) -> pd.DataFrame:
    """Return the table of sections with every column as text or numbers."""
    obs = graph[names.SECTION].obs.copy()
    obs.index = obs.index.astype(str).rename(None)  # AnnData takes no index with the name of a column
    for column in obs.columns:
        if obs[column].dtype == object:
            obs[column] = pd.Categorical(obs[column].map(lambda value: value if pd.isna(value) else str(value)))
    return obs


def _add_observation(table: Any, graph: Any, level: str, modality: str) -> None:
    if modality in names.MOLECULE_OF:
        other = count_table(graph, level, modality)
        table.obsm[modality], columns = other.X, list(other.var_names)
    else:
        table.obsm[modality], columns = graph[level][modality].numpy(), dense_names(graph, level, modality)
    table.uns[f"{modality}_names"] = np.array(columns)


def _add_edges(table: Any, edges: tuple[sparse.csr_matrix, sparse.csr_matrix] | None) -> None:
    if edges is None:
        return
    table.obsp["spatial_distances"], table.obsp["spatial_connectivities"] = edges
    keys = {"distances_key": "spatial_distances", "connectivities_key": "spatial_connectivities"}
    table.uns["spatial_neighbors"] = {**keys, "params": {"coord_type": "generic"}}
