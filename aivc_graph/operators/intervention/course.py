"""How the strength of an intervention goes with dose and time, and how far its effect spreads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from aivc_graph.operators.intervention.contrasts import HANDED_ON, Contrasts
from aivc_graph.operators.intervention.exposure import sharpened

Floats = NDArray[np.floating]

EXPONENTS = (1.0, 2.0)
COURSES_HOURS = (2.0, 6.0, 12.0, 24.0, 96.0)
# What of a course the model keeps, in this order.
COURSE = ("half", "exponent", "hours", "full_dose", "full_hours", "handed_on", "sharpness")


@dataclass(frozen=True)
class Course:
    """How an intervention's strength goes with dose and time, and how far and how sharply it spreads.

    `spread`: how much of the effect comes by what is near, 0 none of it, 1 all.
    """

    half: float
    exponent: float
    hours: float
    full_dose: float
    full_hours: float
    handed_on: float = 0.0
    sharpness: float = 0.0
    spread: float = 0.0

    def strength(self, dose: Floats, hours: Floats) -> Floats:
        """Return the strength (row,), 1 at the full dose and hours."""

        def hill(amount: Floats | float) -> Floats:
            raised = np.asarray(amount, float) ** self.exponent
            return raised / (raised + self.half**self.exponent)

        time = np.expm1(-hours / self.hours) / np.expm1(-self.full_hours / self.hours)
        return np.asarray(hill(dose) / hill(self.full_dose) * time)


def shown(part: Contrasts, row: int, course: Course) -> Floats:
    """Return how much of its effect each group shows (row,), nothing in sections it was not given to."""
    return course.strength(part.dose[:, row], part.hours[:, row]) * footprint(part, row, course)


def footprint(part: Contrasts, row: int, course: Course) -> Floats:
    """Return how much of an intervention at full strength reaches each group (row,): by what was done, and near it."""
    near = part.near[:, row, HANDED_ON.index(course.handed_on)]
    return np.asarray((1 - course.spread) * part.applied[:, row] + course.spread * sharpened(near, course.sharpness))


def usual_course(contrasts: Contrasts, row: int) -> Course:
    """Return the course of an intervention that does not spread, by its largest dose and time."""
    dose, hours = (max(float(amount[:, row].max()), 1e-3) for amount in (contrasts.dose, contrasts.hours))
    return Course(dose, 1.0, hours, dose, hours)


def course_options(part: Contrasts, row: int, usual: Course) -> list[Course]:
    """Return what may be told from the doses and times there are: at least three doses, or two times."""
    doses, hours = np.unique(part.dose[:, row]), np.unique(part.hours[:, row])
    curves = [(usual.half, usual.exponent)]
    if len(doses) > 2:
        halves = np.geomspace(doses.min() / 2, doses.max() * 2, 7)
        curves = [(float(half), exponent) for half, exponent in product(halves, EXPONENTS)]
    times = COURSES_HOURS if len(hours) > 1 else (usual.hours,)
    return [
        replace(usual, half=half, exponent=exponent, hours=time) for (half, exponent), time in product(curves, times)
    ]
