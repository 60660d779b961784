"""Counts and positions in plain tables: one CSV, TSV or Parquet file, or two."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.errors import ReadError
from aivc_graph.io.any_rows import TYPES, AbstractAnyRowsReader, no_positions
from aivc_graph.io.beside import has_positions, naming_the_same
from aivc_graph.io.intake import annotation_names
from aivc_graph.io.matrices import count_table
from aivc_graph.io.options import PositionOptions
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import HEIGHTS, Rows
from aivc_graph.io.tables import (
    BARCODE_NAMES,
    PARQUET_MAGIC,
    POSITION_NAMES,
    column_names,
    first_lines,
    is_number,
    magic_of,
    matrix_of,
    need_columns,
    numbers,
    position_columns,
    read_frame,
)
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.naming import names_of

# A table is taken for counts unasked only if it is this wide; lists of spots and cells have fewer columns.
MIN_GENES = 30
# What the names of rows are called, where they stand above a table of genes by rows.
COLUMN = "column"


@READERS.register("plain_table", expects="a CSV, TSV (.gz) or Parquet of counts, positions in it or in `positions:`")
class PlainTableReader(PositionOptions, AbstractAnyRowsReader):
    """Reads a table of counts, one row a cell or patch, joined to its positions by barcode.

    Every column of the counts that is not named by an option, does not stand in the positions as well, and is not
    plainly annotation (``fov``, ``leiden``, ``total_counts``), is a gene; what is left out is told.

    Parameters
    ----------
    positions
        Table of barcodes and positions, if they are not in the counts.
    metadata
        A further table of barcodes and of what else is known of the rows.
    barcode
        Column, or columns to join by ``_``, that name a row; by default one of the usual names, or the first.
    ignore
        Columns that are neither genes nor worth keeping.
    transpose
        Whether the rows of the counts are genes and the columns barcodes.

    See `aivc_graph.io.options.PositionOptions` for `x` and `y` and `aivc_graph.io.any_rows.AbstractAnyRowsReader` for
    the others; one of `columns` called ``label`` is the label.

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

    positions: Path | None = None
    metadata: Path | None = None
    barcode: str | tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    transpose: bool = False

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if not path.is_file():
            return False
        return has_positions(column_names(path)) and _may_be_counts(path)

    @classmethod
    def options_beside(cls, path: Path) -> dict[str, Any]:
        """Return the table that says where the rows lie, or what they are, and whether they stand as columns."""
        if not path.is_file() or cls.recognises(path) or not _may_be_counts(path):
            return {}
        beside = naming_the_same(path)
        if not beside:
            return {}
        (table, by_column), more = beside[0], [other for other, _ in beside[1:]]
        options: dict[str, Any] = {"positions": table} | ({"metadata": more[0]} if more else {})
        options |= {"transpose": True} if by_column else {}
        return options if has_positions(column_names(table)) else {**options, "dissociated": True}

    def rows(self, path: Path) -> Rows:
        text = (*self._keys, *((self.label,) if self.label else ()))
        counts = read_frame(path, text=text)
        if self.transpose and self.dissociated and self.positions is None:
            barcodes, genes, matrix = self._transposed(counts, path)
            nodes, xy, where = barcodes, no_positions(len(barcodes)), str(path)
            columns = pd.DataFrame({COLUMN: nodes})  # all that is known of a row, such as what was done to it
        else:
            places = counts if self.positions is None else read_frame(self.positions, text=text)
            where = str(self.positions or path)
            nodes = self._barcodes(places, where, must=self.positions is None)
            known = pd.DataFrame() if self.metadata is None else read_frame(self.metadata, text=text)
            absent = [one for one in self.named if not any(one in frame for frame in (places, counts, known))]
            axes = () if self.dissociated else self._axes(places, where, absent)
            xy = np.column_stack([numbers(places[one], where) for one in axes]) if axes else no_positions(len(nodes))
            barcodes, genes, matrix = self._counts(counts, places, axes, path)
            kept = places.loc[:, ~places.columns.isin(genes) | annotation_names(places.columns)]
            columns = kept.loc[:, ~kept.columns.duplicated()].reset_index(drop=True)
            columns = self._with_columns(columns, counts, nodes, path, self._named_in(columns, counts))
            if self.metadata is not None:
                more = tuple(str(one) for one in known.columns if one not in columns)
                columns = self._with_columns(columns, known, nodes, self.metadata, more)
        table = count_table(matrix, barcodes, pd.DataFrame(index=genes.astype(str)))
        return Rows(pd.Index(nodes), columns, xy, table, where)

    @property
    def count_options(self) -> dict[str, Any]:
        mend = "list them under `columns:` or `ignore:`, or drop them from the file"
        return {**super().count_options, "no_genes": mend}

    def _counts(
        self, counts: pd.DataFrame, places: pd.DataFrame, axes: tuple[str, ...], path: Path
    ) -> tuple[np.ndarray, pd.Index, Any]:
        """Return the names of rows and genes, and counts ``(row, gene)``."""
        if self.transpose:
            return self._transposed(counts, path)
        here = self._genes(counts, places, axes, str(path))
        genes, matrix = counts.columns[here], matrix_of(counts.iloc[:, here], str(path))
        if self.values == "counts":
            _check_whole(matrix, genes, str(path))
        return self._barcodes(counts, str(path), must=True), genes, matrix

    def _genes(self, counts: pd.DataFrame, places: pd.DataFrame, axes: tuple[str, ...], where: str) -> list[int]:
        """Return which columns of the counts are taken for genes."""
        if self.values == TYPES:
            return []
        named = {
            *self._keys,
            *self.columns,
            *self.ignore,
            *self.keep,
            self.area,
            self.label,
            *axes,
            *chain.from_iterable(pair for pair in POSITION_NAMES if set(pair) <= set(counts.columns)),
            *BARCODE_NAMES,
            *HEIGHTS,
            "",
        }
        here = [i for i, name in enumerate(counts.columns) if name not in named and not self._is_index(counts, i)]
        words = annotation_names(counts.columns)
        words[words] = [not _is_whole(counts.iloc[:, int(i)]) for i in np.flatnonzero(words)]
        if places is not counts:
            words |= counts.columns.isin(places.columns)
        left = [str(counts.columns[i]) for i in here if words[i]]
        if left:
            why = "are annotation" if places is counts else "are annotation, or stand in the positions as well"
            found = f"{len(left):,} columns left out that {why}: {', '.join(left[:6])}"
            doubt(where, found, "genes", "list them under `ignore:` or `columns:`")
        return [i for i in here if not words[i]]

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
        texts = [names_of(part) for part in parts]
        return np.array(["_".join(row) for row in zip(*texts, strict=True)], dtype=object)

    def _is_index(self, frame: pd.DataFrame, i: int) -> bool:
        """The first column is the rows' name where no other is."""
        return i == 0 and not self._keys and not any(name in frame.columns for name in BARCODE_NAMES)

    def _axes(self, frame: pd.DataFrame, where: str, absent: list[str]) -> tuple[str, str]:
        if self.x is not None and self.y is not None:
            need_columns(frame, (self.x, self.y, *absent), where)
            return self.x, self.y
        mend = "name them as `x:` and `y:`, or their file as `positions:`; of rows without any say `dissociated: true`"
        return position_columns(frame, where, mend)

    def _named_in(self, columns: pd.DataFrame, counts: pd.DataFrame) -> tuple[str, ...]:
        """Return the columns that the user named and that stand in the counts alone."""
        wanted = (*self.columns, self.label, self.area, *self.keep)
        return tuple(one for one in wanted if one and one not in columns and one in counts)

    def _with_columns(
        self, columns: pd.DataFrame, frame: pd.DataFrame, nodes: np.ndarray, path: Path, more: tuple[str, ...]
    ) -> pd.DataFrame:
        """Return `columns` with `more` of another table, in the order of the nodes."""
        need_columns(frame, more, str(path))
        names = self._barcodes(frame, str(path), must=True) if more else ()
        for name in more:
            column = pd.Series(frame[name].to_numpy(), index=names)
            columns[name] = column[~column.index.duplicated()].reindex(nodes).to_numpy()
        return columns

    def _transposed(self, counts: pd.DataFrame, path: Path) -> tuple[np.ndarray, pd.Index, Any]:
        if self.positions is None and not self.dissociated:
            raise ReadError(f"{path} · transpose", "genes as rows and no other table", "positions", "give `positions:`")
        matrix = matrix_of(counts.iloc[:, 1:], str(path)).T.tocsr()
        return counts.columns[1:].to_numpy().astype(str), pd.Index(counts.iloc[:, 0].astype(str)), matrix


def _is_whole(column: pd.Series) -> bool:
    """Say whether a column may hold counts."""
    return column.dtype.kind in "biuf" and bool((column.dropna() % 1 == 0).all())


def _may_be_counts(path: Path) -> bool:
    """Say by its head whether a table is wide enough for counts, and holds numbers."""
    if len(column_names(path)) < MIN_GENES:
        return False
    if magic_of(path) == PARQUET_MAGIC:
        return True
    lines = first_lines(path)
    return len(lines) > 1 and sum(is_number(field.replace(",", ".")) for field in lines[1]) >= MIN_GENES


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
