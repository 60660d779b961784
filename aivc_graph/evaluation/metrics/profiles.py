"""Profiles of responses: how well the pattern and the size of an effect over genes are told."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aivc_graph.evaluation.metrics.metric import METRICS, each
from aivc_graph.evaluation.responses.views import (
    AbstractResponseMetric,
    Floats,
    Mask,
    Measured,
    Predicted,
    correlations,
)

TOP = 20
# A prediction's own noise is credited at most this often.
MOST_CREDIT = 1.0


@METRICS.register(
    "pearson_delta_profile",
    formula="mean over conditions of corr over genes (b̂ - b_control, b - b_control), the perturbed gene left out; a "
    "prediction that does not vary is -1",
    best=1.0,
    higher_is_better=True,
    reference="Ahlmann-Eltze, Huber & Anders 2025, doi:10.1038/s41592-025-02772-6",
    weakness="blind to the size of the effect; what all perturbations share scores high; noise of the one control on "
    "both sides adds to it",
)
class PearsonDeltaProfile(AbstractResponseMetric):
    """Correlation of effects over genes, with the measured control on both sides."""

    is_correlation = True

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return a correlation a row."""
        said = predicted.profile - measured.control
        return each(correlations(said, measured.effect, ~measured.own, flat=-1.0))


@METRICS.register(
    "systema_delta",
    formula="mean over conditions of corr over genes (b̂ - r, b - r), r the mean of training profiles; a prediction "
    "that does not vary is -1",
    best=1.0,
    higher_is_better=True,
    reference="Viñas Torné et al. 2025, doi:10.1038/s41587-025-02777-8",
    weakness="where few conditions train, r is noisy, and a prediction of the mean is -1 by rule",
    chance=0.0,
)
class SystemaDelta(AbstractResponseMetric):
    """Correlation of what sets a condition apart from the average perturbation."""

    is_correlation = True

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return a correlation a row."""
        a, b = predicted.profile - measured.reference, measured.profile - measured.reference
        return each(correlations(a, b, ~measured.own, flat=-1.0))


@METRICS.register(
    "systema_delta_top20",
    formula="as systema_delta, over the 20 genes whose measured effect is largest in standard errors",
    best=1.0,
    higher_is_better=True,
    reference="Viñas Torné et al. 2025, doi:10.1038/s41587-025-02777-8",
    weakness="the genes are chosen by the measurement itself; twenty genes make a noisy correlation",
    chance=0.0,
)
class SystemaDeltaTop20(AbstractResponseMetric):
    """The same over the most changed genes."""

    is_correlation = True

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return a correlation a row."""
        error = np.sqrt(measured.variance + measured.control_variance)
        clear = np.where(measured.own | ~np.isfinite(error), -1.0, np.abs(measured.effect) / np.maximum(error, 1e-9))
        kept = np.zeros(clear.shape, bool)
        np.put_along_axis(kept, np.argsort(-clear, axis=1, kind="stable")[:, :TOP], True, axis=1)
        kept &= ~measured.own
        a, b = predicted.profile - measured.reference, measured.profile - measured.reference
        return each(correlations(a, b, kept, flat=-1.0))


@METRICS.register(
    "mse_delta",
    formula="mean over conditions and genes of (b̂ - b)²",
    best=0.0,
    higher_is_better=False,
    reference="Ahlmann-Eltze, Huber & Anders 2025, doi:10.1038/s41592-025-02772-6",
    weakness="rewards predicting no effect where effects are small: never read it alone; bounded below by noise",
)
class MseDelta(AbstractResponseMetric):
    """Mean squared error of the effect."""

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return a mean squared error a row."""
        squares = np.where(measured.own, 0.0, (predicted.profile - measured.profile) ** 2)
        return each(squares.sum(axis=1) / np.maximum((~measured.own).sum(axis=1), 1))


@METRICS.register(
    "rmse_delta",
    formula="root of mse_delta",
    best=0.0,
    higher_is_better=False,
    reference="Ahlmann-Eltze, Huber & Anders 2025, doi:10.1038/s41592-025-02772-6",
    weakness="as mse_delta",
)
class RmseDelta(MseDelta):
    """Root mean square error of the effect."""

    def values(self, totals: Floats) -> Floats:
        """Return the root of the mean of each draw."""
        return np.asarray(np.sqrt(super().values(totals)))


@METRICS.register(
    "wmse",
    formula="mean over conditions of sum over genes of w (b̂ - b)², w ∝ |t| of the condition against all others, sum 1",
    best=0.0,
    higher_is_better=False,
    reference="after Mejia et al. 2025, doi:10.48550/arXiv.2506.22641; the weights are our own",
    weakness="weights come from the measurement; not comparable between data sets",
)
class WeightedMse(AbstractResponseMetric):
    """Mean squared error where a condition differs from the others."""

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return a weighted squared error a row."""
        return each(weighted(predicted.profile - measured.profile, measured))


@METRICS.register(
    "r2_weighted",
    formula="1 - sum of wmse / sum of wmse of the mean of training effects",
    best=1.0,
    higher_is_better=True,
    reference="after Mejia et al. 2025, doi:10.48550/arXiv.2506.22641; the weights are our own",
    weakness="as wmse; unbounded below",
)
class WeightedR2(AbstractResponseMetric):
    """Share of the weighted variance around the mean prediction that is told."""

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return what is gained over the mean prediction, and all there is to gain."""
        mean = weighted(measured.reference - measured.profile, measured)
        return np.column_stack([mean - weighted(predicted.profile - measured.profile, measured), mean])


@METRICS.register(
    "unbiased_mse_ratio",
    formula="sum N / sum D; N = (|b̂ - b|² - ρ min(Ĉ, C) - C) / G, D = (|b - b_control|² - C - C_control) / G; C delete-"
    "one jackknife variances; ρ = min(1, sum of squares of the predictions around their mean / sum of min(Ĉ, C)), each "
    "condition weighing one over its number of genes",
    best=0.0,
    higher_is_better=False,
    reference="cell-eval2 (Arc Institute, vcc2026), github.com/ArcInstitute/cell-eval; jackknife after Efron & Stein "
    "1981, doi:10.1214/aos/1176345462",
    weakness="may be below 0; where effects are within noise D is near 0 and the ratio means nothing",
)
class UnbiasedMseRatio(AbstractResponseMetric):
    """Squared error beyond measurement noise, against that of no change; 1 is no better than no change."""

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return error and effect, both less their noise, a row."""
        kept = ~measured.own
        n = np.maximum(kept.sum(axis=1), 1)
        noise, control_noise = (_sum(v, kept) for v in (measured.variance, measured.control_variance))
        own = np.zeros(len(measured)) if predicted.variance is None else _sum(predicted.variance, kept)
        claimed = np.minimum(own, noise)
        spread = sum(
            _squares_around_mean(predicted.profile[here], kept[here]) for here in _each_context(measured.context)
        )
        total = float((claimed / n).sum())
        rho = min(MOST_CREDIT, spread / total) if total > 0 else 0.0
        error, effect = _sum((predicted.profile - measured.profile) ** 2, kept), _sum(measured.effect**2, kept)
        return np.column_stack([error - rho * claimed - noise, effect - noise - control_noise]) / n[:, None]


def weighted(error: Floats, measured: Measured) -> Floats:
    """Return the squared error of each row weighted by how the gene sets the row apart (row,)."""
    weight = np.where(measured.own, 0.0, np.nan_to_num(np.abs(measured.distinction)))
    total = weight.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (weight * error**2).sum(axis=1) / np.where(total > 0, total, np.nan)


def _each_context(context: NDArray[np.integer]) -> list[NDArray[np.intp]]:
    return [np.flatnonzero(context == one) for one in np.unique(context)]


def _squares_around_mean(profile: Floats, kept: Mask) -> float:
    """Return the sum of squares over rows and genes around each gene's mean; a row weighs one over its genes."""
    weight = np.where(kept, 1 / np.maximum(kept.sum(axis=1, keepdims=True), 1), 0.0)
    mean = (weight * profile).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-300)
    return float((weight * (profile - mean) ** 2)[:, kept.sum(axis=0) > 1].sum())


def _sum(values: Floats, kept: Mask) -> Floats:
    return np.where(kept, values, 0.0).sum(axis=1)
