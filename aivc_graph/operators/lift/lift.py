"""The contract of lift operators: from children to their parent."""

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

USUAL = "set_summary"


class AbstractLift(AbstractVertical):
    """Messages from children to their parent."""

    kind: ClassVar[str] = "lift"

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[PairPlan]:
        """Return a plan for each pair of levels, finest first, where this member was chosen."""
        return pair_plans(graph, shape, cls.kind) if shape.picks(cls, USUAL) else []

    def steps(self) -> list[Step]:
        """Return its one step, up."""
        return [(self.relation, False)]

    def pass_on(self, state: State, inputs: Inputs) -> None:
        """Let every parent hear its children; one without counts of its own hears each level beneath it alike."""
        child, parent = self.slot
        overlap = inputs["relation", *self.relation].up
        known = (overlap @ state.known[child][:, None]).ravel()
        reached = (known > 0).float()
        told, before = self(state.z[child], state.z[parent], state.own[parent], overlap, reached), state.z[parent]
        heard = state.heard.get(parent, torch.zeros_like(reached))
        share = torch.where(state.own[parent] > 0, 1.0, reached / (reached + heard).clamp_min(1.0))
        state.z[parent] = before + share[:, None] * (told - before)
        state.heard[parent] = heard + reached
        state.known[parent] = torch.where(state.known[parent] > 0, state.known[parent], known)

    def alone(self, child: Tensor, overlap: SparseOperator) -> Tensor:
        """Return what children alone say of every parent (parent, latent)."""
        nothing = child.new_zeros(len(overlap.reached), child.shape[1])
        lifted: Tensor = self(child, nothing, nothing[:, 0], overlap, overlap.reached)
        return lifted

    @abstractmethod
    def forward(
        self, child: Tensor, parent: Tensor, measured: Tensor, overlap: SparseOperator, covered: Tensor
    ) -> Tensor:
        """Return the new state of every parent (parent, latent); one without children (`covered` 0) keeps its own."""
