"""One modality of a cell from another: the rules, each a map that is fitted to cells, and how they share the word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from aivc_graph.operators.kernels import squared_distances
from aivc_graph.operators.regressions import NEIGHBOURS, chosen_penalty, principal_axes, ridge_path
from aivc_graph.operators.stacking import shares_of_rules
from aivc_graph.tissue.evenly import evenly

Floats = NDArray[np.floating[Any]]
Codes = NDArray[np.integer[Any]]

RULES = (
    "ridge",
    "ridge, ten times the penalty",
    "ridge on features of one spread",
    "ridge on the state",
    "kernel ridge",
    "kernel ridge, three times the penalty",
    "linear and Gaussian kernel, a third of the penalty",
    "linear and Gaussian kernel",
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
# Cells that kernels rest on, evenly taken: of the rules, and of those that choose between them.
MOST_NEAR, MOST_NEAR_LEFT_OUT = 4_000, 2_000
# Cells of which it is kept what rules leave open.
MOST_LEFT_OPEN = 1_000


@dataclass(frozen=True)
class Cells:
    """Cells to learn from: features `x` (cell, f), the state after messages (cell, latent) and the target (cell, k)."""

    x: Floats
    state: Floats
    y: Floats

    def __getitem__(self, rows: Any) -> Cells:
        return Cells(self.x[rows], self.state[rows], self.y[rows])

    def __len__(self) -> int:
        return len(self.x)

    def less(self, other: Cells) -> Cells:
        """Return these cells about the mean of others."""
        return Cells(*(mine - theirs.mean(axis=0) for mine, theirs in zip(self._all, other._all, strict=True)))

    @property
    def _all(self) -> tuple[Floats, Floats, Floats]:
        return self.x, self.state, self.y


@dataclass(frozen=True)
class Ground:
    """What kernels rest on: components of some cells and their target, both about the mean, and the kernel's width.

    `axes` (f, component), `near` (cell, component), `target` (cell, k).
    """

    axes: Floats
    near: Floats
    target: Floats
    width: float

    def kernel(self, at: Floats) -> Floats:
        """Return the Gaussian kernel between components `at` (asked, component) and the cells (asked, cell)."""
        return np.asarray(np.exp(-squared_distances(at, self.near) / self.width))

    def nearest(self, at: Floats) -> Floats:
        """Return the mean target of the 25 nearest cells (asked, k)."""
        k = min(NEIGHBOURS, len(self.near))
        from scipy.spatial import cKDTree

        near = cKDTree(self.near).query(at, k=range(1, k + 1))[1]
        return np.asarray(self.target[near].mean(axis=1))


@dataclass(frozen=True)
class Said:
    """What one rule, or a mixture of them, says: a sum of four terms, none of which need be there.

    `linear` (f, k) of the features, `of_state` (latent, k) of the state, `of_kernel` (cell, k) of the kernel to each
    cell that kernels rest on, and the share of the `nearest` cells' mean.
    """

    linear: Floats | float = 0.0
    of_state: Floats | float = 0.0
    of_kernel: Floats | float = 0.0
    nearest: float = 0.0

    def __call__(self, cells: Cells, ground: Ground) -> Floats:
        """Return the target of `cells` about its mean (cell, k)."""
        at = cells.x @ ground.axes
        told = np.zeros((len(cells), ground.target.shape[1]))
        for first, second in ((cells.x, self.linear), (cells.state, self.of_state)):
            if np.ndim(second):
                told += first @ second
        if np.ndim(self.of_kernel):
            told += ground.kernel(at) @ self.of_kernel
        return told + self.nearest * ground.nearest(at) if self.nearest else told


def ground_of(cells: Cells, most: int = MOST_NEAR) -> Ground:
    """Return what kernels rest on, of cells about their mean."""
    axes = principal_axes(cells.x)
    some = evenly(len(cells), most)
    near = cells.x[some] @ axes
    return Ground(axes, near, cells.y[some], float(np.median(squared_distances(near, near))) or 1.0)


def rules(cells: Cells, ground: Ground, penalties: tuple[float, float, float]) -> list[Said]:
    """Return each of `RULES` fitted to cells about their mean.

    Parameters
    ----------
    penalties
        Of ridge, of ridge on features of one spread, and of ridge on the state.

    References
    ----------
    Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634 (ridge); Duvenaud et al. 2011, arXiv:1112.4394 (a sum of a
    linear and a Gaussian kernel).
    """
    x, scale = cells.x, _scale(cells.x)
    plain, less = _ridge(x, cells.y, penalties[0], 10 * penalties[0])
    (spread,) = _ridge(x * scale, cells.y, penalties[1])
    (of_state,) = _ridge(cells.state, cells.y, penalties[2])
    some = evenly(len(x), len(ground.near))
    gaussian = ground.kernel(ground.near)
    likeness = x[some] @ x[some].T
    size = max(float(np.trace(likeness)) / len(some), 1e-12)
    both = [_weights(gaussian + likeness / size, ground.target, penalty) for penalty in (0.3, 1.0)]
    return [
        Said(plain),
        Said(less),
        Said(scale[:, None] * spread),
        Said(of_state=of_state),
        *(Said(of_kernel=_weights(gaussian, ground.target, penalty)) for penalty in (1.0, 3.0)),
        *(Said(linear=x[some].T @ one / size, of_kernel=one) for one in both),
        Said(nearest=1.0),
        Said(),
    ]


def mixed(said: list[Said], weights: Floats) -> Said:
    """Return the weighted sum of rules as one."""
    terms = zip(*((one.linear, one.of_state, one.of_kernel, one.nearest) for one in said), strict=True)
    linear, of_state, of_kernel, nearest = (
        sum((w * part for w, part in zip(weights, term, strict=True)), start=0.0 * term[0]) for term in terms
    )
    return Said(linear, of_state, of_kernel, float(nearest))


@dataclass(frozen=True)
class Choice:
    """How rules share the word, and what they leave open.

    The `weights` of rules (rule,), their `penalties`, the `error` left as a share of the mean's (1 for the mean), and
    of some cells, evenly taken, what they leave open when left out (some, k): which (`some`,), and of which `fold`.
    """

    weights: Floats
    penalties: tuple[float, float, float]
    error: float
    left_open: Floats
    some: Codes
    fold: Codes


def chosen(cells: Cells, group: Codes) -> Choice:
    r"""Return weights of rules and the penalties that they are fitted with.

    .. math:: \hat y = \bar y + \sum_k w_k f_k(x), \qquad w_k \ge 0,\ \sum_k w_k = 1

    One set of weights for all targets: those of least squared error on groups left out in turn, such as donors, or on
    fifths of the cells where groups are too few. They start at ridge, :math:`w = (1, 0, …)`.
    """
    fold = folds(group)
    centred = cells.less(cells)
    inputs = (centred.x, centred.x * _scale(centred.x), centred.state)
    first, second, third = (chosen_penalty(x, centred.y, fold) for x in inputs)
    square, cross, size = np.zeros((len(RULES),) * 2), np.zeros(len(RULES)), 0.0
    looked_at = np.zeros(len(cells), bool)
    looked_at[evenly(len(cells), MOST_LEFT_OPEN)] = True
    some, kept_said, kept_true = [], [], []
    for one in np.unique(fold):
        out, kept = cells[fold == one], cells[fold != one]
        asked, learned = out.less(kept), kept.less(kept)
        ground = ground_of(learned, MOST_NEAR_LEFT_OUT)
        move = kept.y.mean(axis=0) - cells.y.mean(axis=0)
        said = [rule(asked, ground) + move for rule in rules(learned, ground, (first, second, third))]
        true = asked.y + move
        square += np.array([[np.vdot(a, b) for b in said] for a in said])
        cross += np.array([np.vdot(a, true) for a in said])
        size += float(np.vdot(true, true))
        own = looked_at[fold == one]
        some.append(np.flatnonzero((fold == one) & looked_at))
        kept_said.append(np.stack([each[own] for each in said]))
        kept_true.append(true[own])
    drawn = FOR_BEFOREHAND / len(cells) * square
    weights = shares_of_rules(square + drawn, cross + drawn @ BEFOREHAND, BEFOREHAND)
    error = (size - 2 * weights @ cross + weights @ square @ weights) / max(size, 1e-12)
    left_open = [true - np.einsum("r,rij->ij", weights, said) for said, true in zip(kept_said, kept_true, strict=True)]
    rows = np.concatenate(some)
    return Choice(weights, (first, second, third), float(error), np.concatenate(left_open), rows, fold[rows])


def folds(group: Codes) -> Codes:
    """Return the fold of each cell (cell,): its group's, or a fifth at random where a group left out leaves too few."""
    code = np.unique(group, return_inverse=True)[1].reshape(-1) % FOLDS
    left = len(code) - np.bincount(code)
    if left.min() >= LEAST_TRAINED:
        return code
    return np.asarray(np.random.default_rng(0).permutation(len(code)) % FOLDS)


def _ridge(x: Floats, y: Floats, *penalties: float) -> list[Floats]:
    """Return the coefficients of ridge without intercept (f, k), penalty by penalty."""
    return list(ridge_path(x, y, np.eye(x.shape[1]), penalties))


def _weights(kernel: Floats, y: Floats, penalty: float) -> Floats:
    """Return the weight of each cell in each target (cell, k) by ridge with a kernel."""
    return np.asarray(cho_solve(cho_factor(kernel + penalty * np.eye(len(kernel))), y))


def _scale(x: Floats) -> Floats:
    """Return what brings centred features to about one spread (f,), their variance in all as it was."""
    variance = x.var(axis=0)
    scale = 1 / np.sqrt(variance + max(LEAST_SPREAD * float(variance.mean()), 1e-12))
    return np.asarray(scale * np.sqrt(variance.sum() / max(float((variance * scale**2).sum()), 1e-12)))
