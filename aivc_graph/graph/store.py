"""The graph store: a Zarr v3 folder in AnnData's own encodings, rows in storage order.

::

    levels/<level>                          an AnnData: observations in X and obsm, obs, obsm["spatial"] and obsp [µm]
    molecules/<type>, sections, …           table and tensors of each other node type
    relations/<source>__<name>__<target>    CSR (target, source) and what else runs over its edges
    slides/<number>                         small picture (y, x, 3) of a section's slide
"""

from __future__ import annotations

import logging
import os
import time
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph import names
from aivc_graph.atomic import recover
from aivc_graph.errors import StoreError, unknown_name
from aivc_graph.graph.fields import csr_tensor
from aivc_graph.graph.replacing import replacing
from aivc_graph.graph.shards import CheckedStore, ShardCache, checksums, refuse_foreign
from aivc_graph.graph.store_elements import read_csr, read_nodes, read_relation, write_nodes, write_relation
from aivc_graph.graph.thumbnails import thumbnails_of, write_thumbnails
from aivc_graph.graph.tissue_graph import Relation, TissueGraph
from aivc_graph.tissue.thumbnail import Thumbnail

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
_LIBRARIES = ("aivc-graph", "anndata", "numpy", "scipy", "torch", "torch-geometric", "zarr")


def write_store(
    graph: TissueGraph,
    path: str | os.PathLike[str],
    provenance: dict[str, Any] | None = None,
    slides: dict[str, Thumbnail] | None = None,
) -> None:
    """Write `graph` to `path`; an older store there is replaced in one step, or kept if anything fails.

    Parameters
    ----------
    graph
        Graph whose rows are in storage order.
    provenance
        What the graph was made from, such as ``{"configuration": {…}, "inputs": {"counts.h5": "sha256:…"}}``; JSON.
    slides
        Small pictures of the slides by section.

    Raises
    ------
    StoreError
        If another process writes there, the disk is full, or an attribute has no place in the store.
    """
    started = time.perf_counter()
    # AnnData's own sharding of Zarr v3 is not asked for: our shards are the chunks.
    with replacing(Path(path)) as folder, anndata.settings.override(auto_shard_zarr_v3=False):
        root = zarr.open_group(folder, mode="w", zarr_format=3)
        for node_type in graph.node_types:
            write_nodes(root, graph, node_type)
        relations = [relation for relation in graph.edge_types if relation[1] != names.OBSERVED_IN]
        for relation in relations:
            write_relation(root, graph, relation)
        write_thumbnails(root, slides or {})
        libraries = {name: version(name) for name in _LIBRARIES}
        facts: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "provenance": provenance or {},
            "libraries": libraries,
        }
        root.attrs.update({**facts, "node_types": graph.node_types, "relations": relations})
        root.attrs["checksums"] = checksums(folder)
    log.info("wrote %s in %.1f s", path, time.perf_counter() - started)


def read_store(path: str | os.PathLike[str]) -> TissueGraph:
    """Return the whole graph at `path` in memory; errors as for `open_store`."""
    store = open_store(path)
    graph = store.structure
    for level in graph.levels:
        dense, counts = store.observe(level, None)
        for key, value in dense.items():
            graph[level][key] = value
        for relation, adj_t in counts.items():
            graph[relation].adj_t = adj_t
    return graph


def store_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the facts of the store at `path`, as of `GraphStore`; errors as for `open_store`."""
    return _open_root(Path(path))[1]


def open_store(path: str | os.PathLike[str], cache_mib: int = 1024) -> GraphStore:
    """Open a store: its structure is read, observations stay on disk.

    Parameters
    ----------
    cache_mib
        Memory [MiB] for decoded pieces of observations.

    Raises
    ------
    StoreError
        If there is no store, its version is newer, its files are damaged, or hold what a store never holds.
    """
    root, facts = _open_root(Path(path))
    try:
        return GraphStore(root, facts, cache_mib)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(str(path), f"a part that cannot be read: {error}", mend="build the store again") from error


def read_thumbnails(path: str | os.PathLike[str]) -> dict[str, Thumbnail]:
    """Return the small pictures of the slides of the store at `path`, by section; errors as for `open_store`."""
    root, _ = _open_root(Path(path))
    try:
        return thumbnails_of(root)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            str(path), f"damaged pictures of the slides ({error})", mend="build the store again"
        ) from error


def store_digest(path: str | os.PathLike[str]) -> str:
    """Return a CRC-32 over the store's facts, which hold a checksum of every file: it tells one graph from another."""
    return f"{zlib.crc32((Path(path) / 'zarr.json').read_bytes()):08x}"


def _open_root(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Return the root group, each file of which is compared with its checksum when it is read, and the facts."""
    recover(folder)
    if not (folder / "zarr.json").is_file():
        raise StoreError(str(folder), "no graph store", mend="write one with `aivc build`")
    refuse_foreign(folder)
    facts = dict(zarr.open_group(folder, mode="r").attrs)
    found, sums = facts.get("schema_version"), facts.get("checksums")
    if not isinstance(found, int) or not isinstance(sums, dict):
        raise StoreError(str(folder), "a Zarr group that is no graph store", mend="write one with `aivc build`")
    if found > SCHEMA_VERSION:
        mend = "update aivc-graph, or build the graph again"
        raise StoreError(str(folder), f"version {found}", f"a store of version {SCHEMA_VERSION} or older", mend)
    for key in sums:
        if Path(key).is_absolute() or ".." in Path(key).parts:
            raise StoreError(f"{folder} · checksums", f"the key {key!r}", "keys inside the store")
        if not (folder / key).is_file():
            raise StoreError(str(folder / key), "no such shard", mend="the store is damaged: build it again")
    return zarr.open_group(CheckedStore(folder, sums), mode="r"), facts


class GraphStore:
    """An open store.

    Parameters
    ----------
    structure
        Graph without its observations: tables, positions, relations and masks, resident.
    facts
        Schema version, provenance, library versions, checksums.
    """

    def __init__(self, root: Any, facts: dict[str, Any], cache_mib: int) -> None:
        self._root = root
        self._cache = ShardCache(cache_mib << 20)
        self._pointers: dict[str, NDArray[np.int64]] = {}
        self.facts = facts
        self.structure = self._read_structure()

    def observe(self, level: str, rows: NDArray[np.int64] | None) -> tuple[dict[str, Tensor], dict[Relation, Tensor]]:
        """Return dense observations (node, feature) and counts (node, molecule) of `rows`, ascending; None: all."""
        group = self._root[f"levels/{level}"]
        starts, stops = _runs(np.arange(self.structure[level].num_nodes) if rows is None else rows)
        dense = {}
        for key, place in group.attrs["dense"].items():
            values = group[place][:] if rows is None else self._cache.runs(group[place], starts, stops)
            dense[key] = torch.from_numpy(values)
        counts = {}
        for modality, place in group.attrs["counts"].items():
            relation = (names.MOLECULE_OF[modality], names.OBSERVED_IN, level)
            counts[relation] = (
                read_csr(group[place]) if rows is None else self._counts(group[place], rows, starts, stops)
            )
        return dense, counts

    def _counts(self, group: Any, rows: NDArray[np.int64], starts: NDArray[Any], stops: NDArray[Any]) -> Tensor:
        pointer = self._pointers.setdefault(group.path, np.empty(0, np.int64))
        if not len(pointer):
            pointer = self._pointers[group.path] = group["indptr"][:].astype(np.int64)
        local = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(pointer[rows + 1] - pointer[rows], out=local[1:])
        first, last = pointer[starts], pointer[stops]
        columns, values = (self._cache.runs(group[part], first, last) for part in ("indices", "data"))
        return csr_tensor(local, columns, values, (len(rows), group.attrs["shape"][1]))

    def _read_structure(self) -> TissueGraph:
        graph = TissueGraph()
        for node_type in self.facts["node_types"]:
            if node_type not in names.NODE_TYPES:
                raise unknown_name(StoreError, str(self._root.store), "node type", node_type, names.NODE_TYPES)
            read_nodes(self._root, graph, node_type)
        for relation in map(tuple, self.facts["relations"]):
            if len(relation) != 3 or not {relation[0], relation[2]} <= set(graph.node_types):
                raise StoreError(f"relations · {relation}", "no relation between node types of this store")
            read_relation(self._root, graph, relation)
        return graph


def _runs(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return start and stop of each run of consecutive `rows`."""
    if not len(rows):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    breaks = np.flatnonzero(np.diff(rows) != 1)
    return rows[np.append(0, breaks + 1)], rows[np.append(breaks, len(rows) - 1)] + 1
