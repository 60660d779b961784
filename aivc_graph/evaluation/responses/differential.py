"""Genes called changed: rank sums of cells against the control's cells, all genes of a condition at once, sparse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtr

from aivc_graph.evaluation.responses.cells import Cells

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

FALSE_DISCOVERIES = 0.05
LEAST_CPM = 5.0
SMALL = 1e-9
# A fold change told by a profile alone is at most 2 to this: a profile may say less than nothing, which no cell can.
MOST_LFC = 10.0


@dataclass(frozen=True)
class Differential:
    """Which genes are `significant` and their log2 fold change `lfc`, both (row, gene)."""

    significant: Mask
    lfc: Floats


class RankSums:
    """Two-sided Wilcoxon rank-sum tests of groups of cells against one control, in normal approximation with ties.

    Values are kept sparse: zeros tie with each other and with nothing else, and all others of the control are sorted
    once, so that a group costs its own stored values alone. Corrected for continuity, as scipy's ``mannwhitneyu`` is.

    Parameters
    ----------
    control
        Values of the control's cells (cell, gene), none negative.

    References
    ----------
    Mann & Whitney 1947, doi:10.1214/aoms/1177730491.
    """

    def __init__(self, control: sparse.csr_matrix) -> None:
        columns = sparse.csc_matrix(control)
        columns.eliminate_zeros()
        self.n, self.n_genes = columns.shape
        self._stored = np.diff(columns.indptr)
        gene = np.repeat(np.arange(self.n_genes), self._stored)
        order = np.lexsort((columns.data, gene))
        self._start = columns.indptr.astype(np.int64)
        self._value = columns.data[order]
        starts, size = _runs(gene, columns.data[order])
        self._ties = np.bincount(gene[starts], size**3 - size, minlength=self.n_genes)

    def test(self, group: sparse.csr_matrix) -> tuple[Floats, Floats]:
        """Return the z of a shift upwards and its two-sided p-value, each (gene,); 0 and 1 where all is equal."""
        x = sparse.csc_matrix(group)
        x.eliminate_zeros()
        m, n = x.shape[0], self.n
        stored = np.diff(x.indptr)
        gene = np.repeat(np.arange(self.n_genes), stored)
        value = x.data[np.lexsort((x.data, gene))]
        below, upto = self._places(gene, value)
        zeros, own_zeros = n - self._stored, m - stored
        # Pairs in which the group's cell is above the control's, a tie counting half.
        wins = np.bincount(gene, (below + upto) / 2, minlength=self.n_genes) + stored * zeros + own_zeros * zeros / 2
        ties = self._ties + (zeros + own_zeros).astype(float) ** 3 - (zeros + own_zeros)
        ties += self._new_ties(gene, value, (upto - below).astype(float))
        total = m + n
        variance = m * n / 12 * (total + 1 - ties / max(total * (total - 1), 1))
        moved = wins - m * n / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            nearer = np.sign(moved) * np.maximum(np.abs(moved) - 0.5, 0.0)
            z = np.where(variance > 1e-9, nearer / np.sqrt(np.maximum(variance, 0)), 0.0)
        return z, 2 * ndtr(-np.abs(z))

    def _places(self, gene: NDArray[np.integer], value: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each value how many of the control's stored values of that gene are below, and not above it."""
        below, upto = np.zeros(len(gene), np.int64), np.zeros(len(gene), np.int64)
        ends = np.concatenate([[0], np.cumsum(np.bincount(gene, minlength=self.n_genes))])
        for one in np.flatnonzero((np.diff(ends) > 0) & (self._stored > 0)):
            own = slice(ends[one], ends[one + 1])
            control = self._value[self._start[one] : self._start[one + 1]]
            below[own], upto[own] = control.searchsorted(value[own]), control.searchsorted(value[own], "right")
        return below, upto

    def _new_ties(self, gene: NDArray[np.integer], value: Floats, with_control: Floats) -> Floats:
        """Return by how much the group's stored values add to the control's sum of t³ - t."""
        starts, own = _runs(gene, value)
        theirs = with_control[starts]
        added = ((own + theirs) ** 3 - (own + theirs)) - (theirs**3 - theirs)
        return np.asarray(np.bincount(gene[starts], added, minlength=self.n_genes), np.float64)


def _runs(gene: NDArray[np.integer], value: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return where runs of equal values of one gene start, and how long they are."""
    starts = np.flatnonzero(np.r_[np.ones(min(len(gene), 1), bool), (np.diff(gene) != 0) | (np.diff(value) != 0)])
    return starts, np.diff(np.r_[starts, len(gene)]).astype(float)


def differential_of(cells: Cells, rows: NDArray[np.integer], control: NDArray[np.integer]) -> Differential:
    r"""Return the genes called in each of `rows` against the cells of its `control` row.

    Of counts per million in single cells; genes above 5 in the control on average; Benjamini–Hochberg at 5 % within a
    row; :math:`\mathrm{lfc} = \log_2\frac{m_p + 10^{-9}}{m_c + 10^{-9}}` of means m.

    References
    ----------
    Benjamini & Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    shape = (len(rows), cells.x.shape[1])
    significant, lfc = np.zeros(shape, bool), np.zeros(shape)
    for one in np.unique(control):
        base = cells.take(cells.of(one)).per_million()
        tests, mean = RankSums(base), np.asarray(base.mean(axis=0)).ravel()
        tested = mean > LEAST_CPM
        for i in np.flatnonzero(control == one):
            own = cells.take(cells.of(rows[i])).per_million()
            lfc[i] = log_fold(np.asarray(own.mean(axis=0)).ravel(), mean)
            significant[i, tested] = discoveries(tests.test(own)[1][tested])
    return Differential(significant, lfc)


def log_fold(mean: Floats, control: Floats) -> Floats:
    """Return the log2 fold change of means per million."""
    return np.log2((mean + SMALL) / (control + SMALL))


def discoveries(p: Floats) -> Mask:
    """Return which p-values are below 5 % by Benjamini–Hochberg."""
    order = np.argsort(p, kind="stable")
    passed = p[order] * len(p) / np.arange(1, len(p) + 1) < FALSE_DISCOVERIES
    out = np.zeros(len(p), bool)
    if passed.any():
        out[order[: np.flatnonzero(passed)[-1] + 1]] = True
    return out


def told_by_profile(
    said: Floats, control: Floats, control_variance: Floats, control_cells: Floats, n_cells: Floats, tested: Mask
) -> Differential:
    r"""Return the genes that a predicted profile without cells calls, all arrays (row, gene) or (row,).

    .. math:: z = (\hat b - b_c) \big/ \sqrt{V_c (1 + n_c / n_p)}

    A gene is called where its predicted shift would stand out from the control's spread at the number of cells that
    were measured; Benjamini–Hochberg at 5 % over the `tested` genes. The fold change is that of the profiles, at most
    2 to the 10.
    """
    error = np.sqrt(np.nan_to_num(control_variance) * (1 + control_cells / np.maximum(n_cells, 1))[:, None])
    p = 2 * ndtr(-np.abs(said - control) / np.maximum(error, 1e-9))
    significant = np.zeros(said.shape, bool)
    for i, kept in enumerate(tested):
        significant[i, kept] = discoveries(p[i, kept])
    fold = log_fold(np.expm1(np.maximum(said, 0)), np.expm1(np.maximum(control, 0)))
    return Differential(significant, np.clip(fold, -MOST_LFC, MOST_LFC))
