"""A graph's screen as a table of responses, and what its split asks of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import GraphError
from aivc_graph.evaluation.leakage import GROUPS
from aivc_graph.evaluation.responses.cells import Cells, jackknife, profiles
from aivc_graph.evaluation.responses.questions import Fold, Question
from aivc_graph.evaluation.responses.table import Responses
from aivc_graph.graph.screens import (
    EFFECT,
    Setting,
    genes_of,
    labels_of_settings,
    log_amounts,
    screened,
    settings_of,
    values_of,
)
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.tissue.conditions import canonical
from aivc_graph.tissue.doubt import tell

TASK = "conditions"
Ints = NDArray[np.integer]


def responses_of_graph(graph: TissueGraph) -> tuple[Responses, list[Setting], Ints] | None:
    """Return the table of a graph's screen, the setting of each row (row,), and the row of each node (node,), or -1.

    None without a screen. Where a part was given in several doses or for several durations, each is a context of its
    own, with the controls of its context. Conditions without a control in their context are left out, and it is said
    how many. Effects, which were measured against a control already, stand beside a control of none.

    Raises
    ------
    GraphError
        If no condition has a control.
    """
    place = screened(graph)
    if place is None:
        return None
    effects, where = place[1] == EFFECT, f"{place[0]} · {place[1]}"
    settings, of_node = settings_of(graph, *place)
    rows, row_of = _of_effects(settings, where) if effects else _beside_controls(settings, where)
    row = np.append(row_of, -1)[of_node]
    nodes = np.flatnonzero(row >= 0)
    cells = Cells(values_of(graph, *place, nodes), row[nodes], place[1] in names.MOLECULE_OF)
    profile, n_cells = profiles(cells, len(rows))
    variance = jackknife(cells, len(rows))
    at = {one.context: i for i, one in enumerate(rows) if not one.parts}
    control = np.array([at[one.context] for one in rows])
    unmeasured = ~np.isfinite(profile)
    if effects:
        is_control = control == np.arange(len(rows))
        profile, unmeasured = (
            np.where(is_control[:, None] | unmeasured, 0.0, profile),
            unmeasured & ~is_control[:, None],
        )
        variance[is_control] = 0.0
    table = Responses(
        genes=genes_of(graph, *place),
        condition=np.array([canonical(one.parts) for one in rows]),
        context=np.array(labels_of_settings(rows)),
        parts=tuple(one.parts for one in rows),
        n_cells=n_cells,
        profile=profile,
        variance=variance,
        control=control,
        cells=cells,
        unmeasured=unmeasured if effects else None,
        place=np.array([one.context for one in rows]),
        amounts=np.array([log_amounts(one) for one in rows]),
    )
    return table, rows, row


def _beside_controls(settings: list[Setting], where: str) -> tuple[list[Setting], Ints]:
    """Return the settings that have a control, one a context, and the row of each setting (setting,), -1 for none."""
    control = {one.context: i for i, one in reversed(list(enumerate(settings))) if not one.parts}
    kept = [i for i, one in enumerate(settings) if one.context in control and (one.parts or control[one.context] == i)]
    alone = [one for one in settings if one.context not in control]
    if alone:
        tell(f"{where}: {len(alone)} conditions without a control in their context are not scored")
    if not any(settings[i].parts for i in kept):
        raise GraphError(where, "no condition with a control in its context", "treated and control cells")
    row_of = np.full(len(settings), -1)
    row_of[kept] = np.arange(len(kept))
    # Controls of all durations are one, so that every condition has one control.
    merged = [i if one.parts else control[one.context] for i, one in enumerate(settings)]
    return [settings[i] for i in kept], row_of[merged]


def _of_effects(settings: list[Setting], where: str) -> tuple[list[Setting], Ints]:
    """Return what was done, with a control that nobody measured in each context, and the row of each setting."""
    idle = sum(not one.parts for one in settings)
    if idle:
        tell(f"{where}: {idle} rows of effects in which nothing was done are not scored")
    treated = [one for one in settings if one.parts]
    rows = sorted({*treated, *(Setting(one.context, ()) for one in treated)})
    place = {one: i for i, one in enumerate(rows)}
    return rows, np.array([place[one] if one.parts else -1 for one in settings], np.int64)


def conditions_of_graph(graph: TissueGraph, rows: Sequence[Setting], row: Ints) -> pd.DataFrame:
    """Return what was done in each of `rows`, with its context and groups, in the form that designs read.

    Parameters
    ----------
    rows, row
        The setting of each row, and the row of each node (node,), as `responses_of_graph` returns them.
    """
    level = (screened(graph) or ("", ""))[0]
    found = pd.DataFrame(
        {
            names.CONDITION: [canonical(one.parts) for one in rows],
            names.CONTEXT: [one.context for one in rows],
        }
    )
    for name, amounts in ((names.DOSE, [one.doses for one in rows]), (names.HOURS, [one.hours for one in rows])):
        if any(amounts):
            found[name] = [one or (np.nan,) * max(len(own.parts), 1) for one, own in zip(amounts, rows, strict=True)]
    if names.INTERVENTION in graph.node_types and names.SMILES in (known := graph.obs(names.INTERVENTION)):
        molecule = {str(key).split(":", 1)[-1]: text or None for key, text in known[names.SMILES].items()}
        found[names.SMILES] = [tuple(molecule.get(part) for part in one.parts) or ("",) for one in rows]
    sections = graph.obs(names.SECTION)
    of_row = pd.DataFrame({"row": row, "section": graph[level].section_index.numpy()})[row >= 0].drop_duplicates()
    for key in (*GROUPS, names.SECTION):
        if key == names.SECTION or key in sections:
            values = sections.index if key == names.SECTION else sections[key]
            own = of_row.assign(value=np.asarray(values, object)[of_row["section"]]).groupby("row")["value"]
            found[key] = own.agg(lambda some: str(some.iloc[0]) if some.nunique() == 1 else "").reindex(
                range(len(rows)), fill_value=""
            )
    return found


def held_out_conditions(graph: TissueGraph, table: Responses, row: Ints, split: str) -> Question | None:
    """Return the question that the labels of a graph ask: conditions all of whose cells are in `split`; None without.

    Baselines learn from conditions all of whose cells train; one with cells on both sides is neither asked nor told to
    them. The axis is *context* where no asked context has a training condition.
    """
    level, n = (screened(graph) or ("", ""))[0], len(table.parts)
    number = np.bincount(row[row >= 0], minlength=n)
    whole = {}
    for side in (names.TRAIN, split):
        inside = graph.in_split(level, side).numpy()[row >= 0]
        whole[side] = (np.bincount(row[row >= 0][inside], minlength=n) == number) & ~table.is_control
    if not whole[names.TRAIN].any() or not whole[split].any():
        return None
    elsewhere = not set(table.context[whole[names.TRAIN]]) & set(table.context[whole[split]])
    folds = (Fold(whole[names.TRAIN], whole[split]),)
    if elsewhere:
        return Question(f"{TASK}_held_out", "context", folds, "context", tuple(table.context.tolist()))
    return Question(f"{TASK}_held_out", "intervention", folds, "perturbation", tuple(table.condition.tolist()))
