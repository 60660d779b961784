"""What the tasks that ask for expression share: who answers, against what, read in which terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.evaluation.metrics.metric import Answers
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.pipeline.tasks.ceiling import split_half
from aivc_graph.pipeline.tasks.environments import environments
from aivc_graph.pipeline.tasks.ground import read_all
from aivc_graph.pipeline.tasks.task import Asked, Mask
from aivc_graph.query.predictions import expected_log_expression, measured_log_expression
from aivc_graph.query.virtual_tissue import VirtualTissue

Floats = NDArray[np.floating]


def scored_expression(
    asked: Asked,
    task: str,
    axis: Literal["modality", "context"],
    modality: str,
    level: str,
    rows: Mask,
    hidden: Mapping[tuple[str, str], Mask],
    scene: Scene,
    same: tuple[str, ...] = (),
) -> list[Scored]:
    """Return the log expression of `rows` of a level where the observations `hidden` were not made, beside the rules.

    Once in the terms of each readout there is ground for: genes, pathways, neighbourhoods, niche composition.

    Parameters
    ----------
    hidden
        (level, modality) → who loses it (node,).
    scene
        What the rules look at.
    same
        Ablations that take nothing away which is not hidden.
    """

    def answer(tissue: VirtualTissue) -> Answers:
        return expected_log_expression(tissue.model, hide_observations(tissue.graph, hidden), level, rows)

    left = hide_observations(asked.graph, hidden)
    target = measured_log_expression(asked.model, asked.graph, level)
    scored = Scored(
        task=task,
        axis=axis,
        modality=modality,
        readout="genes",
        measured=target[rows],
        model=answer(asked.tissue),
        baselines=run_baselines(scene, "expression"),
        ablations=asked.ablations(answer, *same),
        metrics=(),
        **asked.asked_of(level, rows),
        ceilings=split_half(asked, level, rows, asked.expressed(level)),
        similarity=asked.similarity(level, rows),
        no_ceiling="what was measured are no counts, so no replicate can be drawn from them",
    )
    around = environments(asked, level, rows, left, scored, scene, target)
    return read_all(asked, level, rows, scored, scene, target) + around
