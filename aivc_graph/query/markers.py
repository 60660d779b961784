"""Genes that mark a group of nodes, by measured counts of groups in units such as donors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.operators.moderated import moderated_variance
from aivc_graph.query.answers import INTENSITIES

Floats = NDArray[np.floating]
PER = 10_000.0
LEAST_NODES, LEAST_UNITS = 10, 3
CONFIDENCE = 0.95
COLUMNS = ["group", "gene", "log2_ratio", "lower", "upper", "p", "p_adjusted", "inside", "outside", "unit"]
COLUMNS += ["n_nodes", "n_units", "interval_over"]


@dataclass(frozen=True)
class Units:
    """What is compared within: the unit of each node (node,), what units are called, and whether they hold all groups.

    Donors and sections are `paired`: a group is set beside the others of the same unit. Regions of a section hold one
    group or few; groups of all of them are set beside each other.
    """

    code: NDArray[np.integer]
    name: str
    paired: bool


@dataclass(frozen=True)
class Scale:
    """What is compared of what was averaged, in units of log 2, how it is shown, and the unit of that."""

    log2: Callable[[Floats], Floats]
    shown: Callable[[Floats], Floats]
    unit: str


COUNTED = Scale(lambda rate: np.log2(1 + rate), lambda rate: rate, f"counts per {PER:,.0f}")


@dataclass(frozen=True)
class Comparison:
    """A group beside the others: rates inside and outside, the difference of logarithms and its variance, all (gene,).

    `df` degrees of freedom of the variance, `times` as large as that of one unit; NaN where units are too few.
    """

    inside: Floats
    outside: Floats
    shift: Floats
    variance: Floats
    df: int
    times: float
    n_units: int


def marker_table(
    counts: sparse.csr_matrix, genes: list[str], group: NDArray[np.integer], names: list[str], units: Units
) -> pd.DataFrame:
    r"""Return how far each gene stands out in each group, a row a group and gene.

    With :math:`r_{ugj}` the counts of gene j per 10,000 of all counts of the nodes of group g in unit u,

    .. math:: d_{ugj} = \log_2(1 + r_{ugj}) - \log_2(1 + \tfrac{1}{|G_u| - 1} \sum_{g' \ne g} r_{ug'j})

    ``log2_ratio`` is its mean over units, ``p`` of a t-test that it is 0, its variance drawn towards that of all genes;
    ``p_adjusted`` holds the rate of false discoveries among the genes of a group (Benjamini–Hochberg). A group counts
    in a unit where it has ten nodes or more; with fewer than three units there is neither interval nor p.

    Parameters
    ----------
    counts
        (node, gene), of nodes that were counted.
    group, names
        Group of each node (node,), −1 for none, and what groups are called.

    References
    ----------
    Smyth 2004, doi:10.2202/1544-6115.1027; Benjamini & Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    return _table(*_rates(counts, group, len(names), units.code), genes, names, units, COUNTED)


def intensity_marker_table(
    terms: Floats, cofactor: Any, genes: list[str], group: NDArray[np.integer], names: list[str], units: Units
) -> pd.DataFrame:
    r"""Return how far each marker stands out in each group, a row a group and marker; see `marker_table`.

    Of the mean arcsinh of a group in a unit, :math:`d = (\bar v_{ug} - \bar v_{u\bar g}) / \log 2`: the log2 ratio
    where intensities are well above the cofactor, and their difference where they are well below. ``inside`` and
    ``outside`` are the intensities that go with the means, in the file's units.

    Parameters
    ----------
    terms
        Arcsinh of intensities over their cofactors (node, marker).
    cofactor
        (marker,)
    """
    mean, n_nodes = _means(terms, group, len(names), units.code)
    scale = Scale(lambda v: v / np.log(2), lambda v: np.sinh(v) * np.asarray(cofactor), INTENSITIES)
    return _table(mean, n_nodes, genes, names, units, scale)


def _table(
    rate: Floats, n_nodes: NDArray[np.integer], genes: list[str], names: list[str], units: Units, scale: Scale
) -> pd.DataFrame:
    tables = []
    for g, name in enumerate(names):
        told = (_paired if units.paired else _unpaired)(rate, g, scale.log2)
        if told is None:
            continue
        columns: dict[str, Any] = {"group": name, "gene": genes, "log2_ratio": told.shift, **_tested(told)}
        columns |= {"inside": scale.shown(told.inside), "outside": scale.shown(told.outside), "unit": scale.unit}
        columns |= {"n_nodes": int(n_nodes[g]), "n_units": told.n_units, "interval_over": units.name}
        tables.append(pd.DataFrame(columns, columns=COLUMNS))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def _means(
    values: Floats, group: NDArray[np.integer], n_groups: int, unit: NDArray[np.integer]
) -> tuple[Floats, NDArray[np.integer]]:
    """Return mean values (unit, group, gene), NaN where a group has few nodes, and nodes of each group."""
    onehot, shape = _cells(group, n_groups, unit)
    n_nodes = np.asarray(onehot.sum(axis=1)).ravel()
    mean = np.asarray(onehot @ values, np.float64) / np.maximum(n_nodes, 1)[:, None]
    mean[n_nodes < LEAST_NODES] = np.nan
    return mean.reshape(*shape, -1), np.bincount(group[group >= 0], minlength=n_groups)


def _cells(
    group: NDArray[np.integer], n_groups: int, unit: NDArray[np.integer]
) -> tuple[sparse.csr_matrix, tuple[int, int]]:
    """Return who is of each group in each unit (unit × group, node), and the numbers of units and groups."""
    units, code = np.unique(unit, return_inverse=True)
    member = np.flatnonzero(group >= 0)
    cell = code.reshape(-1)[member] * n_groups + group[member]
    shape = (len(units) * n_groups, len(group))
    return sparse.csr_matrix((np.ones(len(member)), (cell, member)), shape=shape), (len(units), n_groups)


def _rates(
    counts: sparse.csr_matrix, group: NDArray[np.integer], n_groups: int, unit: NDArray[np.integer]
) -> tuple[Floats, NDArray[np.integer]]:
    """Return counts per 10,000 (unit, group, gene), NaN where a group has few nodes, and nodes of each group."""
    onehot, shape = _cells(group, n_groups, unit)
    sums = np.asarray((onehot @ counts).todense(), np.float64)
    depth, n_nodes = sums.sum(axis=1, keepdims=True), np.asarray(onehot.sum(axis=1))
    rate = np.where((n_nodes >= LEAST_NODES) & (depth > 0), sums / np.maximum(depth, 1e-12) * PER, np.nan)
    return rate.reshape(*shape, -1), np.bincount(group[group >= 0], minlength=n_groups)


def _paired(rate: Floats, g: int, log2: Callable[[Floats], Floats]) -> Comparison | None:
    """Compare a group with the others of the same unit."""
    others = np.delete(rate, g, axis=1)
    both = np.isfinite(rate[:, g, 0]) & np.isfinite(others[:, :, 0]).any(axis=1)
    if not both.any():
        return None
    inside, outside = rate[both, g], np.nanmean(others[both], axis=1)
    shift = log2(inside) - log2(outside)
    n = len(shift)
    variance = shift.var(axis=0, ddof=1) if n >= LEAST_UNITS else np.full(shift.shape[1], np.nan)
    means = inside.mean(axis=0), outside.mean(axis=0), shift.mean(axis=0)
    return Comparison(*means, variance, df=n - 1, times=1 / n, n_units=n)


def _unpaired(rate: Floats, g: int, log2: Callable[[Floats], Floats]) -> Comparison | None:
    """Compare a group in all units with the others in all units."""
    one, rest = (part.reshape(-1, part.shape[-1]) for part in (rate[:, [g]], np.delete(rate, g, axis=1)))
    one, rest = (part[np.isfinite(part[:, 0])] for part in (one, rest))
    if not len(one) or not len(rest):
        return None
    logs = [log2(part) for part in (one, rest)]
    df, variance = len(one) + len(rest) - 2, np.full(rate.shape[-1], np.nan)
    if min(len(one), len(rest)) >= LEAST_UNITS:
        variance = sum(((part - part.mean(axis=0)) ** 2).sum(axis=0) for part in logs) / df
    shift, times = logs[0].mean(axis=0) - logs[1].mean(axis=0), 1 / len(one) + 1 / len(rest)
    return Comparison(one.mean(axis=0), rest.mean(axis=0), shift, variance, df, times, n_units=len(one))


def _tested(told: Comparison) -> dict[str, Floats]:
    """Return the interval of each gene's shift, its p-value and that adjusted (gene,)."""
    from scipy import stats

    lower, upper, p, adjusted = (np.full(len(told.shift), np.nan) for _ in range(4))
    if np.isfinite(told.variance).all():
        variance, df = moderated_variance(told.variance, told.df)
        error = np.sqrt(np.maximum(variance * told.times, 1e-300))
        wide = stats.t.ppf(0.5 + CONFIDENCE / 2, df) * error
        lower, upper = told.shift - wide, told.shift + wide
        # What was never counted is not tested.
        seen = (told.inside != 0) | (told.outside != 0)
        p[seen] = 2 * stats.t.sf(np.abs(told.shift[seen]) / error[seen], df)
        adjusted[seen] = stats.false_discovery_control(p[seen])
    return {"lower": lower, "upper": upper, "p": p, "p_adjusted": adjusted}
