"""From children to their parent: a linear map of a set summary, and a correction that starts shut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from aivc_graph.operators.gate import Correction, Gate
from aivc_graph.operators.lift.lift import AbstractLift
from aivc_graph.operators.messages import PairPlan, measured_pairs
from aivc_graph.operators.part import KINDS, MESSAGES, Fitting
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.ridge import beyond_noise, ridge


@KINDS["lift"].register("set_summary")
class SetSummaryLift(AbstractLift):
    r"""State of a parent from the overlap-weighted mean and spread of its children.

    .. math:: \ell_p = M\,\mu_p + h([\mu_p, \sigma_p]), \qquad z_p = u_p + s_p \odot (\ell_p - u_p)

    with :math:`\mu_p, \sigma_p` the overlap-weighted mean and spread of the children's states. M starts as the identity
    and h shut; s is one for a parent that was not measured itself: mean pooling. A parent that was measured is known
    with counting noise n, and by its children with the error e of the fitted map, so that :math:`s = n / (n + e)`, zero
    at the start. Invariant to the order of children.

    Shapes
    ------
    in
        child (child, latent); parent (parent, latent) with `measured` (parent,); overlap (parent, child), rows summing
        to one
    out
        (parent, latent)
    """

    stages: ClassVar[Mapping[str, str]] = {MESSAGES: "fit"}
    map: Tensor
    share: Tensor

    def __init__(self, plan: PairPlan) -> None:
        super().__init__(plan)
        self.hold("map", torch.eye(plan.latent))
        self.hold("share", torch.zeros(plan.latent))
        self.share_gate = Gate()
        self.correction = Correction(2 * plan.latent, plan.latent)

    def pool(self, child: Tensor, overlap: SparseOperator) -> Tensor:
        """Return what the children say of every parent; zero for one without children."""
        mean = overlap @ child
        spread = (overlap @ child.square() - mean.square()).clamp_min(0).add(1e-6).sqrt()
        return mean @ self.map + self.correction(mean, spread)

    def forward(
        self, child: Tensor, parent: Tensor, measured: Tensor, overlap: SparseOperator, covered: Tensor
    ) -> Tensor:
        """Return the new state of every parent; one without children (`covered` 0) keeps its own."""
        lifted = self.pool(child, overlap)
        share = torch.where(measured[:, None] > 0, self.share_gate(self.share), torch.ones_like(self.share))
        return parent + covered[:, None] * share * (lifted - parent)

    def fit(self, fitting: Fitting) -> None:
        """Ridge from pooled children to the parent's own state, where both were measured; the identity elsewhere."""
        y, x, group = measured_pairs(self, fitting)
        if len(x) <= x.shape[1]:
            return
        found = ridge(x, y, group)
        self.map.copy_(torch.from_numpy(found).float())
        if (measurement := fitting.model.state_maker(self.plan.parent)) is not None:
            noise = np.exp(-measurement.log_precision.double().cpu().numpy())
            residual = ((y - x @ found) ** 2).mean(axis=0)
            error = beyond_noise(residual, noise)
            self.share.copy_(torch.from_numpy(noise / (noise + error)).float())
