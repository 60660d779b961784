"""Types by rule: of the nearest labelled nodes, by the nearest mean of a type, and by regression on features."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene
from aivc_graph.evaluation.baselines.neighbours import nearest_visible

STRENGTH, MOST_STEPS = 1.0, 200


@BASELINES.register(
    "types_of_6_neighbours", answers=("type",), rule="the shares of types among the 6 nearest labelled nodes"
)
def types_of_6_neighbours(scene: Scene) -> Array | None:
    """Return shares among the six nearest visible nodes and one node of training frequencies (asked, type)."""
    return _types_around(scene, 6)


@BASELINES.register(
    "types_of_18_neighbours", answers=("type",), rule="the shares of types among the 18 nearest labelled nodes"
)
def types_of_18_neighbours(scene: Scene) -> Array | None:
    """Return shares among the eighteen nearest visible nodes and one node of training frequencies (asked, type)."""
    return _types_around(scene, 18)


@BASELINES.register(
    "nearest_type_mean", answers=("type",), rule="the type whose mean of features is nearest", costly=True
)
def nearest_type_mean(scene: Scene) -> Array | None:
    """Return the type whose training nodes have the nearest mean, all of its probability (asked, type)."""
    if scene.features is None or len(rows := scene.fitted()) == 0:
        return None
    x, onehot = scene.standard_features(), scene.target[rows]
    mean = onehot.T @ x[rows] / np.maximum(onehot.sum(axis=0), 1)[:, None]
    far = ((x[scene.asked][:, None] - mean[None]) ** 2).sum(axis=2)
    far[:, onehot.sum(axis=0) == 0] = np.inf
    return np.asarray(np.eye(onehot.shape[1])[far.argmin(axis=1)])


@BASELINES.register(
    "logistic_of_features", answers=("type",), rule="multinomial logistic regression on features", costly=True
)
def logistic_of_features(scene: Scene) -> Array | None:
    """Return the probabilities of a regression with the library's usual penalty (asked, type)."""
    from sklearn.linear_model import LogisticRegression

    if scene.features is None or len(rows := scene.fitted()) == 0:
        return None
    x = scene.standard_features()
    kind = scene.target[rows].argmax(axis=1)
    if len(np.unique(kind)) < 2:
        return None
    spread = np.maximum(x[rows].std(axis=0), 1e-6)
    found = LogisticRegression(C=STRENGTH, max_iter=MOST_STEPS, random_state=0).fit(x[rows] / spread, kind)
    told = np.zeros((int(scene.asked.sum()), scene.target.shape[1]))
    told[:, found.classes_] = found.predict_proba(x[scene.asked] / spread)
    return told


def _types_around(scene: Scene, k: int) -> Array | None:
    near = nearest_visible(scene, k)
    if near is None or not scene.train.any():
        return None
    prior = scene.target[scene.train].mean(axis=0)
    return np.asarray((np.sum([scene.target[one] for one in near.T], axis=0) + prior) / (k + 1))
