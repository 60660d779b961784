"""By which rule cells are placed, chosen on nodes of the section whose place is hidden, and how surely."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.operators.gate import opening_of
from aivc_graph.operators.placing import Ground, Nodes, Places, Rows, Rule, platform_shift

Floats = NDArray[np.floating[Any]]
LEAST_NODES = 60
# Of the nodes, at most so many choose factors, and so many judge a departure; a tenth and a fifth of fewer.
TUNED, JUDGED = 500, 2_000
LIKENESS = (4.0, 5.7, 8.0, 11.0, 16.0, 22.0, 32.0, 45.0)
WHITENED = (0.0, 0.5, 1.0)
AROUND_GRID, BESIDE = (0.04, 0.08, 0.15, 0.3, 0.6), (0.5, 0.7, 1.0)
EVENED, SHARPER = 0.9, (0.8, 1.0, 1.25, 1.6)
ANYWHERE = (0.01, 0.03, 0.1, 0.3)
FACTORS = ("likeness", "around", "evened")
# Squares along a side of the section whose left-out nodes judge together.
SQUARES = 8
CONFIDENCE = 0.9
# A cell fits nowhere if fewer of the section's own, of its depth, fit as badly; of so many nearest in depth.
LEAST_FIT, ALIKE = 0.02, 200
NEAR_UM = 100.0
# Places kept of each cell.
KEPT = 100


class Placed(NamedTuple):
    """Where cells lie.

    `point` (cell, 2), where there is most probability [µm], and how much of it within 100 µm (`near`); `spread_um`, the
    mean distance from there; `region_um2`, the area of the 90 % region; `fit`, how many of the section's own nodes of
    its depth fit it as badly; `best`, probability of the hundred likeliest places (cell, place), sparse.
    """

    point: Floats
    near: Floats
    spread_um: Floats
    region_um2: Floats
    fit: Floats
    best: sparse.csr_matrix


@dataclass(frozen=True)
class Placing:
    """A section in which cells can be placed.

    `level`: how much probability a region must hold to cover nine of ten hidden nodes, and `coverage`: how many it did
    cover on halves of the tissue that did not choose it. `fits`: log depth and best cosine of hidden nodes (2, node).
    `gains`: by step of the rule, nats a hidden node over knowing nothing; `rule` is what was opened of them.
    """

    ground: Ground
    level: float
    coverage: float
    fits: Floats
    gains: dict[str, float]

    @property
    def rule(self) -> Rule:
        """The rule that was chosen."""
        return self.ground.rule

    def place(self, x: Floats, depth: Floats, seed: int = 0) -> Placed:
        """Return where asked cells lie.

        Parameters
        ----------
        x
            Cells (cell, axis), by the view of the rule.
        depth
            Counts of each in the molecules that are compared (cell,).
        """
        from scipy.spatial.distance import cdist

        places, shifted = self.ground.places, x - platform_shift(self.ground, x, seed)
        told, fit, best = np.zeros((5, len(x))), np.zeros(len(x)), []
        for rows, like, p in self.ground.blocks(shifted):
            point = places.centre[(p @ places.cone).argmax(axis=1)]
            away = cdist(point, places.centre)
            area = np.where(_held(p) <= self.level, places.area, 0.0).sum(axis=1)
            near = np.where(away <= NEAR_UM, p, 0.0).sum(axis=1)
            told[:, rows] = *point.T, near, (p * away).sum(axis=1), np.maximum(area, places.area[p.argmax(axis=1)])
            fit[rows] = self._fit(like, depth[rows])
            best.append(_likeliest(p))
        return Placed(told[:2].T, told[2], told[3], told[4], fit, sparse.vstack(best, format="csr"))

    def _fit(self, like: Floats, depth: Floats) -> Floats:
        """Return how many hidden nodes of the depth of each cell resemble the section no more than it does (cell,)."""
        own_depth, own_like = self.fits
        k = min(ALIKE, len(own_depth))
        start = np.searchsorted(own_depth, np.log1p(depth)) - k // 2
        around = np.clip(start, 0, len(own_depth) - k)[:, None] + np.arange(k)
        return np.asarray((1 + (own_like[around] <= like[:, None]).sum(axis=1)) / (k + 1))


def fit_placing(nodes: Nodes, places: Places, depth: Floats, seed: int = 0) -> Placing:
    """Choose how cells are placed among the nodes of a section, by nodes whose place is hidden.

    A part of the nodes is taken away at random; a few of them choose factors by the probability of the place they had,
    the others judge, square of tissue by square, whether a departure from nearest by cosine helps, and it opens as far
    as they support: another view or whitened axes, what is expected around, evening out, sharpness.

    Parameters
    ----------
    nodes
        At least sixty, of which the first view is that of the plain rule.
    depth
        Counts of each in the molecules that are compared (node,).

    Raises
    ------
    ValueError
        With fewer than sixty nodes.
    """
    n = len(nodes.pos_um)
    if n < LEAST_NODES:
        raise ValueError(f"expected at least {LEAST_NODES} nodes, found {n}")
    order, sizes = np.random.default_rng(seed).permutation(n), (min(TUNED, n // 10), min(JUDGED, n // 5))
    tuned, judged, rest = (np.sort(one) for one in np.split(order, np.cumsum(sizes)))
    trial = _Trial(nodes, places, rest, tuned, judged, seed)
    start = trial.tune([Rule(next(iter(nodes.views)), likeness=one) for one in LIKENESS])
    gains = {"nearest": trial.gain(start)}
    views = [[Rule(v, w, one) for one in LIKENESS] for v, w in product(nodes.views, WHITENED)]
    best = max((trial.tune(rules) for rules in views), key=lambda rule: trial.of_tuned(rule).mean())
    rule = best if trial.opening(start, best) > 0 else start
    gains["view"] = trial.gain(rule)
    for step, wider in STEPS.items():
        found = trial.tune(wider(rule))
        open_ = trial.opening(rule, found)
        mixed = {key: (1 - open_) * getattr(rule, key) + open_ * getattr(found, key) for key in FACTORS}
        rule = trial.tune([replace(rule, **mixed)])
        gains[step] = trial.gain(rule)
    ground = Ground(nodes, places, rest, rule, seed)
    held, like = _hidden(ground, nodes.views[rule.view][judged], places.of[judged])
    by_depth = np.argsort(depth[judged], kind="stable")
    fits = np.stack([np.log1p(depth[judged]), like])[:, by_depth]
    level, coverage = _calibrated(held, trial.square)
    return Placing(Ground(nodes, places, np.arange(n), rule, seed), level, coverage, fits, gains)


def _around(rule: Rule) -> list[Rule]:
    grid = product(AROUND_GRID, BESIDE)
    return [replace(rule, around=one, likeness=share * rule.likeness) for one, share in grid]


def _evened(rule: Rule) -> list[Rule]:
    return [replace(rule, evened=EVENED)]


def _sharper(rule: Rule) -> list[Rule]:
    return [replace(rule, likeness=one * rule.likeness, around=one * rule.around) for one in SHARPER]


# What each departure from the plain rule tries.
STEPS = {"around": _around, "evened": _evened, "sharper": _sharper}


class _Trial:
    """Nodes whose place is hidden: `tuned` choose factors, `judged` say whether a departure helps."""

    def __init__(self, nodes: Nodes, places: Places, rest: Rows, tuned: Rows, judged: Rows, seed: int) -> None:
        self.nodes, self.places, self.rest, self.seed = nodes, places, rest, seed
        self.tuned, self.judged = tuned, judged
        at = nodes.pos_um[judged]
        inside = (at - at.min(axis=0)) / np.maximum(np.ptp(at, axis=0), 1e-9)
        square = np.minimum((inside * SQUARES).astype(int), SQUARES - 1)
        self.square = square[:, 0] * SQUARES + square[:, 1]

    def tune(self, rules: Iterable[Rule]) -> Rule:
        """Return the best of some rules by the tuned nodes, each with its best share of anywhere."""
        found = [(self._best_anywhere(self._odds(rule, self.tuned)), rule) for rule in rules]
        (_, anywhere), rule = max(found, key=lambda one: one[0][0])
        return replace(rule, anywhere=anywhere)

    def of_tuned(self, rule: Rule) -> Floats:
        """Return nats of each tuned node."""
        return _nats(self._odds(rule, self.tuned), rule.anywhere)

    def gain(self, rule: Rule) -> float:
        """Return nats a judged node over knowing nothing."""
        return float(_nats(self._odds(rule, self.judged), rule.anywhere).mean())

    def opening(self, plain: Rule, other: Rule) -> float:
        """Return how far to depart from one rule to another, by squares of tissue."""
        more = np.subtract(*(_nats(self._odds(rule, self.judged), rule.anywhere) for rule in (other, plain)))
        number = np.bincount(self.square)
        return opening_of((np.bincount(self.square, more) / np.maximum(number, 1))[number > 0])

    def _odds(self, rule: Rule, rows: Rows) -> Floats:
        """Return the probability of where each node was, over that of anywhere (node,)."""
        ground = Ground(self.nodes, self.places, self.rest, replace(rule, anywhere=0.0), self.seed)
        at, odds = self.places.of[rows], np.zeros(len(rows))
        for here, _, p in ground.blocks(self.nodes.views[rule.view][rows]):
            odds[here] = p[np.arange(len(p)), at[here]] / self.places.share[at[here]]
        return odds

    @staticmethod
    def _best_anywhere(odds: Floats) -> tuple[float, float]:
        return max((float(_nats(odds, one).mean()), one) for one in ANYWHERE)


def _nats(odds: Floats, anywhere: float) -> Floats:
    return np.log((1 - anywhere) * odds + anywhere)


def _held(p: Floats) -> Floats:
    """Return how much probability the region holds that just takes in each place, likeliest first (cell, place)."""
    order = np.argsort(-p, axis=1, kind="stable")
    held = np.empty_like(p)
    np.put_along_axis(held, order, np.cumsum(np.take_along_axis(p, order, axis=1), axis=1), axis=1)
    return held


def _hidden(ground: Ground, x: Floats, at: Rows) -> tuple[Floats, Floats]:
    """Return how much a region holds that just takes in the true place, and the best cosine, of hidden nodes."""
    held, like = np.zeros((2, len(x)))
    for rows, best, p in ground.blocks(x):
        held[rows], like[rows] = _held(p)[np.arange(len(p)), at[rows]], best
    return held, like


def _calibrated(held: Floats, square: Rows) -> tuple[float, float]:
    """Return the level that covers nine of ten, and how many it covers of squares that another level was chosen on."""
    even = square % 2 == 0
    covered = [held[one] <= _level(held[~one]) for one in (even, ~even)]
    return _level(held), float(np.concatenate(covered).mean())


def _level(held: Floats) -> float:
    """Return the split-conformal quantile."""
    if not len(held):
        return 1.0
    return float(np.sort(held)[min(int(np.ceil(CONFIDENCE * (len(held) + 1))), len(held)) - 1])


def _likeliest(p: Floats) -> sparse.csr_matrix:
    k = min(KEPT, p.shape[1])
    columns = np.argpartition(-p, k - 1, axis=1)[:, :k]
    rows = np.repeat(np.arange(len(p)), k)
    return sparse.csr_matrix((np.take_along_axis(p, columns, axis=1).ravel(), (rows, columns.ravel())), p.shape)
