"""A graph's screen as a table of responses, and what its split asks of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import GraphError
from aivc_graph.evaluation.responses.cells import Cells, jackknife, sums
from aivc_graph.evaluation.responses.questions import Fold, Question
from aivc_graph.evaluation.responses.table import Responses
from aivc_graph.graph.screens import (
    EFFECT,
    Setting,
    genes_of,
    labels_of_settings,
    screened,
    settings_of,
    values_of,
)
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.intervention.condition_profiles import profiles_of
from aivc_graph.tissue.conditions import canonical
from aivc_graph.tissue.doubt import tell

TASK = "conditions"


def responses_of_graph(graph: TissueGraph) -> tuple[Responses, list[Setting], NDArray[np.integer]] | None:
    """Return the table of a graph's screen, the setting of each row (row,), and the row of each node (node,), or -1.

    None without a screen. Where a part was given in several doses or for several durations, each is a context of its
    own, with the controls of its context. Conditions without a control in their context are left out, and it is said
    how many.

    Raises
    ------
    GraphError
        If the values are effects, or no condition has a control.
    """
    place = screened(graph)
    if place is None:
        return None
    where = f"{place[0]} · {place[1]}"
    if place[1] == EFFECT:
        raise GraphError(where, "effects", "expression of cells", "score predictions of effects by what was measured")
    settings, of_node = settings_of(graph, *place)
    control = {one.context: i for i, one in reversed(list(enumerate(settings))) if not one.parts}
    kept = [i for i, one in enumerate(settings) if one.context in control and (one.parts or control[one.context] == i)]
    alone = [one for one in settings if one.context not in control]
    if alone:
        tell(f"{where}: {len(alone)} conditions without a control in their context are not scored")
    if not any(settings[i].parts for i in kept):
        raise GraphError(where, "no condition with a control in its context", "treated and control cells")
    # Controls of all durations are one, so that every condition has one control.
    merged = np.array(
        [control[one.context] if not one.parts and one.context in control else i for i, one in enumerate(settings)]
    )
    row_of = np.full(len(settings) + 1, -1)
    row_of[kept] = np.arange(len(kept))
    row_of[: len(settings)] = row_of[merged]
    row = row_of[of_node]
    rows = [settings[i] for i in kept]
    nodes = np.flatnonzero(row >= 0)
    cells = Cells(values_of(graph, *place, nodes), row[nodes], place[1] in names.MOLECULE_OF)
    total, n_cells = sums(cells, len(rows))
    label = labels_of_settings(rows)
    table = Responses(
        genes=genes_of(graph, *place),
        condition=np.array([canonical(one.parts) for one in rows]),
        context=np.array(label),
        parts=tuple(one.parts for one in rows),
        n_cells=n_cells,
        profile=profiles_of(total, n_cells, cells.counts),
        variance=jackknife(cells, total, n_cells),
        control=np.array([row_of[control[one.context]] for one in rows]),
        cells=cells,
    )
    return table, rows, row


def held_out_conditions(graph: TissueGraph, table: Responses, row: NDArray[np.integer], split: str) -> Question | None:
    """Return the question that a graph's split asks: conditions all of whose cells are in `split`; None without any.

    Baselines learn from conditions all of whose cells train; one with cells on both sides is neither asked nor told to
    them. The axis is *context* where no asked context has a training condition.
    """
    level, n = (screened(graph) or ("", ""))[0], len(table.parts)
    whole = {}
    for side in (names.TRAIN, split):
        inside = graph.in_split(level, side).numpy()[row >= 0]
        whole[side] = (np.bincount(row[row >= 0][inside], minlength=n) == table.n_cells) & ~table.is_control
    if not whole[names.TRAIN].any() or not whole[split].any():
        return None
    seen = set(table.context[whole[names.TRAIN]])
    axis = "intervention" if seen & set(table.context[whole[split]]) else "context"
    return Question(TASK, axis, (Fold(whole[names.TRAIN], whole[split]),))  # type: ignore[arg-type]
