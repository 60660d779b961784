"""The contract of a metric and the registry of metrics, each with the facts it states about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.registry import Registry

Array = NDArray[Any]
# Answers to a task, or what was measured: an array (row, …), or a view of a whole table of responses.
Answers = Any


class AbstractMetric(ABC):
    """A score that is a function of sums over rows, so that resampling units costs no second pass over the data."""

    # Whether it is taken within each section and averaged, or over all rows together.
    within_sections: ClassVar[bool] = False

    @abstractmethod
    def statistics(self, predicted: Answers, measured: Answers, group: Array, n_groups: int, section: Array) -> Array:
        """Return the sums each group of rows contributes (group, …); they add up over groups."""

    @abstractmethod
    def value(self, total: Array) -> float:
        """Return the score of summed statistics; NaN where it is undefined."""

    def values(self, totals: Array) -> Array:
        """Return the score of each of several sums (draw,), as `value` says it of one."""
        return np.array([self.value(total) for total in totals])

    def at_full_depth(self, half: float) -> float:
        """Return what two whole measurements would score, given what their halves do; NaN where no rule is known."""
        return float("nan")


class AbstractMean(AbstractMetric):
    """A score that is a ratio of two sums over rows; a mean where the denominators are one."""

    @abstractmethod
    def rows(self, predicted: Answers, measured: Answers) -> Array:
        """Return numerator and denominator of each row (row, 2)."""

    def statistics(self, predicted: Answers, measured: Answers, group: Array, n_groups: int, section: Array) -> Array:
        """Return (group, 2): sums of numerators and denominators."""
        return sums_by(self.rows(predicted, measured), group, n_groups)

    def value(self, total: Array) -> float:
        """Return the ratio."""
        return float(self.values(total[None])[0])

    def values(self, totals: Array) -> Array:
        """Return the ratio of each draw."""
        there = totals[:, 1] != 0
        return np.where(there, totals[:, 0] / np.where(there, totals[:, 1], 1.0), np.nan)


class AbstractRootMean(AbstractMean):
    """A score that is the root of such a ratio, such as a root mean square error."""

    def values(self, totals: Array) -> Array:
        """Return the root of the ratio of each draw."""
        return np.asarray(np.sqrt(super().values(totals)))


METRICS: Registry[type[AbstractMetric]] = Registry("metric", "aivc_graph.evaluation.metrics")


def metric(name: str) -> AbstractMetric:
    """Return the metric called `name`; its facts stand in ``METRICS.facts[name]``."""
    return METRICS.get(name, where="metric")()


def higher_is_better(name: str) -> bool:
    """Say whether more of the metric called `name` is better."""
    return bool(METRICS.facts[name]["higher_is_better"])


def each(score: Array) -> Array:
    """Return the rows of a plain mean (row, 2); a score that is not a number may be left out."""
    return np.column_stack([score, np.ones(len(score))])


def mean_known(values: Array) -> Array:
    """Return the mean over rows of what is no NaN (row, …), zero where nothing is."""
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def means_by(values: Array, group: Array, n_groups: int) -> Array:
    """Return the means of rows (row, …) by group (group, …), each of which has some."""
    number = np.bincount(group, minlength=n_groups).reshape(-1, *[1] * (np.ndim(values) - 1))
    return np.asarray(sums_by(values, group, n_groups) / number)


def sums_by(values: Array, group: Array, n_groups: int) -> Array:
    """Return the sums of rows (row, …) by group (group, …)."""
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    chooser = sparse.csr_matrix((np.ones(len(group)), (group, np.arange(len(group)))), shape=(n_groups, len(group)))
    return np.asarray(chooser @ flat).reshape(n_groups, *np.shape(values)[1:])
