"""The contract of lateral operators: messages between nodes of one level."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import same_level
from aivc_graph.graph.tissue_graph import Relation, TissueGraph
from aivc_graph.operators.part import AbstractPart, Shape, Step
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.state import Inputs, State
from aivc_graph.settings import Settings

USUAL = "ring_mean"


class LateralPlan(Settings):
    """A relation between nodes of one level, the size of the state, and how many rings of neighbours it has."""

    relation: Relation
    latent: int
    n_rings: int
    options: dict[str, Any] = Field(default_factory=dict)


class AbstractLateral(AbstractPart):
    """Messages along one relation between nodes of one level."""

    kind: ClassVar[str] = "lateral"
    Plan = LateralPlan
    plan: LateralPlan

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[LateralPlan]:
        """Return a plan for each relation of one level, where this member was chosen."""
        if not shape.picks(cls, USUAL):
            return []
        given = {"latent": shape.latent, "n_rings": len(shape.rings), "options": shape.options(cls.kind)}
        return [LateralPlan(relation=relation, **given) for relation in same_level(graph)]

    @property
    def level(self) -> str:
        """The level it serves."""
        return self.plan.relation[0]

    @property
    def slot(self) -> tuple[str, ...]:
        """The level, and the relation where that is not nearness."""
        level, relation, _ = self.plan.relation
        return (level,) if relation == names.NEAR else (level, relation)

    def steps(self) -> list[Step]:
        """Return its one step, from neighbours to a node."""
        return [(self.plan.relation, False)]

    def pass_on(self, state: State, inputs: Inputs) -> None:
        """Let every node of the level hear its neighbours."""
        level = self.level
        rings = inputs["relation", *self.plan.relation]
        z, context, known = self(state.z[level], state.known[level], rings)
        state.z[level], state.known[level] = z, known
        if self.plan.relation[1] == names.NEAR:
            state.context[level] = context

    @abstractmethod
    def forward(self, state: Tensor, known: Tensor, rings: list[SparseOperator]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mixed state and the context, both (node, latent), and how known the node is now (node,)."""
