"""Any AnnData file: counts, logarithms or effects in `X` or a layer; positions in `obsm`, or none."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from aivc_graph import names
from aivc_graph.errors import Faults, ReadError, unknown_name
from aivc_graph.io.genes import Duplicates, name_genes
from aivc_graph.io.hdf5_guard import check_hdf5, hdf5_names
from aivc_graph.io.lattice import stated_radius, stated_um_per_unit, um_per_unit_of_array, visium_array_um
from aivc_graph.io.matrices import count_table
from aivc_graph.io.reading import READERS, AbstractReader
from aivc_graph.io.tables import labels_of, need_columns, numbers
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.schema import check_counts, check_measured
from aivc_graph.tissue.section import add_cells, add_level, add_observation, new_section

ARRAY = ("array_row", "array_col")
DENSE = {"log": names.LOG_EXPRESSION, "effect": names.EFFECT}


@READERS.register("h5ad", expects="an AnnData file (.h5ad) with positions in obsm, or of dissociated cells")
class H5adReader(AbstractReader):
    """Reads an AnnData file as one level, joined by its own ``obs_names``.

    Parameters
    ----------
    level
        What a row is; of dissociated cells it may be left out.
    dissociated
        The rows have no positions: cells taken out of their tissue, or conditions of a screen.
    modality
        Whose counts they are.
    values
        ``counts``; ``log``, log-normalised expression; or ``effect``, what was measured against an untreated control,
        one row a condition: z-scores, log ratios, fitness, NaN where nothing was measured.
    spatial_key
        Positions ``(row, 2)`` in ``obsm``.
    um_per_unit
        Microns a unit of these; by default from ``array_row`` and ``array_col``, which Visium's 100 µm array has.
    diameter_um
        Diameter of every node [µm], if there is no `area`.
    area
        Column of ``obs`` with areas [µm²].
    layer
        Layer of the raw counts; by default ``X``.
    symbols
        Column of ``var`` with gene symbols, if ``var_names`` are ids.
    label
        Column of ``obs`` that becomes the label.
    columns
        Columns of ``obs`` kept as annotation.
    beside
        Files of other modalities of the same rows, by modality, relative to this one's folder.
    duplicates, organism
        See `aivc_graph.io.genes.name_genes`.

    Raises
    ------
    ReadError
        Pickled, opaque or linked content; a damaged file; a missing key; values that are not what they should be.

    References
    ----------
    Virshup et al. 2024, doi:10.21105/joss.04371 (anndata).
    """

    level: Literal["cell", "patch"] | None = None
    dissociated: bool = False
    modality: Literal["rna", "protein", "atac"] = "rna"
    values: Literal["counts", "log", "effect"] = "counts"
    spatial_key: str = "spatial"
    um_per_unit: float | None = None
    diameter_um: float | None = None
    area: str | None = None
    layer: str | None = None
    symbols: str | None = None
    label: str | None = None
    columns: tuple[str, ...] = ()
    beside: dict[Literal["protein", "atac"], str] = Field(default_factory=dict)
    duplicates: Duplicates = "sum"
    organism: str | None = None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        found = hdf5_names(path)
        return {"obs", "var"} <= found and "row_attrs" not in found

    @model_validator(mode="after")
    def _places_or_none(self) -> Self:
        if not self.dissociated and self.level is None:
            raise ValueError("give `level:`, cell or patch, or say `dissociated: true` of cells without positions")
        if self.dissociated and self.level == names.PATCH:
            raise ValueError("found `level: patch` of a dissociated sample, which has cells alone; leave it out")
        if self.values != "counts" and self.modality != names.RNA:
            raise ValueError(f"`values: {self.values}` have no `modality:`; leave it out")
        return self

    def read(self, path: Path, section: str) -> Any:
        check_hdf5(path)
        return self._section(_open(path), path, section)

    def read_by(self, path: Path, by: tuple[str, ...]) -> dict[str, Any]:
        check_hdf5(path)
        data = _open(path)
        need_columns(data.obs, by, f"{path} · obs")
        missing = data.obs[list(by)].isna().any(axis=1).to_numpy()
        if missing.any():
            found = f"{int(missing.sum()):,} rows without a value in {', '.join(by)}"
            raise ReadError(f"{path} · obs", found, "the section of every row", "drop these rows")
        name = data.obs[list(by)].astype(str).agg("-".join, axis=1).to_numpy()
        return {one: self._section(data[name == one].copy(), path, one) for one in sorted(set(name))}

    def _section(self, data: Any, path: Path, section: str) -> Any:
        table = self._table(data, str(path))
        need_columns(data.obs, tuple(c for c in (*self.columns, self.label, self.area) if c), f"{path} · obs")
        annotation = data.obs[list(dict.fromkeys(self.columns))].copy()
        if self.label is not None:
            annotation[names.LABEL] = labels_of(data.obs[self.label])
        tissue = new_section(section)
        level = self.level or names.CELL
        if self.dissociated:
            add_cells(tissue, data.obs_names, annotation)
        else:
            xy = self._positions(data, path)
            um_per_unit = self._scale(data.obs, xy, path)
            area = None if self.area is None else numbers(data.obs[self.area], f"{path} · obs")
            radius = stated_radius(um_per_unit, self.diameter_um, area, path)
            add_level(tissue, level, data.obs_names, xy, radius, scale_affine(um_per_unit), annotation)
        add_observation(tissue, level, DENSE.get(self.values, self.modality), table)
        for modality, name in self.beside.items():
            add_observation(tissue, level, modality, self._beside(path.parent / name))
        return tissue

    def _beside(self, path: Path) -> Any:
        """Return the counts of another modality as they are named there."""
        check_hdf5(path)
        data = _open(path)
        faults = Faults(ReadError)
        check_counts(data, str(path), faults)
        faults.raise_if_any()
        var = pd.DataFrame({"gene_ids": data.var_names.astype(str)}, index=data.var_names.astype(str))
        return count_table(data.X, data.obs_names, var)

    def _table(self, data: Any, where: str) -> Any:
        """Return what was measured (row, feature): genes named alike everywhere, others as they are named there."""
        from scipy import sparse

        if self.layer is not None and self.layer not in data.layers:
            raise unknown_name(ReadError, where, "layer", self.layer, data.layers)
        chosen = data.X if self.layer is None else data.layers[self.layer]
        if chosen is None:
            raise ReadError(
                where, "no `X`", self.values, f"name a layer as `layer:` ({', '.join(data.layers) or 'none here'})"
            )
        faults = Faults(ReadError)
        data.X = chosen  # so that a message can name the layers beside it
        if self.values == "counts":
            check_counts(data, where, faults)
        else:
            check_measured(data, DENSE[self.values], where, faults)
        faults.raise_if_any()
        var = pd.DataFrame(index=data.var_names.astype(str))
        var["gene_ids"] = var.index
        if self.symbols is not None:
            need_columns(data.var, (self.symbols,), f"{where} · var")
            var.index = pd.Index(data.var[self.symbols].astype(str))
        elif "gene_ids" in data.var:
            var["gene_ids"] = data.var["gene_ids"].astype(str).to_numpy()
        if self.values == "counts" and self.modality == names.RNA:
            table = count_table(sparse.csr_matrix(chosen, dtype=np.float32), data.obs_names, var)
            return name_genes(table, where, duplicates=self.duplicates, organism=self.organism)
        twice = var.index[var.index.duplicated()]
        if len(twice):
            raise ReadError(f"{where} · var", f"feature {twice[0]!r} twice", "each once", "rename or drop one of them")
        if self.values == "counts":
            return count_table(sparse.csr_matrix(chosen, dtype=np.float32), data.obs_names, var)
        dense = chosen.toarray() if sparse.issparse(chosen) else np.asarray(chosen)
        return count_table(dense.astype(np.float32), data.obs_names, var)

    def _positions(self, data: Any, path: Path) -> np.ndarray:
        if self.spatial_key not in data.obsm:
            fault = str(unknown_name(ReadError, f"{path} · obsm", "positions", self.spatial_key, data.obsm))
            where, _, found = fault.partition(": ")
            raise ReadError(where, found, mend="of cells without positions say `dissociated: true`")
        xy = np.asarray(data.obsm[self.spatial_key])
        if xy.ndim != 2 or xy.shape[1] < 2 or xy.dtype.kind not in "iuf":
            raise ReadError(f"{path} · obsm[{self.spatial_key!r}]", f"{xy.dtype} {xy.shape}", "numbers (row, 2)")
        return xy[:, :2].astype(np.float64)

    def _scale(self, obs: pd.DataFrame, xy: np.ndarray, path: Path) -> float:
        scale = self.um_per_unit
        if scale is None and self.level == names.PATCH and set(ARRAY) <= set(obs):
            array = visium_array_um(*(numbers(obs[c], f"{path} · obs") for c in ARRAY))
            finite = np.isfinite(array).all(axis=1) & np.isfinite(xy).all(axis=1)
            scale = um_per_unit_of_array(array[finite], xy[finite], str(path))
        return stated_um_per_unit(scale, xy, path)


def _open(path: Path) -> Any:
    from anndata import OldFormatWarning, read_h5ad

    with warnings.catch_warnings():
        # Only says that the names of rows or genes repeat, which is judged later.
        warnings.filterwarnings("ignore", ".*names are not unique", UserWarning)
        warnings.simplefilter("ignore", OldFormatWarning)  # what older versions wrote is read all the same
        warnings.filterwarnings("ignore", "Moving element from|.*written with a previous version", FutureWarning)
        try:
            return read_h5ad(path)
        except Exception as error:  # whatever the damage leads to, deep inside h5py or anndata
            found = f"a file that cannot be read ({type(error).__name__}: {error})"
            raise ReadError(str(path), found, "an AnnData file", "copy it again from its source") from error
