"""Genes that a section never measured, told of its nodes from dissociated cells like them that did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aivc_graph.operators.gate import opening_of
from aivc_graph.operators.placing import BUDGET, Ground, Nodes, Places, Rule, platform_shift, softmax, unit
from aivc_graph.operators.ridge import ridge

Floats = NDArray[np.floating[Any]]
NEAREST, MOST_JUDGED = 30, 3_000
SHARPNESS, WHITENED, LINEAR = (8.0, 16.0, 32.0, 64.0), (0.0, 0.5), (0.0, 0.5, 1.0)
# Nodes told alike, over which an expectation is compared with what was measured.
TOLD_ALIKE = 10
CONFIDENCE = 0.95


class Way(NamedTuple):
    """How a gene is told: mean of the nearest cells, or of all by likeness (`sharpness`), and the share of ridge."""

    whitened: float = 0.0
    sharpness: float = 0.0
    linear: float = 0.0


START = Way()
WAYS = (START, *(Way(w, s, share) for w, s, share in product(WHITENED, SHARPNESS, LINEAR)))


@dataclass(frozen=True)
class Alike:
    """Nodes and cells in the same genes: coordinates (node, axis), (cell, axis), and positions of the nodes [µm]."""

    nodes: Floats
    cells: Floats
    pos_um: Floats


@dataclass(frozen=True)
class Choice:
    """The way that hidden genes chose, how well each way told them (gene,), and what it told of them (node, gene).

    How well is the correlation over nodes with what was measured.
    """

    way: Way
    likeness: dict[Way, Floats]
    told: Floats


def choose_way(alike: Alike, values: Floats, measured: Floats, seed: int = 0) -> Choice:
    """Return how genes are told best, by genes that both sides measured and that took no part in `alike`.

    It departs from the mean over the thirty nearest cells if most of the hidden genes gain, surely.

    Parameters
    ----------
    alike
        Coordinates by the other genes.
    values
        Log expression of the hidden genes in cells (cell, gene).
    measured
        The same of nodes (node, gene).
    """
    some = np.sort(np.random.default_rng(seed).permutation(len(alike.nodes))[:MOST_JUDGED])
    likeness = {way: likeness_by_gene(told[some], measured[some]) for way, told in tell(alike, values, WAYS, seed)}
    best = max(WAYS, key=lambda way: likeness[way].mean())
    way = best if opening_of(likeness[best] - likeness[START]) > 0 else START
    return Choice(way, likeness, next(told for _, told in tell(alike, values, (way,), seed)))


def factor_off(told: Floats, measured: Floats) -> tuple[float, float]:
    """Return by which factor rates are measured above what is told (median), and one that holds 95 % about it.

    Over hidden genes (node, gene) and tenths of the nodes, by what is told: of single nodes counting alone would say
    how far they are off.
    """
    off = np.log(ratio_of_alike(told, measured)).ravel()
    middle = float(np.median(off))
    return float(np.exp(middle)), float(np.exp(np.quantile(np.abs(off - middle), CONFIDENCE)))


def tell(alike: Alike, values: Floats, ways: tuple[Way, ...], seed: int = 0) -> Iterator[tuple[Way, Floats]]:
    """Yield by way what is told of each node (node, gene), of log expression of cells (cell, gene).

    Cells are shifted by what their platform differs in (`platform_shift`). Ridge leads from coordinates to genes in the
    cells. Of a mean of logarithms the spread over cells is lost, which correlation does not see.
    """
    places, mass = Places.of_nodes(alike.pos_um), np.ones(len(alike.nodes))
    for whitened in dict.fromkeys(way.whitened for way in ways):
        nodes = Nodes({"": alike.nodes}, alike.pos_um, mass)
        ground = Ground(nodes, places, np.arange(len(mass)), Rule("", whitened))
        cells = alike.cells - platform_shift(ground, alike.cells, seed)
        here = [way for way in ways if way.whitened == whitened]
        linear = _ridge(alike.nodes, cells, values) if any(way.linear for way in here) else np.zeros(())
        by_sharpness = {}
        for sharpness in dict.fromkeys(way.sharpness for way in here):
            by_sharpness[sharpness] = _likely(ground.own, unit(cells * ground.scale), values, sharpness)
        for way in here:
            yield way, (1 - way.linear) * by_sharpness[way.sharpness] + way.linear * linear


def likeness_by_gene(told: Floats, measured: Floats) -> Floats:
    """Return the correlation over nodes of each gene (gene,), zero where either does not vary."""
    a, b = told - told.mean(axis=0), measured - measured.mean(axis=0)
    size = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.asarray((a * b).sum(axis=0) / np.where(size > 0, size, np.inf))


def ratio_of_alike(told: Floats, measured: Floats) -> Floats:
    """Return measured over told rates (tenth, gene) in means over tenths of the nodes, by what is told of each gene."""
    order = np.argsort(told, axis=0, kind="stable")
    rates = [np.expm1(np.maximum(np.take_along_axis(one, order, axis=0), 0.0)) for one in (measured, told)]
    parts = [np.array([half.mean(axis=0) for half in np.array_split(one, TOLD_ALIKE)]) for one in rates]
    least = 1e-3 * parts[0].max(axis=0) + 1e-9
    return np.asarray((parts[0] + least) / (parts[1] + least))


def _likely(nodes: Floats, cells: Floats, values: Floats, sharpness: float) -> Floats:
    told, step = np.zeros((len(nodes), values.shape[1])), max(1, BUDGET // len(cells))
    for start in range(0, len(nodes), step):
        here = slice(start, start + step)
        cosine = nodes[here] @ cells.T
        if sharpness:
            told[here] = softmax(sharpness * cosine) @ values
        else:
            k = min(NEAREST, len(cells))
            near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
            told[here] = np.mean([values[near[:, i]] for i in range(k)], axis=0)
    return told


def _ridge(nodes: Floats, cells: Floats, values: Floats) -> Floats:
    middle, mean = cells.mean(axis=0), values.mean(axis=0)
    return np.asarray(mean + (nodes - middle) @ ridge(cells - middle, values - mean, np.zeros(len(cells), np.int64)))
