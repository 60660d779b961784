"""Any AnnData file: counts in `X` or a layer, positions in `obsm`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import Faults, ReadError
from aivc_graph.io.anndata_rows import layers_of, named_features, positions_of, values_of
from aivc_graph.io.any_rows import AbstractAnyRowsReader, no_positions
from aivc_graph.io.h5ad_file import read_anndata
from aivc_graph.io.hdf5_guard import hdf5_names
from aivc_graph.io.lattice import um_per_unit_of_array, visium_array_um
from aivc_graph.io.options import LayerOptions, SymbolOptions
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import Rows
from aivc_graph.io.tables import numbers
from aivc_graph.tissue.schema import check_counts

ARRAY = ("array_row", "array_col")


@READERS.register("h5ad", expects="an AnnData file (.h5ad) with positions in obsm, or of dissociated cells")
class H5adReader(LayerOptions, SymbolOptions, AbstractAnyRowsReader):
    """Reads an AnnData file as one level, joined by its own ``obs_names``.

    Parameters
    ----------
    spatial_key
        Positions ``(row, 2)`` in ``obsm``; of a table there, its columns x and y.
    um_per_unit
        Microns a unit of these; by default from ``array_row`` and ``array_col``, which Visium's 100 µm array has.
    beside
        Files of other modalities of the same rows, by modality, relative to this one's folder.

    See `aivc_graph.io.any_rows.AbstractAnyRowsReader` and `aivc_graph.io.options` for the others.

    Raises
    ------
    ReadError
        Pickled, opaque or linked content; a damaged file; a missing key; values that are no counts.

    References
    ----------
    Virshup et al. 2024, doi:10.21105/joss.04371 (anndata).
    """

    spatial_key: str = "spatial"
    beside: dict[Literal["protein", "atac"], str] = Field(default_factory=dict)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        found = hdf5_names(path)
        return {"obs", "var"} <= found and not found & {"row_attrs", "mod"}

    def rows(self, path: Path) -> Rows:
        data = read_anndata(path)
        xy = no_positions(data.n_obs) if self.dissociated else positions_of(data, self.spatial_key, str(path))
        dense = self.values != "counts"
        counts = values_of(data, str(path), self.layer, self.symbols, dense=dense)
        beside: dict[str, Any] = {one: _beside(path.parent / name) for one, name in self.beside.items()}
        return Rows(data.obs_names, data.obs, xy, counts, f"{path} · obs", tuple(layers_of(data)), beside)

    def scale(self, rows: Rows, path: Path) -> float | None:
        if self.um_per_unit is not None or self.level != names.PATCH or not set(ARRAY) <= set(rows.columns):
            return self.um_per_unit
        array = visium_array_um(*(numbers(rows.columns[c], rows.where) for c in ARRAY))
        finite = np.isfinite(array).all(axis=1) & np.isfinite(rows.xy).all(axis=1)
        return um_per_unit_of_array(array[finite], rows.xy[finite, :2], str(path))


def _beside(path: Path) -> Any:
    """Return the counts of another modality as they are named there."""
    table, faults = named_features(read_anndata(path), str(path)), Faults(ReadError)
    check_counts(table, str(path), faults)
    faults.raise_if_any()
    return table
