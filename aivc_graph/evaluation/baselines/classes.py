"""Classes of donors by rule: what most others are."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene


@BASELINES.register("most_frequent", answers=("endpoint",), rule="the class that most of the other donors are of")
def most_frequent(scene: Scene) -> Array | None:
    """Return the class most frequent among training rows of other groups (asked,), the first of equals.

    `section` (node,) says which group, here which donor, each row is of.
    """
    found = []
    for one in scene.section[scene.asked]:
        others = scene.target[scene.train & (scene.section != one)]
        if not len(others):
            return None
        kinds, number = np.unique(others, return_counts=True)
        found.append(kinds[number.argmax()])
    return np.array(found)
