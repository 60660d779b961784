"""A table of conditions, what was done to whom, from a plain table or from sections; and how many parts were seen.

The doubles of a Perturb-seq screen, by how many of their parts train alone::

    obs = screen.obs.rename(columns={"cell_type": "context"})  # with a column ``condition``
    split = split_design("by_intervention", hold="combination", test=["KLF1+MAP2K6", "MAP2K3+SLC38A2"])
    labels = split.label(obs)  # a label a row, be it a cell or a condition
    seen = parts_seen(obs, labels)  # 2 for both: KLF1, MAP2K6, MAP2K3 and SLC38A2 train alone

    split_design("by_intervention", hold="combination", seen=2, n_test=3)  # three doubles, both singles train
    split_design("by_intervention", hold="combination", seen=1, n_test=3)  # one single of each is taken away as well
    split_design("by_intervention", test=["KLF1", "MAP2K6"])  # neither was seen; KLF1+TGFBR2 has one seen
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ConfigError, Faults, unknown_name
from aivc_graph.names import CONTEXT, DOSE, HOURS, SMILES
from aivc_graph.splits.design import Counts, count_labels, levels_of, write_labels
from aivc_graph.splits.drawn import AbstractDrawnSplit
from aivc_graph.tissue.applied import conditions_of_nodes, screened_level
from aivc_graph.tissue.condition_table import TARGETS, as_conditions
from aivc_graph.tissue.intervention import Intervention, interventions_of
from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS
from aivc_graph.tissue.section import metadata_of


class AbstractConditionSplit(AbstractDrawnSplit):
    """Holds out conditions; serves a table with a row a condition (or a cell), sections and the cells of screens.

    What was done to nothing, the control, trains unless a design says otherwise: it bears no target that could leak.
    """

    def __call__(self, sections: Sequence[Any]) -> Counts:
        """Label every node by what was done to its section, or to itself where columns say so (see `set_conditions`).

        In a section whose cells differ, nodes of other levels are unused.
        """
        tables = [_of_nodes(section) for section in sections]
        distinct = [table.groupby(list(table), sort=False, dropna=False).ngroup().to_numpy() for table in tables]
        first = [np.unique(codes, return_index=True)[1] for codes in distinct]
        rows = pd.concat([table.iloc[at] for table, at in zip(tables, first, strict=True)], ignore_index=True)
        labels = self.label(rows).to_numpy(str)
        ends = np.cumsum([len(at) for at in first])
        for section, codes, end, at in zip(sections, distinct, ends, first, strict=True):
            found = labels[end - len(at) : end][codes]
            for level in levels_of(section):
                alike = len(set(found)) == 1
                own = names.APPLIED in metadata_of(section) and level == screened_level(section)
                write_labels(section, level, found if own else str(found[0]) if alike else names.UNUSED)
        return count_labels(sections)

    def check(self, known: Sequence[Mapping[str, Any]]) -> None:
        """Try the design on what was done to each section, which its configuration says."""
        given = [(one["section"], one.get(CONTEXT) or one.get("donor"), one[names.INTERVENTIONS]) for one in known]
        self.label(_conditions(given))

    def checked(self, labels: Sequence[str], index: pd.Index) -> pd.Series:
        """Return labels by row; raise if a side that was asked for, or training, is left with nothing."""
        found = pd.Series(labels, index=index, name=names.SPLIT.name, dtype=object)
        faults = Faults(ConfigError)
        asked = {names.TEST: self.test or self.n_test, names.VALIDATION: self.validation or self.n_validation}
        for side in (names.TRAIN, *(side for side, wanted in asked.items() if wanted)):
            if not (found == side).any():
                mend = f"hold out fewer, or other, groups by {self.unit}"
                faults.add("split", f"no condition left on the side {side!r}", mend=mend)
        faults.raise_if_any()
        return found


def target_of(part: str) -> str:
    """Return what a part acts on or is called, whatever is done with it.

    Examples
    --------
    >>> target_of("knockout:TP53"), target_of("TP53"), target_of("poly(I:C)")
    ('TP53', 'TP53', 'poly(I:C)')
    """
    kind, _, name = part.partition(":")
    return name if kind in INTERVENTION_KINDS else part


def column_of(conditions: pd.DataFrame, name: str) -> pd.Series:
    """Return a column, or raise a `ConfigError` that lists what there is."""
    if name not in conditions:
        raise unknown_name(ConfigError, "conditions", "column", name, conditions.columns)
    return conditions[name]


def _of_nodes(section: Any) -> pd.DataFrame:
    """Return what was done to each node of a screen with its context, or one row for a section treated whole."""
    table = conditions_of_nodes(section)
    if table is None:
        return conditions_of([section])
    metadata = metadata_of(section)
    table[CONTEXT] = str(metadata.get(CONTEXT) or metadata.get("donor") or metadata["section"])
    return table


def conditions_of(sections: Sequence[Any]) -> pd.DataFrame:
    """Return a row a section, in the form of `as_conditions`; parts are its interventions, such as ``knockout:TP53``.

    The context of a section is what it says, or else its donor. An intervention in two places counts once, with its
    larger dose.
    """
    facts = [(metadata_of(section), interventions_of(section)) for section in sections]
    return _conditions([(one["section"], one.get(CONTEXT) or one.get("donor"), given) for one, given in facts])


def _conditions(sections: Sequence[tuple[str, str | None, Sequence[Intervention]]]) -> pd.DataFrame:
    """Return a row a section from its name, its context and what was done to it."""
    rows: dict[str, dict[str, Any]] = {}
    for section, context, done in sections:
        given = {one.key: one for one in sorted(done, key=lambda one: one.dose)}
        rows[str(section)] = {
            TARGETS: tuple(given),
            DOSE: tuple(one.dose for one in given.values()),
            HOURS: tuple(one.hours for one in given.values()),
            SMILES: tuple(one.smiles or _no_structure(one) for one in given.values()),
            CONTEXT: context or section,
        }
    return as_conditions(pd.DataFrame(list(rows.values()), index=pd.Index(rows, name="section")))


def _no_structure(one: Intervention) -> str | None:
    """Return what stands for the structure of a part that says none: nothing is missing of kinds that have none."""
    return None if INTERVENTION_KINDS[one.kind].has_structure else ""


def parts_seen(table: pd.DataFrame, labels: pd.Series) -> pd.Series:
    """Return how many parts of each condition train alone, in its own context where contexts are given.

    A single that trains has seen 1, a double 0, 1 or 2; the control 0.

    Parameters
    ----------
    table, labels
        As `AbstractConditionSplit.label` takes and returns them.
    """
    conditions = as_conditions(table)
    context = conditions[CONTEXT] if CONTEXT in conditions else pd.Series("", index=conditions.index)
    training = (labels.to_numpy() == names.TRAIN) & (conditions[TARGETS].map(len) == 1).to_numpy()
    alone = {(where, parts[0]) for where, parts in zip(context[training], conditions[TARGETS][training], strict=True)}
    rows = zip(context, conditions[TARGETS], strict=True)
    seen = [sum((where, part) in alone for part in parts) for where, parts in rows]
    return pd.Series(seen, index=conditions.index, name="parts_seen", dtype=np.int64)
