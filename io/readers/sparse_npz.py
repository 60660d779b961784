"""A sparse matrix as scipy writes it (.npz), with the names of its rows and columns in files beside it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.io.any_rows import AbstractAnyRowsReader, no_positions
from aivc_graph.io.beside import lines_of, tables_beside
from aivc_graph.io.decode_budget import check_unpacked
from aivc_graph.io.matrices import check_sparse, count_table
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import Rows
from aivc_graph.io.tables import BARCODE_NAMES, need_columns, read_frame
from aivc_graph.tissue.naming import names_of

PARTS = {"format.npy", "shape.npy", "data.npy"}


@READERS.register("sparse_npz", expects="a sparse matrix of scipy (.npz); names of features and cells in tables beside")
class SparseNpzReader(AbstractAnyRowsReader):
    """Reads a sparse matrix of counts, whose features and cells are named by tables in the same order.

    Parameters
    ----------
    features
        Names of the features, one a line without a header.
    cells
        Table of the cells, one row each.
    barcode
        Its column that names a cell; by default one of the usual names, or the first.
    transpose
        Whether the rows of the matrix are features and its columns cells.

    See `aivc_graph.io.any_rows.AbstractAnyRowsReader` for the others; there are no positions, so `dissociated: true`.

    Raises
    ------
    ReadError
        Pickled content, a damaged file, names of another number than rows or columns.
    """

    features: Path = Field()
    cells: Path = Field()
    barcode: str | None = None
    transpose: bool = False

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if not path.is_file() or not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as held:
            return set(held.namelist()) >= PARTS

    @classmethod
    def options_beside(cls, path: Path) -> dict[str, Any]:
        """Return the tables of as many names as the matrix has rows and columns, and which way it stands."""
        if not cls.recognises(path):
            return {}
        with zipfile.ZipFile(path) as held, held.open("shape.npy") as shape:
            rows, columns = np.lib.format.read_array(shape, allow_pickle=False).tolist()
        lines = {table: lines_of(table) for table in tables_beside(path)}

        def first(number: int) -> Path | None:
            return next((table for table, there in lines.items() if there == number), None)

        for transpose, n_features, n_cells in ((True, rows, columns), (False, columns, rows)):
            features, cells = first(n_features), first(n_cells + 1)  # names alone, and a table under its header
            if features is not None and cells is not None:
                return {"features": features, "cells": cells} | ({"transpose": True} if transpose else {})
        return {}

    def rows(self, path: Path) -> Rows:
        counts = _matrix(path)
        counts = counts.T.tocsr() if self.transpose else counts
        features, cells = read_frame(self.features, header=False), read_frame(self.cells)
        for what, file, number, named in zip(
            ("cells", "features"), (self.cells, self.features), counts.shape, (len(cells), len(features)), strict=True
        ):
            if number != named:
                mend = "name the right file, or say `transpose: true` if the rows are features"
                raise ReadError(str(file), f"{named:,} names", f"{number:,}, one of each of the {what} of {path}", mend)
        key = self.barcode or next((name for name in BARCODE_NAMES if name in cells), cells.columns[0])
        need_columns(cells, (key,), str(self.cells))
        barcodes = pd.Index(names_of(cells[key]).astype(str))
        table = count_table(counts, barcodes, pd.DataFrame(index=pd.Index(features.iloc[:, 0].astype(str))))
        return Rows(barcodes, cells, no_positions(len(cells)), table, str(self.cells))


def _matrix(path: Path) -> Any:
    """Return the matrix as CSR of float32; nothing in it is pickled."""
    try:
        with zipfile.ZipFile(path) as held:
            check_unpacked(path, sum(one.file_size for one in held.infolist()), path.stat().st_size)
        found = sparse.load_npz(path)
        check_sparse(found, str(path))
        return sparse.csr_matrix(found, dtype=np.float32)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        mend = "copy it again from its source, or write it again by scipy.sparse.save_npz"
        raise ReadError(str(path), f"a damaged matrix ({error})", "one of scipy's, without pickle", mend) from error
