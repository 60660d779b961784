"""Ridge regression whose penalty is chosen on held-out groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

# Penalties a row, for features of unit spread.
RIDGE_GRID = np.logspace(-4, 3, 15)
# Matrices of so many features are decomposed sooner by one thread than by several that wait for each other.
SMALL = 500
Floats = NDArray[np.floating]


def beyond_noise(residual: Floats, noise: Floats | float) -> Floats:
    """Return the error (target,) of a map whose targets are told with `noise`, by its mean squared residual."""
    return np.asarray(np.maximum(residual - noise, 0.05 * residual + 1e-6))


def ridge(x: Floats, y: Floats, group: NDArray[np.integer]) -> Floats:
    """Return ridge coefficients (feature, target), no intercept; the penalty is the best on held-out groups.

    Every target counts alike, by its error as a share of its variance: a few loud targets would else ask for a penalty
    under which all others are noise. With one group, five consecutive stretches of rows (neighbouring tissue) stand in.
    """
    return ridge_and_gains(x, y, group)[0]


def ridge_and_gains(x: Floats, y: Floats, group: NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Return the coefficients of `ridge`, and what each group gains by them where it is held out (group,).

    The squared error saved beside telling zero, as a share of the variance of a row, mean over rows and targets.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if x.shape[1] <= SMALL else None, "blas"):
        return _ridge(x, y, group)


def _ridge(x: Floats, y: Floats, group: NDArray[np.integer]) -> tuple[Floats, Floats]:
    folds = group if len(np.unique(group)) > 1 else np.arange(len(x)) * 5 // max(len(x), 1)
    each = np.unique(folds)
    errors = np.zeros((len(each), len(RIDGE_GRID)))
    whole, cross = x.T @ x, x.T @ y
    variance = np.maximum((y**2).sum(axis=0), 1e-12)
    for own, fold in zip(errors, each, strict=True):
        out = folds == fold
        values, vectors = eigh(whole - x[out].T @ x[out])
        rotated, target = x[out] @ vectors, vectors.T @ (cross - x[out].T @ y[out])
        for i, penalty in enumerate(RIDGE_GRID * (~out).sum()):
            fitted = rotated @ (target / (np.maximum(values, 0) + penalty)[:, None])
            own[i] = (((y[out] - fitted) ** 2).sum(axis=0) / variance).sum()
    best = errors.sum(axis=0).argmin()
    untold = np.array([((y[folds == fold] ** 2).sum(axis=0) / variance).sum() for fold in each])
    rows = np.array([(folds == fold).sum() for fold in each])
    gains = (untold - errors[:, best]) * len(x) / np.maximum(rows * y.shape[1], 1)
    return np.linalg.solve(whole + RIDGE_GRID[best] * len(x) * np.eye(len(whole)), cross), gains
