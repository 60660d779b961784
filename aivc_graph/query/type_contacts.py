"""Do drawn types lie beside each other as measured ones do? Cells of one type within so many microns of another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph import names
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.panels import types_of
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.query.types import told_types

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
WITHIN_UM = (20.0, 50.0)
# Of scored nodes a share is told by the tissue around, at most so many; draws of their types.
SHARE, MOST, DRAWS = 0.25, 4_000, 100
# Types that are looked at, the most frequent, of which at least so many nodes are told.
MOST_TYPES, LEAST_NODES = 8, 20


def type_contacts(
    model: TissueModel, graph: TissueGraph, asked: dict[str, NDArray[np.bool_]], seed: int = 0
) -> list[dict[str, Any]]:
    """Return for each level, distance and pair of types how many of one lie around one of the other.

    Every fourth scored node loses its label and all that was measured of it. Its type is drawn from what the tissue
    around tells, again and again, and how many nodes of a type lie `within_um` of these is told as ``measured`` and as
    ``drawn`` on average, with the 95 % of draws between ``lower`` and ``upper``. Draws are of each node by itself.

    Parameters
    ----------
    asked
        Who is scored (node,), by level.

    References
    ----------
    Gelman, Meng & Stern 1996, Statistica Sinica 6:733-807 (posterior predictive checks).
    """
    found = []
    for level, types in model.plan.types.items():
        kind, rng = types_of(graph, level, types), np.random.default_rng(seed)
        away = asked[level] & (rng.random(len(kind)) < SHARE)
        pos, section = graph[level].pos.numpy().astype(np.float64), graph[level].section_index.numpy()
        told = np.flatnonzero(away & (kind >= 0) & np.isfinite(pos).all(axis=1))
        told = np.sort(rng.permutation(told)[:MOST])
        if level not in model.plan.laterals or len(told) < LEAST_NODES:
            continue
        hidden = {(level, one): away for one in (names.TYPE, *graph.modalities(level))}
        chances = told_types(model, hide_observations(graph, hidden), level, labelled=False)[0][told]
        drawn = _drawn(chances, DRAWS, rng)
        shown = _frequent(kind[told], len(types))
        for within in WITHIN_UM:
            near = _within(pos, section, told, within)
            measured = _around(near, kind, told, kind[told], shown)
            again = np.stack([_around(near, kind, told, one, shown) for one in drawn])
            facts = {"level": level, "within_um": within}
            found += [facts | one for one in _pairs(measured, again, shown, types)]
    return found


def _drawn(chances: Floats, draws: int, rng: np.random.Generator) -> Ints:
    """Return types drawn by their chances (draw, node)."""
    edges = np.cumsum(chances.astype(np.float64), axis=1)
    edges /= edges[:, -1:]
    return np.stack([(rng.random((len(edges), 1)) > edges).sum(axis=1) for _ in range(draws)])


def _frequent(kind: Ints, n_types: int) -> Ints:
    number = np.bincount(kind, minlength=n_types)
    most = np.argsort(-number, kind="stable")[:MOST_TYPES]
    return np.sort(most[number[most] >= LEAST_NODES])


def _within(pos: Floats, section: Ints, told: Ints, within: float) -> sparse.csr_matrix:
    """Return who lies within so many microns of each node told (told, node), in its section, itself left out."""
    row, column = [], []
    for one in np.unique(section[told]):
        there = np.flatnonzero((section == one) & np.isfinite(pos).all(axis=1))
        mine = np.flatnonzero(section[told] == one)
        near = cKDTree(pos[there]).query_ball_point(pos[told[mine]], within, return_sorted=True)
        row.append(np.repeat(mine, [len(each) for each in near]))
        column.append(there[np.concatenate([np.asarray(each, np.int64) for each in near])])
    rows, columns = np.concatenate(row), np.concatenate(column)
    other = columns != told[rows]
    return sparse.csr_matrix((np.ones(other.sum()), (rows[other], columns[other])), (len(told), len(pos)))


def _around(near: sparse.csr_matrix, kind: Ints, told: Ints, types: Ints, shown: Ints) -> Floats:
    """Return the mean number of nodes of type b around one of type a (a, b) if nodes `told` have these `types`."""
    every = kind.copy()
    every[told] = types
    around = near @ (every[:, None] == shown).astype(np.float64)
    own = (types[:, None] == shown).astype(np.float64)
    return np.asarray(own.T @ around / np.maximum(own.sum(axis=0), 1)[:, None])


def _pairs(measured: Floats, again: Floats, shown: Ints, types: tuple[str, ...]) -> list[dict[str, Any]]:
    mean = again.mean(axis=0)
    lower, upper = np.quantile(again, (0.025, 0.975), axis=0)
    return [
        {"of": types[b], "around": types[a]}
        | {
            name: round(float(values[i, j]), 5)
            for name, values in (("measured", measured), ("drawn", mean), ("lower", lower), ("upper", upper))
        }
        for i, a in enumerate(shown)
        for j, b in enumerate(shown)
    ]
