"""Effects of interventions by rule: nothing changes, or treated nodes shift as treated tissue did on average."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene


@BASELINES.register("no_change", answers=("effect", "response"), rule="nothing changes")
def no_change(scene: Scene) -> Array | None:
    """Return no effect at all (asked, k)."""
    return np.zeros((int(scene.asked.sum()), scene.target.shape[1]))


@BASELINES.register(
    "mean_shift", answers=("effect",), rule="treated nodes shift as treated training nodes did on average"
)
def mean_shift(scene: Scene) -> Array | None:
    """Return the mean shift of training nodes for nodes that are treated, nothing for others (asked, k).

    `features` (node, 1) says who is treated.
    """
    if scene.features is None or not scene.train.any():
        return None
    return scene.features[scene.asked] * scene.target[scene.train].mean(axis=0)
