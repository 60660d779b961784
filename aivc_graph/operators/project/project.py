"""The contract of project operators: from a parent to its children."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.messages import AbstractVertical, PairPlan, pair_plans
from aivc_graph.operators.part import Shape, Step
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.state import Inputs, State

USUAL = "broadcast"


class AbstractProject(AbstractVertical):
    """Messages from a parent to its children."""

    kind: ClassVar[str] = "project"

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[PairPlan]:
        """Return a plan for each pair of levels, coarsest first, where this member was chosen."""
        return pair_plans(graph, shape, cls.kind)[::-1] if shape.picks(cls, USUAL) else []

    def steps(self) -> list[Step]:
        """Return its one step, down."""
        return [(self.relation, True)]

    def pass_on(self, state: State, inputs: Inputs) -> None:
        """Let every child hear its parents."""
        child, parent = self.slot
        overlap = inputs["relation", *self.relation].down
        lifted = (state.own[parent] == 0) & (state.heard.get(parent, torch.zeros_like(state.own[parent])) > 0)
        told = self.heard(state.z[parent], lifted)
        state.z[child] = self(state.z[child], state.known[child], told, overlap, overlap.reached)

    def alone(self, parent: Tensor, overlap: SparseOperator, *, lifted: bool = False) -> Tensor:
        """Return what parents alone say of every child (child, latent), their states measured, or all `lifted`."""
        nothing = parent.new_zeros(len(overlap.reached), parent.shape[1])
        every = torch.full((len(parent),), lifted, device=parent.device)
        told: Tensor = self(nothing, nothing[:, 0], self.heard(parent, every), overlap, overlap.reached)
        return told

    def heard(self, parent: Tensor, lifted: Tensor) -> Tensor:
        """Return the states of parents as children hear them, `lifted` (parent,) of those told by children alone."""
        return parent

    @abstractmethod
    def forward(
        self, child: Tensor, has_state: Tensor, parent: Tensor, overlap: SparseOperator, covered: Tensor
    ) -> Tensor:
        """Return the new state of every child (child, latent); one without a parent (`covered` 0) keeps its own."""
