"""Effects of interventions: their pattern over genes, and their direction."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.metrics.metric import METRICS, AbstractMean, Array

# A true effect this share of the largest is one that a prediction can be held to.
CLEAR = 0.1


@METRICS.register(
    "pearson_delta",
    formula="mean over rows with a clear effect of corr over genes (predicted, true); a constant prediction is -1",
    best=1.0,
    higher_is_better=True,
    reference="Ahlmann-Eltze, Huber & Anders 2025, doi:10.1038/s41592-025-02772-6",
    weakness="blind to the size of the effect; an effect common to all perturbations scores high",
)
class PearsonDelta(AbstractMean):
    """Correlation of effects over genes, each with the measured control on both sides.

    A row whose true effect is shorter than a tenth of the longest has none to correlate with, and is out.
    """

    def rows(self, predicted: Array, measured: Array) -> Array:
        """Return the correlation and one of rows with an effect."""
        a = predicted - predicted.mean(axis=1, keepdims=True)
        b = measured - measured.mean(axis=1, keepdims=True)
        own, true = (a**2).sum(axis=1), (b**2).sum(axis=1)
        counts = true > max(CLEAR**2 * true.max(initial=0.0), 1e-12)
        flat = own <= 1e-12
        found = np.where(flat, -1.0, (a * b).sum(axis=1) / np.sqrt(np.where(flat | ~counts, 1.0, own * true)))
        return np.column_stack([np.where(counts, found, 0.0), counts])


@METRICS.register(
    "effect_sign",
    formula="share of the true effects above a tenth of the largest whose predicted sign is the same; 0 is no sign",
    best=1.0,
    higher_is_better=True,
    reference="Dixon & Mood 1946, doi:10.1080/01621459.1946.10501898",
    weakness="blind to size; a half is chance",
)
class EffectSign(AbstractMean):
    """Share of clear effects whose direction is right."""

    def rows(self, predicted: Array, measured: Array) -> Array:
        """Return right signs and clear effects of each row."""
        clear = np.abs(measured) > CLEAR * np.abs(measured).max(initial=0.0)
        right = clear & (np.sign(predicted) == np.sign(measured))
        return np.column_stack([right.sum(axis=1), clear.sum(axis=1)])
