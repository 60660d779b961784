"""The contract of a held-out design, the registry of designs, and how a label is written onto a section."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.registry import Registry, made
from aivc_graph.settings import Settings

Counts = dict[str, dict[str, int]]


class AbstractSplit(Settings, ABC):
    """What is held out. Its fields are the keys a YAML `split` may give beside ``kind``.

    Parameters
    ----------
    share_content
        Accept that the same pictures or rows of counts stand on two sides; every page then says so.
    """

    share_content: bool = False
    # Whether two sides may lie in one section, so that it matters how far messages reach.
    parts_sections: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, sections: Sequence[Any]) -> Counts:
        """Write a column ``split`` into the shapes of every level of every section; return nodes by level and label.

        Labels are those of `names.SPLITS`; an earlier column is replaced.

        Raises
        ------
        ConfigError
            If the design does not fit these sections.
        """

    def doubt(self, reach_um: float) -> str:
        """Return what is doubtful where messages come from as far as `reach_um`, before any edge is cut; often nothing.

        Asked only of designs that part a section, see `parts_sections`.
        """
        return ""

    def within_reach(self, reach_um: float) -> AbstractSplit:
        """Return the design with whatever it leaves open filled in, where messages come from as far as `reach_um`."""
        return self

    def check(self, known: Sequence[Mapping[str, Any]]) -> None:
        """Raise a `ConfigError` if the design cannot fit sections of which this is `known` before any is read.

        `known` holds for each section ``section``, its ``interventions`` and, where the user gave them, donor, site,
        platform and batch.
        """


DESIGNS: Registry[type[AbstractSplit]] = Registry("split design", "aivc_graph.splits")


def split_design(kind: str, **options: Any) -> AbstractSplit:
    """Return the design called `kind`, such as ``split_design("by_group", key="donor", test=["A"])``."""
    return made(DESIGNS.get(kind, where="split"), options, f"split · {kind}", "design")


def levels_of(section: Any) -> list[str]:
    """Return the levels that a section has nodes of."""
    return [level for level in names.LEVELS if level in section.shapes]


def write_labels(section: Any, level: str, labels: NDArray[np.str_] | str) -> None:
    """Write the label of each node, ``(node,)`` in the order of its shapes, or one label for all."""
    section.shapes[level][names.SPLIT.name] = labels


def labels_of(section: Any, level: str) -> pd.Series:
    """Return the label of each node by barcode; a node that no design labelled trains, as in the graph."""
    shapes = section.shapes[level]
    if names.SPLIT.name in shapes:
        return shapes[names.SPLIT.name].astype(str)
    return pd.Series(names.TRAIN, index=shapes.index)


def count_labels(sections: Sequence[Any]) -> Counts:
    """Return how many nodes of each level bear each label, such as ``{"patch": {"train": 310, "test": 102}}``."""
    counts: dict[str, Counter[str]] = {}
    for section in sections:
        for level in levels_of(section):
            counts.setdefault(level, Counter()).update(labels_of(section, level))
    return {level: {label: found[label] for label in names.SPLITS if found[label]} for level, found in counts.items()}
