"""Does it know when it does not know? Error on what is left when the least certain answers are withheld."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aivc_graph.evaluation.metrics.metric import Array


@dataclass(frozen=True)
class RiskCoverage:
    """The mean error of the answers kept (kept,), most certain first, one more kept each time.

    `area` is the mean of it, `best` the least area any ordering reaches, and `chance` that of a random one.
    """

    risk: Array
    area: float
    best: float
    chance: float


def risk_coverage(error: Array, uncertainty: Array) -> RiskCoverage:
    """Return the curve; answers of equal uncertainty are kept or withheld together, so share their mean error.

    Parameters
    ----------
    error
        (answer,) how wrong each was, not negative.
    uncertainty
        (answer,) how unsure the predictor was of it, in any unit.

    References
    ----------
    Geifman, Uziel & El-Yaniv 2019, doi:10.48550/arXiv.1805.08206 (AURC).
    """
    wrong, unsure = np.asarray(error, np.float64).ravel(), np.asarray(uncertainty, np.float64).ravel()
    if len(wrong) == 0 or len(wrong) != len(unsure):
        raise ValueError(f"{len(wrong)} errors and {len(unsure)} uncertainties; expected as many of both, and some")
    _, place = np.unique(unsure, return_inverse=True)
    even = (np.bincount(place, wrong) / np.bincount(place))[place]
    curve = _running_mean(even[np.argsort(unsure, kind="stable")])
    best = _running_mean(np.sort(wrong))
    return RiskCoverage(curve, float(curve.mean()), float(best.mean()), float(wrong.mean()))


def _running_mean(values: Array) -> Array:
    return np.cumsum(values) / np.arange(1, len(values) + 1)
