"""One modality from another, cell by cell: kernel ridge and nearest neighbours on principal components of training."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene

COMPONENTS = 50
NEIGHBOURS = 25
PENALTY = 1.0
MOST_TRAINED = 4_000


@BASELINES.register(
    "kernel_ridge_of_features",
    answers=("expression", "modality"),
    rule="ridge with a Gaussian kernel on 50 components of features",
    costly=True,
)
def kernel_ridge_of_features(scene: Scene) -> Array | None:
    """Return kernel ridge around the training mean (asked, k); of at most 4,000 training cells, evenly taken."""
    found = components(scene)
    if found is None:
        return None
    rows, x = found
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_TRAINED)).astype(int))]
    squares = _squares(x[rows], x[rows])
    width = float(np.median(squares)) or 1.0
    mean = scene.target[rows].mean(axis=0)
    weights = np.linalg.solve(np.exp(-squares / width) + PENALTY * np.eye(len(rows)), scene.target[rows] - mean)
    return mean + np.exp(-_squares(x[scene.asked], x[rows]) / width) @ weights


@BASELINES.register(
    "knn_of_features",
    answers=("expression", "modality"),
    rule="the mean of the 25 nearest training cells by 50 components of features",
    costly=True,
)
def nearest_cells(scene: Scene) -> Array | None:
    """Return the mean over the 25 nearest training cells (asked, k)."""
    found = components(scene)
    if found is None or len(found[0]) < NEIGHBOURS:
        return None
    rows, x = found
    near = cKDTree(x[rows]).query(x[scene.asked], k=NEIGHBOURS)[1]
    return scene.target[rows][near].mean(axis=1)


def components(scene: Scene) -> tuple[Array, Array] | None:
    """Return training rows and principal components (node, component), the axes fitted on training rows."""
    if scene.features is None:
        return None
    rows = scene.fitted()
    if len(rows) < 20:
        return None
    x = scene.standard_features()
    centred = x[rows] - x[rows].mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    return rows, (x - x[rows].mean(axis=0)) @ vectors[:, np.argsort(-values)[:COMPONENTS]]


def _squares(a: Array, b: Array) -> Array:
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0.0)
