"""The contract of propagators: from how much of an effect shows now to how much of it shows later."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.gate import RESPONSE
from aivc_graph.operators.intervention_plan import InterventionPlan
from aivc_graph.operators.part import AbstractPart, Shape
from aivc_graph.settings import Settings

Floats = NDArray[np.floating]
USUAL = "hill_relaxation"


class PropagatorPlan(Settings):
    """The level that is treated, and the interventions, each of which takes a course of its own."""

    level: str
    keys: tuple[str, ...]
    options: dict[str, Any] = Field(default_factory=dict)


class AbstractPropagator(AbstractPart):
    r"""Carries an effect through dose and time.

    An intervention changes the state of a node by a step :math:`a\,E`: E its effect at its full dose and time, a how
    much of that shows. A propagator says how a goes on: :math:`G_{d,t}`, by a dose d over t hours. Its rules are:

    - :math:`G_{d,0}(a) = a`: no time, no change;
    - :math:`G_{0,t}(0) = 0`: nothing comes of nothing;
    - :math:`G_{D,T}(0) = 1` at the full dose D and time T of the course;
    - :math:`G_{d,t}(0)` never falls with d or t up to there;
    - :math:`G_{d,t}\,G_{d,s} = G_{d,s+t}` where it says `closed`: a state is all that is to be known of the past.

    What an intervention's course is, is told by a row of numbers. `courses` names those that could be told apart by the
    doses and times there are; the operator of interventions holds each against the tissue, and keeps the likeliest.
    """

    kind: ClassVar[str] = "propagator"
    question: ClassVar[str] = RESPONSE
    # Whether one step for s + t hours is a step for s and then one for t.
    closed: ClassVar[bool] = True
    Plan = PropagatorPlan
    plan: PropagatorPlan
    course: Tensor

    def __init__(self, plan: PropagatorPlan) -> None:
        super().__init__(plan)
        start = torch.from_numpy(self.courses(np.ones(1), np.ones(1))[0]).float()
        self.hold("course", start.repeat(len(plan.keys), 1))

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[PropagatorPlan]:
        """Return the plan of a graph of which some training tissue was treated, where this member was chosen."""
        done = InterventionPlan.of(graph, shape.latent)
        if done is None or not shape.picks(cls, USUAL):
            return []
        return [PropagatorPlan(level=done.level, keys=done.keys, options=shape.options(cls.kind))]

    @property
    def slot(self) -> tuple[str, ...]:
        """The level that is treated."""
        return (self.plan.level,)

    def strength(self, key: int, dose: float, hours: float) -> float:
        """Return how much of its effect an intervention shows, by its row, after hours of a dose."""
        return float(self.carry(self.course[key], *(torch.tensor(value) for value in (0.0, dose, hours))))

    @abstractmethod
    def courses(self, doses: Floats, hours: Floats) -> Floats:
        """Return courses (course, number) that may be told from doses and times [h]; the first if nothing tells.

        The largest dose and time are the full ones: a course shows 1 there.
        """

    @abstractmethod
    def carry(self, course: Tensor, before: Tensor, dose: Tensor, hours: Tensor) -> Tensor:
        """Return how much of an effect shows after `hours` of a dose, of which `before` showed, all (row,).

        Parameters
        ----------
        course
            Its numbers (number,).
        """
