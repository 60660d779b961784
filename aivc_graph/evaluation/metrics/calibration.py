"""Calibration of intervals: how often the truth lies inside, how wide they are, and who fares worst."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from aivc_graph.evaluation.metrics.metric import METRICS, AbstractMean, Array


class MeanOfValues(AbstractMean):
    """The mean over all values of a score that each has by itself."""

    @abstractmethod
    def each(self, predicted: Array, measured: Array) -> Array:
        """Return the score of each value (row, …)."""

    def rows(self, predicted: Array, measured: Array) -> Array:
        """Return the sum of scores and the number of values, a row."""
        flat = self.each(predicted, measured).reshape(len(measured), -1).astype(np.float64)
        return np.column_stack([flat.sum(axis=1), np.full(len(flat), flat.shape[1])])


@METRICS.register(
    "coverage",
    formula="share of measured values with lower ≤ measured ≤ upper; bounds that are not a number cover nothing",
    best=None,
    higher_is_better=True,
    reference="Gneiting & Raftery 2007, doi:10.1198/016214506000001437",
    weakness="an interval as wide as the world covers all; best is the nominal level, not 1; read its width beside it",
)
class Coverage(MeanOfValues):
    """Share of the truth inside intervals; `predicted` is (row, 2, …): lower and upper bound."""

    def each(self, predicted: Array, measured: Array) -> Array:
        """Return which values lie inside."""
        return (predicted[:, 0] <= measured) & (measured <= predicted[:, 1])


@METRICS.register(
    "winkler_90",
    formula="mean of (upper - lower) + 20 (lower - y) where y < lower + 20 (y - upper) where y > upper",
    best=0.0,
    higher_is_better=False,
    reference="Winkler 1972, doi:10.1080/01621459.1972.10481224",
    weakness="for intervals of 90 % only; in the unit of the values; the truth's own noise keeps it above 0",
)
class IntervalScore(MeanOfValues):
    """Width of 90 % intervals and what they miss by, ten times over; `predicted` is (row, 2, …)."""

    alpha = 0.1

    def each(self, predicted: Array, measured: Array) -> Array:
        """Return the score of each value."""
        lower, upper = predicted[:, 0], predicted[:, 1]
        missed = np.maximum(lower - measured, 0) + np.maximum(measured - upper, 0)
        return upper - lower + 2 / self.alpha * missed


@METRICS.register(
    "worst_group_coverage",
    formula="least over sections of the share of measured values with lower ≤ measured ≤ upper",
    best=None,
    higher_is_better=True,
    reference="Romano, Barber, Sabatti & Candès 2020, doi:10.1162/99608f92.03f00592",
    weakness="the least of many shares lies below the nominal level by chance alone, more so where groups are small",
)
class WorstGroupCoverage(Coverage):
    """Coverage of the section that fares worst; `predicted` is (row, 2, …)."""

    def statistics(self, predicted: Array, measured: Array, group: Array, n_groups: int, section: Array) -> Array:
        """Return (group, section, 2): number inside and number in all."""
        n = int(section.max(initial=-1)) + 1
        both = super().statistics(predicted, measured, group * n + section, n_groups * n, section)
        return both.reshape(n_groups, n, 2)

    def value(self, total: Array) -> float:
        """Return the least share over sections that have any."""
        here = total[:, 1] > 0
        return float((total[here, 0] / total[here, 1]).min()) if here.any() else float("nan")
