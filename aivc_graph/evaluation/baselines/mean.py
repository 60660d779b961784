"""Means: of all training nodes, and of the visible nodes of the same section."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene


@BASELINES.register(
    "global_mean",
    answers=("expression", "composition", "response", "modality", "type"),
    rule="the mean over training nodes",
)
def global_mean(scene: Scene) -> Array | None:
    """Return the mean over training nodes, the same for all (asked, k)."""
    if not scene.train.any():
        return None
    return np.repeat(scene.target[scene.train].mean(axis=0)[None], int(scene.asked.sum()), axis=0)


@BASELINES.register("context_mean", answers=("expression", "composition", "response"), rule="the mean over the section")
def context_mean(scene: Scene) -> Array | None:
    """Return the mean over visible nodes of the same section; None unless every asked section has some."""
    answer = np.zeros((int(scene.asked.sum()), scene.target.shape[1]))
    for section in np.unique(scene.section[scene.asked]):
        seen = scene.visible & (scene.section == section) & ~scene.asked
        if not seen.any():
            return None
        answer[scene.section[scene.asked] == section] = scene.target[seen].mean(axis=0)
    return answer
