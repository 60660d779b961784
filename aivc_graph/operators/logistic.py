"""Multinomial logistic regression whose penalty is chosen on held-out groups, and mixtures of what rules say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Penalties of squared weights, a row, for features of unit spread.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
STEPS, EM_STEPS = 200, 200
# As many rows as are thought to have been seen beforehand.
BEFOREHAND = 1.0
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Logistic:
    """Class c with a probability of softmax of ``x @ weight + bias``: `weight` (feature, class), `bias` (class,)."""

    weight: Floats
    bias: Floats

    def log_probability(self, x: Floats) -> Floats:
        """Return the log-probability of each class (row, class)."""
        logits = x @ self.weight + self.bias
        highest = logits.max(axis=1, keepdims=True)
        return np.asarray(logits - highest - np.log(np.exp(logits - highest).sum(axis=1, keepdims=True)))


def cross_fitted(x: Floats, y: NDArray[np.integer], group: NDArray[np.integer], prior: Floats) -> tuple[Logistic, Floats]:
    """Return the regression on all rows, and what regressions on the other groups say of each row (row, class).

    The penalty is the one by which the latter say most, mixed with `prior` (class,). Without features it is the prior,
    and so it is as a penalty grows; rows of one group are told by the group itself only where there is no other.

    Parameters
    ----------
    x, y, group
        Features (row, feature), class and group of each row (row,).
    """
    half = halves(group)
    scale = np.maximum(x.std(axis=0), 1e-6)
    best: tuple[float, Floats, float] | None = None
    for penalty in PENALTIES:
        told = np.zeros((len(x), len(prior)))
        for one in np.unique(half):
            rest = half != one if len(np.unique(half)) > 1 else half == one
            told[half == one] = fit_logistic(x[rest], y[rest], prior, penalty, scale).log_probability(x[half == one])
        # A label may be wrong, and then says nothing: that is the prior's part of what is told.
        said = np.stack([prior[y], np.exp(told[np.arange(len(y)), y])])
        loss = -float(np.log(np.maximum(mixed(said) @ said, 1e-300)).mean())
        if best is None or loss < best[0]:
            best = loss, told, penalty
    assert best is not None
    return fit_logistic(x, y, prior, best[2], scale), np.exp(best[1])


def fit_logistic(x: Floats, y: NDArray[np.integer], prior: Floats, penalty: float, scale: Floats) -> Logistic:
    """Return the penalised maximum-likelihood regression, started at the `prior` (class,) of all rows."""
    from scipy.optimize import minimize

    n, wide, classes = len(x), x.shape[1], len(prior)
    standard = np.column_stack([x / scale, np.ones(n)])
    onehot = np.eye(classes)[y]
    start = np.zeros((wide + 1, classes))
    start[-1] = np.log(prior)

    def loss(flat: Floats) -> tuple[float, Floats]:
        away = flat.reshape(start.shape)
        logits = standard @ (start + away)
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        nll = -float((logits * onehot).sum() - np.log(total).sum()) / n
        gradient = standard.T @ (p - onehot) / n + penalty * away
        return nll + 0.5 * penalty * float((away**2).sum()), gradient.ravel()

    found = minimize(loss, np.zeros(start.size), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    fitted = start + found.x.reshape(start.shape)
    return Logistic(fitted[:-1] / scale[:, None], fitted[-1])


def halves(group: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return which of two halves each row is in, whole groups together (row,); stretches of rows of one group alone."""
    kinds, code, number = np.unique(group, return_inverse=True, return_counts=True)
    if len(kinds) < 2:
        return (np.arange(len(group)) * 4 // max(len(group), 1)) % 2
    side, size = np.zeros(len(kinds), np.int64), [0, 0]
    for one in np.argsort(-number, kind="stable"):  # the largest first, each to the smaller half
        side[one] = int(size[1] < size[0])
        size[side[one]] += int(number[one])
    return side[code.reshape(-1)]


def mixed(told: Floats, beforehand: NDArray[np.integer] | int = 0) -> Floats:
    r"""Return the weight of each rule (rule,), none negative and of sum one, by which their mixture says most.

    .. math:: \max_w \sum_v \log \sum_r w_r\, p_{rv} + \log w_{r_0}

    by expectation and maximisation; what tells nothing more than the rule taken `beforehand` gets nothing.

    Parameters
    ----------
    told
        Probability that each rule gave to what was then found (rule, row).

    References
    ----------
    Yao et al. 2018, doi:10.1214/17-BA1091 (stacking of predictive distributions).
    """
    weight = np.full(len(told), 1.0 / len(told))
    for _ in range(EM_STEPS):
        share = weight[:, None] * told
        amount = (share / np.maximum(share.sum(axis=0), 1e-300)).sum(axis=1)
        amount[beforehand] += BEFOREHAND
        weight = amount / amount.sum()
    return weight
