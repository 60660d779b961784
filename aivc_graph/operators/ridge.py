"""Ridge regression whose penalty is chosen on held-out groups."""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from aivc_graph.operators.subspace import leading_axes

# Penalties a row, for features of unit spread.
RIDGE_GRID = np.logspace(-4, 3, 15)
# Matrices of so many features are decomposed sooner by one thread than by several that wait for each other.
SMALL = 500
# Axes that targets share, each with a penalty of its own; settled on a simulated study, donors left out.
SHARED_AXES = 20
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
    with _threads(x):
        variance = np.maximum((y**2).sum(axis=0), 1e-12)
        errors = (_errors(x, y, group) / variance).sum(axis=2)
        best = errors.sum(axis=0).argmin()
        whole, penalty = x.T @ x, RIDGE_GRID[best] * len(x)
        found = np.linalg.solve(whole + penalty * np.eye(len(whole)), x.T @ y)
    _, fold, rows = np.unique(_folds(group), return_inverse=True, return_counts=True)
    untold = np.bincount(fold, (y**2 / variance).sum(axis=1))
    return found, (untold - errors[:, best]) * len(x) / (rows * max(y.shape[1], 1))


def ridge_by_axes(x: Floats, y: Floats, group: NDArray[np.integer]) -> Floats:
    r"""Return ridge coefficients (feature, target) as `ridge` does, but with a penalty for each axis targets share.

    .. math:: \hat B = \sum_k \hat B_{\lambda_k}(Y v_k)\, v_k^\top + \hat B_{\lambda_0}(Y - Y V V^\top)

    with v the first principal axes of targets of unit spread, each penalty the best on held-out groups, and the last
    one common to what is left of every target. One penalty for all is chosen by what each of many targets has for
    itself, mostly noise, and shrinks what they share, and with it their sums, as noise; where all penalties are alike
    this is `ridge`. Axes are of targets alone: those that features tell lie as the noise of rows left out does.

    References
    ----------
    Brown & Zidek 1980, doi:10.1214/aos/1176344891 (multivariate ridge); Breiman & Friedman 1997,
    doi:10.1111/1467-9868.00054.
    """
    with _threads(x):
        spread = np.maximum(y.std(axis=0), 1e-6)
        unit = y / spread
        axes = leading_axes(unit, np.zeros(y.shape[1]), SHARED_AXES)
        shared = unit @ axes
        rest = unit - shared @ axes.T
        errors = _errors(x, np.hstack([shared, rest]), group).sum(axis=0)
        common = (errors[:, shared.shape[1] :] / np.maximum((rest**2).sum(axis=0), 1e-12)).sum(axis=1)
        best = RIDGE_GRID[errors[:, : shared.shape[1]].argmin(axis=0)]
        told = _solved(x, shared, best) @ axes.T + _solved(x, rest, RIDGE_GRID[common.argmin()])
        return np.asarray(told * spread)


def _solved(x: Floats, y: Floats, penalty: Floats) -> Floats:
    """Return ridge coefficients (feature, target), with a penalty a row: one, or one for each target."""
    values, vectors = eigh(x.T @ x)
    turned = vectors.T @ (x.T @ y)
    return np.asarray(vectors @ (turned / (np.maximum(values, 0)[:, None] + len(x) * penalty)))


def _threads(x: Floats) -> AbstractContextManager[object]:
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1 if x.shape[1] <= SMALL else None, "blas")


def _folds(group: NDArray[np.integer]) -> NDArray[np.integer]:
    return group if len(np.unique(group)) > 1 else np.arange(len(group)) * 5 // max(len(group), 1)


def _errors(x: Floats, y: Floats, group: NDArray[np.integer]) -> Floats:
    """Return the squared error of each penalty on groups left out in turn (group, penalty, target)."""
    folds = _folds(group)
    each = np.unique(folds)
    errors = np.zeros((len(each), len(RIDGE_GRID), y.shape[1]))
    whole, cross = x.T @ x, x.T @ y
    for own, fold in zip(errors, each, strict=True):
        out = folds == fold
        values, vectors = eigh(whole - x[out].T @ x[out])
        rotated, target = x[out] @ vectors, vectors.T @ (cross - x[out].T @ y[out])
        for i, penalty in enumerate(RIDGE_GRID * (~out).sum()):
            fitted = rotated @ (target / (np.maximum(values, 0) + penalty)[:, None])
            own[i] = ((y[out] - fitted) ** 2).sum(axis=0)
    return errors
