"""The leading axes of many features, without an array of features by features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
SWEEPS, SPARE = 4, 10


def leading_axes(x: Any, centre: Floats, number: int, seed: int = 0) -> Floats:
    """Return the first principal axes (feature, axis) of rows `x` (row, feature), sparse or dense, about `centre`.

    By subspace iteration on products of `x` with a block of vectors: sparse rows are never made dense. No more axes
    than there are rows less one, or features.

    References
    ----------
    Halko, Martinsson & Tropp 2011, doi:10.1137/090771806.
    """
    number = min(number, x.shape[0] - 1, x.shape[1])
    start = np.random.default_rng(seed).standard_normal((x.shape[1], min(number + SPARE, *x.shape)))
    axes = np.linalg.qr(start)[0]
    for _ in range(SWEEPS):
        told = np.linalg.qr(along(x, centre, axes))[0]
        axes = np.linalg.qr(np.asarray(x.T @ told) - np.outer(centre, told.sum(axis=0)))[0]
    turn = np.linalg.svd(along(x, centre, axes), full_matrices=False)[2].T
    return np.asarray((axes @ turn)[:, :number])


def along(x: Any, centre: Floats, axes: Floats) -> Floats:
    """Return the coordinates of rows about `centre` along `axes` (row, axis)."""
    return np.asarray(x @ axes) - centre @ axes
