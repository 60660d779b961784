"""How sure the model is of nodes whose counts were taken away: its whole predictive distribution."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.baselines.baseline import run_baselines
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.pipeline.tasks.context_expression import hidden_rows
from aivc_graph.pipeline.tasks.task import TASKS, Asked
from aivc_graph.query.predictions import drawn_log_expression, expected, measured_log_expression
from aivc_graph.tissue.evenly import evenly

DRAWS, MOST_NODES, MOST_GENES = 99, 400, 40


@TASKS.register("context_distribution", needs="nodes with counts or intensities, and neighbours")
def context_distribution(asked: Asked) -> list[Scored]:
    """Ask for draws of what hidden nodes express: of 400 nodes, and the 40 genes with most counts in training.

    Of intensities the 40 markers of largest mean arcsinh.
    """
    level, hidden = hidden_rows(asked)
    if not hidden.any():
        return []
    shown = np.flatnonzero(hidden)
    rows = np.zeros(len(hidden), bool)
    rows[shown[evenly(len(shown), MOST_NODES)]] = True
    target, counted = measured_log_expression(asked.model, asked.graph, level), asked.counted(level)
    train, visible = asked.training(level) & counted & ~hidden, asked.scored(level) & counted & ~hidden
    if not train.any():
        return []
    whole = np.flatnonzero(np.isfinite(target[train | visible | rows]).all(axis=0))
    if not len(whole):
        return []
    columns = np.sort(whole[np.argsort(-target[train][:, whole].mean(axis=0), kind="stable")[:MOST_GENES]])
    modality = asked.expressed(level)
    left = hide_observations(asked.graph, {(level, modality): hidden})
    total = asked.totals(level)[rows]
    told = expected(asked.model, left, level, rows)
    known = np.where((train | visible)[:, None], target[:, columns], np.nan)
    scene = asked.scene(level, known, train=train, visible=visible, asked=rows)
    return [
        Scored(
            task="context_distribution",
            axis="context",
            modality=modality,
            readout="genes, distribution",
            measured=target[rows][:, columns],
            model=drawn_log_expression(asked.model, left, rows, told, total, level, columns, DRAWS),
            baselines=run_baselines(scene, "distribution"),
            metrics=("crps", "pit_chi_square"),
            **asked.asked_of(level, rows),
            no_ceiling="a distribution has no replicate",
            donor=asked.donor[asked.graph[level].section_index.numpy()[rows]],
            group=asked.kinds(level)[rows],
        )
    ]
