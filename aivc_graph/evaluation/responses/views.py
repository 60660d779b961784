"""What a metric of responses looks at: rows as measured, as predicted, and as two halves of one measurement say."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aivc_graph.evaluation.metrics.metric import AbstractMean, Array, sums_by
from aivc_graph.evaluation.responses.differential import Differential
from aivc_graph.evaluation.responses.spread import Space

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Measured:
    """The rows asked about, as they were measured.

    Parameters
    ----------
    profile, control
        Profile of each row and of its control (row, gene).
    reference
        The control, moved by the mean effect over the training rows of the row's context, else of all (row, gene).
    variance, control_variance
        Jackknife variances of both profiles (row, gene).
    distinction
        How far each row stands out from all others of its context, in standard errors (row, gene).
    own
        Genes that are targets of the row (row, gene).
    target
        Genes that are targets of any row of the table (gene,).
    context
        Code of the context (row,).
    alone
        Measured effects of the two parts of a pair alone; not a number where one was not measured (row, 2, gene).
    differential
        Genes called, from cells; None where there are none.
    space
        Cells of each row as points; None where there are none.
    """

    profile: Floats
    control: Floats
    reference: Floats
    variance: Floats
    control_variance: Floats
    distinction: Floats
    own: Mask
    target: Mask
    context: NDArray[np.integer]
    alone: Floats
    differential: Differential | None = None
    space: Space | None = None

    @property
    def effect(self) -> Floats:
        """Profile less control (row, gene)."""
        return self.profile - self.control

    def arrays(self) -> Iterator[NDArray[Any]]:
        """Yield every array a metric may look at."""
        yield from (self.profile, self.control, self.reference, self.variance, self.control_variance, self.alone)
        if self.differential is not None:
            yield from (self.differential.significant, self.differential.lfc)
        if self.space is not None:
            yield from self.space.points

    @property
    def additive(self) -> Floats:
        """Sum of the effects of both parts alone (row, gene)."""
        return self.alone.sum(axis=1)

    def __len__(self) -> int:
        return len(self.profile)

    def take(self, kept: NDArray[np.integer]) -> Measured:
        """Return some of the rows, of profiles alone."""
        of_rows = ("profile", "control", "reference", "variance", "control_variance", "distinction", "own", "context")
        taken = {name: getattr(self, name)[kept] for name in (*of_rows, "alone")}
        return dataclasses.replace(self, **taken, differential=None, space=None)


@dataclass(frozen=True)
class Predicted:
    """What somebody says of the same rows: a `profile` (row, gene), with its `variance` where it is of predicted cells.

    `differential` and `space` are those of the predicted cells, or what follows from the profile alone.
    """

    profile: Floats
    variance: Floats | None = None
    differential: Differential | None = None
    space: Space | None = None


@dataclass(frozen=True)
class Replicates:
    """One half of the cells as the prediction of the other, for several random halvings; a score is their mean.

    The `pairs` are of the rows that are `replicated` (row,) alone: of one cell there are no two halves.

    With `full_depth` a correlation r of halves is brought to that of two whole measurements, 2 r / (1 + r), undefined
    for r ≤ 0 (Spearman 1910, doi:10.1111/j.2044-8295.1910.tb00206.x; Brown 1910).
    """

    pairs: tuple[tuple[Predicted, Measured], ...]
    replicated: Mask
    full_depth: bool = False


class AbstractResponseMetric(AbstractMean):
    """A score of whole tables of responses: each row is judged with all rows in sight, and rows are resampled.

    A row that is not a number is left out.
    """

    is_correlation: ClassVar[bool] = False

    def statistics(
        self, predicted: Predicted | Replicates, measured: Measured, group: Array, n_groups: int, section: Array
    ) -> Array:
        """Return (group, 2): sums of numerators and denominators."""
        if not isinstance(predicted, Replicates):
            return sums_by(known(self.rows(predicted, measured)), group, n_groups)
        each: Floats = np.zeros((len(predicted.pairs), len(predicted.replicated), 2))
        each[:, predicted.replicated] = [known(self.rows(*pair)) for pair in predicted.pairs]
        if predicted.full_depth:
            if not self.is_correlation:
                return np.zeros((n_groups, 2))
            with np.errstate(divide="ignore", invalid="ignore"):
                r = each[..., 0] / each[..., 1]
                each[..., 0] = np.where(r > 0, 2 * r / (1 + r), np.nan)
            each = known(each)
        return sums_by(each.mean(axis=0), group, n_groups)


def known(rows: Floats) -> Floats:
    """Return rows (…, 2) with those that are not numbers left out."""
    return np.where(np.isfinite(rows).all(axis=-1, keepdims=True), rows, 0.0)


def correlations(a: Floats, b: Floats, kept: Mask, flat: float) -> Floats:
    """Return the correlation of each row over its kept columns (row,).

    `flat` where `a` does not vary, not a number where `b` does not.
    """
    n = np.maximum(kept.sum(axis=1, keepdims=True), 1)
    a, b = (np.where(kept, part - np.where(kept, part, 0).sum(axis=1, keepdims=True) / n, 0.0) for part in (a, b))
    own, true = (a**2).sum(axis=1), (b**2).sum(axis=1)
    still = own <= 1e-18 * n[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (a * b).sum(axis=1) / np.sqrt(own * true)
    return np.where(true <= 1e-18 * n[:, 0], np.nan, np.where(still, flat, found))
