"""Molecules that a section lacks, from those it measured: what these tell beyond the state read from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from aivc_graph.operators.gate import opening_of
from aivc_graph.operators.ridge import ridge_and_gains

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

# Fewer nodes teach nothing.
LEAST_NODES = 40
# Directions of what is decoded; more told no more in simulated tissue of seed 11 and in osmFISH, half as many less.
AXES = 32
# No rate falls below this share of what the state says: intervals are factors about it.
LEAST_RATE = 0.1
# What counts of a few nodes leave open is taken for no more than so many standard deviations of all: 2, 3, 4 and no
# bound were tried in simulated tissue of seed 11 and in osmFISH.
MOST_OPEN = 2.0


@dataclass(frozen=True)
class PanelResiduals:
    r"""Ridge regression of what the state leaves open of molecules H, on what the molecules S tell of a node.

    .. math:: \hat m_H = m_H + (1 + m_H) \big((f - \bar f)\,P\,A_H + (x_S - f_S - \bar e_S)\,B_{SH}\big)

    with m the rate at the depth of the level that is decoded from the state as read from S, :math:`f = \log(1 + m)` and
    P its leading directions, x log1p of scaled counts, and :math:`\bar f`, :math:`\bar e` means in training. The first
    term mends how the state is decoded, the second adds what of S is not in the state. Of counts y at that depth they
    are taught :math:`(y - m) / (1 + m)`, the first step of log1p from m to y, whose mean is that of rates where a mean
    of logs would lie below. A and B are as far open as held-out groups gain by them: where they gain nothing the state
    alone speaks.

    Parameters
    ----------
    seen
        S, the molecules of the panel that the section measured (molecule,).
    mean, left_open
        Means of f, and of x − f, in training (molecule,).
    axes
        P (molecule, axis).
    weight
        A above B (axis and molecule seen, molecule).

    References
    ----------
    Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634.
    """

    seen: Mask
    mean: Floats
    left_open: Floats
    axes: Floats
    weight: Floats

    def told(self, rate: Floats, logs: Floats) -> Floats:
        """Return the rate of each molecule (node, molecule), from those decoded and log1p of scaled counts."""
        decoded = np.log1p(rate)
        x = np.hstack([(decoded - self.mean) @ self.axes, (logs - decoded - self.left_open)[:, self.seen]])
        return np.asarray(np.maximum(rate + (1 + rate) * (x @ self.weight), LEAST_RATE * rate))


@dataclass(frozen=True)
class PanelTeachers:
    """Training nodes, read as if no more than some molecules had been measured.

    Parameters
    ----------
    rate, logs
        Rate decoded from the state read so, and log1p of the scaled counts that it is read from (node, molecule).
    whole, known
        Scaled counts of all that was measured, and which molecules were (node, molecule).
    firm
        How surely scaled counts tell the rate of a node (node,): its counts over the depth they are scaled to, up to 1.
    group
        What is held out together (node,), such as donors.
    """

    rate: Floats
    logs: Floats
    whole: Floats
    known: Mask
    firm: Floats
    group: NDArray[np.integer]


def fit_residuals(seen: Mask, nodes: PanelTeachers) -> PanelResiduals:
    """Return the regression that nodes teach of the molecules that are not `seen` (molecule,).

    Molecules that the same nodes measured are told together; where fewer than forty did, by the state alone. Of what is
    seen, but was not measured of a node, nothing is left open.
    """
    decoded, lacking = np.log1p(nodes.rate), np.flatnonzero(~seen)
    apart = np.where(nodes.known, nodes.logs - decoded, 0.0)
    left_open, mean = apart.sum(axis=0) / np.maximum(nodes.known.sum(axis=0), 1), decoded.mean(axis=0)
    about, n = decoded - mean, len(seen)
    axes = eigh(about.T @ about, subset_by_index=(max(n - AXES, 0), n - 1))[1]
    x = np.hstack([about @ axes, np.where(nodes.known, apart - left_open, 0.0)[:, seen]])
    weight = np.zeros((x.shape[1], n))
    alike, which = np.unique(nodes.known[:, lacking], axis=1, return_inverse=True)
    for one, rows in enumerate(alike.T):
        columns = lacking[which.reshape(-1) == one]
        if rows.sum() < LEAST_NODES:
            continue
        firm, rate = nodes.firm[rows, None], nodes.rate[np.ix_(rows, columns)]
        y = _about_mean((nodes.whole[np.ix_(rows, columns)] - rate) / (1 + rate), firm)
        y = _about_mean(np.clip(y, -MOST_OPEN * y.std(axis=0), MOST_OPEN * y.std(axis=0)), firm)
        found, gains = ridge_and_gains(np.sqrt(firm) * x[rows], np.sqrt(firm) * y, nodes.group[rows])
        weight[:, columns] = opening_of(gains) * found
    return PanelResiduals(seen, mean, left_open, axes, weight)


def _about_mean(values: Floats, weight: Floats) -> Floats:
    return np.asarray(values - (weight * values).sum(axis=0) / max(float(weight.sum()), 1e-12))
