"""Doses and durations that were not trained on are told by those beside them, as far as effects go with them."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.operators.intervention import condition_rules
from aivc_graph.operators.intervention.condition_stack import predict_responses
from aivc_graph.operators.intervention.conditions import Conditions, conditions_of

GENES, NOISE = 80, 0.05


def by_dose(linear: bool, n_places: int = 1) -> Conditions:
    """Return ten parts at five doses, a context each, whose effects go linearly with log dose, or do not change."""
    rng = np.random.default_rng(0)
    dose = np.log([0.1, 0.3, 1.0, 3.0, 10.0])
    start, slope = rng.normal(size=(2, n_places, 10, GENES))
    effect = start[:, None] + linear * dose[:, None, None] * slope[:, None]
    told = effect.reshape(-1, GENES) + NOISE * rng.normal(size=(n_places * 50, GENES))
    parts = np.tile(np.eye(10, dtype=bool), (5 * n_places, 1))
    context, place = np.repeat(np.arange(5 * n_places), 10), np.repeat(np.arange(n_places), 5)
    amounts = np.column_stack([np.tile(dose, n_places), np.zeros(5 * n_places)])
    return conditions_of(told, parts, context, np.ones(len(parts), bool), None, None, None, place, amounts)


def test_a_dose_between_two_is_told_from_both_by_its_logarithm() -> None:
    whole = by_dose(True, n_places=2)
    asked = whole.context == 7
    given = whole.without(asked)
    shares = condition_rules.between_amounts(given, np.flatnonzero(asked))
    low, high = np.log(1.0 / 0.3), np.log(3.0 / 1.0)
    expected = np.zeros_like(shares)
    for part, own in enumerate(expected):
        own[60 + part], own[80 + part] = high / (low + high), low / (low + high)
    np.testing.assert_allclose(shares, expected, atol=1e-12)
    outside = whole.context == 9
    shares = condition_rules.between_amounts(whole.without(outside), np.flatnonzero(outside))
    np.testing.assert_array_equal(shares.argmax(axis=1), 80 + np.arange(10))
    assert (shares.max(axis=1) == 1).all()


@pytest.mark.parametrize("linear", [True, False])
def test_unseen_doses_are_told_by_those_beside_them_where_effects_go_with_the_dose(linear: bool) -> None:
    whole = by_dose(linear)
    asked = whole.context == 2
    given = whole.without(asked)
    blind = conditions_of(given.effect, given.parts, given.context, given.train)
    with_dose, without = (((predict_responses(one, asked) - whole.effect[asked]) ** 2).mean() for one in (given, blind))
    assert with_dose < 0.5 * without if linear else with_dose < 1.1 * without


def test_durations_are_between_where_doses_are_equal() -> None:
    whole = by_dose(True)
    turned = conditions_of(
        whole.effect, whole.parts, whole.context, whole.train, None, None, None, whole.place, whole.amounts[:, ::-1]
    )
    asked = whole.context == 1
    doses, hours = (
        condition_rules.between_amounts(one.without(asked), np.flatnonzero(asked)) for one in (whole, turned)
    )
    np.testing.assert_array_equal(doses, hours)
    assert not np.allclose(hours, condition_rules.same_elsewhere(whole.without(asked), np.flatnonzero(asked)))
