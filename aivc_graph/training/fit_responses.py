"""The first intervention operator on a table of conditions: the additive rule, and what left-out conditions add."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

PENALTIES = (0.1, 1.0)
# Left-out conditions that choose the gates; more are drawn down to this.
MOST_LEFT_OUT = 60
LEAST_LEFT_OUT = 4
RULES = ("additive", "saturating", *(f"ridge {penalty}" for penalty in PENALTIES), "mean", "nothing")


@dataclass(frozen=True)
class Conditions:
    """A table of conditions as plain arrays.

    Parameters
    ----------
    effect
        Effect of each row (row, gene); read for rows of `train` alone.
    parts
        What was done in each row (row, part).
    context
        Code of the context of each row (row,).
    train
        Rows to learn from (row,).
    """

    effect: Floats
    parts: Mask
    context: NDArray[np.integer]
    train: Mask

    def without(self, left: Mask) -> Conditions:
        """Return the same with fewer training rows."""
        return Conditions(self.effect, self.parts, self.context, self.train & ~left)


def predict_responses(given: Conditions, asked: Mask, seed: int = 0) -> Floats:
    r"""Return the effects of the `asked` rows (asked, gene).

    .. math:: \hat d = \sum_k w_k f_k, \qquad w_k \ge 0,\ \sum_k w_k = 1

    over rules f: additive; saturating; ridge on the parts, which learns from combinations too; the mean effect; none.
    The weights start at the additive rule, :math:`w = (1, 0, …)`. They leave it only where training conditions that are
    left out in the way the asked ones are (as many parts, as many of them unseen, the context seen or not) are told
    better by the weights chosen on the others, by more than the standard error of that gain.

    Parameters
    ----------
    given
        The table; effects of rows that do not train are not read.
    asked
        Rows to answer (row,).
    seed
        Which conditions are left out where there are more than sixty.

    References
    ----------
    Breiman 1996, doi:10.1007/BF00117832 (stacked regressions).
    """
    given = Conditions(np.where(given.train[:, None], given.effect, 0.0), given.parts, given.context, given.train)
    rows = np.flatnonzero(asked)
    kinds = [kind_of(given, row) for row in rows]
    answer = np.zeros((len(rows), given.effect.shape[1]))
    for kind in sorted(set(kinds)):
        weights = gates(given, kind, seed)
        for i in (i for i, one in enumerate(kinds) if one == kind):
            answer[i] = weights @ rules(given, rows[i])
    return answer


def kind_of(given: Conditions, row: int | np.integer) -> tuple[int, int, bool]:
    """Return how many parts a row has, how many of them training has nowhere alone, and if it has the context."""
    alone = given.parts[given.train & (given.parts.sum(axis=1) == 1)].any(axis=0)
    own = given.parts[row]
    return int(own.sum()), int((own & ~alone).sum()), bool((given.train & (given.context == given.context[row])).any())


def gates(given: Conditions, kind: tuple[int, int, bool], seed: int = 0) -> Floats:
    """Return the weight of each of `RULES` for rows of one kind (rule,)."""
    additive = np.eye(len(RULES))[0]
    left = list(_left_out(given, kind, seed))
    if len(left) < LEAST_LEFT_OUT:
        return additive
    products = [_products(rules(fewer, row), given.effect[row]) for row, fewer in left]
    own = np.array([row for row, _ in left])
    gain = []
    for row in np.unique(own):
        others = [p for p, one in zip(products, own, strict=True) if one != row]
        chosen = _simplex(np.sum(others, axis=0)) if others else additive
        mine = [p for p, one in zip(products, own, strict=True) if one == row]
        gain.append(np.mean([_error(p, additive) - _error(p, chosen) for p in mine]))
    surely = len(gain) > 1 and np.mean(gain) > np.std(gain, ddof=1) / np.sqrt(len(gain))
    return _simplex(np.sum(products, axis=0)) if surely else additive


def rules(given: Conditions, row: int | np.integer) -> Floats:
    """Return what each of `RULES` says of one row (rule, gene); all but saturation are means over training rows."""
    here = given.train & (given.context == given.context[row])
    pool = here if here.any() else given.train
    shares = [*_alone(given, row), *(_ridge(given, pool, row, penalty) for penalty in PENALTIES), pool / pool.sum()]
    said = np.stack(shares) @ given.effect
    alone, others = said[: -1 - len(PENALTIES)], said[-1 - len(PENALTIES) :]
    larger = alone.clip(min=0).max(axis=0) + alone.clip(max=0).min(axis=0)
    return np.stack([alone.sum(axis=0), larger, *others, np.zeros_like(larger)])


def _alone(given: Conditions, row: int | np.integer) -> list[Floats]:
    """Return the rows that tell each part's effect alone: here, else elsewhere, else the mean of all parts alone."""
    single = given.train & (given.parts.sum(axis=1) == 1)
    found = []
    for part in np.flatnonzero(given.parts[row]):
        there = single & given.parts[:, part]
        here = there & (given.context == given.context[row])
        rows = next(mask for mask in (here, there, single, given.train) if mask.any())
        found.append(rows / rows.sum())
    return found


def _ridge(given: Conditions, pool: Mask, row: int | np.integer, penalty: float) -> Floats:
    """Return the weight of each row in ridge on the parts around the mean of the `pool` (row,)."""
    x = given.parts[pool].astype(float)
    centre = x.mean(axis=0)
    x -= centre
    own = np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), x @ (given.parts[row] - centre))
    shares = np.zeros(len(pool))
    shares[pool] = own + (1 - own.sum()) / len(own)
    return shares


def _left_out(given: Conditions, kind: tuple[int, int, bool], seed: int) -> Iterator[tuple[np.integer, Conditions]]:
    """Yield training rows with the training that is left when they are hidden as rows of that kind are."""
    n_parts, n_unseen, context_seen = kind
    rows = np.flatnonzero(given.train & (given.parts.sum(axis=1) == n_parts))
    for row in np.sort(np.random.default_rng(seed).permutation(rows)[:MOST_LEFT_OUT]):
        own = np.flatnonzero(given.parts[row])
        for hidden in itertools.combinations(own, n_unseen):
            if context_seen:
                left = (given.parts == given.parts[row]).all(axis=1) | given.parts[:, list(hidden)].any(axis=1)
            else:
                left = (given.context == given.context[row]) | given.parts[:, list(hidden)].any(axis=1)
            fewer = given.without(left)
            if fewer.train.any() and kind_of(fewer, row) == kind:
                yield row, fewer


def _products(said: Floats, true: Floats) -> Floats:
    """Return the mean products over genes of what rules say, and of the truth, with each other."""
    both = np.concatenate([said, true[None]])
    return np.asarray(both @ both.T / len(true))


def _error(products: Floats, weights: Floats) -> float:
    from_true = np.r_[weights, -1.0]
    return float(from_true @ products @ from_true)


def _simplex(products: Floats) -> Floats:
    """Return the weights, none negative and of sum one, of least error; ties go to the additive rule."""
    k = len(products) - 1
    size = float(np.trace(products)) / (k + 1)
    square = products[:k, :k] + 1e-6 * size * np.eye(k)
    cross = products[:k, k] + 1e-6 * size * np.eye(k)[0]
    root = np.linalg.cholesky(square).T
    heavy = 1e3 * np.sqrt(size)
    found, _ = nnls(np.vstack([root, heavy * np.ones(k)]), np.r_[np.linalg.solve(root.T, cross), heavy])
    return np.asarray(found / found.sum())
