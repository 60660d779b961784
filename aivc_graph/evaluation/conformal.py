"""Split-conformal intervals whose calibration unit is who the split holds out: a donor, a scaffold, never a cell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aivc_graph.evaluation.metrics.metric import Array

INSUFFICIENT = "insufficient groups"


@dataclass(frozen=True)
class Quantile:
    """How far the truth may lie from a prediction in a new unit.

    Parameters
    ----------
    value
        (target,) bound on the scores, in their unit; None where units are too few for a finite one.
    n_units
        How many units it was calibrated on.
    reason
        Why there is no bound; empty where there is one.
    """

    value: Array | None
    n_units: int
    reason: str = ""


def units_needed(alpha: float) -> int:
    """Return the least number of calibration units with a finite bound: ceil(1 / alpha) - 1, nine for 90 %.

    Examples
    --------
    >>> units_needed(0.1), units_needed(0.05)
    (9, 19)
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; expected a share between 0 and 1")
    return math.ceil(round(1 / alpha, 9)) - 1


def conformal(
    scores: Array, unit: NDArray[np.generic], alpha: float = 0.1, group: NDArray[np.generic] | None = None
) -> dict[str, Quantile]:
    r"""Return by group the bound under which a score of a new unit lies with probability 1 - alpha or more.

    The least q with :math:`\sum_k \frac{1}{(n+1) N_k} \#\{i \in k: s_i \le q\} \ge 1 - \alpha` over n units k of
    :math:`N_k` scores each: a unit counts once however many rows it has, and one more unit is thought of that lies
    beyond. With one row a unit this is the usual split-conformal quantile, and its coverage is at most 1 / (n + 1)
    above what was asked for. Assumes that the new unit is exchangeable with those of the calibration: a donor of
    another hospital is not.

    Parameters
    ----------
    scores
        (row,) or (row, target) how far off each prediction was, such as ``abs(measured - predicted)``; rows that are
        not numbers are left out for their target.
    unit
        (row,) whom each row is of; no unit may have been fitted on.
    alpha
        Share that may lie outside.
    group
        (row,) the bound holds within each of these, such as niches or sites; all rows are one group, ``"all"``, if not
        given.

    References
    ----------
    Lee, Barber & Willett 2023, doi:10.48550/arXiv.2306.06342 (units of several rows); Vovk 2013,
    doi:10.1007/s10994-013-5355-6 (one bound a group).
    """
    table = np.asarray(scores, np.float64).reshape(len(scores), -1)
    kinds = np.full(len(table), "all") if group is None else np.asarray(group).astype(str)
    return {
        str(kind): _quantile(table[kinds == kind], np.asarray(unit)[kinds == kind], alpha) for kind in np.unique(kinds)
    }


def _quantile(scores: Array, unit: NDArray[np.generic], alpha: float) -> Quantile:
    needed = units_needed(alpha)
    columns = [_finite(column, unit) for column in scores.T]
    n = min((len(np.unique(units)) for _, units in columns), default=0)
    if n < needed:
        return Quantile(None, n, f"{INSUFFICIENT}: {n} of the {needed} that {1 - alpha:.0%} needs")
    return Quantile(np.array([_bound(*column, alpha) for column in columns]), n)


def _finite(scores: Array, unit: NDArray[np.generic]) -> tuple[Array, NDArray[np.generic]]:
    known = np.isfinite(scores)
    return scores[known], unit[known]


def _bound(scores: Array, unit: NDArray[np.generic], alpha: float) -> float:
    _, code, size = np.unique(unit, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum(1 / size[code[order]]) / (len(size) + 1)
    return float(scores[order][np.searchsorted(mass, 1 - alpha - 1e-9)])


def left_out_coverage(scores: Array, unit: NDArray[np.generic], alpha: float) -> dict[str, float | None]:
    """Return by unit the share of its scores under the bound of all others; None where these are too few.

    Every unit is once the new one, so each is covered as a donor never seen would be.
    """
    table, names = np.asarray(scores, np.float64).reshape(len(scores), -1), np.asarray(unit)
    found: dict[str, float | None] = {}
    for one in np.unique(names):
        own = names == one
        bound = _quantile(table[~own], names[~own], alpha).value
        known = np.isfinite(table[own])
        found[str(one)] = float((table[own] <= bound)[known].mean()) if bound is not None and known.any() else None
    return found
