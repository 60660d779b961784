"""How far rows lie from each other, and ridge written as weights of the rows it learned from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Return squared distances between rows (row of a, row of b)."""
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0.0)


def ridge_shares(kernel: Floats, cross: Floats, penalty: float) -> Floats:
    r"""Return :math:`k(K+\lambda I)^{-1}`, the weight of each learned row in each answer (asked, row).

    Parameters
    ----------
    kernel, cross
        Likeness of learned rows to each other (row, row), and of asked ones to them (asked, row).

    References
    ----------
    Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634.
    """
    return np.linalg.solve(kernel + penalty * np.eye(len(kernel)), cross.T).T
