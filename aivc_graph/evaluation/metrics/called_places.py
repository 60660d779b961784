"""Genes called changed in places of a tissue, all places together: sets, directions and sizes.

Most places have few calls or none, so a score place by place would rest on those that say nothing.
"""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.metrics.called_genes import CELL_EVAL
from aivc_graph.evaluation.metrics.metric import METRICS
from aivc_graph.evaluation.responses.views import AbstractResponseMetric, Floats, Mask, Measured, Predicted


@METRICS.register(
    "called_sets",
    formula="sum over places of |S ∩ Ŝ| / sum over places of |S ∪ Ŝ|, S genes called",
    best=1.0,
    higher_is_better=True,
    reference="after Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x",
    weakness="places with many calls lead; blind to direction and size; a gene just short of the call counts as missed",
)
class CalledSets(AbstractResponseMetric):
    """Overlap of the genes called, over all places."""

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return how many genes both and either call, a row a place."""
        said, true = (_calls(view, measured) for view in (predicted, measured))
        return np.column_stack([(said & true).sum(axis=1), (said | true).sum(axis=1)]).astype(float)


@METRICS.register(
    "called_direction",
    formula="sum over places of k / sum over places of max(n_predicted, n_true), k genes called by both with one sign",
    best=1.0,
    higher_is_better=True,
    reference="after " + CELL_EVAL,
    weakness="blind to size; places with many calls lead",
)
class CalledDirection(AbstractResponseMetric):
    """Share of calls that are called in the right direction, too few or too many counting against it."""

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return how many directions are right, and how many calls there are, a row a place."""
        said, true = (_calls(view, measured) for view in (predicted, measured))
        same = np.sign(_lfc(predicted)) == np.sign(_lfc(measured))
        most = np.maximum(said.sum(axis=1), true.sum(axis=1))
        return np.column_stack([(said & true & same).sum(axis=1), most]).astype(float)


@METRICS.register(
    "called_size",
    formula="sum over places and truly called genes of |lfc^ - lfc| / sum of |lfc|",
    best=0.0,
    higher_is_better=False,
    reference="after " + CELL_EVAL + " (lfc-NMAE)",
    weakness="predicting none scores 1; false calls cost nothing",
)
class CalledSize(AbstractResponseMetric):
    """Error of log2 fold changes of the genes truly called, against their size."""

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return error and size of the fold changes, a row a place."""
        true, lfc = _calls(measured, measured), _lfc(measured)
        parts = (np.abs(_lfc(predicted) - lfc), np.abs(lfc))
        return np.column_stack([np.where(true, part, 0.0).sum(axis=1) for part in parts])


def _calls(view: Predicted | Measured, measured: Measured) -> Mask:
    assert view.differential is not None
    return view.differential.significant & ~measured.own


def _lfc(view: Predicted | Measured) -> Floats:
    assert view.differential is not None
    return view.differential.lfc
