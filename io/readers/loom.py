"""Loom files, read straight from HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from aivc_graph.errors import ReadError
from aivc_graph.io.any_rows import NO_PLACES, AbstractAnyRowsReader, NoPositions, no_positions
from aivc_graph.io.hdf5_guard import check_hdf5, hdf5_names
from aivc_graph.io.matrices import count_table
from aivc_graph.io.options import LayerOptions, PositionOptions
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import Rows
from aivc_graph.io.tables import POSITION_NAMES, need_columns, numbers, position_columns
from aivc_graph.tissue.naming import names_of

_GENES_AT_ONCE = 512
_BARCODES = ("CellID", "obs_names", "cell_names", "Barcode", "barcode")
_GENES, _IDS = ("Gene", "var_names", "gene_names", "gene_symbols", "Accession"), "Accession"


@READERS.register("loom", expects="a loom file: HDF5 with matrix, row_attrs and col_attrs")
class LoomReader(LayerOptions, PositionOptions, AbstractAnyRowsReader):
    """Reads a loom file, whose columns are the cells, as one level.

    osmFISH of the mouse somatosensory cortex (doi:10.1038/s41592-018-0175-z) has 0.065 µm a pixel: its ``size_um2`` is
    0.065² times its ``size_pix`` in every cell.

    Parameters
    ----------
    x, y
        Column attributes of the position; by default ``X``, ``Y``, or another usual pair.
    barcode, gene
        Attributes that name columns and rows; by default ``CellID`` and ``Gene``, or what scanpy and R call them.

    See `aivc_graph.io.any_rows.AbstractAnyRowsReader` and `aivc_graph.io.options.LayerOptions` for the others.

    Raises
    ------
    ReadError
        Pickled, opaque or linked content; a damaged file; a missing attribute.
    """

    level: Literal["cell", "patch"] | None = "cell"
    barcode: str | None = None
    gene: str | None = None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return {"matrix", "row_attrs", "col_attrs"} <= hdf5_names(path)

    def rows(self, path: Path) -> Rows:
        check_hdf5(path)
        try:
            cells, genes, counts = self._parts(path)
        except (OSError, ValueError) as error:
            raise ReadError(
                str(path), f"a damaged loom file ({error})", mend="copy it again from its source"
            ) from error
        where = f"{path} · col_attrs"
        barcode = _usual(cells, self.barcode, _BARCODES, where, "barcode")
        gene = _usual(genes, self.gene, _GENES, f"{path} · row_attrs", "gene")
        barcodes = pd.Index(names_of(cells[barcode]).astype(str))
        var = pd.DataFrame(index=pd.Index(genes[gene].astype(str)))
        if _IDS in genes:
            var["gene_ids"] = genes[_IDS].astype(str).to_numpy()
        xy = no_positions(len(cells)) if self.dissociated else self._positions(cells, where)
        return Rows(barcodes, cells, xy, count_table(counts, barcodes, var), where, _layers(path))

    def _positions(self, cells: pd.DataFrame, where: str) -> np.ndarray:
        axes = (str(self.x), str(self.y))
        if self.x is None:
            if not any(set(pair) & set(cells) for pair in POSITION_NAMES):
                mend = f"name them as `x:` and `y:`; {NO_PLACES}"
                raise NoPositions(where, f"attributes {', '.join(map(str, cells))}", "X and Y", mend)
            axes = position_columns(cells, where, "name them as `x:` and `y:`")
        need_columns(cells, axes, where)
        return np.column_stack([numbers(cells[axis], where) for axis in axes])

    def _parts(self, path: Path) -> tuple[pd.DataFrame, pd.DataFrame, Any]:
        """Return the attributes of cells and genes, and counts ``(cell, gene)`` as CSR float32."""
        import h5py
        from scipy import sparse

        with h5py.File(path) as file:
            name = "matrix" if self.layer is None else f"layers/{self.layer}"
            if name not in file:
                there = ", ".join(file.get("layers", {})) or "none here"
                raise ReadError(f"{path} · {name}", "no such layer", mend=f"name one as `layer:` (layers: {there})")
            matrix = file[name]
            cells, genes = _attributes(file["col_attrs"]), _attributes(file["row_attrs"])
            if matrix.shape != (len(genes), len(cells)):
                found = f"{matrix.shape} values for {len(genes):,} genes and {len(cells):,} cells"
                raise ReadError(f"{path} · {name}", found, "a value each", "copy the file again from its source")
            steps = range(0, max(len(genes), 1), _GENES_AT_ONCE)
            blocks = [sparse.csr_matrix(matrix[i : i + _GENES_AT_ONCE].astype(np.float32)) for i in steps]
        return cells, genes, sparse.vstack(blocks).T.tocsr()


def _usual(table: pd.DataFrame, named: str | None, usual: tuple[str, ...], where: str, option: str) -> str:
    """Return the attribute that names rows or columns: as the user says, or a usual one."""
    if named is not None:
        need_columns(table, (named,), where)
        return named
    found = next((name for name in usual if name in table), None)
    if found is None:
        there = ", ".join(map(str, table)) or "none"
        raise ReadError(where, f"attributes {there}", f"one of {', '.join(usual)}", f"name it as `{option}:`")
    return found


def _layers(path: Path) -> tuple[str, ...]:
    import h5py

    with h5py.File(path) as file:
        return tuple(file.get("layers", {}))


def _attributes(group: Any) -> pd.DataFrame:
    """Return the one-dimensional attributes as columns, text decoded."""
    import h5py

    columns = {}
    for name, item in group.items():
        if isinstance(item, h5py.Dataset) and item.ndim == 1:
            text = item.dtype.kind == "S" or h5py.check_string_dtype(item.dtype) is not None
            columns[name] = item.asstr(errors="replace")[()].astype(object) if text else item[()]
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise ReadError(str(group.name), f"attributes of lengths {sorted(lengths)}", "one length")
    return pd.DataFrame(columns)
