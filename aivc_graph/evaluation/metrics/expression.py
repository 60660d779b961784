"""Expression of genes: correlation gene by gene, and error of log expression."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.metrics.metric import METRICS, AbstractMetric, AbstractRootMean, Array, mean_known, sums_by


@METRICS.register(
    "pearson_by_gene",
    formula="mean over genes of corr over nodes (predicted, measured), within a section, then the mean over sections",
    best=1.0,
    higher_is_better=True,
    reference="He et al. 2020, doi:10.1038/s41551-020-0578-x",
    weakness="blind to scale and offset; noise in the measurement bounds it below 1",
)
class PearsonByGene(AbstractMetric):
    """Mean over genes of the correlation over nodes; a gene predicted constant scores 0, one measured constant is out.

    What was not measured, NaN, counts for nothing.

    .. math:: \\frac{1}{G} \\sum_g \\frac{\\mathrm{cov}(\\hat x_g, x_g)}{\\mathrm{sd}(\\hat x_g)\\,\\mathrm{sd}(x_g)}
    """

    within_sections = True

    def statistics(self, predicted: Array, measured: Array, group: Array, n_groups: int, section: Array) -> Array:
        """Return (group, 6, gene): number, sums, squares and products."""
        known = np.isfinite(measured)
        if known.all():
            a, b = predicted - predicted.mean(axis=0), measured - measured.mean(axis=0)
        else:
            a, b = (
                np.where(known, values - mean_known(np.where(known, values, np.nan)), 0)
                for values in (predicted, measured)
            )
        parts = (known.astype(b.dtype), a, b, a * a, b * b, a * b)
        return np.stack([sums_by(part, group, n_groups) for part in parts], axis=1)

    def value(self, total: Array) -> float:
        """Return the mean correlation."""
        return float(self.values(total[None])[0])

    def values(self, totals: Array) -> Array:
        """Return the mean correlation of each draw."""
        n, a, b, aa, bb, ab = np.moveaxis(totals, 1, 0)
        n = np.maximum(n, 1)
        own, true = aa / n - (a / n) ** 2, bb / n - (b / n) ** 2
        varies = true > 1e-12
        moves = varies & (own > 1e-12)
        found = np.where(moves, (ab / n - a * b / n**2) / np.sqrt(np.where(moves, own * true, 1.0)), 0.0)
        number = varies.sum(axis=1)
        return np.where(number > 0, found.sum(axis=1) / np.maximum(number, 1), np.nan)

    def at_full_depth(self, half: float) -> float:
        """Return 2 r / (1 + r), undefined for r ≤ 0 (Spearman 1910, doi:10.1111/j.2044-8295.1910.tb00206.x)."""
        return 2 * half / (1 + half) if half > 0 else float("nan")


@METRICS.register(
    "pearson_by_pathway",
    formula="mean over pathways of corr over rows (predicted, measured), within a section, then the mean over sections",
    best=1.0,
    higher_is_better=True,
    reference="He et al. 2020, doi:10.1038/s41551-020-0578-x (of genes)",
    weakness="blind to scale and offset; pathways that share genes count as if they did not",
)
class PearsonByPathway(PearsonByGene):
    """The same of activities, pathway by pathway."""


class _RootMeanSquare(AbstractRootMean):
    def rows(self, predicted: Array, measured: Array) -> Array:
        """Return the sum of squared errors and their number, a row, of what was measured and is no NaN."""
        known = np.isfinite(measured).reshape(len(measured), -1)
        error = ((predicted - measured) ** 2).reshape(len(predicted), -1)
        return np.column_stack([np.where(known, error, 0).sum(axis=1), known.sum(axis=1)])

    def at_full_depth(self, half: float) -> float:
        """Return the error over √2: twice the counts, half the variance of their noise."""
        return half / float(np.sqrt(2))


@METRICS.register(
    "rmse_log",
    formula="root of the mean over nodes and genes of (predicted - measured)², in log1p of counts scaled to one depth",
    best=0.0,
    higher_is_better=False,
    reference="Hastie, Tibshirani & Friedman 2009, doi:10.1007/978-0-387-84858-7",
    weakness="mostly counting noise in shallow data; rewards predictions that collapse to the mean",
)
class RmseOfLogExpression(_RootMeanSquare):
    """Root mean square error of log expression."""


@METRICS.register(
    "rmse",
    formula="root of the mean over rows and features of (predicted - measured)², in the units of the data",
    best=0.0,
    higher_is_better=False,
    reference="Hastie, Tibshirani & Friedman 2009, doi:10.1007/978-0-387-84858-7",
    weakness="features of large spread lead; rewards predictions that collapse to the mean",
)
class RmseOfFeatures(_RootMeanSquare):
    """Root mean square error of features as they are given."""


@METRICS.register(
    "rmse_effect",
    formula="root of the mean over rows and genes of (predicted - true effect)²",
    best=0.0,
    higher_is_better=False,
    reference="Ahlmann-Eltze, Huber & Anders 2025, doi:10.1038/s41592-025-02772-6",
    weakness="rewards predicting no effect where effects are small; read it beside the correlation and the sign",
)
class RmseOfEffect(_RootMeanSquare):
    """Root mean square error of an effect."""
