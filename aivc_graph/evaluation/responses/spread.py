"""Cells as points in few dimensions fitted on training cells alone, for distances between sets of cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial.distance import pdist

from aivc_graph.evaluation.responses.cells import Cells, log_normalised
from aivc_graph.operators.kernels import squared_distances

Floats = NDArray[np.floating]

DIMENSIONS = 50
FITTED_ON = 5_000
MOST_CELLS = 300
# Of a profile of counts, what a gene absent from the control may be multiplied by at most.
MOST_FOLD = 50.0
TINY = 1e-12


@dataclass(frozen=True)
class Space:
    """The cells of each row as `points`, an array (cell, dimension) a row, and the `bandwidths` of kernels on them."""

    points: tuple[Floats, ...]
    bandwidths: Floats

    @cached_property
    def within(self) -> Floats:
        """Mean distance and mean kernel between two different cells of each row (row, 2); none for one cell."""
        found = np.full((len(self.points), 2), np.nan)
        for i, x in enumerate(self.points):
            if len(x) > 1:
                apart = ~np.eye(len(x), dtype=bool)
                squares = squared_distances(x, x)[apart]
                found[i] = np.sqrt(squares).mean(), kernels(squares, self.bandwidths).mean()
        return found

    def between(self, other: Space) -> Iterator[Floats]:
        """Yield the squared distances of the cells of each row to those of the same row of another (cell, cell)."""
        for x, y in zip(self.points, other.points, strict=True):
            yield squared_distances(x, y)


@dataclass(frozen=True)
class Axes:
    """Principal axes `weights` (gene, dimension) of training cells around their `mean` (gene,); kernel `bandwidths`.

    The bandwidths are the median distance between training cells times 1/4, 1/2, 1, 2 and 4 (Gretton et al. 2012, JMLR
    13, 723–773).
    """

    weights: Floats
    mean: Floats
    bandwidths: Floats

    def project(self, logged: sparse.csr_matrix) -> Floats:
        """Return the points of cells (cell, dimension)."""
        return np.asarray(logged @ self.weights) - self.mean @ self.weights

    def of_rows(self, cells: Cells, rows: NDArray[np.integer]) -> tuple[Floats, ...]:
        """Return the points of each row, at most 300 cells of it drawn at random."""
        return tuple(self.project(cells.take(_drawn(cells.of(row), row)).logged()) for row in rows)

    def moved(self, cells: Cells, control: NDArray[np.integer], said: Floats, base: Floats) -> tuple[Floats, ...]:
        """Return the points of a predicted profile without cells: the control's cells, each moved as the profile says.

        Counts of a gene are multiplied by the fold change between the profiles `said` and `base` (row, gene), at most
        50; log-normalised values are shifted by their difference, which moves the mean by exactly that.
        """
        found: list[Floats] = []
        drawn = {one: cells.take(_drawn(cells.of(one), one)) for one in np.unique(control)}
        at = {one: self.project(own.logged()) for one, own in drawn.items()}
        for i, one in enumerate(control):
            if not cells.counts:
                found.append(at[one] + (said[i] - base[i]) @ self.weights)
                continue
            fold = np.expm1(np.maximum(said[i], 0)) / np.maximum(np.expm1(base[i]), 1e-9)
            counts = drawn[one].x.astype(np.float64)
            counts.data *= np.minimum(fold, MOST_FOLD)[counts.indices]
            found.append(self.project(log_normalised(counts)))
        return tuple(found)


def axes_of(cells: Cells, rows: NDArray[np.integer]) -> Axes:
    """Return the principal axes of the cells of training `rows`; of at most 5,000 of them, drawn at random."""
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    mine = np.flatnonzero(np.isin(cells.row, rows))
    rng = np.random.default_rng(0)
    logged = cells.take(np.sort(rng.permutation(mine)[:FITTED_ON])).logged().tocsr()
    k = min(DIMENSIONS, min(logged.shape) - 1)
    mean = np.asarray(logged.mean(axis=0)).ravel()
    spread = np.asarray(logged.multiply(logged).mean(axis=0)).ravel() - mean**2
    weights = np.eye(logged.shape[1], 1)
    if k >= 1 and spread.max() > TINY:  # else all cells are alike, and any axis is as good
        with threadpool_limits(1):
            weights = PCA(k, svd_solver="arpack", random_state=0).fit(logged).components_.T.copy()
    distances = pdist(Axes(weights, mean, np.ones(1)).project(logged[: 4 * MOST_CELLS]))
    median = float(np.median(distances)) if len(distances) else 0.0
    return Axes(weights, mean, (median or 1.0) * 2.0 ** np.arange(-2, 3))


def kernels(squares: Floats, bandwidths: Floats) -> Floats:
    """Return the mean over bandwidths s of exp(-d² / 2 s²) for squared distances d² of any shape."""
    found = np.zeros_like(squares)
    for s in bandwidths:
        found += np.exp(squares * (-0.5 / (s * s)))
    return found / len(bandwidths)


def _drawn(own: NDArray[np.intp], row: int) -> NDArray[np.intp]:
    return np.sort(np.random.default_rng([0, int(row)]).permutation(own)[:MOST_CELLS])
