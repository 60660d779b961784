"""Closed form of allocation: the rule of shares of area, how far to depart from it, and the scatter of children."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.operators.gate import opening_of
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.prediction.scatter import Judged, judge, set_scatter
from aivc_graph.operators.state import Fold

if TYPE_CHECKING:
    from aivc_graph.operators.prediction.allocation import AllocationPrediction

# How far children are told apart as said, and the weight of a count, in that by which parents differ.
SAID, WEIGHTS = (0.0, 0.5, 1.0), (0.0, 0.1, 0.3, 1.0, 3.0)
# The rule: shares of area. With no weight and all that is said, nothing changes of it.
RULE = (0.0, 1.0)
WAYS = [way for way in product(SAID, WEIGHTS) if way[1] > 0 or way[0] == 1]
# A molecule of fewer counts takes nearly the common capture.
FEW_COUNTS = 10.0


def set_rule(part: AllocationPrediction, folds: list[Fold]) -> None:
    """Set what needs no held-out child: the mean profile and the capture of the children, the weight of a count."""
    n = len(part.plan.of_child)
    beneath, above, everyone, counted = np.zeros(n), np.zeros(n), np.zeros(n), []
    for fold in folds:
        own = fold.inputs.measured(*part.target)
        up = fold.inputs["relation", *part.relation].up
        parents = fold.rows[part.plan.parent] * fold.inputs.measured(part.plan.parent, part.plan.modality).mask
        counted.append(part.counts(fold.inputs)[parents > 0].double())
        parents = parents * ((up @ own.mask[:, None]).ravel() > 0)
        children = to_scipy_csr(own.counts.cpu())[:, list(part.plan.of_child)]
        pooled = to_scipy_csr(up.forward_csr.cpu()) @ children
        beneath += pooled.T @ parents.cpu().numpy()
        above += (parents @ part.counts(fold.inputs)).double().cpu().numpy()
        everyone += children.T @ (fold.rows[part.plan.child] * own.mask).cpu().numpy()
    if everyone.sum() > 0:
        part.profile.copy_(torch.from_numpy((everyone + 1) / (everyone + 1).sum()).float())
    if min(beneath.sum(), above.sum()) > 0:
        few = FEW_COUNTS / min(beneath.sum(), above.sum())
        capture = np.log(beneath / beneath.sum() + few) - np.log(above / above.sum() + few)
        part.log_capture.copy_(torch.from_numpy(capture).float())
    part.said_share.fill_(RULE[0])
    part.count_share.fill_(weight_of_counts(torch.cat(counted)))


def weight_of_counts(counts: Tensor) -> float:
    r"""Return what one count says of the rates of a parent, against all that others say, from `counts` of parents.

    1/K of a Dirichlet of concentration K, by moments: with shares :math:`s_p` of :math:`Y_p` counts and their mean m,

    .. math:: \overline{\sum_g (s_{pg} - m_g)^2} = \sum_g m_g (1 - m_g)\; \overline{\rho + (1 - \rho) / Y_p},
              \qquad \rho = 1 / (1 + K)

    References
    ----------
    Mosimann 1962, doi:10.1093/biomet/49.1-2.65.
    """
    total = counts.sum(dim=1)
    counts, total = counts[total > 0], total[total > 0]
    if len(counts) < 2:
        return 0.0
    shares = counts / total[:, None]
    mean = shares.mean(dim=0)
    apart = (shares - mean).square().sum() / (len(counts) - 1) / (mean * (1 - mean)).sum().clamp_min(1e-12)
    by_chance = (1 / total).mean()
    rho = float(((apart - by_chance) / (1 - by_chance).clamp_min(1e-12)).clamp(1e-6, 0.5))
    return rho / (1 - rho)


def set_departure(part: AllocationPrediction, fitting: Fitting) -> None:
    """Depart from the rule as far as children whose counts are hidden become likelier by it, then set their scatter.

    Judged by what each region gains: by the likelihood of a child's counts, given how many they are. Where the gain is
    within its error, or there are too few regions, the rule stands.
    """
    rule = float(part.count_share)
    if rule == 0:
        return
    judged = [judge(part, fitting, fold) for fold in fitting.held_out]
    place = np.unique(torch.cat([one.place for one in judged]).cpu().numpy(), return_inverse=True)[1]
    if len(place):
        likely = torch.cat([_likelihoods(part, one, rule) for one in judged]).double().cpu().numpy()
        gains = likely - likely[:, [WAYS.index(RULE)]]
        by_place = np.stack([np.bincount(place, one) for one in gains.T])
        best = int(by_place.sum(axis=1).argmax())
        _go(part, WAYS[best] if opening_of(by_place[best]) > 0 else RULE, rule)
        if part.said_share == 0 and fitting.held_out is not fitting.training:
            # Where nothing that training children taught is said of them, they tell the scatter as well as others.
            judged += [judge(part, fitting, fold) for fold in fitting.training]
        set_scatter(part, judged)


def _go(part: AllocationPrediction, way: tuple[float, float], rule: float) -> None:
    part.said_share.fill_(way[0])
    part.count_share.fill_(way[1] * rule)


def _likelihoods(part: AllocationPrediction, judged: Judged, rule: float) -> Tensor:
    """Return the log-likelihood of each child's counts by each of `WAYS` (child, way)."""
    found = []
    for way in WAYS:
        _go(part, way, rule)
        found.append((judged.counts * torch.log(judged.shares(part) + 1e-12)).sum(dim=1))
    return torch.stack(found, dim=1)
