"""What an aggregate hides: the worst groups, tissue unlike training, and the choice of weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from aivc_graph.evaluation.metrics.metric import Array
from aivc_graph.evaluation.scoring import rounded

LEAST = 5
DRAWS = 2000


def cvar(risk: Array, mass: Array, tail: float) -> float:
    """Return the mean over the worst `tail` of the mass, a group at the border in part.

    References
    ----------
    Rockafellar & Uryasev 2000, doi:10.21314/JOR.2000.038.

    Examples
    --------
    >>> cvar(np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4), 0.5)
    3.5
    """
    order = np.argsort(-risk, kind="stable")
    weight = mass[order] / mass.sum()
    before = np.cumsum(weight) - weight
    taken = np.clip(tail - before, 0, weight)
    return float(taken @ risk[order] / taken.sum())


def similarity_curve(risk: Array, similarity: Array) -> dict[str, Any]:
    """Return risk against likeness to training: a falling isotonic fit, and a line's slope and value at likeness 0.

    Likeness 0 lies outside what was seen, so the value there is an extrapolation and says so.

    References
    ----------
    Barlow & Brunk 1972, doi:10.1080/01621459.1972.10481216 (isotonic regression).
    """
    from sklearn.isotonic import IsotonicRegression

    known = np.isfinite(risk) & np.isfinite(similarity)
    risk, similarity = risk[known], similarity[known]
    if len(np.unique(similarity)) < LEAST:
        return {"value": None, "reason": f"fewer than {LEAST} groups of known likeness to training"}
    steps = IsotonicRegression(increasing=False).fit(similarity, risk)
    at = np.unique(similarity)
    slope, intercept = np.polyfit(similarity, risk, 1)
    return {
        "similarity": [rounded(float(s)) for s in at],
        "risk": [rounded(float(r)) for r in steps.predict(at)],
        "slope": rounded(float(slope)),
        "at_0": rounded(float(intercept)),
        "n_groups": len(risk),
        "note": f"at_0 is a line drawn on from likeness {at[0]:.2f} and above",
    }


def weight_sensitivity(risks: dict[str, dict[str, float]], weights: dict[str, float]) -> dict[str, Any]:
    """Return how the model's risk and the ranking of predictors change when weights are drawn at random.

    Weights are drawn evenly over all that sum to one (a Dirichlet distribution of ones).

    Parameters
    ----------
    risks
        By predictor and axis; the first is the model.
    weights
        Those that were used, by axis.
    """
    axes = list(weights)
    table = np.array([[one[axis] for axis in axes] for one in risks.values()])
    if len(axes) < 2:
        return {"lower": None, "upper": None, "rank_stability": None, "reason": "one axis: no weight to choose"}
    drawn = np.random.default_rng(0).dirichlet(np.ones(len(axes)), DRAWS)
    totals = drawn @ table.T
    own = np.argsort(np.argsort(table @ np.array([weights[axis] for axis in axes]), kind="stable"))
    ranks = np.argsort(np.argsort(totals, axis=1, kind="stable"), axis=1)
    low, high = np.quantile(totals[:, 0], [0.025, 0.975])
    best = np.bincount(totals.argmin(axis=1), minlength=len(table)) / DRAWS
    return {
        "lower": rounded(float(low)),
        "upper": rounded(float(high)),
        "rank_stability": rounded(float((ranks == own).all(axis=1).mean())),
        "best_in": {who: rounded(float(share)) for who, share in zip(risks, best, strict=True)},
    }
