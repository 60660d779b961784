"""Calibration: how often the truth lies inside an interval."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.metrics.metric import METRICS, AbstractMetric, Array, sums_by


@METRICS.register(
    "coverage",
    formula="share of measured values with lower ≤ measured ≤ upper; bounds that are not a number cover nothing",
    best=None,
    higher_is_better=True,
    reference="Gneiting & Raftery 2007, doi:10.1198/016214506000001437",
    weakness="an interval as wide as the world covers all; best is the nominal level, not 1; read its width beside it",
)
class Coverage(AbstractMetric):
    """Share of the truth inside intervals; `predicted` is (row, 2, …): lower and upper bound."""

    def statistics(self, predicted: Array, measured: Array, group: Array, n_groups: int, section: Array) -> Array:
        """Return (group, 2): number inside and number in all."""
        inside = (predicted[:, 0] <= measured) & (measured <= predicted[:, 1])
        flat = inside.reshape(len(inside), -1)
        both = np.column_stack([flat.sum(axis=1), np.full(len(flat), flat.shape[1])])
        return sums_by(both, group, n_groups)

    def value(self, total: Array) -> float:
        """Return the share inside."""
        return float(total[0] / total[1]) if total[1] else float("nan")
