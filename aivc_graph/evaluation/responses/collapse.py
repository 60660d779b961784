"""Whether predictions are all alike, whatever was asked: plain error forgives it, so it is said aloud."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.responses.views import Measured, Predicted

# Predictions that differ between conditions by less than this share of what was measured are all alike.
LEAST = 0.01


def distinctness(predicted: Predicted, measured: Measured) -> float | None:
    r"""Return how much predictions differ between conditions against how much measurements do; None where there is one.

    .. math:: \sum_p |\hat d_p - \bar{\hat d}|^2 \big/ \sum_p |d_p - \bar d|^2

    within contexts. Noise is in the denominator: a perfect prediction of noisy effects is below 1.
    """
    said, true = 0.0, 0.0
    for one in np.unique(measured.context):
        here = measured.context == one
        for effect, is_said in ((predicted.profile - measured.control, True), (measured.effect, False)):
            spread = float(((effect[here] - effect[here].mean(axis=0)) ** 2).sum())
            said, true = (said + spread, true) if is_said else (said, true + spread)
    return said / true if true > 0 else None


def collapsed(predicted: Predicted, measured: Measured) -> bool:
    """Say whether predictions are all alike."""
    found = distinctness(predicted, measured)
    return found is not None and found < LEAST
