"""Linear rules for classes, chosen on held-out groups, and mixtures of what rules say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

# Penalties of squared weights, a row, for features of unit spread.
PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)
# Of the mean variance within classes, what is added to each; nodes by which a class mean is drawn to that of all.
SHRUNK, MEAN_NODES = (1.0, 0.1, 0.01), 1.0
# As how many features that vary apart all of them count for the nearest mean, since they go together.
COUNTED = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
STEPS, EM_STEPS = 200, 200
# About how much p (1 - p) is.
BEND = 0.1
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


# Rules fitted to features (row, feature), classes (row,), the prior (class,) and spreads of features (feature,): always
# equally many, from the most cautious to the least.
Family = Callable[[Floats, NDArray[np.integer], Floats, Floats], Iterator[Logistic]]


def regressions(x: Floats, y: NDArray[np.integer], prior: Floats, scale: Floats) -> Iterator[Logistic]:
    """Yield the regression of each penalty, strongest first, each begun where the one before ended."""
    found: Logistic | None = None
    for penalty in PENALTIES:
        found = fit_logistic(x, y, prior, penalty, scale, found)
        yield found


def discriminants(x: Floats, y: NDArray[np.integer], prior: Floats, scale: Floats) -> Iterator[Logistic]:
    """Yield linear discriminants, the most shrunk first."""
    for shrunk in SHRUNK:
        yield fit_discriminant(x, y, prior, shrunk)


def nearest_means(x: Floats, y: NDArray[np.integer], prior: Floats, scale: Floats) -> Iterator[Logistic]:
    r"""Yield the rule of the nearest class mean, the least sure first; classes are alike in frequency.

    .. math:: p_c \propto \exp\left(-\frac{k}{2}\,\frac{|x - m_c|^2}{s^2}\right)

    m_c the mean of class c, drawn to that of all by a row, s² the mean squared distance of rows to the mean of their
    class, k each of `COUNTED`. Since shares of classes differ between donors, they take no part.
    """
    onehot = np.eye(len(prior))[y]
    mean = (onehot.T @ x + MEAN_NODES * x.mean(axis=0)) / (onehot.sum(axis=0)[:, None] + MEAN_NODES)
    within = float(((x - mean[y]) ** 2).sum()) / max(len(x), 1) + 1e-12
    for counted in COUNTED:
        yield Logistic(counted / within * mean.T, -0.5 * counted / within * (mean**2).sum(axis=1))


def cross_fitted(
    x: Floats,
    y: NDArray[np.integer],
    group: NDArray[np.integer],
    prior: Floats,
    families: Sequence[Family] = (regressions, discriminants),
) -> tuple[Logistic, Floats]:
    """Return the linear rule on all rows, and what such rules of the other groups say of each row (row, class).

    Logistic regression where examples are many, class means with a common covariance where they are few, or the given
    `families`: that by which the other groups are told most, mixed with `prior` (class,), since a label may be wrong,
    and then says nothing. In each family rules get less cautious as long as more is said. Rows of one group are told
    by stretches of their own, which cannot show what another donor costs.

    Parameters
    ----------
    x, y, group
        Features (row, feature), class and group of each row (row,).
    """
    from threadpoolctl import threadpool_limits

    half, scale = halves(group), np.maximum(x.std(axis=0), 1e-6)
    sides = [(half != one, half == one) for one in np.unique(half)]

    def tried(rules: Iterable[Logistic]) -> tuple[float, Floats]:
        said = np.zeros((len(x), len(prior)))
        for rule, (_, out) in zip(rules, sides, strict=True):
            said[out] = rule.log_probability(x[out])
        right = np.stack([prior[y], np.exp(said[np.arange(len(y)), y])])
        return -float(np.log(np.maximum(mixed(right) @ right, 1e-300)).mean()), said

    # Products as small as these wait for other threads far longer than they take, where other work is running.
    with threadpool_limits(1, "blas"):
        told: Floats = np.zeros(0)
        least, chosen = np.inf, (families[0], 0)
        for family in families:
            before = np.inf
            paths = [family(x[known], y[known], prior, scale) for known, _ in sides]
            for step, rules in enumerate(zip(*paths, strict=True)):
                loss, said = tried(rules)
                if loss >= before:  # what is less cautious says less still
                    break
                before = loss
                if loss < least:
                    least, told, chosen = loss, said, (family, step)
        family, step = chosen
        return next(islice(family(x, y, prior, scale), step, None)), np.exp(told)


def fit_discriminant(x: Floats, y: NDArray[np.integer], prior: Floats, shrunk: float) -> Logistic:
    """Return linear discriminants: classes normal around their means with one covariance, in frequency as `prior`.

    References
    ----------
    Friedman 1989, doi:10.1080/01621459.1989.10478752 (regularized discriminant analysis).
    """
    onehot, middle = np.eye(len(prior))[y], x.mean(axis=0)
    number = onehot.sum(axis=0)[:, None]
    mean = (onehot.T @ x + MEAN_NODES * middle) / (number + MEAN_NODES)
    apart = x - mean[y]
    within = apart.T @ apart / max(len(x), 1)
    within += (shrunk * np.trace(within) / len(within) + 1e-12) * np.eye(len(within))
    weight = np.linalg.solve(within, mean.T)
    return Logistic(weight, np.log(prior) - 0.5 * (mean.T * weight).sum(axis=0))


def fit_logistic(
    x: Floats,
    y: NDArray[np.integer],
    prior: Floats,
    penalty: float,
    scale: Floats,
    begin: Logistic | None = None,
) -> Logistic:
    """Return the maximum-likelihood regression, penalised as it departs from the `prior` (class,).

    It is sought from `begin`, if given, along the principal axes of the features, each in units of how much the loss
    bends along it: where features go together the search is several times shorter.
    """
    from scipy.optimize import minimize

    n, classes = len(x), len(prior)
    standard = np.column_stack([x / scale, np.ones(n)])
    size, axes = np.linalg.eigh(standard.T @ standard / n)
    unit = axes / np.sqrt(BEND * np.maximum(size, 0.0) + penalty)
    # Classes are the rows, so that sums over the few of them run along memory.
    along, square = standard @ unit, unit.T @ unit
    by_axis, onehot = np.ascontiguousarray(along.T), np.ascontiguousarray(np.eye(classes)[y].T)

    def loss(flat: Floats) -> tuple[float, Floats]:
        away = flat.reshape(classes, -1)
        p = away @ by_axis
        p += np.log(prior)[:, None]
        p -= p.max(axis=0)
        nll = -float(np.vdot(p, onehot))
        np.exp(p, out=p)
        total = p.sum(axis=0)
        nll += float(np.log(total).sum())
        p /= total
        p -= onehot
        drawn = penalty * away @ square
        return nll / n + 0.5 * float(np.vdot(away, drawn)), (p @ along / n + drawn).ravel()

    start = np.zeros((standard.shape[1], classes))
    start[-1] = np.log(prior)
    first = np.zeros_like(start)
    if begin is not None:
        first = np.linalg.solve(unit, np.vstack([begin.weight * scale[:, None], begin.bias]) - start)
    found = minimize(loss, first.T.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    fitted = start + unit @ found.x.reshape(classes, -1).T
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
        amount = weight * (told @ (1.0 / np.maximum(weight @ told, 1e-300)))
        amount[beforehand] += BEFOREHAND
        weight = amount / amount.sum()
    return weight
