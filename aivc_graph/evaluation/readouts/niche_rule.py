"""Niches told by expression: the rule that reads any expression of a tissue as niches found before."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
COMPONENTS, MOST = 15, 4_000


class NicheRule:
    r"""Linear discriminants from the mean expression around a node to niches that were found before.

    On fifteen principal components of training nodes, each niche a normal of its own mean and the common covariance;
    the share of a niche in a node is its posterior, niches as frequent as in training.

    Parameters
    ----------
    around
        Mean log expression around training nodes, less that of their section (node, gene): sections are measured more
        or less well, and what donors differ by is no niche.
    member
        Niche of each (node,), 0 … n-1, at least two kinds.
    seed
        Of the draw of at most 4,000 nodes.

    References
    ----------
    Fisher 1936, doi:10.1111/j.1469-1809.1936.tb02137.x.
    """

    def __init__(self, around: Floats, member: NDArray[np.integer[Any]], seed: int = 0) -> None:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from threadpoolctl import threadpool_limits

        rows = np.sort(np.random.default_rng(seed).permutation(len(around))[:MOST])
        around, member = around[rows], member[rows]
        self.mean = around.mean(axis=0)
        centred = around - self.mean
        with threadpool_limits(1):
            values, vectors = np.linalg.eigh(centred.T @ centred)
            self.axes = vectors[:, np.argsort(-values)[:COMPONENTS]]
            self._rule = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01).fit(centred @ self.axes, member)
        self.kinds = self._rule.classes_

    def shares(self, around: Floats) -> Floats:
        """Return the share of each niche of training (node, niche) by mean log expression around nodes."""
        return np.asarray(self._rule.predict_proba((around - self.mean) @ self.axes))
