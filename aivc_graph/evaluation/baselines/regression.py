"""One modality from another, cell by cell: kernel ridge and nearest neighbours on principal components of training."""

from __future__ import annotations

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene
from aivc_graph.operators.regressions import NEIGHBOURS, gaussian_ridge, nearest_mean, principal_axes

PENALTY = 1.0


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
    return gaussian_ridge(x[rows], scene.target[rows], x[scene.asked], (PENALTY,))[0]


@BASELINES.register(
    "knn_of_features",
    answers=("expression", "modality", "type"),
    rule="the mean of the 25 nearest training cells by 50 components of features",
    costly=True,
)
def nearest_cells(scene: Scene) -> Array | None:
    """Return the mean over the 25 nearest training cells (asked, k)."""
    found = components(scene)
    if found is None or len(found[0]) < NEIGHBOURS:
        return None
    rows, x = found
    return nearest_mean(x[rows], scene.target[rows], x[scene.asked])


def components(scene: Scene) -> tuple[Array, Array] | None:
    """Return training rows and principal components (node, component), the axes fitted on training rows."""
    if scene.features is None:
        return None
    rows = scene.fitted()
    if len(rows) < 20:
        return None
    x = scene.standard_features()
    centred = x - x[rows].mean(axis=0)
    return rows, centred @ principal_axes(centred[rows])
