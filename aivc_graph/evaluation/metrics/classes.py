"""Classes with their probabilities: how often the likeliest is right, and how far the probabilities can be believed."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.metrics.metric import METRICS, AbstractMean, AbstractMetric, Array, each, sums_by

# Less than this is not told from zero, so that who rules out what is there loses a finite amount.
LEAST = 1e-3
BINS = 10


@METRICS.register(
    "log_loss",
    formula="mean over nodes of - log q_y, q the probabilities with 0.001 added to each and brought to sum one",
    best=0.0,
    higher_is_better=False,
    reference="Gneiting & Raftery 2007, doi:10.1198/016214506000001437",
    weakness="frequent types lead; who is sure and wrong is told only up to the floor",
)
class LogLoss(AbstractMean):
    """Mean negative log-probability [nats] of the true class; `predicted` (row, class), `measured` codes (row,)."""

    def rows(self, predicted: Array, measured: Array) -> Array:
        """Return a loss a row."""
        share = np.asarray(predicted, np.float64)
        floored = share[np.arange(len(measured)), measured] + LEAST
        return each(-np.log(floored / (share.sum(axis=1) + LEAST * share.shape[1])))


@METRICS.register(
    "accuracy",
    formula="share of nodes whose likeliest type is the true one",
    best=1.0,
    higher_is_better=True,
    reference="Pedregosa et al. 2011, Journal of Machine Learning Research 12, 2825",
    weakness="the most frequent type alone can score high; says nothing of the probabilities",
)
class Accuracy(AbstractMean):
    """Share of rows whose likeliest class is the true one; `predicted` (row, class), `measured` codes (row,)."""

    def rows(self, predicted: Array, measured: Array) -> Array:
        """Return whether it is right, a row."""
        return each(np.asarray(predicted).argmax(axis=1) == measured)


@METRICS.register(
    "balanced_accuracy",
    formula="mean over the true types of the share of their nodes whose likeliest type is the true one",
    best=1.0,
    higher_is_better=True,
    reference="Brodersen et al. 2010, doi:10.1109/ICPR.2010.764",
    weakness="a type of few nodes counts as much as a common one; probabilities made for frequent types lose",
)
class BalancedAccuracy(AbstractMetric):
    """Mean recall of the classes that occur; `predicted` (row, class), `measured` codes (row,)."""

    def statistics(self, predicted: Array, measured: Array, group: Array, n_groups: int, section: Array) -> Array:
        """Return (group, class, 2): rows that are right, and rows."""
        right, classes = np.asarray(predicted).argmax(axis=1) == measured, np.shape(predicted)[1]
        both = np.column_stack([right, np.ones(len(right))])
        return sums_by(both, group * classes + measured, n_groups * classes).reshape(n_groups, classes, 2)

    def value(self, total: Array) -> float:
        """Return the mean recall."""
        occurs = total[:, 1] > 0
        return float((total[occurs, 0] / total[occurs, 1]).mean()) if occurs.any() else float("nan")


@METRICS.register(
    "calibration_error",
    formula="Σ_b n_b / n |share right in b - mean probability in b|, b ten even bins of the largest probability",
    best=0.0,
    higher_is_better=False,
    reference="Guo et al. 2017, doi:10.48550/arXiv.1706.04599",
    weakness="the class prior is calibrated and tells nothing; of few nodes chance alone keeps it above 0",
)
class CalibrationError(AbstractMetric):
    """How far probabilities of the likeliest class are from how often it is right; `predicted` (row, class)."""

    def statistics(self, predicted: Array, measured: Array, group: Array, n_groups: int, section: Array) -> Array:
        """Return (group, bin, 3): rows that are right, summed probability, and rows."""
        share = np.asarray(predicted, np.float64)
        top, right = share.max(axis=1), share.argmax(axis=1) == measured
        place = np.clip((top * BINS).astype(np.int64), 0, BINS - 1)
        values = np.column_stack([right, top, np.ones(len(top))])
        return sums_by(values, group * BINS + place, n_groups * BINS).reshape(n_groups, BINS, 3)

    def value(self, total: Array) -> float:
        """Return the expected calibration error."""
        n = total[:, 2].sum()
        return float(np.abs(total[:, 0] - total[:, 1]).sum() / n) if n else float("nan")
