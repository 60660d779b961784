"""Compositions: how far predicted shares are from measured ones."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.metrics.metric import METRICS, AbstractMean, AbstractMetric, AbstractRootMean, Array, each


class _OfShares(AbstractMetric):
    def at_full_depth(self, half: float) -> float:
        """Return the distance of the halves: no rule brings it to full depth, where it would be smaller."""
        return half


@METRICS.register(
    "jsd",
    formula="mean over patches of sqrt(H(m) - (H(p) + H(q)) / 2), m = (p + q) / 2, entropy H in bit",
    best=0.0,
    higher_is_better=False,
    reference="Endres & Schindelin 2003, doi:10.1109/TIT.2003.813506",
    weakness="few cells beneath a patch make a noisy reference; rare types weigh little",
)
class JensenShannonDistance(_OfShares, AbstractMean):
    """Mean Jensen–Shannon distance of compositions (patch, type), 0 equal to 1 disjoint."""

    def rows(self, predicted: Array, measured: Array) -> Array:
        """Return a distance a patch."""
        p, q = (np.asarray(part, np.float64) for part in (predicted, measured))
        divergence = _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2
        return each(np.sqrt(np.maximum(divergence, 0.0)))


@METRICS.register(
    "rmse_shares",
    formula="root of the mean over patches and types of (predicted - measured share)²",
    best=0.0,
    higher_is_better=False,
    reference="Li et al. 2022, doi:10.1038/s41592-022-01480-9",
    weakness="types with large shares lead",
)
class RmseOfShares(_OfShares, AbstractRootMean):
    """Root mean square error of shares (patch, type)."""

    def rows(self, predicted: Array, measured: Array) -> Array:
        """Return a mean squared error a patch."""
        return each(((np.asarray(predicted, np.float64) - measured) ** 2).mean(axis=1))


def _entropy(shares: Array) -> Array:
    return -(shares * np.log2(np.maximum(shares, 1e-300))).sum(axis=1)
