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


def axes_told(features: Floats, target: Any, number: int) -> Floats:
    r"""Return the axes of targets (target, axis) along which features tell most of them: those of :math:`X X^+ Y`.

    Principal axes of the targets themselves hold what varies most, which of sparse counts is noise; what a regression
    tells lies beside them. With as many axes as there are features nothing that a linear rule tells is lost.

    Parameters
    ----------
    features
        Centred (row, feature).
    target
        Of the same rows (row, target), sparse or dense; centred by what features are.

    References
    ----------
    Izenman 1975, doi:10.1016/0047-259X(75)90042-1 (reduced-rank regression).
    """
    values, vectors = np.linalg.eigh(features.T @ features)
    kept = values > 1e-9 * max(float(values[-1]), 1e-300)
    told = np.asarray(target.T @ (features @ (vectors[:, kept] / np.sqrt(values[kept]))))
    sizes, turn = np.linalg.eigh(told.T @ told)
    most = np.argsort(-sizes)[:number]
    return np.linalg.qr(told @ turn[:, most])[0]


def along(x: Any, centre: Floats, axes: Floats) -> Floats:
    """Return the coordinates of rows about `centre` along `axes` (row, axis)."""
    return np.asarray(x @ axes) - centre @ axes
