"""What a table of responses is asked about: what a split design holds out, fold by fold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.evaluation.records import Axis
from aivc_graph.evaluation.responses.table import Responses
from aivc_graph.splits.drawn import AbstractDrawnSplit
from aivc_graph.tissue.conditions import canonical

Mask = NDArray[np.bool_]
MOST_FOLDS = 20


@dataclass(frozen=True)
class Fold:
    """Rows that are asked about, and rows that may be learned from (row,); the controls are told to everyone."""

    train: Mask
    asked: Mask


@dataclass(frozen=True)
class Question:
    """A question, put fold by fold so that every row of its kind is asked once.

    Parameters
    ----------
    name, axis, folds
        What is asked.
    unit, group
        What was held out, such as ``target``, and which of them each row is of (row,): these are resampled.
    """

    name: str
    axis: Axis
    folds: tuple[Fold, ...]
    unit: str
    group: tuple[str, ...]

    @property
    def asked(self) -> Mask:
        """The rows asked about in any fold (row,)."""
        return np.any([fold.asked for fold in self.folds], axis=0)


def question_of(
    design: AbstractDrawnSplit, table: Responses, conditions: pd.DataFrame, within: Iterable[str] = ()
) -> Question | None:
    """Return what a split design asks of a table over all its folds; None where nothing can be asked.

    A row that several folds would hold out, as a pair is by its two targets, is asked in none of them. Of a context
    that is held out, what trains in another is asked. Where the design
    neither names nor counts what is tested, each group is held out in turn, in at most twenty folds.

    Parameters
    ----------
    conditions
        What was done in each row, as `as_conditions` takes it, with a column ``context``; see `conditions_of_table`.
    within
        Contexts that the question stays in, as ``context`` of `conditions` names them; all if not given.
    """
    inside = np.ones(len(conditions), bool)
    if kept := tuple(within):
        inside = conditions[names.CONTEXT].isin(kept).to_numpy()
    labels, groups = np.full((0, len(conditions)), names.UNUSED, object), np.full(len(conditions), "", object)
    if inside.any():
        some = conditions[inside]
        if not (design.test or design.n_test):
            each = -(-len(design.drawn_from(some)) // MOST_FOLDS)
            design = design.model_copy(update={"n_test": max(each, 1)})
        found = np.stack([one.to_numpy(str) for one in design.over_folds(some)])
        labels = np.full((len(found), len(conditions)), names.UNUSED, object)
        labels[:, inside], groups[inside] = found, design.groups(some)
    test = (labels == names.TEST) & ~table.is_control
    once = test.sum(axis=0) == 1
    folds = [
        _fold(table, (own == names.TRAIN) & ~table.is_control, here & once, known=design.axis == "context")
        for own, here in zip(labels, test, strict=True)
    ]
    folds = [fold for fold in folds if fold.asked.any() and fold.train.any()]
    if not folds:
        return None
    name = design.asks + "".join(f"_in_{one}" for one in kept)
    return Question(name, design.axis, tuple(folds), design.unit, tuple(map(str, groups)))  # type: ignore[arg-type]


def _fold(table: Responses, train: Mask, asked: Mask, *, known: bool) -> Fold:
    """Return a fold; of what was done nowhere in training nothing is asked if it must be `known`."""
    done = {table.parts[row] for row in np.flatnonzero(train)}
    return Fold(train, asked & np.array([parts in done for parts in table.parts]) if known else asked)


def conditions_of_table(table: Responses) -> pd.DataFrame:
    """Return what was done in each row of a table, and where, in the form that designs read."""
    return pd.DataFrame({names.CONDITION: [canonical(one) for one in table.parts], names.CONTEXT: table.context})
