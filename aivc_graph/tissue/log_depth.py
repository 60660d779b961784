"""At what depth logarithms of expression were taken: log1p of counts brought to so many a row says it of itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

ALIKE, SAME, NEAR = 0.01, 0.1, 1.5


class Depth(NamedTuple):
    """Median over rows of what their logarithms undone add up to, and whether it is one number (to 1 %) in all."""

    total: float
    stated: bool

    def agrees(self, other: Depth, near: float = NEAR) -> bool:
        """Say whether two tables can be of one depth: within 10 % where both state it, else a factor of `near`."""
        most = 1 + SAME if self.stated and other.stated else near
        return 1 / most <= self.total / other.total <= most


def log_depth(values: Any) -> Depth | None:
    r"""Return the depth of logarithms ``(row, gene)``, :math:`\sum_g (e^{x_g} - 1)`; `None` where they hold nothing.

    Examples
    --------
    >>> import numpy as np
    >>> log_depth(np.log1p([[1.0, 3.0], [2.0, 2.0]]))
    Depth(total=4.0, stated=True)
    """
    if sparse.issparse(values):
        undone = values.copy().astype(np.float64)
        undone.data = np.expm1(undone.data)
    else:
        undone = np.expm1(np.asarray(values, np.float64))
    totals = np.asarray(undone.sum(axis=1)).ravel()
    totals = totals[np.isfinite(totals) & (totals > 0)]
    if not len(totals):
        return None
    middle = float(np.median(totals))
    stated = len(totals) > 1 and bool((np.abs(totals - middle) <= ALIKE * middle).all())
    return Depth(round(middle, 6), stated)
