"""Counts of all groups as rows of one regression on what was done to them, and on where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aivc_graph.operators.intervention.contrasts import Contrasts
from aivc_graph.operators.intervention.course import Course, footprint, shown
from aivc_graph.operators.intervention.joint_effects import JointEffects, Rows, joint_effects, shrink
from aivc_graph.operators.intervention_plan import InterventionPlan

Floats = NDArray[np.floating]

# Prior variances of natural-log effects: anything goes, but combinations are nearly additive, and places nearly alike.
EFFECT, INTERACTION, PLACE = 1e3, 0.05, 0.25
# Sweeps of the iterated least squares, and the largest log ratio that counts are taken about.
SWEEPS, MOST = 4, 4.0
# Counts that every group has on top, as if nothing had been done to it: one count where a hundredth was expected is
# chance in one of a hundred groups, and no hundredfold rise.
ON_TOP = 0.25


def make_rows(contrasts: Contrasts, courses: Sequence[Course], plan: InterventionPlan) -> tuple[Rows, JointEffects]:
    """Return the rows of the regression about its own solution, and that solution, shrunken.

    Counts are Poisson about expectations whose logarithms are linear, fitted by iterated least squares: the logarithm
    of few counts is too low on average, and groups near what was treated are the smallest.

    References
    ----------
    McCullagh & Nelder 1989, doi:10.1007/978-1-4899-3242-6, section 2.5.
    """
    fitted: Floats = np.zeros(contrasts.counts.shape)
    usual = fitted
    uneven: Floats = np.ones(contrasts.counts.shape[1])
    design = _design(contrasts, courses, plan)
    for _ in range(SWEEPS):
        rows = _rows(contrasts, *design, usual, fitted, uneven)
        alone = np.zeros((0, rows.x.shape[1]), bool)
        joint, _ = shrink(joint_effects(rows, len(plan.donors), plan.components), [], alone)
        usual = joint.base[rows.donor, rows.component]
        fitted = usual + joint.shift[rows.section] + joint.of(rows)
        uneven = _unevenness(contrasts, rows.weight(joint.surplus) * rows.inflation, rows.y - fitted)
    return rows, joint


@dataclass(frozen=True)
class Effects:
    """Shrunken effects of all donors and `without` each; `not_shrunken`, those of all donors and then without each.

    A shrunken effect moves less than it may be wrong by, so what has an interval is an effect that is not.
    """

    whole: JointEffects
    without: list[JointEffects]
    not_shrunken: list[JointEffects]


def effects_of(rows: Rows, plan: InterventionPlan) -> Effects:
    """Return the effects of all donors, and those without each."""
    n = len(plan.donors)
    given = np.array([(rows.x[rows.donor == d] != 0).any(axis=0) for d in range(n)])
    without = [joint_effects(rows.take(rows.donor != d), n, plan.components) for d in range(n)]
    whole = joint_effects(rows, n, plan.components)
    return Effects(*shrink(whole, without, given), [whole, *without])


def place_column(contrasts: Contrasts, plan: InterventionPlan, row: int) -> int:
    """Return the column of the regression that tells how the place an intervention was given to differs."""
    return len(plan.keys) + len(plan.pairs) + int(contrasts.local[:, :row].any(axis=0).sum())


def _design(contrasts: Contrasts, courses: Sequence[Course], plan: InterventionPlan) -> tuple[Floats, Floats]:
    """Return how much of each effect the groups show (row, column), and the prior variance of each (column,).

    A column an intervention, then one a pair, then one for each place that others were treated at.
    """
    amount = [shown(contrasts, row, course) for row, course in enumerate(courses)]
    both = [amount[plan.keys.index(a)] * amount[plan.keys.index(b)] for a, b in plan.pairs]
    places = [
        contrasts.local[:, row] * footprint(contrasts, row, course)
        for row, course in enumerate(courses)
        if contrasts.local[:, row].any()
    ]
    prior = np.repeat([EFFECT, INTERACTION, PLACE], [len(amount), len(both), len(places)])
    return np.column_stack([*amount, *both, *places]), prior


def _rows(contrasts: Contrasts, x: Floats, prior: Floats, usual: Floats, fitted: Floats, uneven: Floats) -> Rows:
    """Return the rows of the regression about `fitted` log ratios, with some counts as `usual` for the donor on top.

    `uneven` (molecule,) is how much the variance of what is found in a part of a section is inflated.
    """
    usual, fitted = (np.clip(part, -MOST, MOST) for part in (usual, fitted))
    on_top = _on_top(contrasts)[:, None]
    mean = (contrasts.expected + on_top) * np.exp(fitted)
    y = fitted + (contrasts.counts + on_top * np.exp(usual)) / mean - 1
    inflation = np.where(contrasts.local.any(axis=1, keepdims=True), uneven, 1.0)
    variance, of = 1 / mean + contrasts.uneven, (contrasts.donor, contrasts.section, contrasts.component)
    return Rows(y, variance, x, *of, prior, inflation)


def _on_top(contrasts: Contrasts) -> Floats:
    """Return the counts that each group has on top (row,): those of one component of a section are of them all."""
    whole = np.column_stack([contrasts.section, contrasts.component])
    _, place = np.unique(whole, axis=0, return_inverse=True)
    total = contrasts.expected.sum(axis=1)
    return np.asarray(ON_TOP * total / np.bincount(place.reshape(-1), total)[place.reshape(-1)])


def _unevenness(contrasts: Contrasts, weight: Floats, left: Floats) -> Floats:
    """Return how many times the error of their groups the tiles of untreated sections differ by, squared, at least one.

    Tissue differs from place to place, in some molecules more than in others, so what is found in the one place that
    was treated is no surer than what is found in any place.
    """
    rows = np.flatnonzero(contrasts.tile >= 0)
    places, place = np.unique(np.column_stack([contrasts.section, contrasts.tile])[rows], axis=0, return_inverse=True)
    spare = len(places) - len(np.unique(places[:, 0]))
    if spare < 1:
        return np.ones(left.shape[1])
    one = np.eye(len(places))[place.reshape(-1)]
    total = one.T @ weight[rows]
    mean = one.T @ (weight[rows] * left[rows]) / np.maximum(total, 1e-12)
    return np.maximum((total * mean**2).sum(axis=0) / spare, 1.0)
