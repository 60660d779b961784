"""Whether asked cells are of a kind that a section holds: how far their counts lie from those of nodes like them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.operators.placing import MOST_COMPARED, Rows, most, pieces, unit

Floats = NDArray[np.floating[Any]]
# Nodes like a cell that say what it should have counted, beside so many counts of the mean profile.
LIKE, COMMON_COUNTS = 20, 50.0
# Asked cells alike, which bear each other out.
ALIKE = 15
# Nodes that say what is usual, at most, hidden by fifths at the most; how many as deep one cell is compared with.
MOST_HIDDEN, FOLDS, AS_DEEP = 2_000, 5, 200
# Kinds of asked cells, over which a platform's effect on a gene is the median; axes that tell them; counts for none.
KINDS, KIND_AXES, NO_EFFECT = 8, 20, 10.0
# A cell fits nowhere if fewer of the section's own fit as badly.
LEAST_FIT = 0.02


@dataclass(frozen=True)
class Support:
    r"""What cells of a section look like beside the nodes like them.

    A cell is told by the Poisson deviance of its counts from the mean profile of the twenty nodes most like it, as a
    rank among hidden nodes of its depth. Ranks, as normal scores, are averaged over the fifteen asked cells most like
    it: a type that the section lacks comes as many cells, each of which differs from its nearest kin by few counts.

    `axes`: what brings coordinates to like spread (axis,); `own` (node, axis) of unit length; `counts` (node, gene);
    `usual`: log depth and deviance of hidden nodes (2, node), by depth; `scores`: their averaged scores, ascending.
    """

    axes: Floats
    own: Floats
    counts: sparse.csr_matrix
    usual: Floats
    scores: Floats

    def fit(self, x: Floats, counts: sparse.csr_matrix, seed: int = 0) -> Floats:
        """Return how many of the section's own nodes fit the rest of it as badly as each cell does (cell,).

        Parameters
        ----------
        x, counts
            Coordinates (cell, axis) and counts (cell, gene) of the cells of one platform.
        """
        told = unit(x * self.axes).astype(np.float32)
        like, effect = _most_like(told, self.own, LIKE), np.ones(counts.shape[1])
        if len(x) >= KINDS * ALIKE:
            effect = _of_platform(like, self.counts, counts, x[:, :KIND_AXES], seed)
        deviance = _deviance(counts, like, self.counts, effect)
        score = _averaged(_score(deviance, _log_depth(counts), self.usual), told, seed)
        return np.asarray((1 + np.searchsorted(self.scores, score, side="right")) / (len(self.scores) + 1))


def fit_support(x: Floats, counts: sparse.csr_matrix, seed: int = 0) -> Support:
    """Return what is usual in a section, by nodes hidden from the others in turn.

    Parameters
    ----------
    x, counts
        Coordinates (node, axis) and counts (node, gene) of its nodes.
    """
    axes = 1 / np.sqrt(np.maximum(x.std(axis=0), 1e-9))
    own = unit(x * axes).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(x))[: MOST_COMPARED + MOST_HIDDEN]
    hidden, kept = order[:MOST_HIDDEN], np.sort(order[:MOST_COMPARED])
    deviance = np.zeros(len(hidden))
    for fold in np.array_split(np.arange(len(hidden)), -(-FOLDS * len(hidden) // len(order))):
        rest = np.setdiff1d(order, hidden[fold])
        like = _most_like(own[hidden[fold]], own[rest], LIKE)
        deviance[fold] = _deviance(counts[hidden[fold]], like, counts[rest])
    depth = _log_depth(counts[hidden])
    usual = np.stack([depth, deviance])[:, np.argsort(depth, kind="stable")]
    scores = np.sort(_averaged(_score(deviance, depth, usual), own[hidden], seed))
    return Support(axes, own[kept], counts[kept], usual, scores)


def _log_depth(counts: sparse.csr_matrix) -> Floats:
    return np.log1p(np.asarray(counts.sum(axis=1), np.float64).ravel())


def _expected(like: Rows, counts: sparse.csr_matrix) -> Iterator[tuple[slice, Floats]]:
    """Yield cells, piece by piece, and the profile (cell, gene) of the nodes like each, which sums to one."""
    total = np.asarray(counts.sum(axis=0), np.float64).ravel() + 1.0
    common = COMMON_COUNTS * total / total.sum()
    for here in pieces(len(like), counts.shape[1]):
        some = like[here]
        rows = np.repeat(np.arange(len(some)), some.shape[1])
        picked = sparse.csr_matrix((np.ones(some.size, np.float32), (rows, some.ravel())), (len(some), counts.shape[0]))
        mean = np.asarray((picked @ counts).toarray() + common)
        mean /= mean.sum(axis=1, keepdims=True)
        yield here, mean


def _most_like(told: Floats, own: Floats, number: int) -> Rows:
    """Return the rows of `own` most like each cell, in no order (cell, number), piece by piece."""
    return np.concatenate([most(told[here] @ own.T, min(number, len(own))) for here in pieces(len(told), len(own))])


def _of_platform(like: Rows, nodes: sparse.csr_matrix, counts: sparse.csr_matrix, x: Floats, seed: int) -> Floats:
    """Return by how much genes are up or down, as they are in most kinds of asked cells alike (gene,)."""
    from scipy.cluster.vq import kmeans2

    kind = kmeans2(x, KINDS, seed=seed, minit="++")[1]
    of = sparse.csr_matrix((np.ones(len(kind)), (kind, np.arange(len(kind)))), (KINDS, len(kind)))
    found, due = np.asarray((of @ counts).todense()), np.zeros((KINDS, counts.shape[1]))
    for here, expected in _expected(like, nodes):
        due += of[:, here] @ (expected * np.asarray(counts[here].sum(axis=1), np.float64))
    ratio = (found + NO_EFFECT) / (due + NO_EFFECT)
    return np.asarray(np.median(ratio[np.bincount(kind, minlength=KINDS) > 0], axis=0))


def _deviance(counts: sparse.csr_matrix, like: Rows, nodes: sparse.csr_matrix, effect: Floats | float = 1.0) -> Floats:
    """Return the Poisson deviance (cell,) of counts, depth given, from `nodes` like them, genes up by `effect`."""
    told = []
    for here, expected in _expected(like, nodes):
        expected *= effect
        expected *= np.asarray(counts[here].sum(axis=1), np.float64) / expected.sum(axis=1, keepdims=True)
        there = counts[here].tocoo()
        some = there.data > 0
        row, value = there.row[some], there.data[some].astype(np.float64)
        parts = value * np.log(value / expected[row, there.col[some]])
        told.append(2 * np.bincount(row, parts, minlength=len(expected)))
    return np.concatenate(told)


def _score(deviance: Floats, depth: Floats, usual: Floats) -> Floats:
    """Return the normal score of the share of hidden nodes, as deep, that deviate as far (cell,); low if few do."""
    from scipy.stats import norm

    k = min(AS_DEEP, usual.shape[1])
    start = np.clip(np.searchsorted(usual[0], depth) - k // 2, 0, usual.shape[1] - k)
    further = (usual[1][start[:, None] + np.arange(k)] >= deviance[:, None]).sum(axis=1)
    return np.asarray(norm.ppf((further + 0.5) / (k + 1)))


def _averaged(score: Floats, told: Floats, seed: int) -> Floats:
    """Return scores averaged over the cells most like each (cell,), itself with them."""
    some = np.random.default_rng(seed).permutation(len(told))[:MOST_COMPARED]
    return np.asarray(score[some][_most_like(told, told[some], ALIKE)].mean(axis=1))
