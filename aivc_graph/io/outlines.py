"""Outlines of cells, from lists of corners."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from aivc_graph.errors import ReadError
from aivc_graph.io.tables import PARQUET_MAGIC, column_names, magic_of, need_columns, numbers, read_frame
from aivc_graph.tissue.naming import names_of

_LEAST_CORNERS = 3


def polygons_of(cells: ArrayLike, corners: NDArray[np.float64]) -> tuple[NDArray[np.str_], NDArray[np.object_]]:
    """Return the cells that have an outline ``(cell,)`` and their outlines, in the order they first appear.

    Corners without a finite place are left out, and so are cells of fewer than three corners.

    Parameters
    ----------
    cells
        The cell of each corner ``(corner,)``.
    corners
        Its place ``(corner, 2)``; the corners of a cell follow each other around it.
    """
    import shapely

    finite = np.isfinite(corners).all(axis=1)
    row, found = pd.factorize(np.asarray(cells, dtype=object)[finite])
    enough = np.bincount(row, minlength=len(found)) >= _LEAST_CORNERS
    by_cell = np.argsort(row, kind="stable")
    by_cell = by_cell[enough[row[by_cell]]]
    place = np.cumsum(enough) - 1
    rings = shapely.linearrings(corners[finite][by_cell], indices=place[row[by_cell]])
    return found[enough].astype(str), shapely.polygons(rings)


def read_outlines(path: Path, cell: str, corner: tuple[str, str]) -> tuple[NDArray[np.str_], NDArray[np.object_]]:
    """Return the cells and the outlines of a list of corners, a row each, as `polygons_of` does.

    Parameters
    ----------
    cell, corner
        Columns of the cell, and of x and y.

    Raises
    ------
    ReadError
        No such file, damaged, a missing column.
    """
    need_columns(pd.DataFrame(columns=column_names(path)), (cell, *corner), str(path))
    table = _corners(path, cell, corner)
    row, names = pd.factorize(table[cell])
    xy = np.column_stack([numbers(table[name], str(path)) for name in corner])
    found, outlines = polygons_of(row, xy)
    return names_of(pd.Series(names))[found.astype(np.int64)].astype(str), outlines


def _corners(path: Path, cell: str, corner: tuple[str, str]) -> pd.DataFrame:
    """Return the columns of a list of corners; of Parquet each name once, for there are many corners a cell."""
    from pyarrow import ArrowException, parquet

    if magic_of(path) != PARQUET_MAGIC:
        return read_frame(path, text=(cell,))
    try:
        return parquet.read_table(path, columns=[cell, *corner], read_dictionary=[cell]).to_pandas(ignore_metadata=True)
    except (ArrowException, OSError) as error:
        raise ReadError(str(path), f"a damaged Parquet file ({error})", mend="copy it again from its source") from error
