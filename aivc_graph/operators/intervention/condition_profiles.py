"""The profile of a condition from sums over its cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Counts are brought to this depth before the logarithm.
DEPTH = 5e4


def profiles_of(total: Floats, n_cells: Floats, counts: bool) -> Floats:
    r"""Return the profile of each row (row, gene).

    .. math:: b_p = \log(1 + D\,P_p / \textstyle\sum_g P_{pg}), \qquad P_p = \sum_{i \in C_p} y_i, \quad D = 5\cdot 10^4

    of counts; the mean over cells of log-normalised values.
    """
    if not counts:
        return total / np.maximum(n_cells, 1)[:, None]
    return np.log1p(DEPTH * total / np.maximum(total.sum(axis=1, keepdims=True), 1e-12))
