"""What is chosen on nodes whose place is hidden: regions by hand, steps that open, answers that do not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aivc_graph.operators import placing_fit
from aivc_graph.operators.placing import Nodes, Places, Rule
from aivc_graph.operators.placing_fit import (
    _calibrated,
    _held,
    _level,
    _likeliest,
    _nats,
    _Trial,
    fit_placing,
)

Floats = np.ndarray[Any, np.dtype[np.float64]]
P = np.array([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])


def tissue(n: int = 400, seed: int = 0) -> tuple[Nodes, Places]:
    """Return nodes that look alike but for what is around them: each is noise about a patch's own mean."""
    rng = np.random.default_rng(seed)
    pos = rng.random((n, 2)) * 800
    patch = (pos // 200).astype(int) @ [4, 1]
    x = 0.8 * np.random.default_rng(9).normal(size=(16, 20))[patch] + rng.normal(size=(n, 20))
    return Nodes({"expression": x}, pos, np.ones(n)), Places.of_nodes(pos)


def test_a_region_takes_in_places_likeliest_first() -> None:
    np.testing.assert_allclose(_held(P), [[1.0, 0.6, 0.9], [0.8, 1.0, 0.6]])


def test_a_level_covers_nine_of_ten_and_half_the_squares_check_it() -> None:
    held = (np.arange(100) + 1) / 100
    assert _level(held) == pytest.approx(0.91)
    assert _level(np.zeros(0)) == 1.0
    level, coverage = _calibrated(np.tile(held, 2), np.repeat([0, 1], 100))
    assert level == pytest.approx(0.91, abs=0.01) and coverage == pytest.approx(0.91)
    shifted = np.r_[held / 2, held]
    assert _calibrated(shifted, np.repeat([0, 1], 100))[1] == pytest.approx((1.0 + 0.45) / 2, abs=0.01)


def test_the_likeliest_places_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing_fit, "KEPT", 2)
    np.testing.assert_allclose(_likeliest(P).toarray().max(axis=1), [0.6, 0.6])
    assert _likeliest(P).nnz == 4 and _likeliest(P)[0, 0] == 0.0


def test_nats_are_none_where_nothing_is_known() -> None:
    np.testing.assert_allclose(_nats(np.ones(3), 0.3), 0.0)
    assert _nats(np.zeros(1), 0.01)[0] == pytest.approx(np.log(0.01))


def test_what_is_around_opens_where_it_tells_and_not_where_it_is_shuffled() -> None:
    nodes, places = tissue(1_500)
    found = fit_placing(nodes, places, np.full(1_500, 50.0))
    assert found.gains["around"] > found.gains["view"] and found.rule.around > 0
    order = np.random.default_rng(1).permutation(1_500)
    shuffled = Nodes({"expression": nodes.views["expression"][order]}, nodes.pos_um, nodes.mass)
    none = fit_placing(shuffled, places, np.full(1_500, 50.0))
    assert max(none.gains.values()) < 0.05 < found.gains["sharper"]


def test_every_step_is_judged_on_nodes_that_did_not_choose_it() -> None:
    nodes, places = tissue()
    rows = np.arange(400)
    trial = _Trial(nodes, places, rows[:300], rows[300:330], rows[330:], 0)
    rule = trial.tune([Rule("expression", likeness=one) for one in (4.0, 16.0)])
    assert trial.opening(rule, rule) == 0.0
    assert trial.gain(rule) == pytest.approx(np.mean(_nats(trial._odds(rule, rows[330:]), rule.anywhere)))
    worse = Rule("expression", likeness=300.0, anywhere=0.0001)
    assert trial.opening(rule, worse) == 0.0 < trial.opening(worse, rule)


def test_the_same_nodes_give_the_same_answer_in_any_company() -> None:
    nodes, places = tissue()
    x, depth = tissue(120, 5)[0].views["expression"], np.full(120, 50.0)
    found = fit_placing(nodes, places, np.full(400, 50.0))
    again = fit_placing(nodes, places, np.full(400, 50.0))
    assert found.rule == again.rule and found.gains == again.gains
    whole = found.place(x, depth)
    np.testing.assert_array_equal(again.place(x, depth).point, whole.point)
    turned = found.place(x[::-1], depth)
    np.testing.assert_allclose(turned.spread_um[::-1], whole.spread_um, rtol=1e-4)
    assert ((whole.fit > 0) & (whole.fit <= 1)).all() and (whole.near <= 1 + 1e-6).all()
