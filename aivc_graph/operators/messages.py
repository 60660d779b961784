"""The contract of messages between a level and the next one above it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from aivc_graph import names
from aivc_graph.graph.panels import withins
from aivc_graph.graph.tissue_graph import Relation, TissueGraph
from aivc_graph.operators.part import AbstractPart, Shape
from aivc_graph.settings import Settings


class PairPlan(Settings):
    """A level, the next one above it, and the size of the state."""

    child: str
    parent: str
    latent: int
    options: dict[str, Any] = Field(default_factory=dict)


class AbstractVertical(AbstractPart):
    """Messages between children and parents."""

    Plan = PairPlan
    plan: PairPlan

    @property
    def slot(self) -> tuple[str, ...]:
        """Child and parent."""
        return (self.plan.child, self.plan.parent)

    @property
    def relation(self) -> Relation:
        """The relation that its messages travel along."""
        return (self.plan.child, names.WITHIN, self.plan.parent)


def pair_plans(graph: TissueGraph, shape: Shape, kind: str) -> list[PairPlan]:
    """Return a plan for each pair of levels of `graph`, finest first."""
    given = {"latent": shape.latent, "options": shape.options(kind)}
    return [PairPlan(child=child, parent=parent, **given) for child, parent in withins(graph)]
