"""Hold out whole groups of sections: donors, sites, platforms, batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from aivc_graph import names
from aivc_graph.errors import ConfigError, Faults, unknown_name
from aivc_graph.splits.design import DESIGNS, AbstractSplit, Counts, count_labels, levels_of, write_labels
from aivc_graph.splits.leakage import check_donors
from aivc_graph.tissue.section import metadata_of


@DESIGNS.register("by_group", needs="sections of several groups")
class GroupSplit(AbstractSplit):
    """Every node of a section bears the label of the section's group, so that no group is on two sides.

    Either name the held-out groups, or let them be drawn: the groups are put in an order by `seed` and cut in folds of
    `n_test`; fold `fold` is tested, and the next `n_validation` groups validate. Over all folds each group is tested
    once.

    Parameters
    ----------
    key
        What makes a group: ``"donor"``, ``"site"``, ``"platform"``, ``"section"`` or ``"batch"``.
    test, validation
        Groups by name.
    n_test, n_validation
        In place of names, how many groups to draw.
    fold, seed
        Which draw.
    share_donors
        Accept that a donor has sections on two sides, as when other sections of the same donors are asked for.
    """

    key: Literal["donor", "site", "platform", "section", "batch"] = "donor"
    test: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    n_test: int = Field(default=0, ge=0)
    n_validation: int = Field(default=0, ge=0)
    fold: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)
    share_donors: bool = False

    @field_validator("test", "validation", mode="before")
    @classmethod
    def _as_names(cls, value: Any) -> Any:
        return [str(v) for v in value] if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _sides_are_disjoint(self) -> Self:
        both = sorted(set(self.test) & set(self.validation))
        if both:
            raise ValueError(f"{self.key} {both[0]!r} is on both sides, test and validation; keep it on one")
        for named, drawn, side in (
            (self.test, self.n_test, "test"),
            (self.validation, self.n_validation, "validation"),
        ):
            if named and drawn:
                raise ValueError(f"give either `{side}` or `n_{side}`")
        return self

    def __call__(self, sections: Sequence[Any]) -> Counts:
        """Label the sections.

        Raises
        ------
        ConfigError
            A section without the key, a group that does not exist, nothing left to train on, a donor on two sides.
        """
        group_of = self._groups(sections)
        label_of = self._labels(sorted(set(group_of)))
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
            self._labels(sorted({str(group) for group in groups}))

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

    def _labels(self, groups: list[str]) -> dict[str, str]:
        for side, named in (("test", self.test), ("validation", self.validation)):
            for name in named:
                if name not in groups:
                    raise unknown_name(ConfigError, f"split · {side}", self.key, name, groups)
        test, validation = self._drawn(groups)
        label = dict.fromkeys(groups, names.TRAIN)
        label |= dict.fromkeys(test, names.TEST) | dict.fromkeys(validation, names.VALIDATION)
        if names.TRAIN not in label.values():
            found = f"all {len(groups)} groups by {self.key} held out"
            raise ConfigError("split", found, "at least one group to train on", "hold out fewer")
        return label

    def _drawn(self, groups: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Complete the named groups with the drawn ones."""
        rest = [group for group in groups if group not in {*self.test, *self.validation}]
        order = [rest[i] for i in np.random.default_rng(self.seed).permutation(len(rest))]
        n_folds = -(-len(order) // self.n_test) if self.n_test else 1
        if self.fold >= n_folds:
            found = f"fold {self.fold} of {n_folds}"
            raise ConfigError("split · fold", found, f"0–{n_folds - 1}", f"there are {len(order)} groups by {self.key}")
        start = self.fold * self.n_test
        around = order[start:] + order[:start]
        n_test = min(self.n_test, len(order) - start)
        if n_test + self.n_validation > len(order):
            found = f"{n_test} + {self.n_validation} groups to draw out of {len(order)} by {self.key}"
            raise ConfigError("split", found, mend="draw fewer")
        drawn = tuple(around[:n_test]), tuple(around[n_test : n_test + self.n_validation])
        return self.test or drawn[0], self.validation or drawn[1]
