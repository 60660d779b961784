"""From a parent to its children: broadcasting, and a correction from the child's own state that starts shut."""

from __future__ import annotations

import torch
from torch import Tensor

from aivc_graph.operators.gate import Correction
from aivc_graph.operators.messages import PairPlan
from aivc_graph.operators.part import KINDS
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.project.project import AbstractProject


@KINDS["project"].register("broadcast")
class BroadcastProject(AbstractProject):
    r"""Tell a child without a state of its own what its parents are, and correct what the others are.

    .. math:: z_c \leftarrow \begin{cases} z_c + h([z_c, \bar z_{p(c)}]) & c \text{ has a state} \\
              \bar z_{p(c)} + h([\bar z_{p(c)}, \bar z_{p(c)}]) & \text{else} \end{cases}

    with :math:`\bar z_{p(c)}` the overlap-weighted mean over the parents of c. With h shut, the start, it is
    broadcasting to those of whom nothing is known.

    Shapes
    ------
    in
        child (child, latent), parent (parent, latent), overlap (child, parent) with rows summing to one or zero
    out
        (child, latent)
    """

    def __init__(self, plan: PairPlan) -> None:
        super().__init__(plan)
        self.correction = Correction(2 * plan.latent, plan.latent)

    def forward(
        self, child: Tensor, has_state: Tensor, parent: Tensor, overlap: SparseOperator, covered: Tensor
    ) -> Tensor:
        """Return the new state of every child; one without a parent (``covered`` 0) keeps its own."""
        broadcast = overlap @ parent
        own = torch.where((has_state > 0)[:, None], child, broadcast)
        return own + covered[:, None] * self.correction(own, broadcast)
