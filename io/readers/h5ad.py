"""Any AnnData file: counts in `X` or a layer, positions in `obsm`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from aivc_graph import names
from aivc_graph.errors import Faults, ReadError, unknown_name
from aivc_graph.io.h5ad_file import read_anndata
from aivc_graph.io.hdf5_guard import hdf5_names
from aivc_graph.io.intake import KIND_COLUMNS, kept_rows
from aivc_graph.io.lattice import um_per_unit_of_array, visium_array_um
from aivc_graph.io.matrices import count_table
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import HEIGHTS, AbstractRowsReader, Rows
from aivc_graph.io.tables import labels_of, need_columns, numbers, position_columns
from aivc_graph.tissue.schema import RAW, check_counts, check_measured, layers_of
from aivc_graph.tissue.section import add_cells, add_observation, new_section

ARRAY = ("array_row", "array_col")
DENSE = {"log": names.LOG_EXPRESSION, "effect": names.EFFECT}


@READERS.register("h5ad", expects="an AnnData file (.h5ad) with positions in obsm, or of dissociated cells")
class H5adReader(AbstractRowsReader):
    """Reads an AnnData file as one level, joined by its own ``obs_names``.

    Parameters
    ----------
    dissociated
        The rows have no positions: cells taken out of their tissue, or conditions of a screen.
    modality
        Whose counts they are.
    values
        ``counts``; ``log``, log-normalised expression; or ``effect``, what was measured against an untreated control,
        one row a condition: z-scores, log ratios, fitness, NaN where nothing was measured.
    spatial_key
        Positions ``(row, 2)`` in ``obsm``; of a table there, its columns x and y.
    um_per_unit
        Microns a unit of these; by default from ``array_row`` and ``array_col``, which Visium's 100 µm array has.
    layer
        Layer of the raw counts; ``raw`` is AnnData's own ``.raw`` where no layer is called so. By default ``X``.
    symbols
        Column of ``var`` with gene symbols, if ``var_names`` are ids.
    beside
        Files of other modalities of the same rows, by modality, relative to this one's folder.

    See `aivc_graph.io.rows.AbstractRowsReader` for the others.

    Raises
    ------
    ReadError
        Pickled, opaque or linked content; a damaged file; a missing key; values that are no counts.

    References
    ----------
    Virshup et al. 2024, doi:10.21105/joss.04371 (anndata).
    """

    dissociated: bool = False
    modality: Literal["rna", "protein", "atac"] = "rna"
    values: Literal["counts", "log", "effect"] = "counts"
    spatial_key: str = "spatial"
    layer: str | None = None
    symbols: str | None = None
    beside: dict[Literal["protein", "atac"], str] = Field(default_factory=dict)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        found = hdf5_names(path)
        return {"obs", "var"} <= found and "row_attrs" not in found

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.dissociated and self.level == names.PATCH:
            raise ValueError("found `level: patch` of a dissociated sample, which has cells alone; leave it out")
        if self.values != "counts" and self.modality != names.RNA:
            raise ValueError(f"`values: {self.values}` have no `modality:`; leave it out")
        return self

    def rows(self, path: Path) -> Rows:
        return self._rows(read_anndata(path), path)

    def _rows(self, data: Any, path: Path) -> Rows:
        xy = np.full((data.n_obs, 2), np.nan) if self.dissociated else self._positions(data, path)
        return Rows(data.obs_names, data.obs, xy, self._counts(data, str(path)), f"{path} · obs")

    def read(self, path: Path, section: str) -> Any:
        return self._section(read_anndata(path), path, section)

    def read_by(self, path: Path, by: tuple[str, ...]) -> dict[str, Any]:
        data = read_anndata(path)
        need_columns(data.obs, by, f"{path} · obs")
        missing = data.obs[list(by)].isna().any(axis=1).to_numpy()
        if missing.any():
            found = f"{int(missing.sum()):,} rows without a value in {', '.join(by)}"
            raise ReadError(f"{path} · obs", found, "the section of every row", "drop these rows")
        name = data.obs[list(by)].astype(str).agg("-".join, axis=1).to_numpy()
        return {one: self._section(data[name == one].copy(), path, one) for one in sorted(set(name))}

    def _section(self, data: Any, path: Path, section: str) -> Any:
        rows = self._rows(data, path)
        tissue = self._cells(rows, path, section) if self.dissociated else self.laid(rows, path, section)
        for modality, name in self.beside.items():
            add_observation(tissue, self.level or names.CELL, modality, self._beside(path.parent / name))
        return tissue

    def _cells(self, rows: Rows, path: Path, section: str) -> Any:
        """Return rows without positions as a section."""
        need_columns(rows.columns, tuple(c for c in (*self.columns, self.label) if c), rows.where)
        kept = kept_rows(rows.columns, self.keep, self.only_in_tissue, rows.where)
        columns, tissue = rows.columns[kept], new_section(section)
        annotation = columns[list(dict.fromkeys(self.columns))].copy()
        if self.label is not None or names.LABEL in annotation:
            annotation[names.LABEL] = labels_of(columns[self.label or names.LABEL])
        add_cells(tissue, rows.barcodes[kept], annotation)
        self.measure(tissue, names.CELL, rows.counts[kept], path)
        return tissue

    def measure(self, tissue: Any, level: str, table: Any, path: Path) -> None:
        if self.values == "counts" and self.modality == names.RNA:
            super().measure(tissue, level, table, path)
            return
        twice = table.var_names[table.var_names.duplicated()]
        if len(twice):
            raise ReadError(f"{path} · var", f"feature {twice[0]!r} twice", "each once", "rename or drop one of them")
        add_observation(tissue, level, DENSE.get(self.values, self.modality), table)

    def scale(self, rows: Rows, path: Path) -> float | None:
        if self.um_per_unit is not None or self.level != names.PATCH or not set(ARRAY) <= set(rows.columns):
            return self.um_per_unit
        array = visium_array_um(*(numbers(rows.columns[c], rows.where) for c in ARRAY))
        finite = np.isfinite(array).all(axis=1) & np.isfinite(rows.xy).all(axis=1)
        return um_per_unit_of_array(array[finite], rows.xy[finite, :2], str(path))

    def _beside(self, path: Path) -> Any:
        """Return the counts of another modality as they are named there."""
        data = read_anndata(path)
        faults = Faults(ReadError)
        check_counts(data, str(path), faults)
        faults.raise_if_any()
        var = pd.DataFrame({"gene_ids": data.var_names.astype(str)}, index=data.var_names.astype(str))
        return count_table(data.X, data.obs_names, var)

    def _counts(self, data: Any, where: str) -> Any:
        from scipy import sparse

        chosen, features = self._chosen(data, where)
        var = pd.DataFrame(index=features.index.astype(str))
        var["gene_ids"] = var.index
        for name in (*KIND_COLUMNS, "genome"):
            if name in features:
                var[name] = features[name].astype(str).to_numpy()
        if self.symbols is not None:
            symbols = features if self.symbols in features else data.var.reindex(features.index)
            need_columns(symbols, (self.symbols,), f"{where} · var")
            var.index = pd.Index(symbols[self.symbols].astype(str))
        elif "gene_ids" in features:
            var["gene_ids"] = features["gene_ids"].astype(str).to_numpy()
        faults = Faults(ReadError)
        if self.values != "counts":
            dense = chosen.toarray() if sparse.issparse(chosen) else np.asarray(chosen)
            table = count_table(dense.astype(np.float32), data.obs_names, var)
            check_measured(table, DENSE[self.values], where, faults)
        else:
            table = count_table(sparse.csr_matrix(chosen, dtype=np.float32), data.obs_names, var)
            check_counts(table, where, faults, data)
        faults.raise_if_any()
        return table

    def _chosen(self, data: Any, where: str) -> tuple[Any, pd.DataFrame]:
        """Return the values the user chose, and the table of their features."""
        if self.layer == RAW and RAW not in data.layers and data.raw is not None:
            return data.raw.X, data.raw.var
        if self.layer is not None and self.layer not in data.layers:
            raise unknown_name(ReadError, where, "layer", self.layer, layers_of(data))
        chosen = data.X if self.layer is None else data.layers[self.layer]
        if chosen is None:
            there = ", ".join(layers_of(data)) or "none here"
            raise ReadError(where, "no `X`", "counts", f"name a layer as `layer:` ({there})")
        return chosen, data.var

    def _positions(self, data: Any, path: Path) -> np.ndarray:
        """Return positions ``(row, 2)`` or, with a height, ``(row, 3)``."""
        if self.spatial_key not in data.obsm:
            fault = str(unknown_name(ReadError, f"{path} · obsm", "positions", self.spatial_key, data.obsm))
            where, _, found = fault.partition(": ")
            raise ReadError(where, found, mend="of cells without positions say `dissociated: true`")
        where, found = f"{path} · obsm[{self.spatial_key!r}]", data.obsm[self.spatial_key]
        if isinstance(found, pd.DataFrame):
            x, y = position_columns(found, where)
            height = [name for name in HEIGHTS if name in found][:1]
            return np.column_stack([numbers(found[name], where) for name in (x, y, *height)])
        xy = np.asarray(found)
        if xy.ndim != 2 or xy.shape[1] < 2 or xy.dtype.kind not in "iuf":
            raise ReadError(where, f"{xy.dtype} {xy.shape}", "numbers (row, 2)")
        return xy[:, :3].astype(np.float64)
