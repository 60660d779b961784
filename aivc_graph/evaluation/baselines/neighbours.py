"""The mean of the nearest visible nodes in the tissue."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene


@BASELINES.register("mean_of_6_neighbours", answers=("expression",), rule="the 6 nearest visible nodes")
def mean_of_6_neighbours(scene: Scene) -> Array | None:
    """Return the mean of the six nearest visible nodes of the section (asked, k)."""
    return neighbour_mean(scene, 6)


@BASELINES.register("mean_of_18_neighbours", answers=("expression",), rule="the 18 nearest visible nodes")
def mean_of_18_neighbours(scene: Scene) -> Array | None:
    """Return the mean of the eighteen nearest visible nodes of the section (asked, k)."""
    return neighbour_mean(scene, 18)


def neighbour_mean(scene: Scene, k: int) -> Array | None:
    """Return the mean over the `k` nearest visible nodes (asked, target); None where a section has fewer."""
    near = nearest_visible(scene, k)
    if near is None:
        return None
    return np.asarray(np.mean([scene.target[one] for one in near.T], axis=0, dtype=np.float64))


def nearest_visible(scene: Scene, k: int) -> Array | None:
    """Return the `k` nearest visible nodes of the section (asked, k); None unless every asked section has that many."""
    near = np.zeros((int(scene.asked.sum()), k), np.int64)
    for section in np.unique(scene.section[scene.asked]):
        seen = np.flatnonzero(scene.visible & ~scene.asked & (scene.section == section))
        if len(seen) < k:
            return None
        rows = scene.section[scene.asked] == section
        near[rows] = seen[cKDTree(scene.pos_um[seen]).query(scene.pos_um[scene.asked][rows], k=k)[1]]
    return near
