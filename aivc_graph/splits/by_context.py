"""Hold out whole contexts: cell lines, cell types, donors in which everything was done."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from aivc_graph.names import CONTEXT
from aivc_graph.splits.conditions import AbstractConditionSplit, column_of
from aivc_graph.splits.design import DESIGNS
from aivc_graph.tissue.condition_table import as_conditions


@DESIGNS.register("by_context", needs="conditions of several contexts")
class ContextSplit(AbstractConditionSplit):
    """Every condition of a held-out context is held out, its control with it.

    What is asked is the effect of a known intervention where it was never given. The control of the context may be
    looked at when the question is put, as its starting point; nothing is fitted on it. The context of a section is
    what it says, or else its donor.
    """

    axis: ClassVar[str] = "context"

    @property
    def unit(self) -> str:
        """What a group is called."""
        return CONTEXT

    def label(self, table: pd.DataFrame) -> pd.Series:
        """Label each row of a table of conditions by its context."""
        side = self.sides(self.drawn_from(table))
        return self.checked([side[one] for one in self.groups(table)], table.index)

    def groups(self, table: pd.DataFrame) -> tuple[str, ...]:
        """Return the context of each row."""
        return tuple(column_of(as_conditions(table), CONTEXT))

    def drawn_from(self, table: pd.DataFrame) -> list[str]:
        """Return the contexts."""
        return sorted(set(self.groups(table)))
