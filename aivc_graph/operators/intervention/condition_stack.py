"""The intervention operator on a table of conditions: rules, weighed by how well they tell left-out conditions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aivc_graph.operators.gate import LEAST_LEFT_OUT, opening_of
from aivc_graph.operators.intervention.condition_rules import (
    additive,
    alike_contexts,
    alone,
    between_amounts,
    bilinear_ridge,
    kernel_ridge,
    mean,
    mean_of_context,
    nearest,
    nearest_context,
    same_elsewhere,
    saturated,
)
from aivc_graph.operators.intervention.conditions import EVERYWHERE, Conditions, Floats, Ints, Mask, features, loadings
from aivc_graph.operators.intervention.variance_components import (
    best_linear,
    likenesses,
    likenesses_known,
    variances,
)
from aivc_graph.operators.stacking import shares_of_rules

RULES = (
    "additive",
    "saturating",
    "bilinear ridge",
    "kernel ridge",
    "best linear",
    "nearest conditions",
    "same elsewhere",
    "nearest context",
    "alike contexts",
    "between amounts",
    "context mean",
    "mean",
    "nothing",
)
# Beforehand the rules that tell conditions apart count alike, and speak as loud as one left-out condition.
BEFOREHAND = np.array([0.2] * 5 + [0.0] * 8)
FOR_BEFOREHAND = 1.0
# One more where something is known of parts beforehand: the best linear prediction with these likenesses too.
KNOWN = "best linear, known"
MEAN = RULES.index("context mean")
# Left-out conditions that choose the weights; more are drawn down to this, and fewer than four choose nothing.
MOST_LEFT_OUT = 40
LEAST_TRAINED = 3


class Kind(NamedTuple):
    """How a condition is asked about: what of it training has, and where.

    Parameters
    ----------
    parts, unseen
        How many parts it has, and how many of them training has nowhere alone.
    context_seen
        Training has its context.
    elsewhere
        Training has the same parts, in another context.
    """

    parts: int
    unseen: int
    context_seen: bool
    elsewhere: bool


class LeftOut(NamedTuple):
    """What conditions say that were left out of training as a kind is asked.

    Parameters
    ----------
    products
        Mean products over genes of what rules say and the truth, summed over left-out conditions (rule + 1, rule + 1).
    n
        How many were left out; one that can be left out in several ways counts once.
    missed
        Squared error of each gene, summed over left-out conditions, each answered by the weights of the others (gene,).
    opening
        How far the weighed rules are let through beside the mean of the context: wholly but for several parts, none of
        them seen.
    knowing
        How far the rule that knows of parts beforehand is let through beside the others.
    """

    products: Floats
    n: int
    missed: Floats
    opening: float
    knowing: float


class Starts(NamedTuple):
    """Variance of each source, see `variances`, without and with what is known of parts; the latter None without."""

    plain: Floats
    known: Floats | None


@dataclass(frozen=True)
class Stack:
    """What a table tells of the rules: the variances to seek from, and what left-out conditions say, by kind.

    Parameters
    ----------
    start
        Nothing where there are too few conditions to tell.
    evidence
        What left-out conditions say, by kind.
    """

    start: Starts | None
    evidence: dict[Kind, LeftOut]


def predict_responses(given: Conditions, asked: Mask, seed: int = 0) -> Floats:
    r"""Return the effects of the `asked` rows (asked, gene).

    .. math:: \hat d = \sum_k w_k f_k, \qquad w_k \ge 0,\ \sum_k w_k = 1

    over the rules f of `RULES`; with all weight on the first it is exactly the additive rule. The weights are those of
    least error on training conditions that are left out in the way the asked one is (as many parts, as many of them
    never seen alone, the context seen or not, the same parts seen elsewhere or not), drawn towards equal weights of the
    first five:

    .. math:: \sum_i |F_i^\top w - d_i|^2 + \tfrac12\left(\overline{|F_i^\top (w - w_0)|^2}
              + |F^\top (w - w_0)|^2\right)

    with F what the rules say of the asked condition and F_i of the left-out ones: where an asked effect is
    far larger than any left out, these do not decide. With fewer than four left out, a combination is told by
    :math:`w_0`, by the additive rule itself where none of as many parts trains, and one part by the mean of all
    training effects. Parts never seen alone are told by the mean of those that were, and by what is known of their
    genes beforehand, as far as it helps with the left-out ones; of several parts, none of them seen, all this departs
    from the mean of the context only as far as the left-out conditions support it (`opening_of`), where those that
    share a part are judged by weights of others and count as related.

    Parameters
    ----------
    given
        The table; effects of rows that do not train are not read.
    asked
        Rows to answer (row,).
    seed
        Which conditions are left out where there are more than forty.
    """
    return answers(given, asked, fit_stack(given, {kind_of(given, row) for row in np.flatnonzero(asked)}, seed))


def fit_stack(given: Conditions, kinds: Iterable[Kind], seed: int = 0) -> Stack:
    """Return what training conditions tell of the rules, left out as the `kinds` are asked."""
    if given.train.sum() < LEAST_TRAINED:
        return Stack(None, {})
    start = starts_of(given)
    return Stack(start, {kind: left_out(given, kind, start, seed) for kind in kinds})


def starts_of(given: Conditions) -> Starts:
    """Return the variances of a table, from which those of fewer rows are sought."""
    alike = likenesses(given, loadings(given))
    if not len(given.alike):
        return Starts(variances(given, alike), None)
    return Starts(variances(given, alike), variances(given, np.concatenate([alike, likenesses_known(given)])))


def answers(given: Conditions, asked: Mask, stack: Stack) -> Floats:
    """Return the effects of the `asked` rows (asked, gene); see `predict_responses`."""
    rows = np.flatnonzero(asked)
    answer = np.zeros((len(rows), given.effect.shape[1]))
    number = given.parts.sum(axis=1)
    said = None if stack.start is None else rules(given, rows, {EVERYWHERE: stack.start})
    for i, row in enumerate(rows):
        kind, one = kind_of(given, row), np.array([row])
        told = stack.evidence.get(kind)
        several = kind.parts > 1 and bool((given.train & (number == kind.parts)).any())
        if said is not None and told is not None and told.n >= LEAST_LEFT_OUT:
            stacked = weighed(told.products, told.n, said[:, i], told.knowing)
            answer[i] = told.opening * stacked + (1 - told.opening) * said[MEAN, i]
        elif said is not None and several:
            answer[i] = beforehand(len(said)) @ said[:, i]
        elif kind.parts > 1:
            answer[i] = given.told(additive(given, one))[0]
        else:
            answer[i] = given.told(mean(given, one))[0]
    return answer


def kind_of(given: Conditions, row: int | np.integer) -> Kind:
    """Return how a row is asked about."""
    number = given.parts.sum(axis=1)
    own, here = given.parts[row], given.context == given.context[row]
    seen = given.parts[given.train & (number == 1)].any(axis=0)
    same = given.train & (given.parts == own).all(axis=1)
    return Kind(int(own.sum()), int((own & ~seen).sum()), bool((given.train & here).any()), bool((same & ~here).any()))


def rules(given: Conditions, rows: Ints, starts: Mapping[int, Starts] | None = None) -> Floats:
    """Return what each of `RULES` says, and `KNOWN` where anything is (rule, asked, gene).

    Variances are sought from `starts` by context, if given.
    """
    sums = given.told(additive(given, rows))
    larger = np.stack([saturated(given.told(alone(given, row))) for row in rows])
    of_parts = np.zeros((4 + bool(len(given.alike)), *sums.shape))
    for where, some, own in given.of_contexts(rows):
        of_parts[:, some] = _by_parts(own, rows[some], (starts or {}).get(where))
    shares = (
        same_elsewhere(given, rows),
        nearest_context(given, rows),
        alike_contexts(given, rows),
        between_amounts(given, rows),
        mean_of_context(given, rows),
        mean(given, rows),
    )
    plain = [sums, larger, *of_parts[:4], *(given.told(one) for one in shares), np.zeros_like(sums)]
    return np.stack([*plain, *of_parts[4:]])


def _by_parts(given: Conditions, rows: Ints, start: Starts | None) -> Floats:
    """Return what the rules say that learn from conditions with other parts (rule, asked, gene)."""
    known = loadings(given)
    x, alike = features(given.parts, known), likenesses(given, known)
    plain, further = (None, None) if start is None else start
    shares = [
        bilinear_ridge(given, rows, x),
        kernel_ridge(given, rows, x),
        best_linear(given, rows, alike, variances(given, alike, plain)),
        nearest(given, rows, x),
    ]
    if len(given.alike):
        alike = np.concatenate([alike, likenesses_known(given)])
        shares.append(best_linear(given, rows, alike, variances(given, alike, further)))
    return np.stack([given.told(one) for one in shares])


def beforehand(k: int) -> Floats:
    """Return the weight of each of `k` rules before anything was left out (rule,)."""
    return np.pad(BEFOREHAND, (0, k - len(RULES)))


def weights(products: Floats, n_left_out: int, said: Floats) -> Floats:
    """Return the weight of each rule (rule,) for one condition of which they say `said` (rule, gene).

    `products` are those of the rules and the truth with each other, summed over left-out conditions; see `LeftOut`.
    """
    k = len(said)
    square, cross = products[:k, :k], products[:k, k]
    drawn = FOR_BEFOREHAND / 2 * (square / n_left_out + said @ said.T / said.shape[1])
    return shares_of_rules(square + drawn, cross + drawn @ beforehand(k), beforehand(k))


def weighed(products: Floats, n_left_out: int, said: Floats, knowing: float) -> Floats:
    """Return what the weighed rules say (gene,), the one that knows let through as far as `knowing`."""
    k = len(RULES)
    plain = np.r_[np.arange(k), len(said)]
    answer = weights(products[np.ix_(plain, plain)], n_left_out, said[:k]) @ said[:k] if knowing < 1 else 0.0
    return np.asarray(
        (1 - knowing) * answer + (knowing * weights(products, n_left_out, said) @ said if knowing else 0.0)
    )


def left_out(given: Conditions, kind: Kind, start: Starts, seed: int = 0) -> LeftOut:
    """Return what training conditions say that are left out as a kind is asked."""
    starts, found, rows = {EVERYWHERE: start}, [], []
    for row, ways in itertools.groupby(_left_out(given, kind, seed), key=lambda one: one[0]):
        one = np.array([row])
        for where, _, own in given.of_contexts(one):
            if where not in starts:
                starts[where] = starts_of(own)
        said = np.stack([np.concatenate([rules(fewer, one, starts)[:, 0], given.effect[one]]) for _, fewer in ways])
        found.append((said, np.einsum("wig,wjg->ij", said, said) / len(said) / said.shape[2]))
        rows.append(int(row))
    size = len(RULES) + bool(len(given.alike)) + 1
    related = _related(given.parts[rows], kind)
    products = np.array([own for _, own in found]).reshape(-1, size, size)
    residuals: list[Floats] = []  # of the mean of the context, the rules alone, and with what is known (3, way, gene)
    for (ways_said, _), kin in zip(found, related, strict=True):
        n, each = int((~kin).sum()), []
        for one in ways_said:
            said, others = one[:-1], products[~kin].sum(axis=0)
            both = [
                weighed(others, n, said, knowing) if n >= LEAST_LEFT_OUT else beforehand(size - 1) @ said
                for knowing in (0.0, 1.0)
            ]
            each.append(np.stack([said[MEAN], *both]) - one[-1])
        residuals.append(np.stack(each, axis=1))
    losses = np.array([(one**2).mean(axis=(1, 2)) for one in residuals]).reshape(-1, 3)
    knowing = opening_of(losses[:, 1] - losses[:, 2], related) if size > len(RULES) + 1 else 0.0
    stacked = [(1 - knowing) * one[1] + knowing * one[2] for one in residuals]
    gains = losses[:, 0] - np.array([(one**2).mean() for one in stacked])
    opening = opening_of(gains, related) if kind.parts > 1 and kind.unseen == kind.parts else 1.0
    missed = np.zeros(given.effect.shape[1])
    for one, own in zip(residuals, stacked, strict=True):
        missed += ((opening * own + (1 - opening) * one[0]) ** 2).mean(axis=0)
    return LeftOut(products.sum(axis=0), len(found), missed, opening, knowing)


def _related(parts: Mask, kind: Kind) -> Mask:
    """Return which left-out rows (left out, part) tell of one another (left out, left out).

    Where parts are asked that were never seen, those that share one; what the others do is then told by both.
    """
    own = np.eye(len(parts), dtype=bool)
    return own | ((parts.astype(int) @ parts.T.astype(int)) > 0) if kind.unseen else own


def _left_out(given: Conditions, kind: Kind, seed: int) -> Iterator[tuple[np.integer, Conditions]]:
    """Yield training rows with the training that is left when they are hidden as rows of that kind are."""
    number = given.parts.sum(axis=1)
    rows = np.flatnonzero(given.train & (number == kind.parts))
    for row in np.sort(np.random.default_rng(seed).permutation(rows)[:MOST_LEFT_OUT]):
        own, here = np.flatnonzero(given.parts[row]), given.context == given.context[row]
        same = (given.parts == given.parts[row]).all(axis=1)
        out = (same & here if kind.elsewhere else same) | (here & (not kind.context_seen))
        told_alone = number == 1 if kind.elsewhere else number > 0
        for hidden in itertools.combinations(own, kind.unseen):
            fewer = given.without(out | (told_alone & given.parts[:, list(hidden)].any(axis=1)))
            if fewer.train.sum() >= LEAST_TRAINED and kind_of(fewer, row) == kind:
                yield row, fewer
