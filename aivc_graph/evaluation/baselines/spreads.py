"""Distributions by rule: what training nodes express, and what the nearest nodes do."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene
from aivc_graph.evaluation.baselines.neighbours import nearest_visible

DRAWS = 99
NEAREST = 18


@BASELINES.register("climatology", answers=("distribution",), rule="training nodes, drawn evenly, for everyone alike")
def climatology(scene: Scene) -> Array | None:
    """Return the quantiles of each target over training nodes, the same for all (asked, draw, k).

    References
    ----------
    Gneiting & Raftery 2007, doi:10.1198/016214506000001437 (the reference forecast of skill scores).
    """
    if not scene.train.any():
        return None
    quantiles = np.quantile(scene.target[scene.train], (np.arange(DRAWS) + 0.5) / DRAWS, axis=0)
    return np.repeat(quantiles[None], int(scene.asked.sum()), axis=0)


@BASELINES.register(
    "values_of_18_neighbours",
    answers=("distribution", "environment"),
    rule="the 18 nearest visible nodes, as draws",
)
def values_of_neighbours(scene: Scene) -> Array | None:
    """Return the values of the nearest visible nodes (asked, draw, k); None unless every asked section has enough."""
    near = nearest_visible(scene, NEAREST)
    return None if near is None else scene.target[near].astype(np.float64)
