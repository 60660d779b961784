"""Domains and classes: agreement of two partitions, and of labels with the true ones."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.metrics.metric import METRICS, AbstractMetric, Array


class _Contingency(AbstractMetric):
    def statistics(self, predicted: Array, measured: Array, group: Array, n_groups: int, section: Array) -> Array:
        """Return (group, predicted class, true class): the number of nodes."""
        a, b = (np.asarray(part).reshape(-1).astype(np.int64) for part in (predicted, measured))
        rows, columns = int(a.max(initial=0)) + 1, int(b.max(initial=0)) + 1
        table = np.zeros((n_groups, rows, columns))
        np.add.at(table, (group, a, b), 1.0)
        return table


@METRICS.register(
    "ari",
    formula="(Σ C(n_ij, 2) - E) / ((Σ C(a_i, 2) + Σ C(b_j, 2)) / 2 - E), E = Σ C(a_i, 2) Σ C(b_j, 2) / C(n, 2)",
    best=1.0,
    higher_is_better=True,
    reference="Hubert & Arabie 1985, doi:10.1007/BF01908075",
    weakness="large domains lead; depends on the number of domains asked for",
)
class AdjustedRandIndex(_Contingency):
    """Agreement of two partitions, 0 by chance, 1 where they are the same."""

    def value(self, total: Array) -> float:
        """Return the index of a contingency table."""
        together = _pairs(total).sum()
        rows, columns = _pairs(total.sum(axis=1)).sum(), _pairs(total.sum(axis=0)).sum()
        chance = rows * columns / max(_pairs(total.sum()), 1e-12)
        most = (rows + columns) / 2
        # Both partitions trivial: they are the same.
        return 1.0 if abs(most - chance) < 1e-12 else float((together - chance) / (most - chance))


@METRICS.register(
    "macro_f1",
    formula="mean over the true classes of 2 TP / (2 TP + FP + FN)",
    best=1.0,
    higher_is_better=True,
    reference="Opitz & Burst 2019, doi:10.48550/arXiv.1911.03347",
    weakness="a rare class counts as much as a common one",
)
class MacroF1(_Contingency):
    """Mean of the F1 of every class that occurs; predicted and measured codes mean the same classes."""

    def statistics(self, predicted: Array, measured: Array, group: Array, n_groups: int, section: Array) -> Array:
        """Return (group, class, class), square."""
        table = super().statistics(predicted, measured, group, n_groups, section)
        n = max(table.shape[1:])
        return np.pad(table, ((0, 0), (0, n - table.shape[1]), (0, n - table.shape[2])))

    def value(self, total: Array) -> float:
        """Return the mean F1."""
        hit, said, true = np.diag(total), total.sum(axis=1), total.sum(axis=0)
        occurs = true > 0
        return float((2 * hit / np.maximum(said + true, 1))[occurs].mean()) if occurs.any() else float("nan")


def _pairs(n: Array) -> Array:
    return n * (n - 1) / 2
