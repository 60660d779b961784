"""Means and blocks of values of which each node has a part."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


def mean_there(values: Floats, there: Mask | None) -> Floats:
    """Return the mean of values (node, molecule) over the nodes that measured each molecule, zero where none did."""
    if there is None:
        return np.asarray(values.mean(axis=0))
    return np.asarray(np.where(there, values, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1))


def measured_alike(there: Mask) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the columns that the same rows measured, block by block, as (row,) and (column,)."""
    if there.all():
        return [tuple(map(np.arange, there.shape))]  # type: ignore[list-item]
    patterns, which = np.unique(there, axis=1, return_inverse=True)
    return [(np.flatnonzero(one), np.flatnonzero(which.ravel() == i)) for i, one in enumerate(patterns.T)]
