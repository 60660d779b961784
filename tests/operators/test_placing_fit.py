"""What is chosen on nodes whose place is hidden: regions by hand, steps that open, answers that do not change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aivc_graph.operators import placing_encoder, placing_fit
from aivc_graph.operators.placing import Nodes, Places
from aivc_graph.operators.placing_fit import _held, _level, _likeliest, _quantile, _Trial, fit_placing, nearest_of

Floats = np.ndarray[Any, np.dtype[np.float64]]
P = np.array([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """Learn for a third of the steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placing_encoder, "STEPS", 100)
        yield


def tissue(n: int = 400, seed: int = 0) -> tuple[Nodes, Places]:
    """Return nodes that look alike but for what is around them: each is noise about a patch's own mean."""
    rng = np.random.default_rng(seed)
    pos = rng.random((n, 2)) * 800
    patch = (pos // 200).astype(int) @ [4, 1]
    x = 0.8 * np.random.default_rng(9).normal(size=(16, 20))[patch] + rng.normal(size=(n, 20))
    return Nodes({"expression": x}, pos, np.ones(n)), Places.of_nodes(pos)


def test_a_region_takes_in_places_likeliest_first() -> None:
    np.testing.assert_allclose(_held(P), [[1.0, 0.6, 0.9], [0.8, 1.0, 0.6]])


def test_a_level_covers_nine_of_ten() -> None:
    held = (np.arange(100) + 1) / 100
    assert _level(held, np.arange(100)) == pytest.approx(0.91)
    assert _level(held, np.arange(100) % 5) == pytest.approx(0.91)
    assert _level(held, np.arange(100) // 10) == pytest.approx(0.99)  # of ten squares, alike within
    assert _level(held, np.arange(100) // 20) == pytest.approx(0.98)
    assert _level(np.zeros(0), np.zeros(0, int)) == 1.0
    assert _quantile(held, np.ones(100), 0.5) == pytest.approx(0.5)


def test_a_level_covers_nine_of_ten_where_squares_are_off_together() -> None:
    rng, squares = np.random.default_rng(0), np.repeat(np.arange(25), 40)
    covered = []
    for _ in range(200):
        held = 1 / (
            1 + np.exp(-1.5 * rng.normal(size=26)[np.r_[squares, np.full(40, 25)]] - 0.3 * rng.normal(size=1040))
        )
        alone = _quantile(held[:1000], np.ones(1_000), 0.9)
        covered.append([np.mean(held[1000:] <= one) for one in (_level(held[:1000], squares), alone)])
    assert np.mean(covered, axis=0)[1] < 0.895 < 0.9 < np.mean(covered, axis=0)[0] < 0.93


def test_a_region_is_wide_enough_for_gaps_from_which_cells_are_expected() -> None:
    nodes, _ = tissue(3_000)
    hole = (np.abs(nodes.pos_um - 400) < 130).all(axis=1)
    nodes = Nodes({"expression": nodes.views["expression"][~hole]}, nodes.pos_um[~hole], nodes.mass[~hole])
    trial = _Trial(nodes, Places.of_nodes(nodes.pos_um), 0)
    rule = trial.plain()
    many, few = (trial.calibrated(replace(rule, gaps=one)) for one in (10.0, 0.1))
    assert list(few[1]) == ["among_nodes"] and list(many[1]) == ["among_nodes", "in_gaps"]
    assert many[0] > few[0] + 0.02 and few[1]["among_nodes"] > 0.85 and many[1]["among_nodes"] > few[1]["among_nodes"]


def test_a_told_place_is_the_likeliest_or_the_middle_as_far_as_distance_counts() -> None:
    pos = np.stack([np.arange(60) * 50.0 + 25, np.full(60, 25.0)], axis=1)
    places, p = Places.of_nodes(pos), np.zeros((1, 60))
    p[0, [0, 40, 41, 59]] = 0.32, 0.2, 0.2, 0.28
    assert [int(nearest_of(p, places, one)[0]) for one in (1.0, 24.0, np.inf)] == [0, 41, 40]


def test_the_likeliest_places_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing_fit, "KEPT", 2)
    np.testing.assert_allclose(_likeliest(P).toarray().max(axis=1), [0.6, 0.6])
    assert _likeliest(P).nnz == 4 and _likeliest(P)[0, 0] == 0.0


def test_what_was_learnt_opens_where_it_tells_and_not_where_it_is_shuffled() -> None:
    nodes, places = tissue(1_500)
    found = fit_placing(nodes, places)
    assert found.opening > 0.5 and found.rule.learnt > 0 and found.gains["learnt"] > found.gains["nearest"]
    order = np.random.default_rng(1).permutation(1_500)
    shuffled = Nodes({"expression": nodes.views["expression"][order]}, nodes.pos_um, nodes.mass)
    none = fit_placing(shuffled, places)
    assert max(none.gains.values()) < 0.05 < found.gains["learnt"]
    assert (none.opening == 0) == (none.ground.encoder is None)


@pytest.fixture(scope="module")
def trial() -> _Trial:
    nodes, _ = tissue(1_500)
    left = np.abs(nodes.pos_um - 600).max(axis=1) > 130
    found = _Trial(
        Nodes({"expression": nodes.views["expression"][left]}, nodes.pos_um[left], nodes.mass[left]),
        Places.of_nodes(nodes.pos_um[left]),
        0,
    )
    found.plain()
    return found


def test_every_step_is_judged_on_nodes_that_did_not_choose_it(trial: _Trial) -> None:
    rule = trial.ground.rule
    assert trial.opening(rule, rule) == 0.0
    better, worse = replace(rule, likeness=8.0), replace(rule, near=30.0, anywhere=0.0001)
    assert trial.opening(better, worse) == 0.0 < trial.opening(worse, better)
    weight = trial.weight(rule)
    assert trial.gain(rule) == pytest.approx(np.average(trial.nats(rule)[trial.judges], weights=weight[trial.judges]))


def test_hidden_nodes_count_as_their_kind_is_expected(trial: _Trial) -> None:
    share = trial.gap_share
    assert 0.0 < share < 0.2 and trial.in_gap.any() and not _Trial(*tissue(), 0).in_gap.any()
    weight = trial.weight(trial.ground.rule)
    assert weight[trial.in_gap].sum() == pytest.approx(share) and weight.sum() == pytest.approx(1.0)
    assert trial._weight(0.3)[trial.in_gap].sum() == pytest.approx(0.3)
    assert not np.isin(trial.hidden, trial.rest).any()


def test_cells_of_a_piece_cut_out_are_found_in_the_gap_if_they_may_come_from_there() -> None:
    rng = np.random.default_rng(3)
    pos = rng.random((3_500, 2)) * 1_500
    x = np.sin(pos / 1_200 * 3 @ np.random.default_rng(4).normal(size=(2, 12)) + np.arange(12))
    x += 0.4 * rng.normal(size=x.shape)
    gone = np.abs(pos - 750).max(axis=1) < 200
    nodes = Nodes({"expression": x[~gone]}, pos[~gone], np.ones((~gone).sum()))
    places = Places.of_nodes(nodes.pos_um)
    of_gap, of_all = (fit_placing(nodes, places, gaps=one) for one in (None, 1.0))
    in_gap = [(np.abs(one.place(x[gone]).likely - 750).max(axis=1) < 200).mean() for one in (of_gap, of_all)]
    assert in_gap[0] > in_gap[1] + 0.2 and of_gap.rule.gaps > 1.0 == of_all.rule.gaps


def test_the_same_nodes_give_the_same_answer_in_any_company() -> None:
    nodes, places = tissue()
    x = tissue(120, 5)[0].views["expression"]
    found, again = fit_placing(nodes, places), fit_placing(nodes, places)
    assert found.rule == again.rule and found.gains == again.gains
    whole = found.place(x)
    np.testing.assert_array_equal(again.place(x).point, whole.point)
    turned = found.place(x[::-1])
    np.testing.assert_allclose(turned.spread_um[::-1], whole.spread_um, rtol=1e-4)
    assert (whole.near <= 1 + 1e-6).all()
