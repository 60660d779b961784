"""Expression of sections that were never sequenced, from the slide alone."""

from __future__ import annotations

from aivc_graph import names
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.pipeline.tasks.scored_expression import scored_expression
from aivc_graph.pipeline.tasks.task import HIDDEN, TASKS, Asked
from aivc_graph.query.ablations import FEATURES_ONLY
from aivc_graph.query.predictions import measured_log_expression


@TASKS.register("image_to_expression", needs="patches with a tile and counts, some of them held out")
def image_to_expression(asked: Asked) -> list[Scored]:
    """Take all counts of the scored nodes away, at every level, and ask what their patches express.

    Nothing is left there but the slide; ridge on the same features is the rule to beat.
    """
    level, counted = names.PATCH, asked.counted(names.PATCH)
    seen = asked.measured(level, names.HISTOLOGY)
    rows = asked.scored(level) & counted & seen if len(seen) else seen
    # Trained on every section: an image that was learned beside its own counts proves nothing.
    if not rows.any() or asked.split == HIDDEN:
        return []
    target = measured_log_expression(asked.model, asked.graph, level)
    scene = asked.slide_scene(level, target, asked.training(level) & counted, rows)
    task, kind = "image_to_expression", "histology → rna"
    same = (FEATURES_ONLY,)
    return scored_expression(asked, task, "modality", kind, level, rows, asked.all_hidden, scene, same=same)
