"""Where in a section a cell lies: a distribution over places, from what it resembles and expects around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.operators.placing_encoder import PlaceEncoder

Floats = NDArray[np.floating[Any]]
Rows = NDArray[np.integer[Any]]
# Entries of any array of cells by nodes, or by places, that is held at a time (32 MiB).
BUDGET = 2**23
# Sides of a tile [µm], at the least, and how many tiles a section is cut into, at the most.
TILE_UM, MOST_TILES = 50.0, 2_500
# Half as many tiles as a gap is wide that cells may lie in, where no node does.
GAP_TILES = 5
# A side of the section is straight if there are nodes this near [extents of the section] along so much of it; along a
# disc there are along 0.3.
EDGE, STRAIGHT = 0.02, 0.4
# A gap is a square of so many tiles a side, and so many that it would hold so many nodes, were it as full as others.
LEAST_GAP, LACKING = 3, 20.0
# Nodes that asked cells are compared with one by one, at most, and what the nearest leave to anywhere at the least.
MOST_COMPARED, FLOOR = 20_000, 0.02
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
        there = _with_gaps(at, pos_um)
        tile = np.argwhere(there)
        of = (np.cumsum(there.ravel()) - 1)[at[:, 0] * there.shape[1] + at[:, 1]]
        return cls(of, (tile + corner + 0.5) * side, np.full(len(tile), side**2), side)

    @cached_property
    def share(self) -> Floats:
        """The share of each place in the area (place,)."""
        return np.asarray((self.area / self.area.sum()).astype(np.float32))

    @property
    def single(self) -> bool:
        """Whether every node is a place of its own, such as a spot."""
        return len(self.of) == len(self.centre) == len(np.unique(self.of))

    def gathering(self, rows: Rows) -> sparse.csr_matrix:
        """Return what sums nodes `rows` over places (place, row)."""
        ones = np.ones(len(rows), np.float32)
        return sparse.csr_matrix((ones, (self.of[rows], np.arange(len(rows)))), (len(self.centre), len(rows)))

    @cached_property
    def blur(self) -> sparse.csr_matrix:
        """What spreads probability over places near by, as a Gaussian one side wide (place, place); rows sum to one."""
        from scipy.spatial import cKDTree

        tree = cKDTree(self.centre)
        matrix = sparse.csr_matrix(tree.sparse_distance_matrix(tree, 3 * self.side, output_type="coo_matrix"))
        matrix.data = np.exp(-0.5 * (matrix.data / self.side) ** 2)
        matrix = (matrix - sparse.diags(matrix.diagonal()) + sparse.identity(len(self.centre))).astype(np.float32)
        return sparse.csr_matrix(sparse.diags(1 / np.asarray(matrix.sum(axis=1)).ravel()) @ matrix)

    @cached_property
    def apart(self) -> Floats:
        """Distances between places [µm] (place, place)."""
        from scipy.spatial.distance import cdist

        return cdist(self.centre, self.centre).astype(np.float32)

    def gaps(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which places lie in a gap where none of nodes `rows` is (place,): squares of at least three tiles a
        side, more where nodes are sparse.
        """
        from scipy.ndimage import binary_opening

        number = np.bincount(self.of[rows], minlength=len(self.centre))
        empty, usual = number == 0, float(number.mean())
        at = np.round((self.centre - self.centre.min(axis=0)) / self.side).astype(np.int64)
        if len(np.unique(at, axis=0)) < len(at):
            return np.zeros(len(at), bool)
        tiles = np.zeros(at.max(axis=0) + 1, bool)
        tiles[tuple(at.T)] = empty
        least = max(LEAST_GAP, int(np.ceil((LACKING / usual) ** 0.5)))
        return np.asarray(binary_opening(tiles, np.ones((least, least)))[tuple(at.T)])


def _with_gaps(at: Rows, pos_um: Floats) -> NDArray[np.bool_]:
    """Return which tiles of a grid hold nodes, which lie at tile `at` (node, 2), or lie in gaps of up to ten tiles.

    Beyond a straight side, where tissue was cut or the window ends, tissue is taken to go on: a gap may lie on it.
    """
    from scipy.ndimage import binary_closing, distance_transform_edt

    there = np.zeros(at.max(axis=0) + 1, bool)
    there[at[:, 0], at[:, 1]] = True
    wide = np.ones((2 * GAP_TILES + 1,) * 2, bool)
    wide[GAP_TILES, GAP_TILES] = False
    ball = distance_transform_edt(wide) <= GAP_TILES
    beyond = np.pad(there, GAP_TILES)
    for axis, strips in enumerate(((beyond, beyond[::-1]), (beyond.T, beyond.T[::-1]))):
        away = pos_um[:, axis] - pos_um[:, axis].min()
        for depth, strip in zip((away, away.max() - away), strips, strict=True):
            along = np.unique(at[depth <= EDGE * away.max(), 1 - axis])
            if len(along) > STRAIGHT * there.shape[1 - axis]:
                strip[:GAP_TILES] = True
    return np.asarray(there | binary_closing(beyond, ball)[(slice(GAP_TILES, -GAP_TILES),) * 2])


@dataclass(frozen=True)
class Nodes:
    """Nodes of a section: `views` by name, coordinates (node, axis) alike for asked cells; `pos_um`; `mass` (node,)."""

    views: dict[str, Floats]
    pos_um: Floats
    mass: Floats


@dataclass(frozen=True)
class Rule:
    """How a cell chooses a place.

    `view`, and how far its axes are brought to one spread (`whitened`, 0 to 1); the factor of the cosine (`likeness`);
    powers of what the nearest nodes say and of what was learnt (`near`, `learnt`); how much likelier a gap of the
    section is than as much of the rest (`gaps`); the probability that nothing is known (`anywhere`); distance [sides
    of a place] from which a told place is simply wrong (`reach`).
    """

    view: str
    whitened: float = 0.0
    likeness: float = 16.0
    near: float = 1.0
    learnt: float = 0.0
    gaps: float = 1.0
    anywhere: float = 0.05
    reach: float = np.inf


class Ground:
    r"""The nodes of a section that asked cells resemble, and the places where these lie, by a rule.

    .. math:: p(P \mid c) \propto g_P \, q(P \mid c)^{a} \exp\bigl(b\, s(c, P)\bigr), \qquad
              q(P \mid c) \propto \sum_{v \in P} m_v \exp\bigl(\beta \cos(x_c, x_v)\bigr)

    with m the mass of a node, s what was learnt of cells and of what lies at and around places (`placing_encoder`), and
    g how likely gaps are, of which the nearest know nothing. With a one, b zero: nearest by cosine. An answer does not
    depend on which other cells are asked but for the shift of their platform.

    The uses are those of Biancalani et al. 2021, doi:10.1038/s41592-021-01264-7, and Vahid et al. 2023,
    doi:10.1038/s41587-023-01697-9.
    """

    def __init__(
        self, nodes: Nodes, places: Places, rows: Rows, rule: Rule, encoder: PlaceEncoder | None = None
    ) -> None:
        if len(rows) > MOST_COMPARED:
            some = np.sort(np.random.default_rng(len(rows)).permutation(len(rows))[:MOST_COMPARED])
        else:
            some = np.arange(len(rows))
        self.places, self.rows, self.rule = places, rows[some], rule
        x = nodes.views[rule.view]
        self.scale = (1 / np.maximum(x[rows].std(axis=0), 1e-9)) ** rule.whitened
        self.x, self.own = x[self.rows], unit(x[self.rows] * self.scale).astype(np.float32)
        self.log_mass = np.log(np.maximum(nodes.mass[self.rows], 1e-9)).astype(np.float32)
        self.gather = places.gathering(self.rows)
        self.gaps = places.gaps(rows)
        self.encoder = encoder
        self.told = None if encoder is None else encoder.tell_places(x, places, rows)

    def likeness(self, x: Floats) -> Floats:
        """Return the cosine of asked cells (cell, axis) with each node (cell, node)."""
        return np.asarray(unit(x * self.scale).astype(np.float32) @ self.own.T)

    def nearest(self, likeness: Floats) -> Floats:
        """Return the distribution over places (cell, place) of the nodes like cells, by cosine (cell, node)."""
        chosen = softmax(self.rule.likeness * likeness + self.log_mass)
        return np.asarray((self.gather @ chosen.T).T @ self.places.blur)

    def learnt(self, x: Floats) -> Floats:
        """Return what was learnt to say of each place, in logs but for a constant a cell (cell, place)."""
        if self.encoder is None or self.told is None:
            return np.zeros((len(x), len(self.places.centre)), np.float32)
        return self.encoder.scores(x, self.told)

    def pooled(self, nearest: Floats, learnt: Floats) -> Floats:
        """Return the distribution over places by the rule, from both its parts (cell, place)."""
        rule, share = self.rule, self.places.share
        told = rule.near * np.log((1 - FLOOR) * nearest + FLOOR * share) + rule.learnt * learnt
        p = softmax(told + np.log(self.odds) * self.gaps)
        return np.asarray((1 - rule.anywhere) * p + rule.anywhere * share)

    @property
    def odds(self) -> float:
        """How likely an asked cell lies in a gap of the section, over how likely it does not; one if it has none."""
        share = float(self.gaps.mean())
        return self.rule.gaps * share / (1 - share) if 0 < share < 1 else 1.0

    def blocks(self, x: Floats) -> Iterator[tuple[slice, Floats]]:
        """Yield rows of asked cells and their distribution over places (cell, place)."""
        for here in pieces(len(x), max(len(self.rows), len(self.places.centre))):
            yield here, self.pooled(self.nearest(self.likeness(x[here])), self.learnt(x[here]))


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
    return np.asarray((x - ground.x[most(likeness, k)].mean(axis=1)).mean(axis=0))


def pieces(n: int, width: int) -> list[slice]:
    """Return slices of `n` rows, so that an array of each by `width` stays within the budget."""
    step = max(1, BUDGET // width)
    return [slice(start, start + step) for start in range(0, n, step)]


def most(values: Floats, number: int) -> Rows:
    """Return the columns of the greatest values of each row, in no order (row, number)."""
    return np.asarray(torch.topk(torch.from_numpy(values), number, dim=1, sorted=False).indices.numpy())


def softmax(scores: Floats) -> Floats:
    """Return probabilities, row by row (cell, node)."""
    told = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(told / told.sum(axis=1, keepdims=True))


def unit(x: Floats) -> Floats:
    """Return rows of unit length; rows of zeros stay."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
