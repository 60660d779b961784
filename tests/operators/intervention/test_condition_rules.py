"""Rules that tell a condition from others: which rows they weigh, and what they fall back to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aivc_graph.operators.intervention import condition_rules as rules
from aivc_graph.operators.intervention.conditions import Conditions, conditions_of

# Parts of each row, in two contexts.
DONE = ((0,), (1,), (2,), (0, 1), (0,), (1,), (1, 2))
CONTEXT = np.array([0, 0, 0, 0, 1, 1, 1])
GENES = 8
FEATURES = np.random.default_rng(5).normal(size=(len(DONE), 3))


def table(train: list[int], context: np.ndarray = CONTEXT, untreated: np.ndarray | None = None) -> Conditions:
    rng = np.random.default_rng(0)
    parts = np.array([[part in row for part in range(3)] for row in DONE])
    learnt = np.isin(np.arange(len(DONE)), train)
    return conditions_of(rng.normal(size=(len(DONE), GENES)), parts, context, learnt, None, untreated)


def weighed(shares: np.ndarray) -> list[int]:
    """Return the rows that have any weight, which must be alike and sum to one."""
    rows = np.flatnonzero(shares)
    np.testing.assert_allclose(shares[rows], 1 / len(rows))
    return rows.tolist()


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ([0, 1, 4, 5], [[0], [1]]),  # each part of its own context
        ([1, 4, 5], [[4], [1]]),  # the first in the other context alone
        ([1, 5], [[1, 5], [1]]),  # the first nowhere: all that were done alone
        ([3, 6], [[3, 6], [3, 6]]),  # none alone: all
    ],
)
def test_parts_are_told_alone_from_the_nearest_there_is(train: list[int], expected: list[list[int]]) -> None:
    assert [weighed(one) for one in rules.alone(table(train), 3)] == expected


def test_additive_sums_what_parts_tell_alone() -> None:
    given = table([0, 1, 2, 4])
    effect = given.told(rules.additive(given, np.array([3, 6])))
    np.testing.assert_allclose(effect[0], given.effect[0] + given.effect[1])
    # In the other context the third part was never done alone, and the second neither.
    np.testing.assert_allclose(effect[1], given.effect[1] + given.effect[2])


def test_saturated_is_the_largest_rise_and_the_deepest_fall() -> None:
    effects = np.array([[1.0, -2.0, 3.0, 0.0], [2.0, -1.0, -4.0, 0.0]])
    np.testing.assert_array_equal(rules.saturated(effects), [2.0, -2.0, -1.0, 0.0])


@pytest.mark.parametrize(
    ("rule", "train", "expected"),
    [
        (rules.mean_of_context, [0, 1, 4], [0, 1]),
        (rules.mean_of_context, [4, 5], [4, 5]),  # its context has no row: all
        (rules.same_elsewhere, [0, 4, 5], [0, 4]),
        (rules.same_elsewhere, [1, 2], [1, 2]),  # never done: all
        (rules.nearest_context, [4, 5], [4]),  # no state known: the same elsewhere
        (rules.alike_contexts, [1, 5], [1, 5]),
        (rules.mean, [1, 2, 6], [1, 2, 6]),
    ],
)
def test_a_rule_weighs_alike_the_rows_it_is_named_after(rule: object, train: list[int], expected: list[int]) -> None:
    given = table(train)
    assert callable(rule)
    assert weighed(rule(given, np.array([0]))[0]) == expected


def test_contexts_that_are_more_alike_untreated_tell_more() -> None:
    context = np.array([0, 0, 0, 0, 1, 2, 3])
    rng = np.random.default_rng(1)
    state = rng.normal(size=GENES)
    untreated = np.stack([state, state + 0.1 * rng.normal(size=GENES), rng.normal(size=GENES), state])
    given = table([1, 4, 5, 6], context, untreated)
    # The same was done in rows 0, 4, 5, 6.
    given = replace(given, parts=np.where(np.arange(len(DONE))[:, None] > 3, given.parts[0], given.parts))
    asked = np.array([0])
    assert weighed(rules.nearest_context(given, asked)[0]) == [6]
    share = rules.alike_contexts(given, asked)[0]
    assert share.sum() == pytest.approx(1.0) and share[6] > share[4] > share[5] > 0 == share[1]
    far = np.array([given.apart[0, context[row]] for row in (4, 5, 6)])
    expected = np.exp(-far / given.width)
    np.testing.assert_allclose(share[4:], expected / expected.sum())


@pytest.mark.parametrize("rule", [rules.bilinear_ridge, rules.kernel_ridge, rules.nearest])
def test_rules_of_features_weigh_training_rows_to_one(rule: object) -> None:
    given = table([0, 1, 2, 4, 5])
    assert callable(rule)
    shares = rule(given, np.array([3, 6]), FEATURES)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert not shares[:, ~given.train].any()


def test_without_features_that_differ_ridge_says_the_mean() -> None:
    given, flat = table([0, 1, 2, 4, 5]), np.ones((len(DONE), 3))
    for rule in (rules.bilinear_ridge, rules.kernel_ridge, rules.nearest):
        np.testing.assert_allclose(rule(given, np.array([3]), flat), rules.mean(given, np.array([3])), atol=1e-9)


def test_ridge_on_features_is_the_textbook_solution_on_the_components_of_effects() -> None:
    given, asked = table([0, 1, 2, 4, 5]), np.array([3, 6])
    x, y = FEATURES[given.train], given.effect[given.train]
    x, centre, mean = x - x.mean(axis=0), x.mean(axis=0), y.mean(axis=0)
    textbook = np.linalg.solve(x.T @ x + rules.PENALTY * np.eye(3), x.T @ (y - mean))
    expected = mean + (FEATURES[asked] - centre) @ textbook
    np.testing.assert_allclose(given.told(rules.bilinear_ridge(given, asked, FEATURES)), expected, atol=1e-9)


def test_the_nearest_three_are_those_of_the_features() -> None:
    given = table([0, 1, 2, 4, 5])
    far = ((FEATURES[3] - FEATURES[[0, 1, 2, 4, 5]]) ** 2).sum(axis=1)
    expected = np.array([0, 1, 2, 4, 5])[np.argsort(far)[:3]]
    assert weighed(rules.nearest(given, np.array([3]), FEATURES)[0]) == sorted(expected.tolist())
