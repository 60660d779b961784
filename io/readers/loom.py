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
from aivc_graph.io.options import LayerOptions
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import Rows
from aivc_graph.io.tables import names_of, need_columns, numbers

_GENES_AT_ONCE = 512


@READERS.register("loom", expects="a loom file: HDF5 with matrix, row_attrs and col_attrs")
class LoomReader(LayerOptions, AbstractAnyRowsReader):
    """Reads a loom file, whose columns are the cells, as one level.

    osmFISH of the mouse somatosensory cortex (doi:10.1038/s41592-018-0175-z) has 0.065 µm a pixel: its ``size_um2`` is
    0.065² times its ``size_pix`` in every cell.

    Parameters
    ----------
    x, y
        Column attributes of the position.
    barcode, gene
        Attributes that name columns and rows.

    See `aivc_graph.io.any_rows.AbstractAnyRowsReader` and `aivc_graph.io.options.LayerOptions` for the others.

    Raises
    ------
    ReadError
        Pickled, opaque or linked content; a damaged file; a missing attribute.
    """

    level: Literal["cell", "patch"] | None = "cell"
    x: str = "X"
    y: str = "Y"
    barcode: str = "CellID"
    gene: str = "Gene"

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
        need_columns(cells, (self.barcode,), where)
        need_columns(genes, (self.gene,), f"{path} · row_attrs")
        barcodes = pd.Index(names_of(cells[self.barcode]).astype(str))
        var = pd.DataFrame(index=pd.Index(genes[self.gene].astype(str)))
        xy = no_positions(len(cells)) if self.dissociated else self._positions(cells, where)
        return Rows(barcodes, cells, xy, count_table(counts, barcodes, var), where, _layers(path))

    def _positions(self, cells: pd.DataFrame, where: str) -> np.ndarray:
        if not {self.x, self.y} & set(cells):
            found = f"no attribute {self.x!r} or {self.y!r}"
            mend = f"name them as `x:` and `y:`; {NO_PLACES}"
            raise NoPositions(where, found, "positions", mend)
        need_columns(cells, (self.x, self.y), where)
        return np.column_stack([numbers(cells[self.x], where), numbers(cells[self.y], where)])

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
