"""Hold out molecules by structure: whole scaffolds, or whole clusters of the like with a gap around them."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.names import SMILES
from aivc_graph.splits.conditions import AbstractConditionSplit, column_of
from aivc_graph.splits.design import DESIGNS
from aivc_graph.splits.molecules import butina_clusters, canonical, parse_molecules, scaffold_of, similarity_of
from aivc_graph.tissue.condition_table import TARGETS, as_conditions

log = logging.getLogger(__name__)


@DESIGNS.register("by_scaffold", needs="drugs with `smiles`, and RDKit (pip install 'aivc-graph[chemistry]')")
class ScaffoldSplit(AbstractConditionSplit):
    """No held-out structure is on another side.

    ``by: scaffold``: a group is a Bemis–Murcko scaffold, a molecule without rings one of its own. ``by: cluster``: a
    group is a Butina cluster, named by its centre; since molecules of two clusters may still be alike, what is at
    least `similarity` like a molecule of a side above its own (test over validation over training) is unused: the gap
    of a block, between molecules. A condition whose molecule is not known is unused; one without any trains.

    Parameters
    ----------
    by
        What a group is.
    similarity
        Least Tanimoto similarity of Morgan fingerprints (radius 2, 2,048 bits) of the like.
    """

    by: Literal["scaffold", "cluster"] = "scaffold"
    similarity: float = Field(default=0.4, gt=0, le=1)

    @property
    def unit(self) -> str:
        """What a group is called."""
        return self.by

    def label(self, table: pd.DataFrame) -> pd.Series:
        """Label each row of a table of conditions by the structures of its parts."""
        given, group, molecules = self._read(table)
        side = self._sides(group, molecules)
        labels = []
        for parts, row in given:
            known = [side[text] if text else names.TRAIN for text in row if text is not None] if parts else []
            labels.append(_whole(known if len(known) == len(parts) else [names.UNUSED]))
        unknown = sum(bool(parts) and None in row for parts, row in given)
        if unknown:
            log.warning("split by %s: %d of %d rows without a known molecule are unused", self.by, unknown, len(given))
        return self.checked(labels, table.index)

    def groups(self, table: pd.DataFrame) -> tuple[str, ...]:
        """Return the scaffolds, or the centres of clusters, of each row; nothing where a molecule is not known."""
        given, group, _ = self._read(table)
        rows = ([group[text] for text in row if text] if parts and None not in row else [] for parts, row in given)
        return tuple("+".join(sorted(set(row))) for row in rows)

    def drawn_from(self, table: pd.DataFrame) -> list[str]:
        """Return the scaffolds, or the centres of clusters."""
        return sorted(set(self._read(table)[1].values()))

    def _read(self, table: pd.DataFrame) -> tuple[list[tuple[Any, Any]], dict[str, str], dict[str, object]]:
        """Return parts and canonical SMILES of each row, the group of each SMILES, and its molecule, in order."""
        conditions = as_conditions(table)
        written = list(zip(conditions[TARGETS], column_of(conditions, SMILES), strict=True))
        parsed = parse_molecules(sorted({text for parts, row in written if parts for text in row if text}))
        form = {text: canonical(molecule) for text, molecule in parsed.items()}
        molecules = {form[text]: parsed[text] for text in sorted(parsed, key=form.__getitem__)}
        given = [(parts, tuple(form.get(text, text) for text in row)) for parts, row in written]
        if self.by == "scaffold":
            return given, {name: scaffold_of(molecule) for name, molecule in molecules.items()}, molecules
        order = list(molecules)
        like = similarity_of(list(molecules.values())) if molecules else np.zeros((0, 0), np.float32)
        return given, {order[i]: order[c] for i, c in enumerate(butina_clusters(like, self.similarity))}, molecules

    def _sides(self, group: dict[str, str], molecules: dict[str, object]) -> dict[str, str]:
        """Return the label of each molecule by its one SMILES."""
        side = self.sides(sorted(set(group.values())))
        label = np.array([side[group[name]] for name in molecules], dtype=object)
        if self.by == "scaffold" or not molecules:
            return dict(zip(molecules, label.tolist(), strict=True))
        near = similarity_of(list(molecules.values())) >= self.similarity
        rank = {names.TEST: 0, names.VALIDATION: 1, names.TRAIN: 2}
        own = np.array([rank[one] for one in label])
        above = np.where(near, own[None, :], 2).min(axis=1, initial=2)
        return dict(zip(molecules, np.where(above < own, names.UNUSED, label).tolist(), strict=True))


def _whole(sides: list[str]) -> str:
    """Return the side of a condition from those of its parts."""
    held = {side for side in sides if side != names.TRAIN}
    return names.TRAIN if not held else held.pop() if len(held) == 1 else names.UNUSED
