"""Where in a section a cell lies: a distribution over places, from what it resembles and expects around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.operators.ridge import ridge

Floats = NDArray[np.floating[Any]]
Rows = NDArray[np.integer[Any]]
# Entries of any array of cells by nodes, or by places, that is held at a time (32 MiB).
BUDGET = 2**23
# Sides of a tile [µm], at the least, and how many tiles a section is cut into, at the most.
TILE_UM, MOST_TILES = 50.0, 2_500
# Half as many tiles as a gap is wide that cells may lie in, where no node does.
GAP_TILES = 5
# Neighbours that make up what is around a node, and directions of it.
AROUND, DIRECTIONS = 20, 25
# Nodes asked where they lie themselves, to even out how often each is chosen, how often, and by which factor at most.
EVENED_BY, EVENED_ROUNDS, EVENED_MOST = 1_200, 8, 20.0
# A told place is the middle of the most probability: a cone of so many tiles.
CONE_TILES = 6.0
# Asked cells and nodes like each that tell how a platform differs, and rounds.
SHIFT_CELLS, SHIFT_LIKE, SHIFT_ROUNDS = 1_000, 30, 6


@dataclass(frozen=True)
class Places:
    """Places: `of` (node,), that of each node; `centre` [µm] (place, 2), `area` [µm²] (place,), `side` [µm]."""

    of: Rows
    centre: Floats
    area: Floats
    side: float

    @classmethod
    def of_nodes(cls, pos_um: Floats, *, each: bool = False) -> Places:
        """Return square tiles of at least 50 µm, wider if there were more than 2,500, and those of gaps between them.

        Parameters
        ----------
        pos_um
            Positions (node, 2) [µm].
        each
            Let every node be a place of its own, if there are no more than 5,000.
        """
        from scipy.spatial import cKDTree

        spacing = float(np.median(cKDTree(pos_um).query(pos_um, 2)[0][:, 1])) if len(pos_um) > 1 else TILE_UM
        if each and len(pos_um) <= 2 * MOST_TILES:
            return cls(np.arange(len(pos_um)), pos_um, np.full(len(pos_um), spacing**2), spacing)
        side = max(TILE_UM, spacing)
        while len(cells := np.unique(pos_um // side, axis=0)) > MOST_TILES:
            side *= max(1.05, (len(cells) / MOST_TILES) ** 0.5)
        corner = np.floor(pos_um.min(axis=0) / side).astype(np.int64)
        at = np.floor(pos_um / side).astype(np.int64) - corner
        there = _with_gaps(at)
        tile = np.argwhere(there)
        of = (np.cumsum(there.ravel()) - 1)[at[:, 0] * there.shape[1] + at[:, 1]]
        return cls(of, (tile + corner + 0.5) * side, np.full(len(tile), side**2), side)

    @cached_property
    def share(self) -> Floats:
        """The share of each place in the area (place,)."""
        return np.asarray((self.area / self.area.sum()).astype(np.float32))

    def gathering(self, rows: Rows) -> sparse.csr_matrix:
        """Return what sums nodes `rows` over places (place, row)."""
        ones = np.ones(len(rows), np.float32)
        return sparse.csr_matrix((ones, (self.of[rows], np.arange(len(rows)))), (len(self.centre), len(rows)))

    @cached_property
    def blur(self) -> sparse.csr_matrix:
        """What spreads probability over places near by, as a Gaussian one side wide (place, place); rows sum to one."""
        return self._near(lambda away: np.exp(-0.5 * (away / self.side) ** 2), 3.0, normal=True)

    @cached_property
    def cone(self) -> sparse.csr_matrix:
        """What weighs places by nearness, one here and zero six sides away (place, place)."""
        return self._near(lambda away: 1 - away / (CONE_TILES * self.side), CONE_TILES, normal=False)

    def _near(self, weight: Any, sides: float, *, normal: bool) -> sparse.csr_matrix:
        from scipy.spatial import cKDTree

        tree = cKDTree(self.centre)
        found = tree.sparse_distance_matrix(tree, sides * self.side, output_type="coo_matrix").tocoo()
        here = np.arange(len(self.centre))
        apart = found.row != found.col
        rows, columns = np.r_[here, found.row[apart]], np.r_[here, found.col[apart]]
        values = weight(np.r_[np.zeros(len(here)), found.data[apart]]).astype(np.float32)
        matrix = sparse.csr_matrix((values, (rows, columns)), (len(here),) * 2)
        return (
            sparse.csr_matrix(sparse.diags(1 / np.asarray(matrix.sum(axis=1)).ravel()) @ matrix) if normal else matrix
        )


def _with_gaps(at: Rows) -> NDArray[np.bool_]:
    """Return which tiles of a grid hold nodes `at` them (node, 2), or lie in gaps of up to ten tiles between such."""
    from scipy.ndimage import binary_closing, distance_transform_edt

    there = np.zeros(at.max(axis=0) + 1, bool)
    there[at[:, 0], at[:, 1]] = True
    wide = np.ones((2 * GAP_TILES + 1,) * 2, bool)
    wide[GAP_TILES, GAP_TILES] = False
    ball = distance_transform_edt(wide) <= GAP_TILES
    return np.asarray(there | binary_closing(np.pad(there, GAP_TILES), ball)[(slice(GAP_TILES, -GAP_TILES),) * 2])


@dataclass(frozen=True)
class Nodes:
    """Nodes of a section: `views` by name, coordinates (node, axis) alike for asked cells; `pos_um`; `mass` (node,)."""

    views: dict[str, Floats]
    pos_um: Floats
    mass: Floats


@dataclass(frozen=True)
class Rule:
    """How a cell chooses a node.

    `view`, and how far its axes are brought to one spread (`whitened`, 0 to 1); the factor of the cosine (`likeness`);
    that of the agreement of what is around a node with what the cell expects there (`around`); how far nodes that are
    chosen too often are held back (`evened`, 0 to 1); the probability that nothing is known (`anywhere`).
    """

    view: str
    whitened: float = 0.0
    likeness: float = 16.0
    around: float = 0.0
    evened: float = 0.0
    anywhere: float = 0.05


class Ground:
    r"""The nodes of a section that may be chosen, by a rule.

    .. math:: p(v \mid c) \propto m_v \exp\bigl(\beta \cos(x_c, x_v) + \gamma\, a(c, v) - \eta_v\bigr)

    with m the mass of a node and a the log-density of what is around v, the mean of its twenty neighbours, given what
    ridge expects from c. The potentials :math:`\eta` even out how often each node is chosen when the section's own
    nodes are asked in turn, each without itself: the column potentials of entropic transport from the section to
    itself, damped as in its unbalanced form. Since they are of the section alone, an answer does not depend on which
    other cells are asked, nor on what kinds are common among them. With gamma and eta zero: nearest by cosine.

    References
    ----------
    Chizat et al. 2018, doi:10.1090/mcom/3303; the uses are those of Biancalani et al. 2021,
    doi:10.1038/s41592-021-01264-7, and Vahid et al. 2023, doi:10.1038/s41587-023-01697-9.
    """

    def __init__(self, nodes: Nodes, places: Places, rows: Rows, rule: Rule, seed: int = 0) -> None:
        self.places, self.rows, self.rule = places, rows, rule
        x = nodes.views[rule.view]
        self.scale = (1 / np.maximum(x[rows].std(axis=0), 1e-9)) ** rule.whitened
        self.x, self.own = x[rows], unit(x[rows] * self.scale).astype(np.float32)
        self.around = _around(x[rows], nodes.pos_um[rows]) if rule.around else None
        self.log_mass = np.log(np.maximum(nodes.mass[rows], 1e-9)).astype(np.float32)
        self.gather = places.gathering(rows)
        self.held_back = np.zeros(len(rows), np.float32)
        if rule.evened:
            self.held_back = self._evened(x[rows], nodes.mass[rows], seed)

    def likeness(self, x: Floats) -> Floats:
        """Return the cosine of asked cells (cell, axis) with each node (cell, node)."""
        return np.asarray(unit(x * self.scale).astype(np.float32) @ self.own.T)

    def scores(self, x: Floats, likeness: Floats | None = None) -> Floats:
        """Return the log of how readily each asked cell (cell, axis) chooses each node, but for a constant a cell."""
        told = self.rule.likeness * (self.likeness(x) if likeness is None else likeness)
        if self.around is not None:
            expects, found, offset = self.around
            told += self.rule.around * ((x @ expects).astype(np.float32) @ found.T - offset)
        return np.asarray(told + (self.log_mass - self.held_back))

    def over_places(self, chosen: Floats) -> Floats:
        """Return the distribution over places (cell, place) that goes with one over nodes (cell, node)."""
        return np.asarray((self.gather @ chosen.T).T @ self.places.blur)

    def blocks(self, x: Floats) -> Iterator[tuple[slice, Floats, Floats]]:
        """Yield rows of asked cells, their best cosine (cell,), and distribution over places (cell, place)."""
        step = max(1, BUDGET // max(len(self.rows), len(self.places.centre)))
        for start in range(0, len(x), step):
            here = slice(start, start + step)
            like = self.likeness(x[here])
            known = (1 - self.rule.anywhere) * self.over_places(softmax(self.scores(x[here], like)))
            yield here, like.max(axis=1), known + self.rule.anywhere * self.places.share

    def _evened(self, x: Floats, mass: Floats, seed: int) -> Floats:
        some = np.sort(np.random.default_rng(seed).permutation(len(x))[: min(EVENED_BY, BUDGET // len(x))])
        scores = self.scores(x[some])
        scores[np.arange(len(some)), some] = -np.inf
        back, due = np.zeros(len(x), np.float32), mass / mass.sum()
        for _ in range(EVENED_ROUNDS):
            often = softmax(scores - back).mean(axis=0) / due
            back += self.rule.evened * np.log(np.maximum(often, 1 / EVENED_MOST)).astype(np.float32)
        return back


def _around(x: Floats, pos_um: Floats) -> tuple[Floats, Floats, Floats]:
    """Return what leads a cell to directions around it (axis, direction), those of nodes, and half their square."""
    from scipy.spatial import cKDTree

    k = min(AROUND, len(x) - 1)
    near = cKDTree(pos_um).query(pos_um, range(2, k + 2))[1]
    y = np.mean([x[near[:, i]] for i in range(k)], axis=0)
    y -= y.mean(axis=0)
    values, vectors = np.linalg.eigh(y.T @ y)
    y = y @ vectors[:, values > 1e-9 * values[-1]][:, -DIRECTIONS:]
    centred = x - x.mean(axis=0)
    order = np.lexsort(pos_um.T)  # stretches of tissue are left out in turn
    leads = ridge(centred[order], y[order], np.zeros(len(x), np.int64))
    left = y - centred @ leads
    whiten = np.linalg.cholesky(np.linalg.inv(left.T @ left / len(left) + 1e-9 * np.eye(y.shape[1])))
    found = y @ whiten
    offset = (0.5 * (found**2).sum(axis=1) + (x.mean(axis=0) @ leads @ whiten) @ found.T).astype(np.float32)
    return (leads @ whiten).astype(np.float32), found.astype(np.float32), offset


def platform_shift(ground: Ground, x: Floats, seed: int = 0) -> Floats:
    """Return by how much asked cells lie off the nodes like them (axis,), such as by the effect of a platform.

    Found in turns with who is like whom, so that kinds of cells may be more common on one side than on the other; less
    what nodes of the section lie off the nodes like them.

    Parameters
    ----------
    x
        Asked cells (cell, axis), by the view of the ground's rule.
    """
    rng, most = np.random.default_rng(seed), min(SHIFT_CELLS, max(1, BUDGET // len(ground.rows)))
    some, own = rng.permutation(len(x))[:most], rng.permutation(len(ground.x))[:most]
    usual = _off(ground, ground.x[own], own)
    shift = np.zeros(x.shape[1])
    for _ in range(SHIFT_ROUNDS):
        shift += _off(ground, x[some] - shift) - usual
    return shift


def _off(ground: Ground, x: Floats, itself: Rows | None = None) -> Floats:
    """Return the mean by which cells lie off the mean of the thirty nodes most like them (axis,)."""
    likeness = ground.likeness(x)
    if itself is not None:
        likeness[np.arange(len(x)), itself] = -1.0
    k = min(SHIFT_LIKE, len(ground.x) - 1)
    like = np.argpartition(-likeness, k - 1, axis=1)[:, :k]
    return np.asarray((x - ground.x[like].mean(axis=1)).mean(axis=0))


def softmax(scores: Floats) -> Floats:
    """Return probabilities, row by row (cell, node)."""
    told = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(told / told.sum(axis=1, keepdims=True))


def unit(x: Floats) -> Floats:
    """Return rows of unit length; rows of zeros stay."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
