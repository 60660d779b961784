"""How the strength of an intervention goes with dose and time, and how far its effect spreads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph.operators.intervention.contrasts import HANDED_ON, Contrasts
from aivc_graph.operators.intervention.exposure import sharpened

Floats = NDArray[np.floating]


class Propagator(Protocol):
    """What the fit of interventions asks of a propagator."""

    course: Tensor

    def courses(self, doses: Floats, hours: Floats, /) -> Floats:
        """Return courses (course, number) that may be told from doses and times; the first if nothing tells."""

    def carry(self, course: Tensor, before: Tensor, dose: Tensor, hours: Tensor, /) -> Tensor:
        """Return how much of an effect shows after hours of a dose (row,)."""


@dataclass(frozen=True)
class Course:
    """How an intervention goes on, by the `numbers` of its `propagator`, and how far and how sharply it spreads.

    `spread`: how much of the effect comes by what is near, 0 none of it, 1 all.
    """

    propagator: Propagator
    numbers: Floats
    handed_on: float = 0.0
    sharpness: float = 0.0
    spread: float = 0.0

    def strength(self, dose: Floats, hours: Floats) -> Floats:
        """Return the strength (row,), 1 at the full dose and hours."""
        course, *given = (torch.as_tensor(np.asarray(part, float)) for part in (self.numbers, dose, hours))
        return np.asarray(self.propagator.carry(course, torch.zeros_like(given[0]), *given))


def shown(part: Contrasts, row: int, course: Course) -> Floats:
    """Return how much of its effect each group shows (row,), nothing in sections it was not given to."""
    return course.strength(part.dose[:, row], part.hours[:, row]) * footprint(part, row, course)


def footprint(part: Contrasts, row: int, course: Course) -> Floats:
    """Return how much of an intervention at full strength reaches each group (row,): by what was done, and near it."""
    near = part.near[:, row, HANDED_ON.index(course.handed_on)]
    return np.asarray((1 - course.spread) * part.applied[:, row] + course.spread * sharpened(near, course.sharpness))


def usual_course(contrasts: Contrasts, row: int, propagator: Propagator) -> Course:
    """Return the course of an intervention that does not spread, by its largest dose and time."""
    return Course(propagator, propagator.courses(*_given(contrasts, row))[0])


def course_options(part: Contrasts, row: int, usual: Course) -> list[Course]:
    """Return what may be told from the doses and times there are."""
    return [replace(usual, numbers=numbers) for numbers in usual.propagator.courses(*_given(part, row))]


def _given(part: Contrasts, row: int) -> tuple[Floats, Floats]:
    """Return the doses and times of an intervention where it was given; nothing, where it was given to nobody."""
    given = part.dose[:, row] > 0
    return (part.dose[given, row], part.hours[given, row]) if given.any() else (np.zeros(1), np.zeros(1))
