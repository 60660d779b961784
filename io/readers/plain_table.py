"""Counts and positions in plain tables: one CSV, TSV or Parquet file, or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.genes import Duplicates, name_genes
from aivc_graph.io.lattice import stated_radius, stated_um_per_unit
from aivc_graph.io.matrices import count_table
from aivc_graph.io.reading import READERS, AbstractReader
from aivc_graph.io.tables import (
    BARCODE_NAMES,
    PARQUET_MAGIC,
    column_names,
    first_lines,
    labels_of,
    matrix_of,
    need_columns,
    numbers,
    read_frame,
)
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, add_observation, new_section

POSITION_NAMES = (
    ("aligned_x", "aligned_y"),
    ("x_centroid", "y_centroid"),
    ("center_x", "center_y"),
    ("CenterX_global_px", "CenterY_global_px"),
    ("x", "y"),
    ("X", "Y"),
)
# A table is taken for counts unasked only if it is this wide; lists of spots and cells have fewer columns.
MIN_GENES = 30


@READERS.register("plain_table", expects="a CSV, TSV (.gz) or Parquet of counts, positions in it or in `positions:`")
class PlainTableReader(AbstractReader):
    """Reads a table of counts, one row a cell or patch, joined to its positions by barcode.

    Every column of the counts that is not named by an option is a gene.

    Parameters
    ----------
    level
        What a row is.
    positions
        Table of barcodes and positions, if they are not in the counts.
    barcode
        Column, or columns to join by ``_``, that name a row; by default one of the usual names, or the first.
    x, y
        Columns of the position; by default a usual pair.
    um_per_unit
        Microns a unit of these.
    diameter_um
        Diameter of every node [µm], if there is no `area`.
    area
        Column of areas [µm²].
    columns
        Columns kept as annotation; one called ``label`` is the label.
    ignore
        Columns that are neither genes nor worth keeping.
    transpose
        Whether the rows of the counts are genes and the columns barcodes.
    duplicates, organism, strip_suffix
        See `aivc_graph.io.genes.name_genes` and `aivc_graph.tissue.section.add_observation`.

    Raises
    ------
    ReadError
        Missing columns, columns that are no counts, no pixel size, no size of a node.
    TissueError
        Duplicate barcodes; counts and positions of different sections.

    Examples
    --------
    >>> reader = PlainTableReader(level="cell", um_per_unit=1.0, area="cell_area")
    """

    level: Literal["cell", "patch"]
    positions: Path | None = None
    barcode: str | tuple[str, ...] | None = None
    x: str | None = None
    y: str | None = None
    um_per_unit: float | None = None
    diameter_um: float | None = None
    area: str | None = None
    columns: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    transpose: bool = False
    duplicates: Duplicates = "sum"
    organism: str | None = None
    strip_suffix: bool = False

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if not path.is_file():
            return False
        header = column_names(path)
        if len(header) < MIN_GENES or not any(set(pair) <= set(header) for pair in POSITION_NAMES):
            return False
        with path.open("rb") as file:
            if file.read(4) == PARQUET_MAGIC:
                return True
        lines = first_lines(path)
        return len(lines) > 1 and all(_is_number(field) for field in lines[1][-MIN_GENES // 2 :])

    def read(self, path: Path, section: str) -> Any:
        counts = read_frame(path, text=self._keys)
        places = counts if self.positions is None else read_frame(self.positions, text=self._keys)
        where = str(self.positions or path)
        nodes = self._barcodes(places, where, must=self.positions is None)
        x, y = self._axes(places, where)
        xy = np.column_stack([numbers(places[x], where), numbers(places[y], where)])
        um_per_unit = stated_um_per_unit(self.um_per_unit, xy, where)
        area = None
        if self.area is not None:
            need_columns(places, (self.area,), where)
            area = numbers(places[self.area], where)
        radius = stated_radius(um_per_unit, self.diameter_um, area, where)
        annotation = self._annotation(counts, places, nodes, path)
        if self.transpose:
            rows, genes, matrix = self._transposed(counts, path)
        else:
            rows = self._barcodes(counts, str(path), must=True)
            left = {*self._keys, *self.columns, *self.ignore, self.area, x, y, *BARCODE_NAMES, ""}
            here = [i for i, name in enumerate(counts.columns) if name not in left and not self._is_index(counts, i)]
            genes, matrix = counts.columns[here], matrix_of(counts.iloc[:, here], str(path))
            _check_whole(matrix, genes, str(path))
        table = count_table(matrix, rows, pd.DataFrame(index=genes.astype(str)))
        tissue = new_section(section)
        add_level(tissue, self.level, nodes, xy, radius, scale_affine(um_per_unit), annotation)
        named = name_genes(table, str(path), duplicates=self.duplicates, organism=self.organism)
        add_observation(tissue, self.level, names.RNA, named, strip_suffix=self.strip_suffix)
        return tissue

    @property
    def _keys(self) -> tuple[str, ...]:
        return (self.barcode,) if isinstance(self.barcode, str) else self.barcode or ()

    def _barcodes(self, frame: pd.DataFrame, where: str, *, must: bool) -> np.ndarray:
        """Return the names of the rows; `must` the columns the user named be there?"""
        if self._keys and (must or set(self._keys) <= set(frame.columns)):
            need_columns(frame, self._keys, where)
            keys = list(self._keys)
        else:
            keys = [next((name for name in BARCODE_NAMES if name in frame.columns), frame.columns[0])]
        parts = [frame.loc[:, frame.columns == key].iloc[:, 0] for key in keys]
        empty = np.logical_or.reduce([part.isna().to_numpy() for part in parts])
        if empty.any():
            found = f"{empty.sum():,} rows without a barcode, first row {np.flatnonzero(empty)[0] + 1}"
            raise ReadError(f"{where} · {', '.join(map(repr, keys))}", found, "a name each")
        joined = parts[0].astype(str)
        for part in parts[1:]:
            joined = joined + "_" + part.astype(str)
        return joined.to_numpy()

    def _is_index(self, frame: pd.DataFrame, i: int) -> bool:
        """The first column is the rows' name where no other is."""
        return i == 0 and not self._keys and not any(name in frame.columns for name in BARCODE_NAMES)

    def _axes(self, frame: pd.DataFrame, where: str) -> tuple[str, str]:
        if self.x is not None and self.y is not None:
            need_columns(frame, (self.x, self.y), where)
            return self.x, self.y
        for x, y in POSITION_NAMES:
            if x in frame.columns and y in frame.columns:
                need_columns(frame, (x, y), where)
                return x, y
        shown = ", ".join(map(str, frame.columns[:8]))
        raise ReadError(
            where, f"columns {shown} …", "x and y", "name them as `x:` and `y:`, or their file as `positions:`"
        )

    def _annotation(self, counts: pd.DataFrame, places: pd.DataFrame, nodes: np.ndarray, path: Path) -> pd.DataFrame:
        """Return the wanted columns in the order of the nodes, from the positions or else the counts."""
        annotation = pd.DataFrame(index=pd.RangeIndex(len(nodes)))
        for name in self.columns:
            if name in places.columns:
                annotation[name] = places[name].to_numpy()
                continue
            need_columns(counts, (name,), str(path))
            column = pd.Series(counts[name].to_numpy(), index=self._barcodes(counts, str(path), must=True))
            annotation[name] = column[~column.index.duplicated()].reindex(nodes).to_numpy()
        if names.LABEL in annotation:
            annotation[names.LABEL] = labels_of(annotation[names.LABEL])
        return annotation

    def _transposed(self, counts: pd.DataFrame, path: Path) -> tuple[np.ndarray, pd.Index, Any]:
        if self.positions is None:
            raise ReadError(f"{path} · transpose", "genes as rows and no other table", "positions", "give `positions:`")
        matrix = matrix_of(counts.iloc[:, 1:], str(path)).T.tocsr()
        return counts.columns[1:].to_numpy().astype(str), pd.Index(counts.iloc[:, 0].astype(str)), matrix


def _check_whole(matrix: Any, genes: pd.Index, where: str) -> None:
    """Name the few columns that hold no counts: they are annotation taken for genes."""
    entries = matrix.tocoo()
    bad = np.unique(entries.col[np.isfinite(entries.data) & (entries.data != np.floor(entries.data))])
    if 0 < len(bad) <= max(1, len(genes) // 20):
        shown = ", ".join(repr(genes[i]) for i in bad[:5])
        mend = "list them under `columns:` or `ignore:` if they are no genes"
        raise ReadError(
            where, f"{len(bad):,} of {len(genes):,} columns with values that are not whole: {shown}", "counts", mend
        )


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
