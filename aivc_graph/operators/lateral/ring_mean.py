"""Neighbours at the same level: a kernel over rings of neighbours, learned from how well they predict a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph.operators.gate import Correction
from aivc_graph.operators.lateral.lateral import AbstractLateral, LateralPlan
from aivc_graph.operators.part import KINDS, MESSAGES, Fitting
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.state import Hidden

THINNED_SHARE = 0.8
Floats = NDArray[np.floating]


@KINDS["lateral"].register("ring_mean")
class RingMeanLateral(AbstractLateral):
    r"""Mix a node's own state with a kernel-weighted mean of its neighbours.

    Neighbours sorted by distance form rings; with :math:`m_r` the mean state of ring r, weighted by how well each
    member is known (:math:`k_u`: one with counts of its own, less with features alone, zero if not measured),

    .. math:: c_v = \sum_r w_r\, m_r(v), \qquad
              s_v = \frac{s\,\bar k_v}{s\,\bar k_v + (1 - s)\,k_v}, \qquad
              z_v = u_v + s_v \odot (c_v - u_v) + h([u_v, c_v])

    and :math:`\bar k_v` the mean of k over the neighbours. A node without a state of its own takes :math:`c_v`. With
    s = 0 and the correction h shut a node keeps its own state; with one ring of k neighbours, w = 1 and s = k/(k+1) it
    is the mean over k neighbours and the node. Invariant to the order of nodes and to moving and rotating the section.

    Ring weights are fitted by leave-one-out over training nodes, s by thinning their counts, or parting their markers.

    Shapes
    ------
    state
        (node, latent), with `known` (node,) from 0 to 1
    """

    stages: ClassVar[Mapping[str, str]] = {MESSAGES: "fit"}
    ring_weight: Tensor
    share: Tensor

    def __init__(self, plan: LateralPlan) -> None:
        super().__init__(plan)
        self.hold("ring_weight", torch.full((plan.n_rings, 1), 1.0 / plan.n_rings))
        self.hold("share", torch.zeros(plan.latent))
        self.correction = Correction(2 * plan.latent, plan.latent)

    def context(self, state: Tensor, known: Tensor, rings: list[SparseOperator]) -> tuple[Tensor, Tensor]:
        """Return the kernel mean of neighbours (node, latent), zero if none is known, and how known they are (node)."""
        means, context_known = ring_means(state, known, rings)
        kernel = (w * m for w, m in zip(self.ring_weight, means, strict=True))
        return sum(kernel, torch.zeros_like(state)), context_known

    def forward(self, state: Tensor, known: Tensor, rings: list[SparseOperator]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mixed state and the context, both (node, latent), and how known the node is now (node,)."""
        context, context_known = self.context(state, known, rings)
        own = torch.where(known[:, None] > 0, state, context)
        others, itself = self.share * context_known[:, None], (1 - self.share) * known[:, None]
        mixed = own + others / (others + itself).clamp_min(1e-6) * (context - own)
        mixed = mixed + self.correction(own, context)
        return mixed, context, torch.where(known > 0, known, context_known)

    def fit(self, fitting: Fitting) -> dict[str, float]:
        """Fit ring weights by leave-one-out and the own share by thinning, both by least squares over training nodes.

        Returns label-free diagnostics: the leave-one-out error of the neighbourhood (``loo``), and the errors of a
        node's own thinned counts (``thinning_own``) and of own and context mixed, all as a share of the variance.
        """
        from scipy.optimize import nnls

        level, own, means = self.level, [], []
        for fold in fitting.training:
            state = fitting.model.encode(fold.inputs, Hidden())
            rows = torch.nonzero(fold.rows[level] * state.own[level]).ravel()
            own.append(state.z[level][rows])
            near, _ = ring_means(state.z[level], state.known[level], fold.inputs["relation", *self.plan.relation])
            means.append(torch.stack(near)[:, rows])
        z, rings = torch.cat(own).double().cpu().numpy(), torch.cat(means, dim=1).double().cpu().numpy()
        if len(z) < 2:
            return {}
        weights, residual = nnls(rings.reshape(len(rings), -1).T, z.ravel())
        if weights.sum() > 0:
            self.ring_weight.copy_(torch.from_numpy(weights[:, None]).float())
        found = {f"{self.name}.loo": float(residual**2 / max((z**2).sum(), 1e-12))}
        first = fitting.model.state_maker(level)
        return found if first is None else found | self._fit_share(fitting, first)

    def _fit_share(self, fitting: Fitting, measurement: Any) -> dict[str, float]:
        from scipy.optimize import nnls

        level = self.level
        parts: list[tuple[Floats, Floats, Floats]] = []
        for share in (THINNED_SHARE, 0.5):
            own, context, target = [], [], []
            for fold in fitting.training:
                data, training = fold.inputs["measurement", *measurement.slot], fold.inputs.in_training(level)
                halves = measurement.parted(data, training, share, fitting.generator)
                if halves is None:
                    return {}
                state, rest = halves
                rows = fold.training(level, data.mask)
                near, _ = self.context(state, data.mask, fold.inputs["relation", *self.plan.relation])
                context.append(near.cpu().numpy()[rows])
                own.append(state.cpu().numpy()[rows])
                target.append(rest.cpu().numpy()[rows])
            parts.append((np.concatenate(own), np.concatenate(context), np.concatenate(target)))
        own_part, context_part, target_part = parts[0]
        shares = np.zeros(own_part.shape[1])
        for j in range(len(shares)):
            columns = np.column_stack([own_part[:, j], context_part[:, j]]).astype(float)
            weights, _ = nnls(columns, target_part[:, j].astype(float))
            shares[j] = weights[1] / weights.sum() if weights.sum() > 0 else 0.0
        self.share.copy_(torch.from_numpy(shares).float())
        own_half, context_half, target_half = parts[1]
        mixed = own_half + shares * (context_half - own_half)
        return {
            f"{self.name}.thinning_own": _scaled_error(own_half, target_half),
            f"{self.name}.thinning_mixed": _scaled_error(mixed, target_half),
        }


def _scaled_error(prediction: Floats, target: Floats) -> float:
    """Return the squared error of the best multiple of `prediction` as a share of the target's."""
    scale = (prediction * target).sum() / max((prediction**2).sum(), 1e-12)
    return float(((target - scale * prediction) ** 2).sum() / max((target**2).sum(), 1e-12))


def ring_means(state: Tensor, known: Tensor, rings: list[SparseOperator]) -> tuple[list[Tensor], Tensor]:
    """Return, a ring, the mean of its members weighted by `known` (node, latent); and the mean of `known` (node,).

    A ring in which nobody is known repeats the ring within.
    """
    padded = torch.cat([state * known[:, None], known[:, None]], dim=1)
    means: list[Tensor] = []
    weight, number = torch.zeros_like(known), torch.zeros_like(known)
    for ring in rings:
        total = ring @ padded
        mean = total[:, :-1] / total[:, -1:].clamp_min(1e-6)
        empty = total[:, -1:] < 1e-6
        means.append(torch.where(empty, means[-1] if means else torch.zeros_like(mean), mean))
        weight, number = weight + total[:, -1], number + ring.forward_csr.crow_indices().diff()
    return means, weight / number.clamp_min(1)
