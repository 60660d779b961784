"""Loom files, read straight from HDF5."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.genes import Duplicates, name_genes
from aivc_graph.io.hdf5_guard import check_hdf5, hdf5_names
from aivc_graph.io.lattice import stated_radius, stated_um_per_unit
from aivc_graph.io.matrices import count_table
from aivc_graph.io.reading import READERS, AbstractReader
from aivc_graph.io.tables import labels_of, need_columns, numbers
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, add_observation, new_section

log = logging.getLogger(__name__)

_GENES_AT_ONCE = 512


@READERS.register("loom", expects="a loom file: HDF5 with matrix, row_attrs and col_attrs")
class LoomReader(AbstractReader):
    """Reads a loom file, whose columns are the cells, as one level.

    osmFISH of the mouse somatosensory cortex (doi:10.1038/s41592-018-0175-z) has 0.065 µm a pixel: its ``size_um2`` is
    0.065² times its ``size_pix`` in every cell.

    Parameters
    ----------
    level
        What a column is.
    x, y
        Column attributes of the position.
    um_per_unit
        Microns a unit of these.
    barcode, gene
        Attributes that name columns and rows.
    diameter_um
        Diameter of every node [µm], if there is no `area`.
    area
        Column attribute with areas [µm²].
    label
        Column attribute that becomes the label.
    columns
        Column attributes kept as annotation.
    keep
        Column attributes and the value they must have, such as ``{Valid: 1}``; other cells are left out and counted.
    layer
        Layer of the raw counts; by default the main matrix.
    duplicates, organism
        See `aivc_graph.io.genes.name_genes`.

    Raises
    ------
    ReadError
        Pickled, opaque or linked content; a damaged file; a missing attribute.
    """

    level: Literal["cell", "patch"] = "cell"
    x: str = "X"
    y: str = "Y"
    um_per_unit: float | None = None
    barcode: str = "CellID"
    gene: str = "Gene"
    diameter_um: float | None = None
    area: str | None = None
    label: str | None = None
    columns: tuple[str, ...] = ()
    keep: dict[str, int | float | str] = Field(default_factory=dict)
    layer: str | None = None
    duplicates: Duplicates = "sum"
    organism: str | None = None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return {"matrix", "row_attrs", "col_attrs"} <= hdf5_names(path)

    def read(self, path: Path, section: str) -> Any:
        check_hdf5(path)
        try:
            cells, genes, counts = self._parts(path)
        except (OSError, ValueError) as error:
            raise ReadError(
                str(path), f"a damaged loom file ({error})", mend="copy it again from its source"
            ) from error
        where = f"{path} · col_attrs"
        wanted = (self.barcode, self.x, self.y, self.area, self.label, *self.columns, *self.keep)
        need_columns(cells, tuple(name for name in wanted if name), where)
        need_columns(genes, (self.gene,), f"{path} · row_attrs")
        kept = self._kept(cells, where)
        cells = cells[kept]
        xy = np.column_stack([numbers(cells[self.x], where), numbers(cells[self.y], where)])
        um_per_unit = stated_um_per_unit(self.um_per_unit, xy, path)
        area = None if self.area is None else numbers(cells[self.area], where)
        barcodes, var = cells[self.barcode].astype(str), pd.DataFrame(index=pd.Index(genes[self.gene].astype(str)))
        table = count_table(counts[kept], barcodes, var)
        annotation = cells[list(self.columns)]
        if self.label is not None:
            annotation = annotation.assign(**{names.LABEL: labels_of(cells[self.label])})
        tissue = new_section(section)
        radius = stated_radius(um_per_unit, self.diameter_um, area, path)
        add_level(tissue, self.level, barcodes, xy, radius, scale_affine(um_per_unit), annotation)
        named = name_genes(table, str(path), duplicates=self.duplicates, organism=self.organism)
        add_observation(tissue, self.level, names.RNA, named)
        return tissue

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

    def _kept(self, cells: pd.DataFrame, where: str) -> np.ndarray:
        kept = np.ones(len(cells), bool)
        for name, value in self.keep.items():
            kept &= (cells[name] == value).to_numpy()
        if not kept.any():
            wanted = ", ".join(f"{name} = {value!r}" for name, value in self.keep.items())
            raise ReadError(where, f"none of {len(cells):,} cells with {wanted}", "some", "check `keep:`")
        log.info("%s: %s of %s cells kept", where, f"{kept.sum():,}", f"{len(cells):,}")
        return kept


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
