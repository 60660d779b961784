"""Ridge regression from features to the target, its penalty chosen on sections left out."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene
from aivc_graph.operators.regressions import chosen_penalty, ridge_path

STRETCHES = 5


@BASELINES.register(
    "ridge",
    answers=("expression", "modality"),
    rule="ridge on features, penalty chosen on sections left out",
    costly=True,
)
def ridge(scene: Scene) -> Array | None:
    """Return what ridge on the standardised features says of each asked node (asked, k)."""
    if scene.features is None:
        return None
    x = scene.standard_features()
    rows = scene.fitted()
    if len(rows) < 20:
        return None
    target = scene.target[rows].astype(np.float64)
    mean = target.mean(axis=0)
    group = scene.section[rows]
    if len(np.unique(group)) == 1:
        group = np.arange(len(rows)) * STRETCHES // len(rows)
    penalty = chosen_penalty(x[rows], target - mean, group)
    return mean + next(ridge_path(x[rows], target - mean, x[scene.asked], (penalty,)))
