"""Groups held out by name or by lot: what every design that parts groups has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from aivc_graph import names
from aivc_graph.errors import ConfigError, unknown_name
from aivc_graph.splits.design import AbstractSplit


class AbstractDrawnSplit(AbstractSplit):
    """Either name the held-out groups, or let them be drawn.

    The groups are put in an order by `seed` and cut in folds of `n_test`; fold `fold` is tested, and the next
    `n_validation` groups validate. Over all folds each group is tested once.

    Parameters
    ----------
    test, validation
        Groups by name.
    n_test, n_validation
        In place of names, how many groups to draw.
    fold, seed
        Which draw.
    """

    test: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    n_test: int = Field(default=0, ge=0)
    n_validation: int = Field(default=0, ge=0)
    fold: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)

    # What is new where a screen is asked by the design: an intervention, or the context it is done in.
    axis: ClassVar[str] = "intervention"

    @property
    @abstractmethod
    def unit(self) -> str:
        """What a group is called in messages, such as ``donor``."""

    @property
    def asks(self) -> str:
        """What the design asks of a screen, in one word, such as ``unseen_context``."""
        return f"unseen_{self.unit}"

    @abstractmethod
    def label(self, table: pd.DataFrame) -> pd.Series:
        """Return the label of each row of a table of conditions, by its index.

        Parameters
        ----------
        table
            As `aivc_graph.tissue.condition_table.as_conditions` takes it, with a column of groups where those are of
            sections.

        Raises
        ------
        ConfigError
            A column that is missing, a group that does not exist, or a side that is left empty.
        """

    @abstractmethod
    def groups(self, table: pd.DataFrame) -> tuple[str, ...]:
        """Return the group of each row of `table`: what is held out with it, and what is resampled where it is asked.

        One by `unit`, or several names joined by ``+`` where a row is of several; none where it is of none.
        """

    @abstractmethod
    def drawn_from(self, table: pd.DataFrame) -> list[str]:
        """Return the groups that are named or drawn, each once and in order."""

    def over_folds(self, table: pd.DataFrame) -> list[pd.Series]:
        """Return what `label` does in every fold, so that each drawn group is tested once."""
        n = self.n_folds(self.drawn_from(table))
        return [self.model_copy(update={"fold": fold} if n > 1 else {}).label(table) for fold in range(n)]

    @field_validator("test", "validation", mode="before")
    @classmethod
    def _as_names(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [f"{v:g}" if isinstance(v, float) else str(v) for v in value]

    @model_validator(mode="after")
    def _sides_are_disjoint(self) -> Self:
        both = sorted(set(self.test) & set(self.validation))
        if both:
            raise ValueError(f"{self.unit} {both[0]!r} is on both sides, test and validation; keep it on one")
        for named, drawn, side in (
            (self.test, self.n_test, "test"),
            (self.validation, self.n_validation, "validation"),
        ):
            if named and drawn:
                raise ValueError(f"give either `{side}` or `n_{side}`")
        return self

    def sides(self, groups: Sequence[str]) -> dict[str, str]:
        """Return the label of each group; `groups` has each once, in an order that depends on nothing but the names.

        Raises
        ------
        ConfigError
            A named group that does not exist, more to draw than there is, or nothing left to train on.
        """
        label = self.held_out(groups)
        if names.TRAIN not in label.values():
            found = f"all {len(groups)} groups by {self.unit} held out"
            raise ConfigError("split", found, "at least one group to train on", "hold out fewer")
        return label

    def n_folds(self, groups: Sequence[str]) -> int:
        """Return in how many folds each group is tested once; one where the tested groups are named."""
        return max(-(-len(set(groups) - {*self.test, *self.validation}) // self.n_test), 1) if self.n_test else 1

    def held_out(self, groups: Sequence[str]) -> dict[str, str]:
        """Return the same as `sides`, though nothing may be left to train on."""
        for side, named in (("test", self.test), ("validation", self.validation)):
            for name in named:
                if name not in groups:
                    raise unknown_name(ConfigError, f"split · {side}", self.unit, name, groups)
        test, validation = self._drawn(groups)
        label = dict.fromkeys(groups, names.TRAIN)
        return label | dict.fromkeys(test, names.TEST) | dict.fromkeys(validation, names.VALIDATION)

    def _drawn(self, groups: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Complete the named groups with the drawn ones."""
        rest = [group for group in groups if group not in {*self.test, *self.validation}]
        order = [rest[i] for i in np.random.default_rng(self.seed).permutation(len(rest))]
        n_folds = self.n_folds(groups)
        if self.fold >= n_folds:
            found = f"fold {self.fold} of {n_folds}"
            raise ConfigError(
                "split · fold", found, f"0–{n_folds - 1}", f"there are {len(order)} groups by {self.unit}"
            )
        start = self.fold * self.n_test
        around = order[start:] + order[:start]
        n_test = min(self.n_test, len(order) - start)
        if n_test + self.n_validation > len(order):
            found = f"{n_test} + {self.n_validation} groups to draw out of {len(order)} by {self.unit}"
            raise ConfigError("split", found, mend="draw fewer")
        drawn = tuple(around[:n_test]), tuple(around[n_test : n_test + self.n_validation])
        return self.test or drawn[0], self.validation or drawn[1]
