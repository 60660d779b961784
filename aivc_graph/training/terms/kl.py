"""How far what a node's own measurements tell of its state lies from the prior of states."""

from __future__ import annotations

import torch
from torch import Tensor

from aivc_graph.training.terms.term import TERMS, AbstractTerm, Loss, Pass, prior_variance


@TERMS.register("kl", draws=True)
class DivergenceTerm(AbstractTerm):
    r"""Divergence of the posterior of each node from its prior, a node and measured feature, as the likelihood.

    .. math:: \mathrm{KL}\big(\mathcal N(\mu, \Lambda^{-1}) \,\|\, \mathcal N(0, \sigma^2)\big) =
              \tfrac12 \sum_k \Big(\frac{1 + \Lambda_k \mu_k^2}{\Lambda_k \sigma_k^2} - 1
              + \log \Lambda_k \sigma_k^2\Big)

    The posterior is the product of the experts of what was seen of a node; the prior has the variance of the factor
    model that was fitted to the level's counts, and is standard normal at levels without. A node of which nothing was
    seen has no posterior of its own. With weight 1 beside the likelihood of one modality, nothing hidden, the objective
    is the negative evidence lower bound.

    References
    ----------
    Kingma & Welling 2014, arXiv:1312.6114; Wu & Goodman 2018, arXiv:1802.05335 (product of experts).
    """

    def forward(self, one: Pass) -> Loss:
        """Return the sums of a window, by level."""
        loss = Loss()
        for level, precision in one.state.precision.items():
            if level not in one.counted:
                continue
            features = sum(
                (
                    one.state.seen[part.key] * len(part.plan.names)
                    for part in one.model.parts_of("measurement")
                    if part.plan.level == level
                ),
                torch.zeros(len(precision), device=precision.device),
            )
            node = one.counted[level] * one.state.own[level]
            of_each = divergence(one.state.mean[level], precision, prior_variance(one.model, level))
            key = (level, "prior of states")
            loss.total[key] = node @ of_each
            loss.number[key] = float(node @ features)
            loss.weight[key] = 1.0
        return loss


def divergence(mean: Tensor, precision: Tensor, variance: Tensor) -> Tensor:
    """Return the divergence of normals from centred ones with `variance` (node,); 0 where the precision is 0."""
    ratio = precision * variance.to(precision)
    known = ratio > 0
    ratio = torch.where(known, ratio, 1.0)
    each = 0.5 * ((1 + precision * mean.square()) / ratio - 1 + torch.log(ratio))
    return torch.where(known, each, 0.0).sum(dim=1)
