"""From features of a row to its target: ridge, ridge with a Gaussian kernel, nearest rows; as functions of arrays.

`x`, `y` are features and targets to learn from (row, f) and (row, k), `asked` the features to answer for (asked, f).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from aivc_graph.operators.kernels import Floats, ridge_shares, squared_distances
from aivc_graph.tissue.evenly import evenly

PENALTIES = tuple(np.logspace(-3, 4, 12))
COMPONENTS = 50
NEIGHBOURS = 25
MOST_TRAINED = 4_000


def ridge_path(x: Floats, y: Floats, asked: Floats, penalties: Sequence[float]) -> Iterator[Floats]:
    """Yield what ridge without intercept answers (asked, k), penalty by penalty.

    References
    ----------
    Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634.
    """
    wide = len(x) < x.shape[1]
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    told = vectors.T @ (y if wide else x.T @ y)
    turned = asked @ (x.T @ vectors if wide else vectors)
    for penalty in penalties:
        yield turned @ (told / (np.maximum(values, 0.0) + penalty)[:, None])


def chosen_penalty(x: Floats, y: Floats, group: np.ndarray) -> float:
    """Return the penalty of ridge with the least squared error on groups (row,) left out in turn."""
    errors = np.zeros(len(PENALTIES))
    for one in np.unique(group):
        out = group == one
        path = ridge_path(x[~out], y[~out], x[out], PENALTIES)
        errors += [((said - y[out]) ** 2).sum() for said in path]
    return float(PENALTIES[errors.argmin()])


def principal_axes(x: Floats) -> Floats:
    """Return the first fifty axes (f, component) of features that are centred."""
    values, vectors = np.linalg.eigh(x.T @ x)
    return np.asarray(vectors[:, np.argsort(-values)[:COMPONENTS]])


def gaussian_ridge(x: Floats, y: Floats, asked: Floats, penalties: Sequence[float]) -> list[Floats]:
    """Return kernel ridge around the mean (asked, k) for each penalty; of at most 4,000 rows, evenly taken.

    The kernel is Gaussian, as wide as the median distance between rows.
    """
    some = evenly(len(x), MOST_TRAINED)
    x, y = x[some], y[some]
    squares = squared_distances(x, x)
    width = float(np.median(squares)) or 1.0
    kernel, cross = np.exp(-squares / width), np.exp(-squared_distances(asked, x) / width)
    mean = y.mean(axis=0)
    return [mean + ridge_shares(kernel, cross, penalty) @ (y - mean) for penalty in penalties]


def nearest_mean(x: Floats, y: Floats, asked: Floats) -> Floats:
    """Return the mean over the 25 nearest rows (asked, k)."""
    from scipy.spatial import cKDTree

    near = cKDTree(x).query(asked, k=NEIGHBOURS)[1]
    return np.asarray(y[near].mean(axis=1))
