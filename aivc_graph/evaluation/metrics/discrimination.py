"""Discrimination of responses: whether a prediction is nearer to its own condition than to others of its context."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from aivc_graph.evaluation.metrics.metric import METRICS, each
from aivc_graph.evaluation.responses.views import AbstractResponseMetric, Floats, Measured, Predicted

SAME = 1e-10


@METRICS.register(
    "centroid_accuracy",
    formula="mean over conditions p of the share of others q of the context with |b̂_p - b_q| > |b̂_p - b_p|",
    best=1.0,
    higher_is_better=True,
    reference="Viñas Torné et al. 2025, doi:10.1038/s41587-025-02777-8",
    weakness="strong effects are easy to tell apart; depends on which other conditions there are",
)
class CentroidAccuracy(AbstractResponseMetric):
    """Share of other conditions that are farther from the prediction than its own, in Euclidean distance."""

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return a share a row, its own targets left out; none for the only condition of a context."""
        score = np.full(len(measured), np.nan)
        for i in range(len(measured)):
            others = _others(measured, i)
            if len(others):
                kept = ~measured.own[i]
                far = ((predicted.profile[i, kept] - measured.profile[:, kept]) ** 2).sum(axis=1)
                score[i] = (far[others] > far[i]).mean()
        return each(score)


class _Discrimination(AbstractResponseMetric):
    distance: str

    def distances(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return distances of effects (predicted row, measured row) over all genes that are nobody's target."""
        kept = ~measured.target
        said, true = (predicted.profile - measured.control)[:, kept], measured.effect[:, kept]
        if self.distance == "cityblock":
            return cdist(said, true, "cityblock")
        return 1 - _unit(said) @ _unit(true).T


@METRICS.register(
    "pds_cosine",
    formula="mean over conditions of 1 - k_p / (n - 1), k_p = #{q: D(d̂_p, d_q) < D(d̂_p, d_p)} + (ties - 1) / 2, "
    "D = 1 - cosine, 1 where a norm is zero; targets of any condition left out",
    best=1.0,
    higher_is_better=True,
    reference="cell-eval2 (Arc Institute, vcc2026), github.com/ArcInstitute/cell-eval; Wu et al. 2024, "
    "doi:10.48550/arXiv.2408.10609",
    weakness="blind to the size of effects; a prediction alike for all scores 0.5; depends on n",
)
class PdsCosine(_Discrimination):
    """Rank of the own condition among all of the context by cosine; ties share their ranks."""

    distance = "cosine"

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return a score a row."""
        far = self.distances(predicted, measured)
        return each(np.array([_nearness(far[i], i, measured, shared=True) for i in range(len(measured))]))


@METRICS.register(
    "pds_l1_2025",
    formula="mean over conditions of 1 - k_p / n, k_p = #{q: D(d̂_p, d_q) < D(d̂_p, d_p)}, D = sum |d̂ - d|; targets of "
    "any condition left out",
    best=1.0,
    higher_is_better=True,
    reference="Roohani et al. 2025, doi:10.1016/j.cell.2025.06.008",
    weakness="without a rule for ties; rewards predictions of inflated size",
)
class PdsL1(_Discrimination):
    """Rank of the own condition by the sum of absolute differences, as in 2025."""

    distance = "cityblock"

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return a score a row."""
        far = self.distances(predicted, measured)
        return each(np.array([_nearness(far[i], i, measured, shared=False) for i in range(len(measured))]))


@METRICS.register(
    "perturbench_rank",
    formula="mean over conditions p of #{q ≠ p: |b̂_q - b_p| < |b̂_p - b_p|, a tie counting half} / n",
    best=0.0,
    higher_is_better=False,
    reference="Wu et al. 2024, doi:10.48550/arXiv.2408.10609",
    weakness="depends on n; chance is a half, and so are predictions that are all alike",
)
class PerturBenchRank(AbstractResponseMetric):
    """Rank of the own prediction among all predictions of the context, seen from what was measured."""

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return a rank a row, 0 the nearest."""
        score = np.full(len(measured), np.nan)
        for i in range(len(measured)):
            others, kept = _others(measured, i), ~measured.own[i]
            if len(others):
                far = np.sqrt(((predicted.profile[:, kept] - measured.profile[i, kept]) ** 2).sum(axis=1))
                nearer, same = far[others] < far[i] - SAME, np.abs(far[others] - far[i]) <= SAME
                score[i] = (nearer.sum() + same.sum() / 2) / (len(others) + 1)
        return each(score)


def _others(measured: Measured, row: int) -> Floats:
    others = np.flatnonzero(measured.context == measured.context[row])
    return others[others != row]


def _nearness(far: Floats, row: int, measured: Measured, *, shared: bool) -> float:
    others = _others(measured, row)
    if not len(others):
        return float("nan")
    nearer = (far[others] < far[row] - SAME).sum()
    if not shared:
        return float(1 - nearer / (len(others) + 1))
    return float(1 - (nearer + (np.abs(far[others] - far[row]) <= SAME).sum() / 2) / len(others))


def _unit(effects: Floats) -> Floats:
    norm = np.linalg.norm(effects, axis=1, keepdims=True)
    return np.where(norm > 1e-9, effects / np.maximum(norm, 1e-9), 0.0)
