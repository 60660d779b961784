"""Cells of one modality beside cells of another where no cell was measured by both, through features they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.operators.ridge import ridge
from aivc_graph.operators.subspace import along, leading_axes
from aivc_graph.operators.transport import barycentres

Floats = NDArray[np.floating[Any]]
Codes = NDArray[np.integer[Any]]
# Directions that the two sides have in common, of so many leading ones of either.
COMMON, LEADING = 20, 100
NEIGHBOURS = 30
# Shared features are left out by thirds to judge by, on so many asked cells.
FOLDS, MOST_JUDGED = 3, 3_000
LEAST_CELLS = 60


class Way(NamedTuple):
    """How cells are laid out: the power of a common direction's strength it is weighed by, and rounds of transport."""

    weighing: float
    rounds: int


START = Way(0.0, 0)
WAYS = tuple(Way(weighing, rounds) for weighing in (0.0, 0.5) for rounds in (0, 1, 2))


@dataclass(frozen=True)
class Standard:
    """Features about their mean in units of their spread: `rows` (cell, feature), sparse, less `centre` (feature,)."""

    rows: sparse.csr_matrix
    centre: Floats

    @classmethod
    def of(cls, values: sparse.csr_matrix) -> Standard:
        """Return features of cells (cell, feature) brought to one spread; those without are nothing."""
        mean = np.asarray(values.mean(axis=0)).ravel()
        spread = np.sqrt(np.maximum(np.asarray(values.power(2).mean(axis=0)).ravel() - mean**2, 0.0))
        scale = 1 / np.where(spread > 1e-9, spread, np.inf)
        return cls(sparse.csr_matrix(values @ sparse.diags(scale)), mean * scale)

    def features(self, chosen: NDArray[np.bool_]) -> Standard:
        """Return some of the features."""
        return Standard(self.rows[:, chosen], self.centre[chosen])

    def leading(self) -> Floats:
        """Return the leading axes (feature, axis)."""
        return leading_axes(self.rows, self.centre, LEADING)

    def along(self, axes: Floats) -> Floats:
        """Return coordinates (cell, axis) along axes (feature, axis)."""
        return along(self.rows, self.centre, axes)


@dataclass(frozen=True)
class Correspondence:
    """Where given and asked cells lie, of unit length (cell, axis), by which way, and how well each way agreed."""

    given: Floats
    asked: Floats
    way: Way
    agreement: dict[Way, float]

    def carry(self, values: Any) -> Floats:
        """Return values of given cells (cell, k) carried over: their mean over the 30 nearest (asked, k)."""
        return _carried(self.given, self.asked, values)


def correspond(given: sparse.csr_matrix, asked: sparse.csr_matrix, group: Codes, seed: int = 0) -> Correspondence:
    r"""Lay out cells of two sections such that like lies beside like.

    Both are told by the same features, such as expression, and activity of genes by the chromatin near them. It begins
    with what the two have in common across cells: the leading singular vectors of :math:`X Y^\top`, canonical
    correlation with cells for variables. From there it departs in two ways: directions are weighed by their strength,
    and the asked cells are coupled to the given ones by transport, and led half way, by ridge from their leading
    coordinates, to the places of those they are coupled to, again and again. How far is chosen on thirds of the shared
    features left out in turn, by the correlation of what is carried over of them with what was measured: the way that
    agrees most of those that agree better than the start on every third.

    Parameters
    ----------
    given, asked
        Shared features in logarithms (cell, feature), sparse.
    group
        What ridge leaves out in turn to choose its penalty, such as the donor of each asked cell (cell,).

    Raises
    ------
    ValueError
        With fewer than sixty cells on a side.

    References
    ----------
    Stuart et al. 2019, doi:10.1016/j.cell.2019.05.031 (canonical correlation across cells); Chen et al. 2023,
    doi:10.1038/s41587-023-01935-0 (pairs found anew from all features).
    """
    if min(given.shape[0], asked.shape[0]) < LEAST_CELLS:
        raise ValueError(
            f"expected at least {LEAST_CELLS} cells on either side, found {given.shape[0]}, {asked.shape[0]}"
        )
    x, y = Standard.of(given), Standard.of(asked)
    rng = np.random.default_rng(seed)
    fold = rng.permutation(given.shape[1]) % FOLDS
    some = np.sort(rng.permutation(asked.shape[0])[:MOST_JUDGED])
    by_fold = []
    for one in range(FOLDS):
        out = fold == one
        laid = _laid_out(x.features(~out), y.features(~out), group, seed)
        hidden, true = x.rows[:, out], y.rows[some][:, out].toarray() - y.centre[out]
        by_fold.append([_likeness(_carried(g, a[some], hidden), true) for g, a in laid.values()])
    likeness = np.array(by_fold)
    ahead = np.flatnonzero((likeness > likeness[:, :1]).all(axis=0))
    best = max([0, *ahead.tolist()], key=lambda way: likeness[:, way].mean())
    places = _laid_out(x, y, group, seed, WAYS[best])[WAYS[best]]
    return Correspondence(*places, WAYS[best], dict(zip(WAYS, likeness.mean(axis=0).tolist(), strict=True)))


def _laid_out(
    given: Standard, asked: Standard, group: Codes, seed: int, only: Way | None = None
) -> dict[Way, tuple[Floats, Floats]]:
    """Return where given and asked cells lie, way by way, or by one way alone."""
    found, axes = {}, [one.leading() for one in (given, asked)]
    x, y = given.along(axes[0]), asked.along(axes[1])
    sizes = [np.maximum(np.linalg.norm(one, axis=0), 1e-12) for one in (x, y)]
    left, strength, right = np.linalg.svd(axes[0].T @ axes[1] * np.outer(*sizes))
    told = np.hstack([asked.along(axes[0]), y])
    for weighing in sorted({way.weighing for way in WAYS} if only is None else {only.weighing}):
        weight = (strength[:COMMON] / strength[0]) ** weighing
        g = _unit(x / sizes[0] @ left[:, :COMMON] * weight)
        start = a = _unit(y / sizes[1] @ right[:COMMON].T * weight)
        found[Way(weighing, 0)] = g, start
        for number in range(1, 1 + (max(way.rounds for way in WAYS) if only is None else only.rounds)):
            a = _unit(start + _unit(_in_places_of(g, told, barycentres(g, a, seed + number), group)))
            found[Way(weighing, number)] = g, a
    return found


def _in_places_of(given: Floats, told: Floats, target: Floats, group: Codes) -> Floats:
    """Return `told` (asked, f) led to `target` (asked, axis) by ridge; each axis as wide as given cells lie along it.

    Ridge draws cells to the middle, where those of the commonest kinds lie.
    """
    led = told @ ridge(told, target - target.mean(axis=0), group)
    return given.mean(axis=0) + led * (given.std(axis=0) / np.maximum(led.std(axis=0), 1e-12))


def _unit(places: Floats) -> Floats:
    return np.asarray(places / np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-12))


def _carried(given: Floats, asked: Floats, values: Any) -> Floats:
    from scipy.spatial import cKDTree

    k = min(NEIGHBOURS, len(given))
    near = cKDTree(given).query(asked, k=range(1, k + 1))[1]
    rows = np.repeat(np.arange(len(asked)), k)
    mean = sparse.csr_matrix((np.full(near.size, 1 / k), (rows, near.ravel())), (len(asked), len(given)))
    carried = mean @ values
    return np.asarray(carried.toarray() if sparse.issparse(carried) else carried)


def _likeness(carried: Floats, true: Floats) -> float:
    """Return the correlation over cells and features, each feature about its mean."""
    carried, true = carried - carried.mean(axis=0), true - true.mean(axis=0)
    size = np.linalg.norm(carried) * np.linalg.norm(true)
    return float((carried * true).sum() / size) if size > 0 else 0.0
