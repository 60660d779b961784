"""Genes told from cells that measured them: in the order of the truth, and by the way that hidden genes choose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aivc_graph.operators import genes_from_cells
from aivc_graph.operators.genes_from_cells import (
    START,
    WAYS,
    Alike,
    Way,
    choose_way,
    factor_off,
    likeness_by_gene,
    ratio_of_alike,
    tell,
)

Floats = np.ndarray[Any, np.dtype[np.float64]]
N = 300


def sides(seed: int = 0, noise: float = 0.8) -> tuple[Alike, Floats, Floats]:
    """Return nodes and cells of one law in noisy coordinates, and genes of the cells and the nodes (cell, gene)."""
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(2 * N, 4))
    axes, genes = rng.normal(size=(4, 20)), rng.normal(size=(4, 24))
    x = state @ axes + noise * rng.normal(size=(2 * N, 20))
    rate = np.log1p(3 * np.exp(0.5 * state @ genes))
    y = np.maximum(rate + 0.3 * rng.normal(size=rate.shape), 0.0)
    return Alike(x[:N], x[N:], rng.random((N, 2)) * 500), y[N:], y[:N]


def test_genes_are_told_in_their_order_and_not_by_strangers() -> None:
    alike, values, measured = sides()
    found = choose_way(alike, values, measured)
    assert found.way != START
    assert found.likeness[found.way].mean() > found.likeness[START].mean() + 0.03
    np.testing.assert_allclose(likeness_by_gene(found.told, measured), found.likeness[found.way], atol=1e-9)
    strange = Alike(alike.nodes, np.random.default_rng(1).permutation(alike.cells), alike.pos_um)
    assert choose_way(strange, values, measured).likeness[START].mean() < 0.1


def test_where_nothing_gains_the_nearest_thirty_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    alike, _, measured = sides()
    noise = np.random.default_rng(2).normal(size=(N, 24))
    monkeypatch.setattr(genes_from_cells, "WAYS", (START, Way(0.0, 8.0, 0.0)))
    found = choose_way(alike, noise, measured)
    nearest = next(told for _, told in tell(alike, noise, (START,)))
    if found.way == START:
        np.testing.assert_array_equal(found.told, nearest)
    assert abs(found.likeness[found.way].mean()) < 0.1


def test_nearest_is_the_mean_of_thirty() -> None:
    alike, values, _ = sides()
    away = alike.cells - genes_from_cells.platform_shift(ground_of(alike), alike.cells, 0)
    cosine = (alike.nodes @ away.T) / np.outer(*(np.linalg.norm(one, axis=1) for one in (alike.nodes, away)))
    expected = np.array([values[np.argsort(-row)[:30]].mean(axis=0) for row in cosine])
    np.testing.assert_allclose(next(told for _, told in tell(alike, values, (START,))), expected, rtol=1e-4)


def ground_of(alike: Alike) -> Any:
    from aivc_graph.operators.placing import Ground, Nodes, Places, Rule

    nodes = Nodes({"": alike.nodes}, alike.pos_um, np.ones(N))
    return Ground(nodes, Places.of_nodes(alike.pos_um), np.arange(N), Rule(""))


def test_ways_are_what_they_say_whoever_else_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    alike, values, _ = sides()
    all_at_once = dict(tell(alike, values, WAYS))
    assert set(all_at_once) == set(WAYS)
    alone = next(told for _, told in tell(alike, values, (Way(0.5, 16.0, 0.5),)))
    np.testing.assert_allclose(all_at_once[Way(0.5, 16.0, 0.5)], alone, rtol=1e-6)
    half = 0.5 * (all_at_once[Way(0.5, 16.0, 0.0)] + all_at_once[Way(0.5, 16.0, 1.0)])
    np.testing.assert_allclose(alone, half, rtol=1e-6)
    monkeypatch.setattr(genes_from_cells, "BUDGET", 9_000)
    np.testing.assert_allclose(next(told for _, told in tell(alike, values, (Way(0.5, 16.0),))),
                               all_at_once[Way(0.5, 16.0)], rtol=1e-6)  # fmt: skip


def test_the_factor_holds_nineteen_of_twenty_genes_of_another_draw() -> None:
    alike, values, measured = sides(noise=0.4)
    one, other = np.arange(24) < 12, np.arange(24) >= 12
    found = choose_way(alike, values[:, one], measured[:, one])
    middle, factor = factor_off(found.told, measured[:, one])
    told = next(told for _, told in tell(alike, values[:, other], (found.way,)))
    off = np.abs(np.log(ratio_of_alike(told, measured[:, other]) / middle))
    assert 0.85 <= np.mean(off <= np.log(factor)) <= 1.0 and 1.0 < factor < 4.0


def test_likeness_and_ratio_by_hand() -> None:
    measured = np.log1p(np.arange(20.0)[:, None] * [1.0, 2.0])
    np.testing.assert_allclose(likeness_by_gene(np.zeros((20, 2)), measured), 0.0)
    np.testing.assert_allclose(likeness_by_gene(-3 * measured, measured), -1.0)
    twice = np.log1p(2 * np.expm1(measured))
    np.testing.assert_allclose(ratio_of_alike(measured, twice), 2.0, rtol=4e-2)
    middle, factor = factor_off(measured, twice)
    assert middle == pytest.approx(2.0, rel=1e-2) and factor == pytest.approx(1.0, abs=4e-2)
