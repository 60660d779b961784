"""Outlines of cells, from lists of corners."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

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
