"""Rows of many, evenly spaced: a part that stands for the whole, the same each time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly(n: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` out of `n` rows, evenly spaced over their order.

    Examples
    --------
    >>> evenly(10, 4).tolist(), evenly(3, 4).tolist()
    ([0, 3, 6, 9], [0, 1, 2])
    """
    return np.linspace(0, n - 1, min(n, most)).astype(np.int64)
