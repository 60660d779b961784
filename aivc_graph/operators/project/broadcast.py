"""From a parent to its children: broadcasting, and a correction from the child's own state that starts shut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from aivc_graph.operators.gate import Correction
from aivc_graph.operators.messages import PairPlan, measured_pairs
from aivc_graph.operators.part import KINDS, MESSAGES, Fitting
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.project.project import AbstractProject
from aivc_graph.operators.ridge import ridge


@KINDS["project"].register("broadcast")
class BroadcastProject(AbstractProject):
    r"""Tell a child without a state of its own what its parents are, and correct what the others are.

    .. math:: z_c \leftarrow \begin{cases} z_c + h([z_c, M \bar z_{p(c)}]) & c \text{ has a state} \\
              M \bar z_{p(c)} + h([M \bar z_{p(c)}, M \bar z_{p(c)}]) & \text{else} \end{cases}

    with :math:`\bar z_{p(c)}` the overlap-weighted mean over the parents of c. With M the identity and h shut, the
    start, it is broadcasting to those of whom nothing is known. Where both levels were measured each has components of
    its own, and M leads those of the parent to the mean of its children: as far as a measurement tells that, of a
    parent that was measured; back to it, of one that its children alone have told, whose state has no noise of its own.

    Shapes
    ------
    in
        child (child, latent), parent (parent, latent), overlap (child, parent) with rows summing to one or zero
    out
        (child, latent)
    """

    stages: ClassVar[Mapping[str, str]] = {MESSAGES: "fit"}
    map: Tensor
    back: Tensor

    def __init__(self, plan: PairPlan) -> None:
        super().__init__(plan)
        self.hold("map", torch.eye(plan.latent))
        self.hold("back", torch.eye(plan.latent))
        self.correction = Correction(2 * plan.latent, plan.latent)

    def heard(self, parent: Tensor, lifted: Tensor) -> Tensor:
        """Return the states of parents in the components of their children."""
        return torch.where(lifted[:, None], parent @ self.back, parent @ self.map)

    def forward(
        self, child: Tensor, has_state: Tensor, parent: Tensor, overlap: SparseOperator, covered: Tensor
    ) -> Tensor:
        """Return the new state of every child; one without a parent (``covered`` 0) keeps its own."""
        broadcast = overlap @ parent
        own = torch.where((has_state > 0)[:, None], child, broadcast)
        return own + covered[:, None] * self.correction(own, broadcast)

    def fit(self, fitting: Fitting) -> None:
        """Ridge to the mean of the children from the parent's own state, and from the lifted one, both measured."""
        lift = fitting.model.part("lift", *self.slot)
        for found, told_by in ((self.map, None), (self.back, lift)):
            told, pooled, group = measured_pairs(self, fitting, told_by)
            if len(told) > told.shape[1]:
                found.copy_(torch.from_numpy(ridge(told, pooled, group)).float())
