"""Expression of nodes whose own counts were taken away, from the tissue around them."""

from __future__ import annotations

import numpy as np

from aivc_graph import names
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.pipeline.tasks.scored_expression import scored_expression
from aivc_graph.pipeline.tasks.task import TASKS, Asked, Mask
from aivc_graph.query.predictions import measured_log_expression

SHARE = 0.25
MOST = 20_000
# What is asked of nodes by what is around them.
OF_CONTEXT = (names.RNA, names.INTENSITY)


@TASKS.register("context_to_expression", needs="nodes with counts or intensities, and neighbours")
def context_to_expression(asked: Asked) -> list[Scored]:
    """Hide the counts, or intensities, of every fourth scored node, drawn at random, and ask what it expresses.

    Asked at the finest level that was measured. Its neighbours, and what else was seen of it, stay visible.
    """
    level, rows = hidden_rows(asked)
    if not rows.any():
        return []
    counted = asked.counted(level)
    target = measured_log_expression(asked.model, asked.graph, level)
    visible = asked.scored(level) & counted & ~rows
    train = asked.training(level) & counted & ~rows
    scene = asked.scene(
        level, np.where((train | visible)[:, None], target, np.nan), train=train, visible=visible, asked=rows
    )
    modality = asked.expressed(level)
    hidden = {(level, modality): rows}
    return scored_expression(asked, "context_to_expression", "context", modality, level, rows, hidden, scene)


def hidden_rows(asked: Asked) -> tuple[str, Mask]:
    """Return the finest level that was counted and has neighbours, and who is hidden there (node,), often nobody."""
    level = next((v for v in names.LEVELS if v in asked.model.plan.panels and v in asked.model.plan.laterals), None)
    if level is None or asked.model.plan.expressed(level) not in OF_CONTEXT:
        return names.CELL, np.zeros(0, bool)
    rows = asked.scored(level) & asked.counted(level) & asked.placed(level)
    share = min(SHARE, MOST / max(rows.sum(), 1))
    return level, rows & (np.random.default_rng(asked.tissue.seed).random(len(rows)) < share)
