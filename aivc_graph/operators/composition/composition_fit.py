"""Closed form of composition: type profiles, platform efficiency and calibration; shares chosen on held-out groups."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.tissue_graph import to_torch_csr
from aivc_graph.graph.windows import windows
from aivc_graph.operators.composition.anchors import Anchors, gather_anchors, log_expression
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.ridge import ridge

if TYPE_CHECKING:
    from aivc_graph.operators.composition.composition import CompositionProject

log = logging.getLogger(__name__)
Floats = NDArray[np.float64]
SOLVING: dict[str, tuple[float, ...]] = {"efficiency_share": (0.0, 0.5, 1.0), "variance_share": (0.0, 0.5, 1.0)}
CORRECTING: dict[str, tuple[float, ...]] = {
    "calibration_share": (0.0, 0.25, 0.5, 0.75, 1.0),
    "neighbour_share": (0.0, 0.1, 0.2, 0.35, 0.5),
}
LEAST_ANCHORS, MOST_FOLDS = 10, 5
WINDOW_NODES = 400_000
# A correction has to earn at least this share of the error, or it stays shut.
WORTH = 0.01


def fit_composition(operator: CompositionProject, fitting: Fitting) -> None:
    """Fit a projection to types on training anchors: patches with labelled cells beneath.

    Each share is opened only as far as it lessens the Jensen–Shannon divergence from measured compositions in groups
    that nothing was fitted on: sections, or stretches of the only one. Where fewer than ten patches have labelled cells
    beneath them, all stay shut, and the answer is non-negative least squares on the profiles of the types.
    """
    anchors = gather_anchors(windows(fitting.source, fitting.model.steps, WINDOW_NODES), operator.plan)
    counted = fitting.model.part("measurement", operator.plan.parent, names.RNA)
    dispersion = counted.dispersion()[list(operator.plan.of_parent)].detach().cpu()
    enough = len(anchors.rows()) >= LEAST_ANCHORS
    if enough:
        choose_shares(operator, anchors, dispersion)
    fit_profiles(operator, anchors, dispersion)
    if enough:
        fit_calibration(operator, anchors)


@torch.no_grad()
def fit_profiles(
    operator: CompositionProject, anchors: Anchors, log_dispersion: Tensor, without: int | None = None
) -> CompositionProject:
    """Fit type profiles and platform efficiency on all groups but `without`."""
    rows = anchors.rows(without)
    operator.profiles.copy_(torch.from_numpy(anchors.profiles(without)).float())
    operator.log_efficiency.copy_(torch.from_numpy(efficiency(anchors.counts[rows], anchors.pooled[rows])).float())
    operator.log_theta.copy_(log_dispersion)
    return operator


@torch.no_grad()
def fit_calibration(operator: CompositionProject, anchors: Anchors, without: int | None = None) -> None:
    """Ridge from log expression to measured compositions, on all groups but `without`."""
    rows = anchors.rows(without)
    expression = log_expression(torch.from_numpy(anchors.counts[rows]).to(operator.centre))
    operator.centre.copy_(expression.mean(dim=0))
    mean = anchors.measured[rows].mean(axis=0)
    operator.prior.copy_(torch.from_numpy(mean).float())
    centred = (expression - operator.centre).double().cpu().numpy()
    slope = ridge(centred, anchors.measured[rows] - mean, anchors.group[rows])
    operator.calibration.copy_(torch.from_numpy(slope).float())


def efficiency(counts: Floats, pooled: Floats) -> Floats:
    """Return the log of how much better patches catch each molecule than the cells beneath do, mean zero.

    A molecule that was hardly seen takes nearly the common value.
    """
    seen, expected = counts.sum(axis=0), pooled.sum(axis=0)
    if not seen.any():
        return np.zeros(len(seen))
    scale = seen.sum() / max(expected.sum(), 1.0)
    ratio = np.log((seen + 10.0 * scale) / (expected + 10.0))
    return ratio - ratio.mean()


@torch.no_grad()
def choose_shares(operator: CompositionProject, anchors: Anchors, log_dispersion: Tensor) -> None:
    """Open the operator's shares one after the other, as far as groups left out support it."""
    for name in (*SOLVING, *CORRECTING):
        getattr(operator, name).zero_()
    groups = np.unique(anchors.group[anchors.rows()])[:MOST_FOLDS]
    if len(groups) < 2:
        return
    folds = [_Fold(operator, anchors, log_dispersion, int(group)) for group in groups]
    for name, openings in SOLVING.items():
        _open(operator, folds, name, openings)
    for fold in folds:
        fit_calibration(fold.operator, anchors, fold.group)
        fold.solved = fold.operator.solved(fold.counts)
    for name, openings in CORRECTING.items():
        _open(operator, folds, name, openings)
    opened = {name.removesuffix("_share"): float(getattr(operator, name)) for name in (*SOLVING, *CORRECTING)}
    log.info("composition: %s", ", ".join(f"{k} {v:g}" for k, v in opened.items() if v) or "plain least squares")


class _Fold:
    """One inner split: the operator fitted without a group, and the group's counts, truth and neighbours."""

    def __init__(self, operator: CompositionProject, anchors: Anchors, log_dispersion: Tensor, group: int) -> None:
        self.group, self.solved = group, None
        inner = type(operator)(operator.plan)
        self.operator = fit_profiles(inner, anchors, log_dispersion, group)
        rows = np.flatnonzero(anchors.group == group)
        self.near = SparseOperator.of(to_torch_csr(anchors.near[rows][:, rows]))
        self.counts = torch.from_numpy(anchors.counts[rows]).float()
        self.measured = torch.from_numpy(anchors.measured[rows]).float()

    solved: Tensor | None

    def error(self) -> float:
        """Return the Jensen–Shannon divergence of the group's anchors, summed."""
        solved = self.operator.solved(self.counts) if self.solved is None else self.solved
        found = self.operator.smoothed(self.operator.calibrated(solved, self.counts), self.near)
        return float(divergence(found, self.measured).sum())


def _open(operator: CompositionProject, folds: list[_Fold], name: str, openings: tuple[float, ...]) -> None:
    """Set one share of the operator, and of all folds, to what groups left out ask for; not worth it: shut."""
    errors = []
    for opening in openings:
        for fold in folds:
            getattr(fold.operator, name).fill_(opening)
        errors.append(sum(fold.error() for fold in folds))
    best = int(np.argmin(errors))
    chosen = openings[best] if errors[best] < (1 - WORTH) * errors[0] else 0.0
    for one in (operator, *(fold.operator for fold in folds)):
        getattr(one, name).fill_(chosen)


def divergence(predicted: Tensor, measured: Tensor) -> Tensor:
    """Return the Jensen–Shannon divergence [bit] of each measured composition (patch,), zero where none was."""
    middle = (predicted + measured) / 2

    def entropy(shares: Tensor) -> Tensor:
        return -(shares * shares.clamp_min(1e-12).log2()).sum(dim=1)

    return (entropy(middle) - (entropy(predicted) + entropy(measured)) / 2) * (measured.sum(dim=1) > 0)
