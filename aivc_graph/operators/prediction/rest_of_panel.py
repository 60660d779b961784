"""The rest of a panel: molecules that a section did not measure, from those that it did and another modality."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aivc_graph.operators.stacking import shares_of_rules

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

RULES = ("the other modality", "both", "the molecules measured")
BEFOREHAND = np.eye(len(RULES))[0]
# Left-out cells that speak beforehand for the other modality alone.
FOR_BEFOREHAND = 20.0
# What each molecule has of its own, in units of the mean variance; chosen on what is left out.
OWN = (0.03, 0.1, 0.2, 0.4, 0.8, 1.6)
# Variance of the level of a cell where the panel says nothing of it, in the same units.
FREE = 100.0


class RestOfPanel(nn.Module):
    r"""Tells the molecules H of a cell that were not measured from those, S, that were.

    .. math::
        \hat y_H = w_0 f_H + w_1 \big(f_H + R_{HS} R_{SS}^{-1} (y_S - f_S)\big) + w_2\, Y_{HS} Y_{SS}^{-1} y_S

    about the mean, with f what another modality tells of the cell, R the covariance of what that leaves open in cells
    left out, Y that of the molecules themselves, and both with something on the diagonal that each molecule has of its
    own. The weights, of sum one, and the diagonal are those of least squared error where halves of the panel are hidden
    from cells that covariances are not of. At the start the other modality has the word.

    Parameters
    ----------
    molecules
        Size of the panel.
    free
        Whether values are known but for a level of each cell, as centred log ratios of a part of the panel are.

    References
    ----------
    Breiman 1996, doi:10.1007/BF00117832 (stacked regressions).
    """

    covariance: Tensor
    share: Tensor

    def __init__(self, molecules: int, *, free: bool) -> None:
        super().__init__()
        self.free = free
        self.register_buffer("covariance", torch.eye(molecules).repeat(2, 1, 1))
        self.register_buffer("share", torch.from_numpy(BEFOREHAND).float())

    def fit(self, left_open: Floats, target: Floats, fold: NDArray[np.integer]) -> None:
        """Fit covariances and weights.

        Parameters
        ----------
        left_open, target
            What the other modality, of cells left out, leaves open, and the molecules about their mean
            (cell, molecule).
        fold
            Which cells covariances are not of, in turn (cell,).
        """
        half = np.random.default_rng(0).permutation(target.shape[1]) % 2 == 0
        turns = [(fold == one, shown) for one in np.unique(fold) for shown in (half, ~half)]
        best = np.inf
        for own in OWN:
            square, cross = np.zeros((len(RULES),) * 2), np.zeros(len(RULES))
            for out, shown in turns:
                of = [_covariance(values[~out], own) for values in (left_open, target)]
                true = target[out][:, ~shown]
                said = self._said(of, target[out] - left_open[out], target[out], shown)[:, :, ~shown]
                square += np.einsum("aij,bij->ab", said, said)
                cross += np.einsum("aij,ij->a", said, true)
            drawn = FOR_BEFOREHAND / max(2 * len(target), 1) * square
            weight = shares_of_rules(square + drawn, cross + drawn @ BEFOREHAND, BEFOREHAND)
            if (loss := float(weight @ square @ weight - 2 * weight @ cross)) < best:
                best, kept = loss, (own, weight)
        for held, values in zip(self.covariance, (left_open, target), strict=True):
            held.copy_(torch.from_numpy(_covariance(values, kept[0])))
        self.share.copy_(torch.from_numpy(kept[1]))

    def forward(self, told: Floats, values: Floats, known: Mask, mean: Floats) -> Floats:
        """Return every molecule (asked, molecule): as measured where it was, else as told.

        Parameters
        ----------
        told, values
            What the other modality tells, and what was measured (asked, molecule).
        known, mean
            Which molecules were measured of each (asked, molecule), and the mean of training cells (molecule,).
        """
        of, weight = self.covariance.double().cpu().numpy(), self.share.double().cpu().numpy()
        found = np.array(told, np.float64)
        patterns, which = np.unique(known, axis=0, return_inverse=True)
        for number, shown in enumerate(patterns):
            rows = np.flatnonzero(which.reshape(-1) == number)
            if shown.any():
                said = self._said(of, told[rows] - mean, values[rows] - mean, shown)
                found[rows] = np.where(shown, values[rows], mean + np.einsum("r,rij->ij", weight, said))
        return found

    def _said(self, of: list[Floats] | Floats, told: Floats, values: Floats, shown: Mask) -> Floats:
        """Return what each rule says about the mean (rule, cell, molecule), of values at the molecules shown."""
        both = told + self._led(of[0], (values - told)[:, shown], shown)
        return np.stack([told, both, self._led(of[1], values[:, shown], shown)])

    def _led(self, covariance: Floats, apart: Floats, shown: Mask) -> Floats:
        inside = covariance[np.ix_(shown, shown)]
        if self.free:
            inside = inside + FREE * float(np.trace(covariance)) / len(covariance)
        return np.asarray(apart @ np.linalg.solve(inside, covariance[shown]))


def _covariance(values: Floats, own: float) -> Floats:
    found = values.T @ values / max(len(values), 1)
    return np.asarray(found + max(own * float(np.trace(found)) / len(found), 1e-9) * np.eye(len(found)))


def levelled(counts: Floats, known: Mask, told: Floats) -> Floats:
    r"""Return logarithms :math:`\log(1 + y e^{-m})` of counts (cell, molecule) of which a part is known.

    The level m of each cell is such that on average those known lie where they are `told` to: what a centred log ratio
    of the whole panel would take for it cannot be known of a part.
    """
    n = np.maximum(known.sum(axis=1), 1)
    wanted = np.where(known, told, 0.0).sum(axis=1) / n
    low, high = np.full(len(counts), -10.0), np.full(len(counts), 20.0)
    for _ in range(40):
        middle = (low + high) / 2
        above = np.where(known, np.log1p(counts * np.exp(-middle)[:, None]), 0.0).sum(axis=1) / n > wanted
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray(np.log1p(counts * np.exp(-low)[:, None]))
