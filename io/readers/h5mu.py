"""MuData (.h5mu): modalities of one sample, whose cells need not be the same, as modalities of one section."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import Faults, ReadError, unknown_name
from aivc_graph.io.anndata_rows import layers_of, named_features, open_anndata, positions_of, values_of
from aivc_graph.io.any_rows import AbstractAnyRowsReader, no_positions
from aivc_graph.io.hdf5_guard import check_hdf5, hdf5_names
from aivc_graph.io.options import LayerOptions, SymbolOptions
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import Rows
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.schema import check_counts

CALLED = {
    names.RNA: ("rna", "gex", "gene", "genes", "gene expression", "transcriptome"),
    names.ADT: ("protein", "prot", "adt", "antibody", "antibody capture", "cite"),
    names.ATAC: ("atac", "peaks", "peak", "chromatin"),
}


@READERS.register("h5mu", expects="a MuData file (.h5mu): modalities as groups of `mod`")
class H5muReader(LayerOptions, SymbolOptions, AbstractAnyRowsReader):
    """Reads a MuData file as one level: a cell of any modality is a node, measured where a modality has it.

    Parameters
    ----------
    modalities
        The file's names of RNA, protein and chromatin; by default told by their usual names. Others are left out, and
        it is said.
    spatial_key
        Positions ``(row, 2)`` in the file's ``obsm``, or else in that of the modalities.
    layer
        Layer of the counts of RNA, and of the other modalities that have one of this name; by default ``X``.

    See `aivc_graph.io.any_rows.AbstractAnyRowsReader` and `aivc_graph.io.options` for the others. A
    modality's column of annotation is called as there, or ``modality:column`` where two have one.

    Raises
    ------
    ReadError
        Pickled, opaque or linked content; a damaged file; no RNA; values that are no counts.

    References
    ----------
    Bredikhin et al. 2022, doi:10.1186/s13059-021-02577-8 (MuData).
    """

    modalities: dict[Literal["rna", "protein", "atac"], str] = Field(default_factory=dict)
    spatial_key: str = "spatial"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return {"mod", "obs"} <= hdf5_names(path)

    def rows(self, path: Path) -> Rows:
        check_hdf5(path)
        whole = open_anndata(path, _read)
        chosen = self._chosen(list(whole.parts), path)
        parts = {modality: whole.parts[name] for modality, name in chosen.items()}
        for place, cells in [
            ("obs", whole.obs.index),
            *((f"mod/{chosen[one]}", parts[one].obs_names) for one in parts),
        ]:
            if cells.has_duplicates:
                found = f"cell {cells[cells.duplicated()][0]!r} twice"
                raise ReadError(f"{path} · {place}", found, "unique names", "make them so before the file is written")
        where = f"{path} · mod/{chosen[names.RNA]}"
        rna = parts[names.RNA]
        counts = values_of(rna, where, self.layer, self.symbols, dense=self.values != "counts")
        nodes = _nodes(whole, parts)
        beside = {
            modality: self._beside(part, f"{path} · mod/{chosen[modality]}")
            for modality, part in parts.items()
            if modality != names.RNA
        }
        xy = no_positions(len(nodes)) if self.dissociated else self._positions(whole, parts, nodes, str(path))
        columns = _columns(whole, {chosen[modality]: part for modality, part in parts.items()}, nodes)
        return Rows(nodes, columns, xy, counts, f"{path} · obs", tuple(layers_of(rna)), beside)

    def _chosen(self, there: list[str], path: Path) -> dict[str, str]:
        """Return the file's name of each modality that is read; those that are not are told."""
        absent = [name for name in self.modalities.values() if name not in there]
        if absent:
            raise unknown_name(ReadError, f"{path} · mod", "modality", absent[0], there)
        usual = {m: next((one for one in there if one.lower() in called), None) for m, called in CALLED.items()}
        chosen = {m: name for m, name in (dict(self.modalities) or usual).items() if name is not None}
        if names.RNA not in chosen:
            mend = "say which is RNA, as `modalities: {rna: NAME}`"
            raise ReadError(f"{path} · mod", ", ".join(there) or "nothing", "one of RNA", mend)
        left = sorted(set(there) - set(chosen.values()))
        if left:
            doubt(f"{path} · mod", f"{', '.join(left)} left out", "RNA, protein or chromatin", "see `modalities:`")
        return chosen

    def _beside(self, part: Any, where: str) -> Any:
        if self.layer is not None and self.layer in part.layers:
            part = part.copy()
            part.X = part.layers[self.layer]
        table, faults = named_features(part, where), Faults(ReadError)
        check_counts(table, where, faults, "give counts, or leave it out by `modalities:`")
        faults.raise_if_any()
        return table

    def _positions(self, whole: Any, parts: dict[str, Any], nodes: pd.Index, where: str) -> NDArray[np.float64]:
        """Return the place of every node: as the file says of all, or else the modalities of their own cells."""
        if self.spatial_key in whole.obsm:
            return positions_of(whole, self.spatial_key, where)
        having = [part for part in parts.values() if self.spatial_key in part.obsm]
        if not having:
            return positions_of(parts[names.RNA], self.spatial_key, where)
        xy = np.full((len(nodes), 2), np.nan)
        for part in having:
            xy[nodes.get_indexer(part.obs_names)] = positions_of(part, self.spatial_key, where)[:, :2]
        return xy


@dataclass(frozen=True)
class _Whole:
    """A MuData as far as it is read: the table of all cells, what lies over all of them, and the modalities."""

    obs: pd.DataFrame
    obsm: dict[str, Any]
    parts: dict[str, Any]


def _read(path: Path) -> _Whole:
    import h5py
    from anndata.io import read_elem

    with h5py.File(path) as file:
        parts = {name: read_elem(file[f"mod/{name}"]) for name in file["mod"]}
        obsm = {name: read_elem(item) for name, item in file.get("obsm", {}).items() if name not in parts}
        return _Whole(read_elem(file["obs"]), obsm, parts)


def _nodes(whole: Any, parts: dict[str, Any]) -> pd.Index:
    """Return the cells of all modalities that are read, in the order of the file's own table where it holds all."""
    named = whole.obs.index.astype(str)
    if all(part.obs_names.isin(named).all() for part in parts.values()):
        return named
    nodes = pd.Index([])
    for part in parts.values():
        nodes = nodes.append(part.obs_names.difference(nodes, sort=False))
    return nodes


def _columns(whole: Any, parts: dict[str, Any], nodes: pd.Index) -> pd.DataFrame:
    """Return the annotation of the nodes: that of the whole, then that of each modality."""
    columns = whole.obs.set_axis(whole.obs.index.astype(str)).reindex(nodes)
    for name, part in parts.items():
        own = part.obs.reindex(nodes)
        for column in own:
            if f"{name}:{column}" not in columns:
                columns[column if column not in columns else f"{name}:{column}"] = own[column].to_numpy()
    return columns
