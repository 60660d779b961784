"""Of which type the nodes of a level are: measured by a label, or told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import QueryError
from aivc_graph.graph.panels import MOST_TYPES, labels_told, types_of
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.graph.windows import windows
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import STATE
from aivc_graph.operators.measurement.type_fit import told_by_turns
from aivc_graph.query.answers import node_table
from aivc_graph.query.states import WINDOW_NODES

Floats = NDArray[np.floating]


def typed_level(model: TissueModel, graph: TissueGraph, level: str | None) -> str:
    """Return a level whose labels the model has learnt, the finest if None.

    Raises
    ------
    QueryError
        If training nodes bore no labels there, or at no level, or labels of too many types.
    """
    there = list(model.plan.types)
    if not there:
        found = labels_told(graph) or "no training node bears a label"
        mend = "name the column of types as `label:` of the sources in the YAML, build and train again"
        raise QueryError("types", found, f"labels of 2 to {MOST_TYPES} types", mend)
    if level is not None and level not in there:
        raise QueryError("types", f"no labels of training nodes at {level}", f"one of {', '.join(there)}")
    return level or there[0]


@torch.no_grad()
def told_types(model: TissueModel, graph: TissueGraph, level: str, *, labelled: bool = True) -> tuple[Floats, Floats]:
    """Return the probability of each type of every node (node, type), and how far it rests on its rules (node,).

    A node's own label is never looked at: where labels take part in the state, those that bear one are told by turns,
    each without its own and without that of every fourth other; if not `labelled`, only nodes without one are told, and
    nobody's label is hidden. How far: 0 where the class prior says it all, 1 where it says nothing.
    """
    part = model.part("measurement", level, names.TYPE)
    told = np.zeros((int(graph[level].num_nodes), part.n_types), np.float32)
    rests = np.zeros(len(told), np.float32)
    model.eval()
    with model.asked(STATE):
        for window in windows(graph, model.plan.steps, WINDOW_NODES):
            inputs = model.prepare(window.graph)
            states = [(model(inputs), 1 - inputs.measured(*part.slot).mask)]
            for state, who in [*states, *(told_by_turns(part, model, inputs) if labelled else ())]:
                rows = torch.nonzero(window.core[level] & (who > 0)).ravel()
                into = window.rows[level][rows].numpy()
                told[into] = part.told(state, inputs)[rows].numpy()
                rests[into] = 1 - part.rule_share[part.situation(state, inputs)][rows, 0].numpy()
    return told, rests


def type_table(model: TissueModel, graph: TissueGraph, level: str) -> pd.DataFrame:
    """Return a row a node: its type, whether that was measured, and the probability of each type, told without it."""
    types = model.plan.types[level]
    told, rests = told_types(model, graph, level)
    kind = types_of(graph, level, types)
    table, measured = node_table(graph, level), kind >= 0
    likeliest = np.asarray(told.argmax(axis=1), np.int64)
    table["type"] = pd.Categorical.from_codes(
        np.where(measured, kind, likeliest).astype(np.int64), categories=pd.Index(types)
    )
    table["measured"] = measured
    table["told"] = pd.Categorical.from_codes(likeliest, categories=pd.Index(types))
    table["probability"] = told[np.arange(len(told)), likeliest]
    table["supported"] = rests > 0
    return pd.concat([table, pd.DataFrame(told, index=table.index, columns=[f"p_{one}" for one in types])], axis=1)
