"""One modality of a cell from another: ridge, and what other rules add on cells left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aivc_graph.operators.regressions import (
    chosen_penalty,
    gaussian_ridge,
    nearest_mean,
    principal_axes,
    ridge_path,
)
from aivc_graph.operators.stacking import shares_of_rules

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

RULES = (
    "ridge",
    "ridge, ten times the penalty",
    "ridge on features of one spread",
    "kernel ridge",
    "kernel ridge, three times the penalty",
    "nearest cells",
    "mean",
)
BEFOREHAND = np.eye(len(RULES))[0]
# Left-out cells that speak beforehand for ridge.
FOR_BEFOREHAND = 20.0
FOLDS = 5
LEAST_TRAINED = 40
# Features that hardly vary are not blown up to the spread of all others.
LEAST_SPREAD = 0.05


def predict_modality(x: Floats, target: Floats, train: Mask, asked: Mask, donor: NDArray[np.integer]) -> Floats | None:
    r"""Return the target of the `asked` cells (asked, k); None with fewer than forty to learn from.

    .. math:: \hat y = \sum_k w_k f_k(x), \qquad w_k \ge 0,\ \sum_k w_k = 1

    over the rules f of `RULES`, one set of weights for all targets, each target by its error as a share of its
    variance. They start at ridge, :math:`w = (1, 0, …)`, and are those of least error on donors left out in turn, or on
    fifths of the cells where one donor trains.

    Parameters
    ----------
    x
        Features of all cells, of one scale (cell, f).
    target
        Read where `train` alone (cell, k).
    train, asked
        Cells to learn from, and to answer (cell,).
    donor
        Code of each cell's donor (cell,).
    """
    rows = np.flatnonzero(train)
    if len(rows) < LEAST_TRAINED:
        return None
    own, y = x[rows], target[rows]
    fold = _folds(donor[rows], len(rows))
    centred = own - own.mean(axis=0)
    penalties = [chosen_penalty(centred * scale, y - y.mean(axis=0), fold) for scale in (1.0, _scale(centred))]
    left_out = np.zeros((len(RULES), *y.shape))
    for one in np.unique(fold):
        out = fold == one
        left_out[:, out] = rules(own[~out], y[~out], own[out], penalties)
    mean, spread = y.mean(axis=0), np.maximum(y.std(axis=0), 1e-12)
    said, true = ((one - mean) / spread for one in (left_out, y))
    square, cross = np.einsum("knt,lnt->kl", said, said), np.einsum("knt,nt->k", said, true)
    drawn = FOR_BEFOREHAND / len(rows) * square
    weights = shares_of_rules(square + drawn, cross + drawn @ BEFOREHAND, BEFOREHAND)
    return np.tensordot(weights, rules(own, y, x[asked], penalties), 1)


def rules(x: Floats, y: Floats, asked: Floats, penalties: Sequence[float]) -> Floats:
    """Return what each of `RULES` says (rule, asked, k), given the penalty of ridge and of that on one spread."""
    centre, mean = x.mean(axis=0), y.mean(axis=0)
    x, asked, y = x - centre, asked - centre, y - mean
    scale, axes = _scale(x), principal_axes(x)
    near, of_asked = x @ axes, asked @ axes
    found = [
        *ridge_path(x, y, asked, (penalties[0], 10 * penalties[0])),
        *ridge_path(x * scale, y, asked * scale, (penalties[1],)),
        *gaussian_ridge(near, y, of_asked, (1.0, 3.0)),
        nearest_mean(near, y, of_asked),
        np.zeros((len(asked), y.shape[1])),
    ]
    return mean + np.stack(found)


def _scale(x: Floats) -> Floats:
    """Return what brings centred features to about one spread (f,), their variance in all as it was."""
    variance = x.var(axis=0)
    scale = 1 / np.sqrt(variance + max(LEAST_SPREAD * float(variance.mean()), 1e-12))
    return np.asarray(scale * np.sqrt(variance.sum() / max(float((variance * scale**2).sum()), 1e-12)))


def _folds(donor: NDArray[np.integer], n: int) -> NDArray[np.integer]:
    """Return the fold of each cell (cell,): its donor, or a fifth of the cells at random where there is one donor."""
    names, code = np.unique(donor, return_inverse=True)
    return code.reshape(-1) % FOLDS if len(names) > 1 else np.random.default_rng(0).permutation(n) % FOLDS
