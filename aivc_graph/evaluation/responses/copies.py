"""Cells that are copies of one another though not to the last digit: scaled, with a little noise, or a gene changed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.splits.leakage import row_hashes

Pairs = NDArray[np.intp]

MOST_COMPARED = 20_000
DIMENSIONS = 12
NEIGHBOURS = 8
COSINE = 0.9999
AGREEING = 0.9
LIKE = 1e-3
LEAST_COSINE = 0.8
CHUNK = 20_000


def labels_of(
    x: sparse.csr_matrix, genes: Iterable[object], seed: int = 0
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return a label of each cell of `x` (cell, gene), equal where two are copies, and who is rich enough to compare.

    All cells with ten seen genes are compared by a hash of their values, which finds exact copies. Of those that
    differ, at most 20,000, drawn by `seed`, are compared with their eight nearest in twelve random directions of unit
    profiles; two are copies by `are_copies`. No array of cells by cells is made.
    """
    hashes, rich = row_hashes(x, genes)
    _, one_of = np.unique(hashes, return_index=True)
    some = np.sort(one_of[rich[one_of]])
    if len(some) > MOST_COMPARED:
        some = np.sort(np.random.default_rng(seed).choice(some, MOST_COMPARED, replace=False))
    if len(some) < 2:
        return hashes, rich
    pairs = some[_near(_unit(x[some]), seed)]
    pairs = pairs[are_copies(x, pairs)]
    if len(pairs):
        names, code = np.unique(hashes, return_inverse=True)
        links = sparse.coo_matrix(
            (np.ones(len(pairs)), (code.reshape(-1)[pairs[:, 0]], code.reshape(-1)[pairs[:, 1]])),
            shape=(len(names), len(names)),
        )
        _, group = sparse.csgraph.connected_components(links, directed=False)
        first = np.full(group.max() + 1, len(names))
        np.minimum.at(first, group, np.arange(len(names)))
        hashes = names[first[group]][code.reshape(-1)]
    return hashes, rich


def are_copies(x: sparse.csr_matrix, pairs: Pairs) -> NDArray[np.bool_]:
    """Tell which `pairs` (pair, 2) of cells are copies.

    Nine tenths of the genes seen in either differ by one factor, to a thousandth, and the cosine is 0.8 at least; or
    the cosine of what sets the two apart from the mean cell is above 0.9999, as of a copy with a little noise. Leaving
    out the mean keeps deep cells, which are all alike in the main, apart.
    """
    found = np.zeros(len(pairs), bool)
    if not len(pairs):
        return found
    unit = _unit(x)
    mean = sparse.csr_matrix(unit.mean(axis=0))
    along = np.asarray((unit @ mean.T).todense()).ravel()
    apart = np.maximum(1 - 2 * along + float(mean.multiply(mean).sum()), 1e-12)
    for start in range(0, len(pairs), CHUNK):
        some = pairs[start : start + CHUNK]
        a, b = unit[some[:, 0]], unit[some[:, 1]]
        gap = a - b
        far = np.asarray(gap.multiply(gap).sum(axis=1)).ravel()
        near = far < 2 * (1 - COSINE) * np.sqrt(apart[some[:, 0]] * apart[some[:, 1]])
        for i in np.flatnonzero(~near & (far < 2 * (1 - LEAST_COSINE))):
            near[i] = _agree(x[some[i, 0]], x[some[i, 1]])
        found[start : start + CHUNK] = near
    return found


def _agree(one: sparse.csr_matrix, other: sparse.csr_matrix) -> bool:
    """Tell whether nine tenths of the genes seen in either cell are there in both, in one ratio."""
    shared, a, b = np.intersect1d(one.indices, other.indices, return_indices=True)
    seen = one.nnz + other.nnz - len(shared)
    if len(shared) < AGREEING * seen:
        return False
    ratio = np.log(np.abs(one.data[a] / other.data[b]))
    return bool((np.abs(ratio - np.median(ratio)) < LIKE).sum() >= AGREEING * seen)


def _unit(x: sparse.csr_matrix) -> sparse.csr_matrix:
    x = x.astype(np.float64)
    x.eliminate_zeros()
    x.sort_indices()
    length = np.sqrt(np.asarray(x.multiply(x).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(length, 1e-12)) @ x)


def _near(unit: sparse.csr_matrix, seed: int) -> Pairs:
    """Return pairs (pair, 2) of rows that are near one another in a few random directions."""
    from scipy.spatial import cKDTree

    directions = np.random.default_rng(seed).normal(size=(unit.shape[1], DIMENSIONS))
    points = np.asarray(unit @ directions)
    _, near = cKDTree(points).query(points, k=min(NEIGHBOURS + 1, len(points)))
    pairs = np.column_stack([np.repeat(np.arange(len(points)), near.shape[1]), near.ravel()])
    pairs.sort(axis=1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
