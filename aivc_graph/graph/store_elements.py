"""How the parts of a graph are laid down in Zarr and taken up again, in AnnData's element encodings."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import torch
import zarr
from anndata.io import read_elem, write_elem
from numpy.typing import NDArray
from torch import Tensor
from zarr.codecs import BloscCodec

from aivc_graph import names
from aivc_graph.errors import StoreError
from aivc_graph.graph.fields import csr_tensor, edge_fields, row_fields
from aivc_graph.graph.tissue_graph import Relation, TissueGraph

# Groups that are read are typed Any: by zarr's own types each member may be a group, an array or a number.

# One shard of counts decodes to 8 MiB; a window of 40,000 cells touches two or three.
_SHARD = 1 << 22
_ONES = "unit_weights"


def write_nodes(root: zarr.Group, graph: TissueGraph, node_type: str) -> None:
    """Write one node type: a level as an AnnData, any other as its table and tensors."""
    group = root.require_group(node_path(node_type))
    if node_type in names.LEVELS:
        _write_level(group, graph, node_type)
    else:
        _write_others(group, graph, node_type, fields={})
        write_elem(group, "obs", _storable(graph[node_type].get("obs", pd.DataFrame())))


def read_nodes(root: Any, graph: TissueGraph, node_type: str) -> None:
    """Read one node type without its observations."""
    group, store = root[node_path(node_type)], graph[node_type]
    obs, attrs = read_elem(group["obs"]), dict(group.attrs)
    for key, place in attrs.get("row_fields", {}).items():
        kind, _, name = place.partition("/")
        store[key] = torch.from_numpy(np.array(obs[name] if kind == "obs" else group[place][:]))
    columns = [place.removeprefix("obs/") for place in attrs.get("row_fields", {}).values() if place.startswith("obs/")]
    for key in attrs["tensors"]:
        store[key] = torch.from_numpy(np.array(group[f"uns/{key}"][...]))
    for key, value in attrs["plain"].items():
        store[key] = value
    if attrs["has_obs"]:
        store.obs = obs.drop(columns=columns)


def write_relation(root: Any, graph: TissueGraph, relation: Relation) -> None:
    """Write one relation; distances within a level become the level's ``obsp``, so their pattern exists once."""
    source, name, target = relation
    group, adj_t = root.require_group(relation_path(relation)), graph[relation].adj_t
    fields = {key: value.numpy() for key, value in edge_fields(graph, relation).items()}
    if source == target and names.DISTANCE_UM.name in fields:
        pattern = (adj_t.crow_indices().numpy(), adj_t.col_indices().numpy())
        obsp = root[f"{node_path(source)}/obsp"]
        _write_csr(obsp, f"{name}_distances", (*pattern, fields.pop(names.DISTANCE_UM.name)), tuple(adj_t.shape))
        group.attrs[_ONES] = bool((adj_t.values() == 1).all())
        if not group.attrs[_ONES]:
            fields["weight"] = adj_t.values().numpy()
    else:
        _write_csr(group, "adj_t", csr_parts(adj_t), tuple(adj_t.shape))
    for key, values in fields.items():
        write_array(group, key, values)


def read_relation(root: Any, graph: TissueGraph, relation: Relation) -> None:
    """Read one relation with what runs over its edges."""
    source, name, _ = relation
    group, store = root[relation_path(relation)], graph[relation]
    fields = {key: torch.from_numpy(array[:]) for key, array in group.arrays()}
    if _ONES in group.attrs:
        adj_t = read_csr(root[f"{node_path(source)}/obsp/{name}_distances"])
        fields[names.DISTANCE_UM.name] = adj_t.values()
        weight = torch.ones_like(adj_t.values()) if group.attrs[_ONES] else fields.pop("weight")
        adj_t = csr_tensor(*csr_parts(adj_t)[:2], weight.numpy(), (adj_t.shape[0], adj_t.shape[1]))
    else:
        adj_t = read_csr(group["adj_t"])
    store.adj_t = adj_t
    for key, value in fields.items():
        store[key] = value


def read_csr(group: Any) -> Tensor:
    """Return a CSR element as a float32 tensor with 32-bit indices where they fit."""
    return csr_tensor(group["indptr"][:], group["indices"][:], group["data"][:], tuple(group.attrs["shape"]))


def csr_parts(adj_t: Tensor) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return row pointer, columns and values of a CSR tensor; they share its memory."""
    return adj_t.crow_indices().numpy(), adj_t.col_indices().numpy(), adj_t.values().numpy()


def node_path(node_type: str) -> str:
    """Return where a node type lies in the store."""
    if node_type in names.LEVELS:
        return f"levels/{node_type}"
    return f"molecules/{node_type}" if node_type in names.MOLECULES else f"{node_type}s"


def relation_path(relation: Relation) -> str:
    """Return where a relation lies in the store."""
    return f"relations/{'__'.join(relation)}"


def _write_level(group: zarr.Group, graph: TissueGraph, level: str) -> None:
    group.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    for key in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
        write_elem(group, key, {})
    obs = graph.obs(level).copy(deep=False)
    places: dict[str, str] = {}
    dense: dict[str, str] = {}
    for key, value in row_fields(graph, level).items():
        if value.ndim == 1:
            column = f"{key}_" if key in obs else key
            obs[column], places[key] = value.numpy(), f"obs/{column}"
        else:
            place = "obsm/spatial" if key == names.POS.name else f"obsm/{key}"
            write_array(group, place, value.numpy())
            (dense if names.mask_name(key) in graph[level] else places)[key] = place
    write_elem(group, "obs", _storable(obs))
    counts = _write_counts(group, graph, level)
    _write_others(group, graph, level, fields=row_fields(graph, level))
    group.attrs.update({"row_fields": places, "dense": dense, "counts": counts})


def _write_counts(group: zarr.Group, graph: TissueGraph, level: str) -> dict[str, str]:
    """Write the first count modality as X, whose ``var`` are its molecules, and others into ``obsm``."""
    places: dict[str, str] = {}
    write_elem(group, "var", pd.DataFrame(index=pd.Index([], dtype=str)))
    for modality, molecule in names.MOLECULE_OF.items():
        relation = (molecule, names.OBSERVED_IN, level)
        if relation not in graph.edge_types:
            continue
        adj_t = graph[relation].adj_t
        places[modality] = f"obsm/{modality}" if places else "X"
        pointer, columns, values = csr_parts(adj_t)
        narrow = columns.astype(np.uint16) if adj_t.shape[1] <= 1 << 16 else columns
        _write_csr(group, places[modality], (pointer, narrow, _narrow_counts(values)), tuple(adj_t.shape))
        if places[modality] == "X":
            write_elem(group, "var", _storable(graph[molecule].obs))
    return places


def _narrow_counts(values: NDArray[np.float32]) -> NDArray[Any]:
    """Return whole counts as the smallest of 16 and 32 bits that holds them; others as they are."""
    most = float(values.max()) if len(values) else 0.0
    # Above 2**24 float32 no longer holds every whole number, so nothing is claimed about them.
    if not 0 <= most <= 2**24 or float(values.min(initial=0.0)) < 0:
        return values
    whole = values.astype(np.uint16 if most < 1 << 16 else np.uint32)
    return whole if np.array_equal(whole, values) else values


def _write_others(group: zarr.Group, graph: TissueGraph, node_type: str, fields: dict[str, Tensor]) -> None:
    """Write what does not run over the rows: tensors into ``uns``, plain values into the attributes."""
    tensors, plain = [], {}
    for key, value in graph[node_type].items():
        if key in fields or key == names.OBS.name:
            continue
        if isinstance(value, Tensor):
            tensors.append(key)
            write_array(group, f"uns/{key}", value.numpy())
        else:
            plain[key] = value
    try:
        json.dumps(plain)
    except TypeError as error:
        raise StoreError(node_type, f"an attribute that is neither tensor nor JSON: {error}") from error
    plain["num_nodes"] = int(graph[node_type].num_nodes)
    group.attrs.update({"tensors": tensors, "plain": plain, "has_obs": names.OBS.name in graph[node_type]})


def _write_csr(group: zarr.Group, name: str, parts: tuple[NDArray[Any], ...], shape: tuple[int, ...]) -> None:
    element = group.require_group(name)
    element.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(map(int, shape))})
    for key, values in zip(("indptr", "indices", "data"), parts, strict=True):
        write_array(element, key, values)


def write_array(group: zarr.Group, name: str, values: NDArray[Any]) -> zarr.Array[Any]:
    """Write `values` as one array, in chunks of whole rows, and return it."""
    row = max(int(np.prod(values.shape[1:])), 1)
    chunks = (
        tuple(max(side, 1) for side in (min(max(_SHARD // row, 1), values.shape[0]), *values.shape[1:]))
        if values.ndim
        else ()
    )
    codec = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=values.dtype.itemsize)
    array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks, compressors=[codec])
    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    if values.size:
        array[...] = values
    return array


def _storable(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` with text that has gaps, or is mixed with other things, as categories, which AnnData can store."""
    table = table.copy(deep=False)
    table.index = table.index.astype(str)
    for column in table.select_dtypes(object).columns:
        if not all(isinstance(value, str) for value in table[column]):
            table[column] = pd.Categorical(table[column].map(str, na_action="ignore"))
    return table
