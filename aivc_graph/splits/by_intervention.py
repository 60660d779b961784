"""Hold out interventions that training never saw: whole targets, or combinations of which 0, 1 or 2 parts were seen."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from aivc_graph import names
from aivc_graph.splits.conditions import AbstractConditionSplit, target_of
from aivc_graph.splits.design import DESIGNS
from aivc_graph.tissue.condition_table import TARGETS, as_conditions
from aivc_graph.tissue.conditions import canonical, parts_of

HELD_OUT = (names.TEST, names.VALIDATION)
Parts = tuple[str, ...]


@DESIGNS.register("by_intervention", needs="several interventions, one a section or a row")
class InterventionSplit(AbstractConditionSplit):
    """No held-out target (or combination) is given in training.

    ``hold: target``: every condition with a held-out target is held out with it, alone or combined; one that combines
    targets of two held-out sides is unused. ``hold: combination``: whole combinations are held out while their parts
    may train; with `seen`, exactly so many parts of each train alone, and what else holds the other parts is unused.
    A held-out combination that cannot have `seen` parts beside the others is unused.

    Parameters
    ----------
    hold
        What a group is: ``target``, such as ``TP53`` whatever is done with it, or ``combination``, such as
        ``KLF1+MAP2K6``, or ``drug:ruxolitinib+knockout:TP53`` of sections.
    seen
        For combinations, how many parts train alone; as many as happen to if not given.
    """

    hold: Literal["target", "combination"] = "target"
    seen: int | None = Field(default=None, ge=0)

    @property
    def unit(self) -> str:
        """What a group is called."""
        return self.hold

    @property
    def asks(self) -> str:
        """What is asked: targets, or combinations by how many parts train alone."""
        return super().asks + (f"_{self.seen}_seen" if self.seen is not None else "")

    @field_validator("test", "validation", mode="after")
    @classmethod
    def _in_order(cls, given: Parts) -> Parts:
        return tuple(canonical(parts_of(name)) for name in given)

    @model_validator(mode="after")
    def _seen_is_of_combinations(self) -> Self:
        if self.seen is not None and self.hold == "target":
            raise ValueError("`seen` counts parts of combinations; give `hold: combination`, or leave it out")
        return self

    def label(self, table: pd.DataFrame) -> pd.Series:
        """Label each row of a table of conditions."""
        conditions = as_conditions(table)
        given = list(conditions[TARGETS])
        side = self.held_out(self.drawn_from(table))
        if self.hold == "target":
            labels = [_side_of({side[target_of(part)] for part in parts}) for parts in given]
            return self.checked(labels, conditions.index)
        hidden: dict[str, str] = {}
        if self.seen is not None:
            hidden, possible = self._hide(side, _alone(given))
            side = {name: one if possible.get(name, True) else names.UNUSED for name, one in side.items()}
        labels = []
        for parts in given:
            label = side.get(canonical(parts), names.TRAIN)
            labels.append(
                names.UNUSED if label == names.TRAIN and any(target_of(p) in hidden for p in parts) else label
            )
        return self.checked(labels, conditions.index)

    def groups(self, table: pd.DataFrame) -> tuple[str, ...]:
        """Return the targets of each row, or its combination."""
        of = target_of if self.hold == "target" else str
        return tuple(canonical(map(of, parts)) if parts else "" for parts in as_conditions(table)[TARGETS])

    def drawn_from(self, table: pd.DataFrame) -> list[str]:
        """Return the targets, or the combinations that can have as many parts `seen`."""
        given = list(as_conditions(table)[TARGETS])
        if self.hold == "target":
            return sorted({target_of(part) for parts in given for part in parts})
        alone = _alone(given)
        return sorted({canonical(parts) for parts in given if self._eligible(parts, alone)})

    def _eligible(self, parts: Parts, alone: set[str]) -> bool:
        return len(parts) > 1 and (self.seen is None or self.seen <= len(alone.intersection(parts)))

    def _hide(self, side: dict[str, str], alone: set[str]) -> tuple[dict[str, str], dict[str, bool]]:
        """Return the targets that may not train, each with its side, and which held-out combinations come out."""
        rng = np.random.default_rng(self.seed)
        hidden: dict[str, str] = {}
        kept: set[str] = set()
        possible = {}
        for of in HELD_OUT:
            for name in sorted(name for name, label in side.items() if label == of):
                parts = [str(part) for part in rng.permutation(parts_of(name))]
                free = [part for part in parts if part in alone and target_of(part) not in hidden]
                keep = sorted(free, key=lambda part: target_of(part) not in kept)[: self.seen]
                seen = {target_of(part) for part in keep}
                rest = {target_of(part) for part in parts if part not in keep}
                clash = rest & (kept | seen) or any(hidden.get(target, of) != of for target in rest)
                possible[name] = len(keep) == self.seen and not clash
                if possible[name]:
                    kept |= seen
                    hidden |= dict.fromkeys(rest, of)
        return hidden, possible


def _alone(given: list[Parts]) -> set[str]:
    return {parts[0] for parts in given if len(parts) == 1}


def _side_of(sides: set[str]) -> str:
    """Return the side of a condition from those of its parts: held out if any part is; unused if on both sides."""
    held = [side for side in HELD_OUT if side in sides]
    return names.TRAIN if not held else held[0] if len(held) == 1 else names.UNUSED
