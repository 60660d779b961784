"""Closed form of rates told by counts of another level: the rule, how far to depart from it, and the scatter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.operators.gate import LEAST_LEFT_OUT
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.prediction.scatter import Judged, judge, scatter_about
from aivc_graph.operators.state import Fold

if TYPE_CHECKING:
    from aivc_graph.operators.prediction.allocation import AllocationPrediction
    from aivc_graph.operators.prediction.shared_counts import AbstractShared

# A molecule of fewer counts takes nearly the common capture.
FEW_COUNTS = 10.0


def set_rule(part: AbstractShared, folds: list[Fold]) -> None:
    """Set what needs no held-out node: the mean profile, the capture of the children, the weight of a count."""
    plan, n = part.plan, len(part.plan.of_child)
    beneath, above, everyone, counted = np.zeros(n), np.zeros(n), np.zeros(n), []
    for fold in folds:
        own, others = (fold.inputs.measured(level, plan.modality) for level in (plan.child, plan.parent))
        up = fold.inputs["relation", *part.relation].up
        parents = fold.rows[plan.parent] * others.mask
        of_parents = to_scipy_csr(others.counts.cpu())[:, list(plan.of_parent)]
        counted.append(torch.from_numpy(of_parents[np.flatnonzero(parents.cpu().numpy() > 0)].toarray()).double())
        covered = (parents * ((up @ own.mask[:, None]).ravel() > 0)).cpu().numpy()
        children = to_scipy_csr(own.counts.cpu())[:, list(plan.of_child)]
        beneath += (to_scipy_csr(up.forward_csr.cpu()) @ children).T @ covered
        above += of_parents.T @ covered
        target = (children, own.mask) if part.target[0] == plan.child else (of_parents, others.mask)
        everyone += target[0].T @ (fold.rows[part.target[0]] * target[1]).cpu().numpy()
    if everyone.sum() > 0:
        part.profile.copy_(torch.from_numpy((everyone + 1) / (everyone + 1).sum()).float())
    if min(beneath.sum(), above.sum()) > 0:
        few = FEW_COUNTS / min(beneath.sum(), above.sum())
        capture = np.log(beneath / beneath.sum() + few) - np.log(above / above.sum() + few)
        part.log_capture.copy_(torch.from_numpy(capture).float())
    part.weight.fill_(weight_of_counts(torch.cat(counted)))
    part.go(part.rule)


def set_types(part: AllocationPrediction, folds: list[Fold]) -> None:
    """Set the mean profile of the children of each type; of one with few counts, nearly that of all."""
    sums = np.zeros(tuple(part.type_profiles.shape))
    for fold in folds:
        own, kind = (fold.inputs.measured(part.plan.child, of) for of in (part.plan.modality, names.TYPE))
        rows = fold.rows[part.plan.child] * own.mask * kind.mask
        counts = to_scipy_csr(own.counts.cpu())[:, list(part.plan.of_child)]
        sums += (counts.T @ (kind.onehot * rows[:, None]).cpu().numpy()).T
    sums += FEW_COUNTS * (sums.sum(axis=0) + 1) / (sums.sum() + sums.shape[1])
    part.type_profiles.copy_(torch.from_numpy(sums / sums.sum(axis=1, keepdims=True)).float())


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


def set_departure(part: AbstractShared, fitting: Fitting) -> None:
    """Depart from the rule as far as nodes whose counts are hidden become likelier by it, then set their scatter.

    Judged by what each region gains: by the likelihood of a node's counts, given how many they are. The way is taken
    that gains most less the standard error of its gain; where none gains more than that, or there are too few regions,
    the rule stands.
    """
    if part.weight == 0:
        return
    judged = [judge(part, fitting, fold) for fold in fitting.held_out]
    # Beside anchors nothing is learned that the anchors themselves do not tell.
    at = [_anchored(part, one) for one in judged]
    places = torch.cat([one.place[there] for one, there in zip(judged, at, strict=True)]).cpu().numpy()
    place = np.unique(places, return_inverse=True)[1]
    part.go(part.rule)
    chosen = part.rule
    if len(np.unique(place)) >= LEAST_LEFT_OUT:
        ways = part.ways
        likely = torch.cat([_likelihoods(part, one, there) for one, there in zip(judged, at, strict=True)])
        gains = (likely - likely[:, [ways.index(part.rule)]]).double().cpu().numpy()
        chosen = ways[surest(np.stack([np.bincount(place, one) for one in gains.T], axis=1))]
    # Where nothing that training nodes taught is said of them, they tell the scatter as well as others.
    every = judged
    if fitting.held_out is not fitting.training:
        every = judged + [judge(part, fitting, fold) for fold in fitting.training]
    part.rule_scatter.copy_(scatter_about(part, every))
    part.go(chosen)
    part.scatter.copy_(scatter_about(part, every if part.said_share == 0 else judged))


def surest(gains: NDArray[np.floating]) -> int:
    """Return which way's mean gain (place, way), less its standard error, is largest; the rule's own gains are zero."""
    return int((gains.mean(axis=0) - gains.std(axis=0, ddof=1) / np.sqrt(len(gains))).argmax())


def _anchored(part: AbstractShared, judged: Judged) -> Tensor:
    """Return which of the judged nodes lie, in part at least, beneath or above another, boolean (node,)."""
    overlaps = judged.inputs["relation", *part.relation]
    across = overlaps.down if part.target[0] == part.plan.child else overlaps.up
    return across.reached[judged.rows] > 0


def _likelihoods(part: AbstractShared, judged: Judged, at: Tensor) -> Tensor:
    """Return the log-likelihood of the counts of judged nodes `at` anchors by each way of a part (node, way)."""
    data = judged.inputs.measured(*part.target)
    rows, counts = judged.rows[at], judged.counts[at]
    there = 1.0 if data.there is None else data.there[data.section[rows]][:, list(part.columns)].double()
    terms, found = part.terms(judged.told, judged.state, judged.inputs, judged.here), []
    for way in part.ways:
        part.go(way)
        shares = part.rates(terms)[rows].double() * there
        shares = shares / shares.sum(dim=1, keepdim=True).clamp_min(1e-12)
        found.append((counts * torch.log(shares + 1e-12)).sum(dim=1))
    return torch.stack(found, dim=1)
