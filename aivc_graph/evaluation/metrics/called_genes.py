"""Genes called changed: whether the right ones are, in the right direction and by the right amount."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from aivc_graph.evaluation.metrics.metric import METRICS, each
from aivc_graph.evaluation.responses.differential import Differential
from aivc_graph.evaluation.responses.views import AbstractResponseMetric, Floats, Mask, Measured, Predicted

CELL_EVAL = "cell-eval2 (Arc Institute, vcc2026), github.com/ArcInstitute/cell-eval"
PRECISION = 0.9
LEAST_CALLED = 10


class _OfCalls(AbstractResponseMetric):
    """A score of genes called; none where either side has no calls to look at."""

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return a score a row."""
        if predicted.differential is None or measured.differential is None:
            return np.zeros((len(measured), 2))
        return each(np.array([self.score(*one) for one in _each_row(predicted.differential, measured)]))

    @abstractmethod
    def score(self, called: Mask, lfc: Floats, true: Mask, true_lfc: Floats) -> float:
        """Return the score of one condition, targets left out; not a number where it is undefined."""


@METRICS.register(
    "des_overlap",
    formula="mean over conditions of |top N of S by |lfc| ∩ top N of Ŝ by |lfc^|| / N, N = |S|, S genes called by "
    "Wilcoxon and Benjamini-Hochberg at 5 %",
    best=1.0,
    higher_is_better=True,
    reference="Roohani et al. 2025, doi:10.1016/j.cell.2025.06.008 (overlap_at_N)",
    weakness="undefined without calls; N follows the number of cells; blind to direction",
)
class DesOverlap(_OfCalls):
    """Share of the called genes that are also called, and ranked high enough, by the prediction."""

    def score(self, called: Mask, lfc: Floats, true: Mask, true_lfc: Floats) -> float:
        """Return the overlap at N."""
        n = int(true.sum())
        if n == 0:
            return float("nan")
        own = np.flatnonzero(called)
        top = own[np.argsort(-np.abs(lfc[own]), kind="stable")[:n]]
        return float(true[top].sum() / n)


@METRICS.register(
    "direction_fidelity",
    formula="mean over conditions of k / max(n_predicted, n_measured), n genes called, k those that the prediction "
    "calls with the measured sign",
    best=1.0,
    higher_is_better=True,
    reference=CELL_EVAL,
    weakness="a gene the measurement does not call counts if its sign is right; calling many at random gives a half",
)
class DirectionFidelity(_OfCalls):
    """Share of calls whose direction is right, too few or too many called counting against it."""

    def score(self, called: Mask, lfc: Floats, true: Mask, true_lfc: Floats) -> float:
        """Return the share."""
        most = max(int(called.sum()), int(true.sum()))
        right = called & (np.sign(lfc) == np.sign(true_lfc)) & (lfc != 0)
        return float(right.sum() / most) if most else float("nan")


@METRICS.register(
    "direction_reach",
    formula="mean over conditions of max{k: at least 0.9 of the signs of the first k called genes are right, ranked by "
    "|lfc^|} / n_measured",
    best=1.0,
    higher_is_better=True,
    reference=CELL_EVAL,
    weakness="one wrong sign at the top costs all ranks up to ten",
)
class DirectionReach(_OfCalls):
    """How deep into the truly changed genes, as the prediction ranks them, directions stay right."""

    def score(self, called: Mask, lfc: Floats, true: Mask, true_lfc: Floats) -> float:
        """Return the reach."""
        own = np.flatnonzero(true)
        if not len(own):
            return float("nan")
        order = own[np.argsort(-np.abs(lfc[own]), kind="stable")]
        right = (np.sign(lfc[order]) == np.sign(true_lfc[order])) & (lfc[order] != 0)
        good = np.flatnonzero(np.cumsum(right) / np.arange(1, len(own) + 1) >= PRECISION)
        return float((good[-1] + 1) / len(own)) if len(good) else 0.0


@METRICS.register(
    "sig_jaccard",
    formula="mean over conditions of |S ∩ Ŝ| / |S ∪ Ŝ|; 1 where neither calls a gene",
    best=1.0,
    higher_is_better=True,
    reference=CELL_EVAL + "; Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x",
    weakness="follows the number of cells on either side; blind to direction and size",
)
class SigJaccard(_OfCalls):
    """Overlap of the genes called."""

    def score(self, called: Mask, lfc: Floats, true: Mask, true_lfc: Floats) -> float:
        """Return the overlap."""
        either = (called | true).sum()
        return float((called & true).sum() / either) if either else 1.0


@METRICS.register(
    "lfc_nmae",
    formula="mean over conditions with at least 10 genes called of sum over S of |lfc^ - lfc| / sum over S of |lfc|",
    best=0.0,
    higher_is_better=False,
    reference=CELL_EVAL,
    weakness="genes that are nearly absent have huge fold changes and lead; predicting none scores 1",
)
class LfcNmae(_OfCalls):
    """Error of log2 fold changes of the called genes, against their size."""

    def score(self, called: Mask, lfc: Floats, true: Mask, true_lfc: Floats) -> float:
        """Return the normalised error."""
        if true.sum() < LEAST_CALLED:
            return float("nan")
        return float(np.abs(lfc[true] - true_lfc[true]).sum() / np.abs(true_lfc[true]).sum())


def _each_row(said: Differential, measured: Measured) -> list[tuple[Mask, Floats, Mask, Floats]]:
    true = measured.differential
    assert true is not None
    kept = ~measured.own
    return [
        (said.significant[i, k], said.lfc[i, k], true.significant[i, k], true.lfc[i, k]) for i, k in enumerate(kept)
    ]
