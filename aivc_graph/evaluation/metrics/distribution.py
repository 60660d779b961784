"""Predictive distributions as equally likely draws: is the truth one of them, and how close do they lie to it?"""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.metrics.calibration import MeanOfValues
from aivc_graph.evaluation.metrics.metric import METRICS, AbstractMetric, Array, sums_by

BINS = 10
LEVELS = (0.5, 0.8, 0.9, 0.95)
TIE = 1e-5  # Values closer than this are one value that was rounded differently.


def central(draws: Array, level: float) -> Array:
    """Return the central interval (row, 2, …) of draws (row, draw, …) that holds the share `level` of them."""
    return np.moveaxis(np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=1), 0, 1)


def places(draws: Array, measured: Array) -> tuple[Array, Array]:
    """Return the shares of draws (row, draw, …) below, and up to, what was measured (row, …)."""
    difference = draws - measured[:, None]
    return (difference < -TIE).mean(axis=1), (difference <= TIE).mean(axis=1)


def held(draws: Array, measured: Array, level: float) -> Array:
    """Return how much of the truth lies in the central `level` of its prediction (row, …): 0, 1, or a share.

    Counts have few values, and an interval between two of them holds more than it says. So the truth is spread evenly
    over its place, from P(x < y) to P(x ≤ y), and what lies within the central `level` of probability counts.

    References
    ----------
    Czado, Gneiting & Held 2009, doi:10.1111/j.1541-0420.2009.01191.x.
    """
    below, up_to = places(draws, measured)
    return _reached(below, up_to, (1 + level) / 2) - _reached(below, up_to, (1 - level) / 2)


def _reached(below: Array, up_to: Array, edge: float) -> Array:
    """Return the share of [below, up_to] that lies below `edge`; where these are one, whether it does."""
    width = up_to - below
    spread = np.clip((edge - below) / np.where(width > 0, width, 1.0), 0, 1)
    return np.where(width > 0, spread, (below < edge) | (edge == 1))


def crps_draws(draws: Array, measured: Array) -> Array:
    """Return the score (row, …) of draws (row, draw, …): mean |x - y| less half the mean |x - x'| over all pairs."""
    ordered = np.sort(np.asarray(draws, np.float64), axis=1)
    m = ordered.shape[1]
    rank = (2 * np.arange(1, m + 1) - m - 1).reshape(1, m, *([1] * (ordered.ndim - 2)))
    return np.abs(ordered - measured[:, None]).mean(axis=1) - (rank * ordered).sum(axis=1) / m**2


@METRICS.register(
    "crps",
    formula="mean over values of E|x - y| - E|x - x'| / 2 over the draws x, x' of the prediction, y measured",
    best=0.0,
    higher_is_better=False,
    reference="Gneiting & Raftery 2007, doi:10.1198/016214506000001437",
    weakness="in the unit of the values, so genes of high variance lead; noise of the measurement keeps it above 0",
)
class ContinuousRankedProbability(MeanOfValues):
    """Distance of a predictive distribution from what came; `predicted` is (row, draw, …)."""

    def each(self, predicted: Array, measured: Array) -> Array:
        """Return the score of each value."""
        return crps_draws(predicted, measured)


@METRICS.register(
    "pit_chi_square",
    formula="sum over 10 bins of (share - 1/10)² / (1/10) of F(y), spread evenly over [P(x < y), P(x ≤ y)]",
    best=0.0,
    higher_is_better=False,
    reference="Czado, Gneiting & Held 2009, doi:10.1111/j.1541-0420.2009.01191.x",
    weakness="the chi-square by the number of values: no test, since values of a node are alike; blind to sharpness",
)
class ProbabilityIntegralTransform(AbstractMetric):
    """How uneven the places of the truth within its predictions are; `predicted` is (row, draw, …)."""

    def statistics(self, predicted: Array, measured: Array, group: Array, n_groups: int, section: Array) -> Array:
        """Return (group, bin): how much of the truth falls into each tenth of its prediction."""
        below, up_to = (place.reshape(len(measured), -1) for place in places(predicted, measured))
        reached = [_reached(below, up_to, edge).sum(axis=1) for edge in np.linspace(0, 1, BINS + 1)]
        return sums_by(np.diff(np.column_stack(reached), axis=1), group, n_groups)

    def value(self, total: Array) -> float:
        """Return the chi-square of the histogram by the number of values."""
        share = total / total.sum() if total.sum() else np.full(BINS, np.nan)
        return float(((share - 1 / BINS) ** 2 * BINS).sum())


class _CentralCoverage(MeanOfValues):
    level: float

    def each(self, predicted: Array, measured: Array) -> Array:
        """Return how much of each value lies in the central part of its draws."""
        return held(predicted, measured, self.level)


for _level in LEVELS:
    METRICS.register(
        f"coverage_{100 * _level:.0f}",
        formula=f"share of F(y), spread evenly over [P(x < y), P(x ≤ y)] of the draws x, in their central {_level:.0%}",
        best=_level,
        higher_is_better=True,
        reference="Czado, Gneiting & Held 2009, doi:10.1111/j.1541-0420.2009.01191.x",
        weakness="best is the nominal level, not 1: more is not better beyond it; says nothing of the width",
    )(type(f"Coverage{100 * _level:.0f}", (_CentralCoverage,), {"level": _level, "__doc__": f"At {_level:.0%}."}))
