"""Neighbourhoods: how far covariance environments are from each other."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.metrics.metric import METRICS, AbstractMean, Array, each


@METRICS.register(
    "covet_distance",
    formula="mean over nodes of |√Σ^ - √Σ|, the Frobenius norm of the difference of square roots of covariances",
    best=0.0,
    higher_is_better=False,
    reference="Haviv et al. 2024, doi:10.1038/s41587-024-02193-4 (approximate optimal-transport distance)",
    weakness="noise of the measurement is part of a covariance: a perfect mean does not reach zero",
)
class CovetDistance(AbstractMean):
    """Mean distance of covariance environments, given as square roots (node, gene, gene)."""

    def rows(self, predicted: Array, measured: Array) -> Array:
        """Return a distance a node."""
        return each(np.sqrt(((predicted - measured) ** 2).sum(axis=(1, 2))))

    def at_full_depth(self, half: float) -> float:
        """Return the distance over √2: twice the counts, half the variance of their noise."""
        return half / float(np.sqrt(2))
