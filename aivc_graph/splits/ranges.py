"""Hold out levels of a quantity, dose or time, inside or outside the range that trains."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import model_validator

from aivc_graph import names
from aivc_graph.names import DOSE
from aivc_graph.splits.conditions import AbstractConditionSplit, column_of
from aivc_graph.tissue.condition_table import TARGETS, as_conditions

INSIDE, OUTSIDE, SEEN, UNSEEN = "inside", "outside", "seen", "unseen"


class AbstractRangeSplit(AbstractConditionSplit):
    """Whole levels are held out, for all interventions alike.

    Parameters
    ----------
    place
        ``inside``: levels are drawn from all but the lowest and the highest, and a held-out condition whose part does
        not train both below and above is unused. ``outside``: the highest levels are tested, those below them
        validate, and a condition whose part does train as high is unused. Not given: any level, wherever it lies.
    """

    place: Literal["inside", "outside"] | None = None

    @property
    @abstractmethod
    def column(self) -> str:
        """Column of the conditions."""

    @property
    def unit(self) -> str:
        """What a group is called."""
        return self.column

    @property
    def asks(self) -> str:
        """What is asked: levels inside or outside the range that trains, or wherever they lie."""
        return super().asks + (f"_{self.place}" if self.place is not None else "")

    @model_validator(mode="after")
    def _the_highest_are_not_drawn(self) -> Self:
        if self.place == OUTSIDE and (self.fold or self.seed):
            raise ValueError("`place: outside` takes the highest levels; `fold` and `seed` have nothing to draw")
        return self

    def label(self, table: pd.DataFrame) -> pd.Series:
        """Label each row of a table of conditions by its level; a missing level is unused."""
        conditions = as_conditions(table)
        values = column_of(conditions, self.column)
        exempt = self._exempt(conditions)
        side = self._levels(self._all_levels(table))
        labels = []
        for row, free in zip(values, exempt, strict=True):
            found = {side.get(f"{value:g}", names.UNUSED) for value in row}
            held = sorted(found - {names.TRAIN})
            labels.append(names.TRAIN if free or not held else held[0] if len(held) == 1 else names.UNUSED)
        if self.place is not None:
            where = place_in_range(table, pd.Series(labels, index=conditions.index), self.column)
            held_out = np.isin(labels, (names.TEST, names.VALIDATION))
            labels = np.where(held_out & (where.to_numpy() != self.place), names.UNUSED, labels).tolist()
        return self.checked(labels, conditions.index)

    def groups(self, table: pd.DataFrame) -> tuple[str, ...]:
        """Return the level of each row."""
        conditions = as_conditions(table)
        values, exempt = column_of(conditions, self.column), self._exempt(conditions)
        return tuple(
            "" if free else "+".join(sorted({f"{v:g}" for v in row})) for row, free in zip(values, exempt, strict=True)
        )

    def drawn_from(self, table: pd.DataFrame) -> list[str]:
        """Return the levels that may be drawn, lowest first."""
        levels = self._all_levels(table)
        return levels[1:-1] if self.place == INSIDE else levels

    def n_folds(self, groups: Sequence[str]) -> int:
        """Return in how many folds each level is tested once; of the highest alone there is one draw."""
        return 1 if self.place == OUTSIDE else super().n_folds(groups)

    def _all_levels(self, table: pd.DataFrame) -> list[str]:
        conditions = as_conditions(table)
        treated = column_of(conditions, self.column)[~self._exempt(conditions)]
        return [f"{level:g}" for level in sorted({v for row in treated for v in row if np.isfinite(v)})]

    def _exempt(self, conditions: pd.DataFrame) -> NDArray[np.bool_]:
        """Return who has no level that could be held out: of doses the controls (row,)."""
        return (conditions[TARGETS].map(len) == 0).to_numpy() & (self.column == DOSE)

    def _levels(self, levels: list[str]) -> dict[str, str]:
        """Return the label of each level, lowest first."""
        if self.place is None or self.test or self.validation:
            return self.sides(levels)
        if self.place == INSIDE:
            return dict.fromkeys(levels, names.TRAIN) | self.held_out(levels[1:-1])
        top = max(len(levels) - self.n_test, 0)
        below = max(top - self.n_validation, 0)
        highest = {"test": tuple(levels[top:]), "validation": tuple(levels[below:top]), "n_test": 0, "n_validation": 0}
        return self.model_copy(update=highest).sides(levels)


def place_in_range(table: pd.DataFrame, labels: pd.Series, column: str) -> pd.Series:
    """Return where each condition's dose or time lies among those at which the same part trains.

    ``inside`` (strictly between the lowest and the highest), ``outside``, ``seen`` (that very level trains) or
    ``unseen`` (the part does not train at all); of a combination, the farthest of its parts. A control is a part of
    its own.

    Parameters
    ----------
    table, labels
        As `AbstractConditionSplit.label` takes and returns them.
    column
        ``dose`` or ``hours``.
    """
    conditions = as_conditions(table)
    parts = [row or ("",) for row in conditions[TARGETS]]
    values = [row or (0.0,) for row in column_of(conditions, column)]
    training: dict[str, set[float]] = {}
    for names_, levels, label in zip(parts, values, labels, strict=True):
        if label == names.TRAIN:
            for part, level in zip(names_, levels, strict=True):
                training.setdefault(part, set()).add(level)
    places = []
    for names_, levels in zip(parts, values, strict=True):
        found = {_place(level, training.get(part, set())) for part, level in zip(names_, levels, strict=True)}
        places.append(next(place for place in (UNSEEN, OUTSIDE, INSIDE, SEEN) if place in found))
    return pd.Series(places, index=conditions.index, name=f"{column}_place", dtype=object)


def _place(level: float, training: set[float]) -> str:
    if not training:
        return UNSEEN
    return SEEN if level in training else INSIDE if min(training) < level < max(training) else OUTSIDE
