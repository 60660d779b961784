"""Cells that are copies of one another though not to the last digit: scaled, with a little noise, or a gene changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Pairs = NDArray[np.intp]

# A row of counts is a fingerprint only if it has enough in it; two cells with three molecules may be equal by chance.
MIN_FEATURES = 10
MOST_COMPARED = 20_000
DIMENSIONS = 12
NEIGHBOURS = 8
COSINE = 0.9999
AGREEING = 0.9
LIKE = 1e-3
LEAST_COSINE = 0.8
CHUNK = 20_000


def row_hashes(values: Any, features: Iterable[object]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return a 64-bit hash of each row, blind to the order of features, and which rows hold enough to be compared.

    Parameters
    ----------
    values
        Counts or expression (row, feature), sparse or dense.
    features
        Name of each feature.
    """
    counts = sparse.csr_matrix(values)
    counts.eliminate_zeros()
    digests = [hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in features]
    name_hash = np.frombuffer(b"".join(digests), dtype=np.uint64)
    value = counts.data.astype(np.float64).view(np.uint64)
    parts = _mix(name_hash[counts.indices] ^ _mix(value))
    ends = np.concatenate([np.zeros(1, np.uint64), np.cumsum(parts, dtype=np.uint64)])
    return ends[counts.indptr[1:]] - ends[counts.indptr[:-1]], np.diff(counts.indptr) >= MIN_FEATURES


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit words so that sums of them do not collide (the finaliser of SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def copy_labels(
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
