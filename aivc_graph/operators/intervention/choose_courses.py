"""Choose how each intervention goes with dose and time, and how far it spreads, by what the sections show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from aivc_graph.operators.intervention.contrasts import HANDED_ON, Contrasts
from aivc_graph.operators.intervention.course import (
    Course,
    Propagator,
    course_options,
    footprint,
    shown,
    usual_course,
)
from aivc_graph.operators.intervention.effect_rows import EFFECT, PLACE, make_rows, place_column
from aivc_graph.operators.intervention.joint_effects import JointEffects, Rows
from aivc_graph.operators.intervention.shrinkage import log_evidence, shrunken
from aivc_graph.operators.intervention_plan import InterventionPlan
from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS

Floats = NDArray[np.floating]

# A little of what is added may already be enough; of what is taken away, what is left near by makes up for a little.
SHARPNESSES, BLUNT = (0.0, 3.0, 10.0, 30.0), (0.0,)
SPREAD_SHARES = (0.5, 1.0)
# A spread must tell left-out donors at least this much better [nats]: what one parameter is charged with by
# Akaike 1974, doi:10.1109/TAC.1974.1100705.
LEAST_GAIN = 1.0


def choose_courses(
    contrasts: Contrasts, plan: InterventionPlan, passed_on: Floats, propagator: Propagator
) -> list[Course]:
    """Choose each intervention's course by what is left when the others are taken away.

    Parameters
    ----------
    passed_on
        Which molecules' effects may spread (key, molecule).
    propagator
        What carries effects through dose and time.
    """
    courses = [usual_course(contrasts, row, propagator) for row in range(len(plan.keys))]
    rows, joint = make_rows(contrasts, courses, plan)
    for row in range(len(plan.keys)):
        alone = _Alone.of(contrasts, plan, rows, joint, row, passed_on[row])
        if alone.local.any():
            sharpnesses = SHARPNESSES if INTERVENTION_KINDS[plan.kinds[row]].saturates else BLUNT
            options = [
                [replace(courses[row], handed_on=reach, sharpness=sharpness, spread=spread) for reach in HANDED_ON]
                for sharpness, spread in product(sharpnesses, SPREAD_SHARES)
            ]
            told = np.array([[alone.told(course) for course in of_reach] for of_reach in options])
            if told.max() > alone.told(courses[row]) + LEAST_GAIN:
                reach = _middle(np.exp(told - told.max()).sum(axis=0))
                courses[row] = options[int(told[:, reach].argmax())][reach]
        best = alone.evidence(courses[row])
        for option in course_options(alone.part, row, courses[row]):
            if (found := alone.evidence(option)) > best + 1e-6:
                courses[row], best = option, found
    return courses


@dataclass(frozen=True)
class _Alone:
    """One intervention, with everything but it and its place taken away.

    `part` are the groups it was given to, or that lie as if; `y` and `weight` (row, molecule); `local` (row,) the
    groups of sections that were treated in a part.
    """

    row: int
    part: Contrasts
    y: Floats
    weight: Floats
    local: NDArray[np.bool_]

    @classmethod
    def of(
        cls, contrasts: Contrasts, plan: InterventionPlan, rows: Rows, joint: JointEffects, row: int, passed_on: Floats
    ) -> _Alone:
        own = (contrasts.dose[:, row] > 0) | contrasts.local[:, row]
        columns = [row, place_column(contrasts, plan, row)] if contrasts.local[:, row].any() else [row]
        effect = joint.mean[columns][:, None] + joint.departure[columns]
        itself = np.einsum("rk,krg->rg", rows.x[:, columns], effect[:, rows.component])
        y = rows.y - joint.base[rows.donor, rows.component] - joint.of(rows) + itself
        part = contrasts.take(own)
        local = part.local[:, row] & (part.dose[:, row] > 0)
        return cls(row, part, y[own], (rows.weight(joint.surplus + joint.between) * passed_on)[own], local)

    def told(self, course: Course) -> float:
        """Return how much better the other donors' effect tells where each donor's tissue changed than none [nats].

        Within each section and component, so that a section that is another as a whole says nothing, and beyond what is
        usual at such a place.
        """
        place = self.part.local[:, self.row] * footprint(self.part, self.row, course)
        x = np.column_stack([shown(self.part, self.row, course), place])
        gain = 0.0
        for donor in np.unique(self.part.donor[self.local]):
            effect, usual = self._effect(x, self.part.donor != donor)
            own = self.local & (self.part.donor == donor)
            weight, part = self.weight[own], self.part.take(own)
            left = self.y[own] - x[own, 1:] * usual
            tried = (left, left - x[own, :1] * effect)
            errors = [_about_mean(values, weight, part.section, part.component) for values in tried]
            gain += 0.5 * float((weight * (errors[0] ** 2 - errors[1] ** 2)).sum())
        return gain

    def _effect(self, x: Floats, rows: NDArray[np.bool_]) -> Floats:
        """Return the shrunken effect and what is usual at such a place (2, molecule), from some of the rows."""
        weight, x = self.weight[rows], x[rows]
        squares = (x[:, :, None] * x[:, None, :]).reshape(len(x), 4)
        inverse = np.linalg.inv((weight.T @ squares).reshape(-1, 2, 2) + np.diag([1 / EFFECT, 1 / PLACE]))
        found = np.einsum("gpq,gq->pg", inverse, (weight * self.y[rows]).T @ x)
        return np.stack([shrunken(found[i], np.sqrt(inverse[:, i, i])) for i in range(2)])

    def evidence(self, course: Course) -> float:
        """Return how likely the groups are made by effects of that course [nats]."""
        x = shown(self.part, self.row, course)[:, None]
        square, cross = (self.weight * x**2).sum(axis=0), (self.weight * x * self.y).sum(axis=0)
        return log_evidence(square[:, None, None], cross[:, None])


def _middle(likelihood: Floats) -> int:
    """Return the position of the median, each being as likely as is said (option,).

    Many reaches tell about equally well, and the likeliest of such is as often as not at one end.
    """
    return int(np.searchsorted(likelihood.cumsum(), likelihood.sum() / 2))


def _about_mean(values: Floats, weight: Floats, section: NDArray[np.int64], component: NDArray[np.int64]) -> Floats:
    """Return values (row, molecule) less their weighted mean over the rows of each section and component."""
    _, place = np.unique(np.column_stack([section, component]), axis=0, return_inverse=True)
    one = np.eye(place.max() + 1)[place.reshape(-1)]
    mean = (one.T @ (weight * values)) / np.maximum(one.T @ weight, 1e-12)
    return np.asarray(values - one @ mean)
