"""Ridge regression from features to the target, its penalty chosen on sections left out."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from aivc_graph.evaluation.baselines.baseline import BASELINES, Array, Scene

PENALTIES = np.logspace(-3, 4, 12)
STRETCHES = 5


@BASELINES.register(
    "ridge",
    answers=("expression", "modality"),
    rule="ridge on features, penalty chosen on sections left out",
    costly=True,
)
def ridge(scene: Scene) -> Array | None:
    """Return what ridge on the standardised features says of each asked node (asked, k).

    References
    ----------
    Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634.
    """
    if scene.features is None:
        return None
    x = scene.standard_features()
    rows = scene.fitted()
    if len(rows) < 20:
        return None
    target = scene.target[rows].astype(np.float64)
    mean = target.mean(axis=0)
    fitted, wanted, group = x[rows], target - mean, scene.section[rows]
    if len(np.unique(group)) == 1:
        group = np.arange(len(rows)) * STRETCHES // len(rows)
    errors = np.zeros(len(PENALTIES))
    for one in np.unique(group):
        out = group == one
        for i, penalty in enumerate(PENALTIES):
            weights = solve(fitted[~out], wanted[~out], penalty)
            errors[i] += ((fitted[out] @ weights - wanted[out]) ** 2).sum()
    return mean + x[scene.asked] @ solve(fitted, wanted, float(PENALTIES[errors.argmin()]))


def solve(x: Array, y: Array, penalty: float) -> Array:
    """Return ridge coefficients (f, k) without intercept."""
    gram = x.T @ x + penalty * np.eye(x.shape[1])
    return cho_solve(cho_factor(gram), x.T @ y)
