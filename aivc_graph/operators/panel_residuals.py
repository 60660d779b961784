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


@dataclass(frozen=True)
class PanelResiduals:
    r"""Ridge regression of what the state leaves open of molecules H, on what the molecules S tell of a node.

    .. math:: \hat y_H = f_H + (f - \bar f)\,P\,A_H + (y_S - f_S - \bar e_S)\,B_{SH}

    with y log1p of counts at the depth of the level, f what is decoded of all molecules from the state as read from S,
    on its leading directions P, and :math:`\bar f`, :math:`\bar e` means in training. The first term mends how the
    state is decoded, the second adds what of S is not in the state; neither moves the mean. A and B are as far open as
    held-out groups gain by them: where they gain nothing the state alone speaks.

    Parameters
    ----------
    seen
        S, the molecules of the panel that the section measured (molecule,).
    mean, left_open
        Mean decoded, and mean of what was measured less that, in training (molecule,).
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

    def told(self, decoded: Floats, measured: Floats) -> Floats:
        """Return log1p of every molecule (node, molecule), from those decoded and those measured, in the same terms."""
        apart = (measured - decoded - self.left_open)[:, self.seen]
        x = np.hstack([(decoded - self.mean) @ self.axes, apart])
        return np.asarray(np.maximum(decoded + x @ self.weight, LEAST_RATE * decoded))


@dataclass(frozen=True)
class PanelTeachers:
    """Training nodes, read as if no more than some molecules had been measured.

    Parameters
    ----------
    decoded, shown
        What is decoded from the state read so, and what it is read from (node, molecule).
    whole, known
        What was measured in truth, and which molecules were (node, molecule).
    group
        What is held out together (node,), such as donors.
    """

    decoded: Floats
    shown: Floats
    whole: Floats
    known: Mask
    group: NDArray[np.integer]


def fit_residuals(seen: Mask, nodes: PanelTeachers) -> PanelResiduals:
    """Return the regression that nodes teach of the molecules that are not `seen` (molecule,).

    Molecules that the same nodes measured are told together; where fewer than forty did, by the state alone. Of what is
    seen, but was not measured of a node, nothing is left open.
    """
    number, lacking = np.maximum(nodes.known.sum(axis=0), 1), np.flatnonzero(~seen)
    apart, left = (np.where(nodes.known, values - nodes.decoded, 0.0) for values in (nodes.shown, nodes.whole))
    left_open, mean = apart.sum(axis=0) / number, nodes.decoded.mean(axis=0)
    about, n = nodes.decoded - mean, len(seen)
    axes = eigh(about.T @ about, subset_by_index=(max(n - AXES, 0), n - 1))[1]
    x = np.hstack([about @ axes, np.where(nodes.known, apart - left_open, 0.0)[:, seen]])
    weight = np.zeros((x.shape[1], n))
    alike, which = np.unique(nodes.known[:, lacking], axis=1, return_inverse=True)
    for one, rows in enumerate(alike.T):
        columns = lacking[which.reshape(-1) == one]
        if rows.sum() >= LEAST_NODES:
            y = left[np.ix_(rows, columns)]
            found, gains = ridge_and_gains(x[rows], y - y.mean(axis=0), nodes.group[rows])
            weight[:, columns] = opening_of(gains) * found
    return PanelResiduals(seen, mean, left_open, axes, weight)
