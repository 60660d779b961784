"""Closed form of allocation: the capture of each molecule, and what one count of a parent says of its children."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.operators.gate import opening_of
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.state import Fold, Hidden

if TYPE_CHECKING:
    from aivc_graph.operators.prediction.allocation import AllocationPrediction

# Weights of one count against all that is expected; at 1/w counts a parent's own counts and the rest weigh alike.
WEIGHTS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
# A molecule of fewer counts takes nearly the common capture.
FEW_COUNTS = 10.0


def set_capture(part: AllocationPrediction, folds: list[Fold]) -> None:
    """Compare the shares of molecules in training parents with those in the counted children beneath."""
    n = len(part.plan.of_child)
    beneath, above = np.zeros(n), np.zeros(n)
    for fold in folds:
        own = fold.inputs.measured(*part.target)
        up = fold.inputs["relation", *part.relation].up
        parents = fold.rows[part.plan.parent] * fold.inputs.measured(part.plan.parent, part.plan.modality).mask
        parents = parents * ((up @ own.mask[:, None]).ravel() > 0)
        pooled = to_scipy_csr(up.forward_csr.cpu()) @ to_scipy_csr(own.counts.cpu())[:, list(part.plan.of_child)]
        beneath += pooled.T @ parents.cpu().numpy()
        above += (parents @ part.counts(fold.inputs)).double().cpu().numpy()
    if min(beneath.sum(), above.sum()) > 0:
        few = FEW_COUNTS / min(beneath.sum(), above.sum())
        capture = np.log(beneath / beneath.sum() + few) - np.log(above / above.sum() + few)
        part.log_capture.copy_(torch.from_numpy(capture).float())


def set_weight(part: AllocationPrediction, fitting: Fitting) -> None:
    """Let the counts of parents speak as far as children whose counts are hidden become likelier by it.

    Judged by what each region gains: by the likelihood of a child's counts, given how many they are. Where the gain is
    within its error, counts say nothing.
    """
    gains = [_gains(part, fitting, fold) for fold in fitting.held_out]
    place, gain = (torch.cat(parts).double().cpu().numpy() for parts in zip(*gains, strict=True))
    if not len(place):
        return
    by_place = np.stack([np.bincount(np.unique(place, return_inverse=True)[1], one) for one in gain.T])
    best = int(by_place.sum(axis=1).argmax())
    part.count_share.fill_(WEIGHTS[best] if opening_of(by_place[best]) > 0 else 0.0)


def _gains(part: AllocationPrediction, fitting: Fitting, fold: Fold) -> tuple[Tensor, Tensor]:
    """Return the region of held-out children (child,), and the log-likelihood each gains by weight (child, weight)."""
    (child, modality), inputs = part.target, fold.inputs
    data = inputs.measured(child, modality)
    state = fitting.model(inputs, Hidden(nodes={part.target: torch.ones_like(data.mask)}))
    told = fitting.model.expected(state, inputs, child, modality, without=part)
    here = part.speaks(state, inputs, fitted=False)
    rows = torch.nonzero(here & (fold.rows[child] * data.mask > 0)).ravel()
    columns = list(part.plan.of_child)
    counts, found = data.counts.to_dense()[rows][:, columns], []
    for weight in (0.0, *WEIGHTS):
        part.count_share.fill_(weight)
        shares = part.tell(told, state, inputs, here).shares[rows][:, columns]
        found.append((counts * torch.log(shares / shares.sum(dim=1, keepdim=True) + 1e-12)).sum(dim=1))
    part.count_share.fill_(0.0)
    return inputs.place[child][rows], torch.stack(found[1:], dim=1) - found[0][:, None]
