"""SpatialData stores, one a section, for napari, SpatialData's own tools, and our reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.atomic import staged
from aivc_graph.errors import StoreError
from aivc_graph.io.graph_tables import annotation, barcodes, count_table, dense_names, near_edges, placed_sections
from aivc_graph.io.staging import file_names
from aivc_graph.io.writing import WRITERS
from aivc_graph.tissue.section import add_level, add_observation, new_section

_SECTION_COLUMN = "section"


@WRITERS.register("spatialdata", endings=(".zarr",), folder=True)
def write_spatialdata(graph: Any, path: Path) -> Path:
    """Write each section of a tissue graph as ``<section>.zarr`` into the folder `path`.

    Every level is a shapes element in microns with all columns of its ``obs``; every observation a table named
    ``<level>_<modality>`` over the nodes that were measured. `aivc_graph.io.read` reads them again.

    Raises
    ------
    ConfigError
        If no section has positions; dissociated sections beside others are left out, and it is said.
    StoreError
        If the disk refuses, or something stands there that is no Zarr store; what was there before is intact.

    Examples
    --------
    >>> folder = write_spatialdata(graph, Path("out"))
    """
    import anndata

    files, rows = file_names(map(str, graph[names.SECTION].obs.index)), placed_sections(graph, path)
    for target in (path / f"{files[row]}.zarr" for row in rows):
        if target.exists() and not any((target / root).is_file() for root in ("zarr.json", ".zgroup")):
            mend = "move it away, or choose another folder"
            raise StoreError(str(target), "something that is no Zarr store", mend=mend)
    with staged(path, drop=()) as folder, anndata.settings.override(auto_shard_zarr_v3=False):
        folder.mkdir()
        for row in rows:
            _section(graph, row).write(folder / f"{files[row]}.zarr")
    return path


def _section(graph: Any, row: int) -> Any:
    """Return a section of a tissue graph as SpatialData."""
    name, metadata = graph[names.SECTION].obs.index[row], graph[names.SECTION].obs.iloc[row]
    section = new_section(str(name), **_facts(metadata))
    for level in graph.levels:
        _add_level(section, graph, level, np.flatnonzero(graph[level].section_index.numpy() == row))
    return section


def _facts(metadata: pd.Series) -> dict[str, Any]:
    """Return a section's metadata as plain values, without those that are missing."""
    known = {str(key): value for key, value in metadata.items() if key != _SECTION_COLUMN and not pd.isna(value)}
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in known.items()}


def _add_level(section: Any, graph: Any, level: str, rows: np.ndarray) -> None:
    if len(rows) == 0:
        return
    store = graph[level]
    columns = annotation(graph, level).iloc[rows].drop(columns=[_SECTION_COLUMN, names.BARCODE])
    keys = barcodes(graph, level)
    radius = store.size_um.numpy()[rows] / 2
    add_level(section, level, keys[rows], store.pos.numpy()[rows], radius, np.eye(3), columns)
    for modality in graph.modalities(level):
        measured = rows[store[names.mask_name(modality)].numpy()[rows]]
        if len(measured):
            table = _table(graph, level, modality, measured)
            table.obs_names = keys[measured]
            add_observation(section, level, modality, table)


def _table(graph: Any, level: str, modality: str, rows: np.ndarray) -> Any:
    """Return an observation of `rows` as AnnData, with the near edges among them."""
    from anndata import AnnData

    if modality in names.MOLECULE_OF:
        table = count_table(graph, level, modality)[rows].copy()
    else:
        var = pd.DataFrame(index=dense_names(graph, level, modality))
        obs = pd.DataFrame(index=graph[level].obs.index[rows].astype(str))
        table = AnnData(graph[level][modality].numpy()[rows], obs=obs, var=var)
    edges = near_edges(graph, level)
    if edges is not None:
        for key, matrix in zip(("spatial_distances", "spatial_connectivities"), edges, strict=True):
            table.obsp[key] = matrix[rows][:, rows]
    table.obsm["spatial"] = graph[level].pos.numpy()[rows].astype(np.float64)
    return table
