"""Hold out whole groups of sections: donors, sites, platforms, batches, contexts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ConfigError, Faults, unknown_name
from aivc_graph.splits.design import DESIGNS, Counts, count_labels, levels_of, write_labels
from aivc_graph.splits.drawn import AbstractDrawnSplit
from aivc_graph.splits.leakage import check_donors
from aivc_graph.tissue.section import metadata_of


@DESIGNS.register("by_group", needs="sections of several groups")
class GroupSplit(AbstractDrawnSplit):
    """Every node of a section bears the label of the section's group, so that no group is on two sides.

    Parameters
    ----------
    key
        What makes a group: ``"donor"``, ``"site"``, ``"platform"``, ``"section"``, ``"batch"`` or ``"context"``.
    share_donors
        Accept that a donor has sections on two sides, as when other sections of the same donors are asked for; every
        page then says so.
    """

    key: Literal["donor", "site", "platform", "section", "batch", "context"] = "donor"
    share_donors: bool = False

    axis: ClassVar[str] = "context"

    @property
    def unit(self) -> str:
        """What a group is called: the key."""
        return self.key

    def __call__(self, sections: Sequence[Any]) -> Counts:
        """Label the sections.

        Raises
        ------
        ConfigError
            A section without the key, a group that does not exist, nothing left to train on, a donor on two sides.
        """
        group_of = self._groups(sections)
        label_of = self.sides(sorted(set(group_of)))
        for section, group in zip(sections, group_of, strict=True):
            for level in levels_of(section):
                write_labels(section, level, label_of[group])
        if not self.share_donors:
            check_donors(sections)
        return count_labels(sections)

    def check(self, known: Sequence[Mapping[str, Any]]) -> None:
        """Compare the groups with what is known before reading, where every section says its own."""
        groups = [facts.get(self.key) for facts in known]
        if None not in groups:
            self.sides(sorted({str(group) for group in groups}))

    def label(self, table: pd.DataFrame) -> pd.Series:
        """Label each row of a table of conditions by the group of its section."""
        side = self.sides(self.drawn_from(table))
        return pd.Series([side[one] for one in self.groups(table)], index=table.index, name=names.SPLIT.name)

    def groups(self, table: pd.DataFrame) -> tuple[str, ...]:
        """Return the group of each row, which a column named as the key holds."""
        if self.key not in table:
            raise unknown_name(ConfigError, "conditions", "group", self.key, table.columns)
        return tuple(map(str, table[self.key]))

    def drawn_from(self, table: pd.DataFrame) -> list[str]:
        """Return the groups."""
        return sorted(set(self.groups(table)))

    def _groups(self, sections: Sequence[Any]) -> list[str]:
        faults, groups = Faults(ConfigError), []
        for section in sections:
            metadata = metadata_of(section)
            value = metadata.get(self.key)
            if value is None:
                mend = f"give `{self.key}:` to the section, or split by another key"
                faults.add(f"split · {metadata['section']}", f"no {self.key}", mend=mend)
            groups.append(str(value))
        faults.raise_if_any()
        return groups
