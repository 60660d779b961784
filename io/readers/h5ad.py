"""Any AnnData file: counts in `X` or a layer, positions in `obsm`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import Faults, ReadError
from aivc_graph.io.anndata_rows import layers_of_counts, named_features, positions_of, symbol_columns, values_of
from aivc_graph.io.any_rows import TYPES, AbstractAnyRowsReader, no_positions
from aivc_graph.io.ground import ARRAY
from aivc_graph.io.h5ad_file import is_anndata_folder, read_anndata
from aivc_graph.io.hdf5_guard import hdf5_names
from aivc_graph.io.lattice import (
    DRAWN_SPOT_UM,
    SAME_CIRCLE,
    check_scale,
    given_or,
    um_per_unit_of_array,
    visium_array_um,
)
from aivc_graph.io.matrices import count_table
from aivc_graph.io.options import LayerOptions, PositionOptions, SymbolOptions
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import Rows
from aivc_graph.io.tables import POSITION_NAMES, need_columns, numbers, position_columns
from aivc_graph.tissue.doubt import tell
from aivc_graph.tissue.schema import check_counts

# What else positions are called in `obsm`.
_SPATIAL = re.compile(r"(?i)^(x_)?spatial(_?(um|px|xy|coords?|coordinates|global|centroids?))?$")


@dataclass(frozen=True)
class H5adRows(Rows):
    """Rows of an AnnData, with the scale that its record of the picture tells [µm a unit], if it has one."""

    by_picture: float | None = None


@READERS.register("h5ad", expects="an AnnData (.h5ad, or Zarr folder) with positions in obsm, or of dissociated cells")
class H5adReader(LayerOptions, SymbolOptions, PositionOptions, AbstractAnyRowsReader):
    """Reads an AnnData file as one level, joined by its own ``obs_names``.

    Parameters
    ----------
    spatial_key
        Positions ``(row, 2)`` in ``obsm``; of a table there, its columns x and y.
    x, y
        Columns of ``obs`` with the positions instead; a usual pair of them is taken, and told, where ``obsm`` has none.
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
        if path.is_dir():
            return is_anndata_folder(path)
        found = hdf5_names(path)
        return {"obs", "var"} <= found and not found & {"row_attrs", "mod"}

    def rows(self, path: Path) -> Rows:
        data = read_anndata(path)
        xy = no_positions(data.n_obs) if self.dissociated else self._positions(data, str(path))
        dense = self.values != "counts"
        if self.values == TYPES:  # a file of types need hold nothing else
            no_genes = pd.DataFrame(index=pd.Index([], dtype=str))
            counts = count_table(sparse.csr_matrix((data.n_obs, 0), dtype=np.float32), data.obs_names, no_genes)
        else:
            counts = values_of(data, str(path), self.layer, self.symbols, dense=dense)
        beside: dict[str, Any] = {one: _beside(path.parent / name) for one, name in self.beside.items()}
        where, layers = f"{path} · obs", layers_of_counts(data)
        symbols = () if self.symbols else symbol_columns(data.var)
        return H5adRows(data.obs_names, data.obs, xy, counts, where, layers, beside, symbols, _um_by_picture(data))

    def scale(self, rows: Rows, path: Path) -> float | None:
        if self.level != names.PATCH:
            return self.um_per_unit
        if set(ARRAY) <= set(rows.columns):
            array = visium_array_um(*(numbers(rows.columns[c], rows.where) for c in ARRAY))
            finite = np.isfinite(array).all(axis=1) & np.isfinite(rows.xy).all(axis=1)
            by_array = partial(um_per_unit_of_array, array[finite], rows.xy[finite, :2], str(path))
            return given_or(self.um_per_unit, by_array, "the array of the spots", str(path))
        if self.um_per_unit is not None and isinstance(rows, H5adRows):
            check_scale(self.um_per_unit, rows.by_picture, "spot_diameter_fullres", str(path), SAME_CIRCLE)
        return self.um_per_unit

    def _positions(self, data: Any, where: str) -> Any:
        usual = any(set(pair) <= set(data.obs) for pair in POSITION_NAMES)
        key, alike = self.spatial_key, [str(one) for one in data.obsm if _SPATIAL.match(str(one))]
        if "spatial_key" not in self.model_fields_set and key not in data.obsm and len(alike) == 1:
            (key,) = alike
            tell(f"{where}: positions are {key!r} of obsm; `spatial_key:`, or `x:` and `y:`, name others")
        if self.x is None and (key in data.obsm or "spatial_key" in self.model_fields_set or not usual):
            return positions_of(data, key, where)
        axes = (str(self.x), str(self.y))
        if self.x is None:
            axes = position_columns(data.obs, f"{where} · obs")
            tell(f"{where}: positions are the columns {', '.join(axes)} of obs; `x:` and `y:` name others")
        need_columns(data.obs, axes, f"{where} · obs")
        return np.column_stack([numbers(data.obs[axis], f"{where} · obs") for axis in axes])


def _um_by_picture(data: Any) -> float | None:
    """Return the microns a unit by the diameter that the record of the one picture gives a spot of Visium."""
    pictures = data.uns.get("spatial")
    factors = (
        [one.get("scalefactors") for one in pictures.values() if isinstance(one, Mapping)]
        if isinstance(pictures, Mapping)
        else []
    )
    drawn = [
        one["spot_diameter_fullres"] for one in factors if isinstance(one, Mapping) and "spot_diameter_fullres" in one
    ]
    return DRAWN_SPOT_UM / float(drawn[0]) if len(drawn) == 1 and float(drawn[0]) > 0 else None


def _beside(path: Path) -> Any:
    """Return the counts of another modality as they are named there."""
    table, faults = named_features(read_anndata(path), str(path)), Faults(ReadError)
    check_counts(table, str(path), faults)
    faults.raise_if_any()
    return table
