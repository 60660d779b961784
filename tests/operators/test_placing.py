"""Cells placed in tissue of known order: near where they were, as surely as is said, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aivc_graph.operators import placing
from aivc_graph.operators.placing import Ground, Nodes, Places, Rule, platform_shift
from aivc_graph.operators.placing_fit import KEPT, Placed, Placing, fit_placing

Floats = np.ndarray[Any, np.dtype[np.float64]]
SIDE, PLAIN = 1_000.0, Rule("expression")


def ordered(n: int, seed: int, noise: float = 0.5, axes: int = 12) -> tuple[Floats, Floats]:
    """Return nodes (node, axis) whose axes change over a square of tissue as waves do, and positions [µm]."""
    rng = np.random.default_rng(seed)
    pos = rng.random((n, 2)) * SIDE
    wave = np.random.default_rng(99).normal(size=(2, axes))
    return np.sin(pos / SIDE * 2.5 @ wave + np.arange(axes)) + noise * rng.normal(size=(n, axes)), pos


def fitted(x: Floats, pos: Floats, *, each: bool = False, **views: Floats) -> Placing:
    nodes = Nodes({"expression": x, **views}, pos, np.ones(len(x)))
    return fit_placing(nodes, Places.of_nodes(pos, each=each))


def away(placed: Placed, pos: Floats) -> Floats:
    return np.linalg.norm(placed.point - pos, axis=1)


def held(found: Placing, x: Floats, pos: Floats) -> float:
    """Return how many cells lie in the region said to hold them with probability 0.9."""
    places, inside = found.ground.places, []
    at = np.array([np.abs(places.centre - one).max(axis=1).argmin() for one in pos])
    for rows, p in found.ground.blocks(x):
        true = p[np.arange(len(p)), at[rows]]
        inside.append(np.where(p >= true[:, None], p, 0).sum(axis=1) <= found.level)
    return float(np.concatenate(inside).mean())


@pytest.fixture(scope="module")
def tissue() -> tuple[Floats, Floats]:
    return ordered(900, 0)


@pytest.fixture(scope="module")
def found(tissue: tuple[Floats, Floats]) -> Placing:
    return fitted(*tissue)


@pytest.fixture(scope="module")
def asked() -> tuple[Floats, Floats]:
    return ordered(500, 1)


def test_cells_lie_nearer_where_they_were_than_their_nearest_in_genes(
    tissue: tuple[Floats, Floats], found: Placing, asked: tuple[Floats, Floats]
) -> None:
    x, pos = asked
    ours = np.median(away(found.place(x), pos))
    nearest = np.median(np.linalg.norm(tissue[1][Ground(*grounds(tissue)).likeness(x).argmax(axis=1)] - pos, axis=1))
    assert ours < 0.8 * nearest < 0.4 * 521  # two points of the square lie 521 µm apart, at the mean
    assert found.gains["learnt"] > found.gains["nearest"] + 0.05 and found.opening > 0.5


def grounds(tissue: tuple[Floats, Floats], rule: Rule = PLAIN) -> Any:
    x, pos = tissue
    return Nodes({"expression": x}, pos, np.ones(len(x))), Places.of_nodes(pos), np.arange(len(x)), rule


def test_a_region_holds_nine_of_ten_and_probability_is_frequency(found: Placing, asked: tuple[Floats, Floats]) -> None:
    x, pos = asked
    placed = found.place(x)
    assert 0.86 <= held(found, x, pos) <= 0.94 and 0.85 <= found.coverage["among_nodes"] <= 0.95
    assert np.mean(away(placed, pos) <= 100) == pytest.approx(placed.near.mean(), abs=0.1)
    assert np.median(placed.region_um2) < 0.3 * SIDE**2 and (placed.region_um2 >= 50.0**2).all()
    np.testing.assert_array_equal(np.diff(placed.best.indptr), KEPT)


def test_genes_in_no_order_say_nothing_and_open_nothing(asked: tuple[Floats, Floats]) -> None:
    x, pos = ordered(600, 3)
    blind = fitted(x[np.random.default_rng(0).permutation(len(x))], pos)
    assert blind.opening < 0.2 and max(blind.gains.values()) < 0.02
    placed = blind.place(asked[0])
    assert np.median(away(placed, asked[1])) > 300 and np.median(placed.region_um2) > 0.6 * SIDE**2
    assert 0.84 <= held(blind, *asked) <= 0.95


def test_a_view_that_knows_more_is_chosen_and_one_that_knows_nothing_is_not(tissue: tuple[Floats, Floats]) -> None:
    x, pos = tissue
    noise = np.random.default_rng(5).normal(size=x.shape)
    assert fitted(x[:400], pos[:400], state=noise[:400]).rule.view == "expression"
    assert fitted(noise[:400], pos[:400], state=x[:400]).rule.view == "state"


def test_an_answer_is_the_same_piece_by_piece(
    found: Placing, asked: tuple[Floats, Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = np.concatenate([p for _, p in found.ground.blocks(asked[0])])
    monkeypatch.setattr(placing, "BUDGET", 20_000)
    pieces = [p for _, p in found.ground.blocks(asked[0])]
    assert len(pieces) > 10 and max(one.size for one in pieces) <= 20_000
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-6)


def test_probabilities_sum_to_one_and_follow_mass(tissue: tuple[Floats, Floats], asked: tuple[Floats, Floats]) -> None:
    nodes, *rest = grounds(tissue)
    heavy = np.where(np.arange(900) < 10, 7.0, 1.0)
    plain, weighed = Ground(nodes, *rest), Ground(replace(nodes, mass=heavy), *rest)
    for _, p in plain.blocks(asked[0][:20]):
        np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-4)
    like = np.zeros((1, 900), np.float32)
    due = weighed.places.blur.T @ np.bincount(weighed.places.of, heavy / heavy.sum(), len(weighed.places.centre))
    np.testing.assert_allclose(weighed.nearest(like)[0], due, rtol=1e-3, atol=1e-7)
    assert not np.allclose(plain.nearest(like)[0], due, rtol=0.1)


def test_what_differs_by_platform_is_found_whatever_kinds_are_common(tissue: tuple[Floats, Floats]) -> None:
    ground = Ground(*grounds(tissue))
    x, pos = ordered(1_200, 7)
    left = x[pos[:, 0] < 0.4 * SIDE]
    off = 0.6 * np.random.default_rng(1).normal(size=x.shape[1])
    composed = np.linalg.norm(left.mean(axis=0) - tissue[0].mean(axis=0))
    assert np.linalg.norm(platform_shift(ground, left)) < 0.35 * composed
    assert np.linalg.norm(platform_shift(ground, left + off) - off) < 0.4 * np.linalg.norm(off)


def test_spots_are_places_of_their_own_and_turn_with_the_tissue() -> None:
    grid = np.stack(np.meshgrid(np.arange(15), np.arange(15)), axis=-1).reshape(-1, 2) * 100.0
    x = np.sin(grid / 1_500 * 3 @ np.random.default_rng(3).normal(size=(2, 8)) + np.arange(8))
    x += 0.3 * np.random.default_rng(4).normal(size=x.shape)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    one, other = (fitted(x, pos, each=True) for pos in (grid, grid @ turn.T + 40.0))
    assert len(one.ground.places.centre) == 225 and one.ground.places.side == 100.0
    a, b = (found.place(x[:50] + 0.1) for found in (one, other))
    # The squares that judge lie otherwise, so that the rule may open a little further.
    np.testing.assert_allclose(a.spread_um, b.spread_um, rtol=0.2)
    assert np.mean(np.linalg.norm(a.point @ turn.T + 40.0 - b.point, axis=1) < 1.0) > 0.7


@pytest.mark.parametrize("most", [2_500, 100])
def test_tiles_cover_the_tissue_and_are_no_more_than_stated(
    tissue: tuple[Floats, Floats], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(placing, "MOST_TILES", most)
    pos = tissue[1]
    places = Places.of_nodes(pos)
    assert len(np.unique(places.of)) <= most and places.side >= 50.0
    assert (np.abs(places.centre[places.of] - pos) <= places.side / 2 + 1e-9).all()
    assert places.gathering(np.arange(len(pos))).sum() == len(pos)
    np.testing.assert_allclose(np.asarray(places.blur.sum(axis=1)).ravel(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(places.blur.diagonal(), np.asarray(places.blur.max(axis=1).todense()).ravel())


def test_gaps_are_places_and_what_lies_outside_is_none() -> None:
    pos = np.random.default_rng(0).random((4_000, 2)) * [2_000, 1_000]
    gap = (np.abs(pos[:, 0] - 600) < 200) | (np.abs(pos[:, 0] - 1_500) < 400)
    places = Places.of_nodes(pos[~gap])
    there = {tuple(one) for one in (places.centre // 50).astype(int).tolist()}
    assert (12, 10) in there and (30, 10) not in there
    assert np.abs(places.centre - [1_000, 500]).max(axis=0).tolist() <= [1_000, 500]
    np.testing.assert_allclose(np.abs(places.centre[places.of] - pos[~gap]).max(), 25, atol=0.5)


def test_a_gap_may_lie_on_a_straight_side_and_none_around_a_disc() -> None:
    pos = np.random.default_rng(0).random((16_000, 2)) * 2_000
    square = pos // 500
    left = pos[square.sum(axis=1) % 2 == 1]
    places = Places.of_nodes(left)
    assert len(places.centre) == 40 * 40 and len(np.unique(places.of)) == 800
    for radius in (300, 600, 1_500):
        disc = pos[np.hypot(*(pos - 1_000).T) < 1_000] * radius / 1_000
        places = Places.of_nodes(disc)
        assert len(places.centre) < 1.15 * np.pi * (radius / places.side) ** 2 + 4 * radius / places.side
        assert not places.gaps(np.arange(len(disc))).any()


def test_a_gap_is_a_square_without_nodes_and_wider_where_they_are_sparse() -> None:
    pos = np.random.default_rng(0).random((4_000, 2)) * 1_000
    hole, slit = np.abs(pos - 500).max(axis=1) < 150, np.abs(pos[:, 1] - 900) < 45
    places, rows = Places.of_nodes(pos), np.flatnonzero(~hole & ~slit)
    found = places.gaps(rows)
    assert found.sum() == 36 and np.abs(places.centre[found] - 500).max() < 150
    assert not places.gaps(np.arange(4_000)).any()
    few = rows[::40]
    assert not places.gaps(few).any()


def test_a_gap_is_as_likely_as_is_said(tissue: tuple[Floats, Floats]) -> None:
    x, pos = tissue
    left = np.abs(pos - 500).max(axis=1) >= 200
    nodes, places = Nodes({"expression": x}, pos, np.ones(900)), Places.of_nodes(pos)
    share = []
    for odds in (1.0, 100.0):
        ground = Ground(nodes, places, np.flatnonzero(left), replace(PLAIN, near=0.0, gaps=odds, anywhere=0.0))
        assert ground.odds == pytest.approx(odds * ground.gaps.mean() / (1 - ground.gaps.mean()))
        share.append(float(next(iter(ground.blocks(x[:5])))[1][:, ground.gaps].sum(axis=1).mean()))
    odds = np.array(share) / (1 - np.array(share))
    assert odds[1] / odds[0] == pytest.approx(100.0, rel=1e-3)


def test_too_few_nodes_are_refused() -> None:
    x, pos = ordered(59, 0)
    with pytest.raises(ValueError, match="expected at least 60 nodes, found 59"):
        fitted(x, pos)
