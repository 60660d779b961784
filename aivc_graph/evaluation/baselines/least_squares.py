"""Composition by plain non-negative least squares on type profiles."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene


@BASELINES.register(
    "nnls", answers=("composition",), rule="non-negative least squares on the mean cell of each type", costly=True
)
def non_negative_least_squares(scene: Scene) -> Array | None:
    """Return each patch's amounts of the type profiles, brought to sum one (asked, type); even shares without counts.

    References
    ----------
    Lawson & Hanson 1974, doi:10.1137/1.9781611971217.
    """
    if scene.counts is None or scene.profiles is None:
        return None
    profiles = np.asarray(scene.profiles, np.float64).T
    amounts = np.array([nnls(profiles, y)[0] for y in np.asarray(scene.counts, np.float64)[scene.asked]])
    total = amounts.sum(axis=1, keepdims=True)
    return np.where(total > 0, amounts / np.maximum(total, 1e-12), 1 / amounts.shape[1])
