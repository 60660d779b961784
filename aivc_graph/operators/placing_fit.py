"""By which rule cells are placed, chosen on nodes of the section whose place is hidden, and how surely."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.operators.gate import opening_of
from aivc_graph.operators.placing import Ground, Nodes, Places, Rows, Rule, most, platform_shift
from aivc_graph.operators.placing_encoder import learn_places, some_squares, squares

Floats = NDArray[np.floating[Any]]
LEAST_NODES = 60
# Squares along a side of the section; which share of them is hidden, and of the nodes elsewhere; sides of a square at
# the least [places]; nodes of either kind at most.
SQUARES, SQUARES_HIDDEN, NODES_HIDDEN, LEAST_SIDES, MOST_HIDDEN = 10, 0.25, 0.12, 4.0, 1_500
LIKENESS = (4.0, 5.7, 8.0, 11.0, 16.0, 22.0, 32.0, 45.0)
WHITENED = (0.0, 0.5, 1.0)
NEAR, LEARNT = (0.0, 0.3, 0.6), (0.5, 0.7, 1.0, 1.3)
GAPS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
ANYWHERE = (0.01, 0.03, 0.1, 0.3)
REACH = (2.0, 4.0, 6.0, 12.0, 24.0, np.inf)
CONFIDENCE = 0.9
# Kinds of hidden nodes.
AMONG, IN_GAPS = "among_nodes", "in_gaps"
NEAR_UM = 100.0
# Places kept of each cell.
KEPT = 100


class Placed(NamedTuple):
    """Where cells lie.

    `point` (cell, 2) [µm], at the least expected distance, as far as that counts (`Rule.reach`); `likely` (cell, 2),
    where most probability lies within 100 µm, and how much of it (`near`); `spread_um`, the mean distance from the
    point; `region_um2`, the area of the 90 % region; `best`, probability of the hundred likeliest places
    (cell, place), sparse.
    """

    point: Floats
    likely: Floats
    near: Floats
    spread_um: Floats
    region_um2: Floats
    best: sparse.csr_matrix


@dataclass(frozen=True)
class Placing:
    """A section in which cells can be placed.

    `level`: how much probability a region must hold to cover nine of ten hidden nodes, of those among others as of
    those in gaps of the section, and `coverage`: by kind, how many it did cover in squares that had no part in it.
    `gains`: by step of the rule, nats a hidden node over knowing nothing; `opening`, how far what was learnt is let in.
    """

    ground: Ground
    level: float
    coverage: dict[str, float]
    gains: dict[str, float]
    opening: float

    @property
    def rule(self) -> Rule:
        """The rule that was chosen."""
        return self.ground.rule

    def place(self, x: Floats, seed: int = 0) -> Placed:
        """Return where asked cells lie.

        Parameters
        ----------
        x
            Cells (cell, axis), by the view of the rule.
        """
        places, shifted = self.ground.places, x - platform_shift(self.ground, x, seed)
        told, best = np.zeros((7, len(x))), []
        far = (places.apart > NEAR_UM).astype(np.float32)
        for rows, p in self.ground.blocks(shifted):
            at, likely = nearest_of(p, places, self.rule.reach), (p @ far).argmin(axis=1)
            near = 1 - (p * far[likely]).sum(axis=1)
            area = np.where(_held(p) <= self.level, places.area, 0.0).sum(axis=1)
            points = *places.centre[at].T, *places.centre[likely].T
            spread = (p * places.apart[at]).sum(axis=1)
            told[:, rows] = *points, near, spread, np.maximum(area, places.area[p.argmax(axis=1)])
            best.append(_likeliest(p))
        return Placed(told[:2].T, told[2:4].T, told[4], told[5], told[6], sparse.vstack(best, format="csr"))


def nearest_of(p: Floats, places: Places, reach: float) -> Rows:
    """Return the place at the least expected distance (cell,), which counts up to `reach` sides of a place."""
    return np.asarray((p @ np.minimum(places.apart, reach * places.side)).argmin(axis=1))


def fit_placing(nodes: Nodes, places: Places, seed: int = 0, gaps: float | None = None) -> Placing:
    """Choose how cells are placed among the nodes of a section, by nodes whose place is hidden.

    Hidden are nodes at random and, if the section has gaps, squares of it: cells may come from where it has no nodes or
    from among those it has. Half of them choose, of the plain rule, nearest by cosine, and of what was learnt from the
    nodes that are left, unless each is a place of its own; the others judge, square of tissue by square, how far the
    one departs from the other. Both kinds count as the gaps of the section lead to expect them.

    Parameters
    ----------
    nodes
        At least sixty, of which the first view is preferred.
    gaps
        How much likelier a gap of the section holds asked cells than as much of the rest: 1 if they come from all of
        the tissue alike. If not given, as places hidden nodes of both kinds best, alike.

    Raises
    ------
    ValueError
        With fewer than sixty nodes.
    """
    n = len(nodes.pos_um)
    if n < LEAST_NODES:
        raise ValueError(f"expected at least {LEAST_NODES} nodes, found {n}")
    trial = _Trial(nodes, places, seed)
    rule = plain = trial.plain()
    opening = 0.0
    if not places.single:
        learnt = trial.learnt(plain, gaps)
        opening = trial.opening(plain, learnt)
    if opening:
        let_in = replace(learnt, near=1 - opening * (1 - learnt.near), learnt=opening * learnt.learnt)
        rule = trial.best([replace(let_in, anywhere=one) for one in ANYWHERE])
    rule = trial.with_reach(rule)
    gains = {"nearest": trial.gain(plain), "learnt": trial.gain(rule)}
    level, coverage = trial.calibrated(rule)
    encoder = learn_places(nodes.views[rule.view], nodes.pos_um, places, np.arange(n), seed) if opening else None
    ground = Ground(nodes, places, np.arange(n), rule, encoder)
    return Placing(ground, level, coverage, gains, opening)


class _Trial:
    """Nodes whose place is hidden, in gaps or scattered; those of half the squares choose, the others judge."""

    def __init__(self, nodes: Nodes, places: Places, seed: int) -> None:
        self.nodes, self.places = nodes, places
        self.hidden, self.rest, self.square = _hide(nodes.pos_um, places, np.random.default_rng(seed))
        self.at, self.gap_share = places.of[self.hidden], float(places.gaps(np.arange(len(nodes.pos_um))).mean())
        self.judges = self.square % 2 == 1
        self.in_gap = places.gaps(self.rest)[self.at]
        self.seed = seed

    def plain(self) -> Rule:
        """Return the best rule of nearest by cosine; sets what the parts say of hidden nodes by its view."""
        some = ~self.judges & ~self.in_gap
        found = []
        for view, whitened in product(self.nodes.views, WHITENED):
            ground = Ground(self.nodes, self.places, self.rest, Rule(view, whitened))
            like = ground.likeness(self.nodes.views[view][self.hidden[some]])
            for one in LIKENESS:
                ground.rule = replace(ground.rule, likeness=one)
                odds = _at(ground.nearest(like), self.at[some]) / self.places.share[self.at[some]]
                found += [(float(_nats(odds, a).mean()), replace(ground.rule, anywhere=a)) for a in ANYWHERE]
        rule = max(found, key=lambda one: one[0])[1]
        x = self.nodes.views[rule.view]
        single, pos = self.places.single, self.nodes.pos_um
        encoder = None if single else learn_places(x, pos, self.places, self.rest, self.seed)
        self.ground = Ground(self.nodes, self.places, self.rest, rule, encoder)
        self.parts = self.ground.nearest(self.ground.likeness(x[self.hidden])), self.ground.learnt(x[self.hidden])
        return rule

    def learnt(self, plain: Rule, gaps: float | None) -> Rule:
        """Return the best rule of both parts, with the odds of gaps that place hidden nodes of both kinds best, alike.

        Gaps are told by how many lie within 100 µm of where they are said to be most likely, since nothing in cells
        tells whether they come from one.
        """
        start = replace(plain, near=NEAR[1], learnt=1.0, gaps=1.0 if gaps is None else gaps)
        if gaps is None and self.gap_share > 0 and self.in_gap[~self.judges].any():
            far = (self.places.apart > NEAR_UM).astype(np.float32)
            alike = self._weight(0.5)

            def within(rule: Rule) -> float:
                told = (self._told(rule) @ far).argmin(axis=1)
                near = self._away(told) <= NEAR_UM
                return float((alike * ~self.judges * near).sum())

            start = max((replace(start, gaps=one) for one in GAPS), key=within)
        return self.best([replace(start, near=a, learnt=b) for a, b in product(NEAR, LEARNT)])

    def best(self, rules: list[Rule]) -> Rule:
        """Return the likeliest of some rules, by the nodes that choose."""
        weight = self.weight(rules[0]) * ~self.judges
        return max(rules, key=lambda rule: float((weight * self.nats(rule)).sum()))

    def with_reach(self, rule: Rule) -> Rule:
        """Return the rule by which told places of hidden nodes lie nearest, by their median."""
        p, weight = self._told(rule), self.weight(rule)
        away = {one: self._away(nearest_of(p, self.places, one)) for one in REACH}
        return replace(rule, reach=min(REACH, key=lambda one: _quantile(away[one], weight, 0.5)))

    def opening(self, plain: Rule, other: Rule) -> float:
        """Return how far to depart from one rule to another, by squares of tissue."""
        weight, more = self.weight(other) * self.judges, self.nats(other) - self.nats(plain)
        some = np.bincount(self.square, weight) > 0
        return opening_of(np.bincount(self.square, weight * more)[some] * some.sum())

    def gain(self, rule: Rule) -> float:
        """Return nats a judging node over knowing nothing."""
        weight = self.weight(rule) * self.judges
        return float((weight * self.nats(rule)).sum() / weight.sum())

    def calibrated(self, rule: Rule) -> tuple[float, dict[str, float]]:
        """Return the level that covers nine of ten of either kind, and how many of each, by squares left out in turn.

        Asked cells may be more of one kind than of the other, and nobody knows: the wider region serves both. Gaps have
        no say where fewer cells are expected from them than a region may miss.
        """
        held, covered = _at(_held(self._told(rule)), self.at), np.zeros(len(self.at))
        kinds = {AMONG: ~self.in_gap}
        if self.in_gap.any() and self.from_gaps(rule) > 1 - CONFIDENCE:
            kinds[IN_GAPS] = self.in_gap

        def level(rest: NDArray[np.bool_]) -> float:
            return max(_level(held[rest & some], self.square[rest & some]) for some in kinds.values())

        for one in np.unique(self.square):
            left_out = self.square == one
            covered[left_out] = held[left_out] <= level(~left_out)
        return level(self.square >= 0), {one: float(covered[some].mean()) for one, some in kinds.items()}

    def nats(self, rule: Rule) -> Floats:
        """Return nats of each hidden node over knowing nothing."""
        return np.log(_at(self._told(rule), self.at) / self.places.share[self.at])

    def weight(self, rule: Rule) -> Floats:
        """Return how much each hidden node counts, its kind as often as asked cells are expected to be of it."""
        return self._weight(self.from_gaps(rule))

    def from_gaps(self, rule: Rule) -> float:
        """Return the share of asked cells that are expected from gaps of the section."""
        share = self.gap_share * rule.gaps
        return share / (share + 1 - self.gap_share)

    def _weight(self, gap: float) -> Floats:
        number = max(1, int(self.in_gap.sum())), max(1, int((~self.in_gap).sum()))
        return np.where(self.in_gap, gap / number[0], (1 - gap) / number[1])

    def _told(self, rule: Rule) -> Floats:
        self.ground.rule = rule
        return self.ground.pooled(*self.parts)

    def _away(self, told: Rows) -> Floats:
        return np.linalg.norm(self.places.centre[told] - self.nodes.pos_um[self.hidden], axis=1)


def _hide(pos_um: Floats, places: Places, rng: Any) -> tuple[Rows, Rows, Rows]:
    """Return hidden nodes and the rest, and in which square each of the hidden ones lies; none whole without gaps."""
    n, width = len(pos_um), max(float(np.ptp(pos_um, axis=0).max()) / SQUARES, LEAST_SIDES * places.side)
    square = squares(pos_um, width, rng.random(2))
    gone = np.isin(square, some_squares(square, SQUARES_HIDDEN * places.gaps(np.arange(n)).any(), rng))
    inside = rng.permutation(np.flatnonzero(gone))
    beside = rng.permutation(np.flatnonzero(~gone))
    beside = beside[: max(LEAST_NODES // 4, int(NODES_HIDDEN * len(beside)))][:MOST_HIDDEN]
    rest = np.setdiff1d(np.arange(n), np.r_[inside, beside])
    hidden = np.sort(np.r_[inside[:MOST_HIDDEN], beside])
    return hidden, rest, square[hidden]


def _at(p: Floats, at: Rows) -> Floats:
    return np.asarray(p[np.arange(len(p)), at])


def _nats(odds: Floats, anywhere: float) -> Floats:
    return np.log((1 - anywhere) * odds + anywhere)


def _held(p: Floats) -> Floats:
    """Return how much probability the region holds that just takes in each place, likeliest first (cell, place)."""
    order = np.argsort(-p, axis=1, kind="stable")
    held = np.empty_like(p)
    np.put_along_axis(held, order, np.cumsum(np.take_along_axis(p, order, axis=1), axis=1), axis=1)
    return held


def _quantile(values: Floats, weight: Floats, share: float) -> float:
    """Return the value that so much of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    return float(values[order][min(int(np.searchsorted(reached, share * reached[-1])), len(values) - 1)])


def _level(held: Floats, square: Rows) -> float:
    """Return the split-conformal quantile; one where there is none.

    Nodes of one square of tissue may be off together: it is the quantile of as many as say as much, each alone
    (Kish 1965, the design effect).
    """
    if not len(held):
        return 1.0
    plain = _quantile(held, np.ones(len(held)), CONFIDENCE)
    off = (held <= plain) - np.mean(held <= plain)
    together = float((np.bincount(square, off) ** 2).sum() / max(float((off**2).sum()), 1e-300))
    n = len(held) / max(together, 1.0)
    return _quantile(held, np.ones(len(held)), min(1.0, CONFIDENCE * (n + 1) / n))


def _likeliest(p: Floats) -> sparse.csr_matrix:
    k = min(KEPT, p.shape[1])
    columns = most(p, k)
    rows = np.repeat(np.arange(len(p)), k)
    return sparse.csr_matrix((np.take_along_axis(p, columns, axis=1).ravel(), (rows, columns.ravel())), p.shape)
