"""Linear rules for classes against their closed forms, and their limits."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.operators.logistic import (
    COUNTED,
    MEAN_NODES,
    cross_fitted,
    discriminants,
    fit_discriminant,
    fit_logistic,
    halves,
    mixed,
    nearest_means,
    regressions,
)
from aivc_graph.operators.measured import mean_there, measured_alike

PRIOR = np.array([0.5, 0.3, 0.2])
CENTRES = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 0.8]])


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features (row, 2) of normal classes with one covariance, and their classes (row,)."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n, p=PRIOR)
    return CENTRES[y] + rng.normal(size=(n, 2)) * [1.0, 0.5], y


def bayes(x: np.ndarray) -> np.ndarray:
    """Return the true log-probability of each class (row, class)."""
    away = (x[:, None] - CENTRES) / [1.0, 0.5]
    logits = np.log(PRIOR) - 0.5 * (away**2).sum(axis=2)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("rule", ["discriminant", "regression"])
def test_both_rules_are_those_of_bayes_where_classes_are_normal(rule: str) -> None:
    x, y = drawn(4_000)
    asked = drawn(200, 1)[0]
    fitted = (
        fit_discriminant(x, y, PRIOR, 0.0) if rule == "discriminant" else fit_logistic(x, y, PRIOR, 1e-5, np.ones(2))
    )
    assert np.abs(np.exp(fitted.log_probability(asked)) - np.exp(bayes(asked))).max() < 0.05
    np.testing.assert_allclose(np.exp(fitted.log_probability(asked)).sum(axis=1), 1.0)


def test_the_regression_is_found_where_features_go_together() -> None:
    """At the optimum the gradient is nothing, and features that say the same share the weight evenly."""
    x, y = drawn(2_000)
    rng = np.random.default_rng(2)
    twins = np.column_stack([x, x[:, :1], x @ rng.normal(size=(2, 20)) + 1e-3 * rng.normal(size=(2_000, 20))])
    scale, penalty = twins.std(axis=0), 1e-4
    found = fit_logistic(twins, y, PRIOR, penalty, scale)
    p = np.exp(found.log_probability(twins))
    gradient = (twins / scale).T @ (p - np.eye(3)[y]) / len(y) + penalty * found.weight * scale[:, None]
    assert np.abs(gradient).max() < 1e-4
    np.testing.assert_allclose(found.weight[0], found.weight[2], rtol=1e-6)


def test_a_large_penalty_leaves_the_prior() -> None:
    x, y = drawn(300)
    told = np.exp(fit_logistic(x, y, PRIOR, 1e6, np.ones(2)).log_probability(x))
    np.testing.assert_allclose(told, np.broadcast_to(PRIOR, told.shape), atol=1e-3)


def test_neither_the_unit_of_a_feature_nor_an_early_start_changes_what_is_told() -> None:
    x, y = drawn(300)
    plain = fit_logistic(x, y, PRIOR, 1e-2, np.ones(2)).log_probability(x)
    unit = np.array([1e-3, 50.0])
    np.testing.assert_allclose(fit_logistic(x * unit, y, PRIOR, 1e-2, unit).log_probability(x * unit), plain, atol=1e-3)
    begun = fit_logistic(x, y, PRIOR, 1e-2, np.ones(2), fit_discriminant(x, y, PRIOR, 0.1))
    np.testing.assert_allclose(begun.log_probability(x), plain, atol=2e-2)


def test_discriminants_turn_with_their_features() -> None:
    x, y = drawn(400)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(2, 2)))[0]
    a, b = (fit_discriminant(one, y, PRIOR, 0.5).log_probability(one) for one in (x, x @ turn))
    np.testing.assert_allclose(a, b, atol=1e-8)


def test_the_nearest_mean_is_told_by_squared_distance_and_frequency_takes_no_part() -> None:
    x, y = drawn(300)
    mean = np.stack(
        [(x[y == c].sum(axis=0) + MEAN_NODES * x.mean(axis=0)) / ((y == c).sum() + MEAN_NODES) for c in range(3)]
    )
    far = ((x[:, None] - mean) ** 2).sum(axis=2)
    within = far[np.arange(300), y].mean()
    sure = []
    for counted, rule in zip(COUNTED, nearest_means(x, y, PRIOR, np.ones(2)), strict=True):
        told = rule.log_probability(x)
        np.testing.assert_allclose(told - told[:, :1], -0.5 * counted / within * (far - far[:, :1]), atol=1e-8)
        assert np.array_equal(told.argmax(axis=1), far.argmin(axis=1))
        sure.append(np.exp(told).max(axis=1).mean())
    assert np.all(np.diff(sure) > 0)
    other = next(nearest_means(x, y, PRIOR[::-1], np.ones(2))).log_probability(x)
    np.testing.assert_allclose(other, next(nearest_means(x, y, PRIOR, np.ones(2))).log_probability(x))


def test_of_families_the_one_that_tells_other_groups_most_is_followed() -> None:
    """Of many classes of few rows that is the nearest mean, and it is no surer than other groups bear out."""
    rng, classes = np.random.default_rng(5), 12
    y = np.tile(np.arange(classes), 8)
    x = 0.5 * rng.normal(size=(classes, 60))[y] + rng.normal(size=(96, 60))
    group, even = np.arange(96) // 24, np.full(classes, 1 / classes)
    families = {"regression": (regressions,), "discriminant": (discriminants,), "nearest": (nearest_means,)}
    told = {name: cross_fitted(x, y, group, even, one)[1] for name, one in families.items()}
    said = {name: np.log(one[np.arange(96), y]).mean() for name, one in told.items()}
    assert max(said, key=said.__getitem__) == "nearest" and said["nearest"] > np.log(1 / classes) + 0.3
    rule, every = cross_fitted(x, y, group, even, (regressions, discriminants, nearest_means))
    np.testing.assert_array_equal(every, told["nearest"])
    steps = [one.log_probability(x) for one in nearest_means(x, y, even, np.ones(60))]
    assert any(np.allclose(rule.log_probability(x), one) for one in steps[1:-1])
    default = cross_fitted(x, y, group, even)[1]
    assert any(np.array_equal(default, told[name]) for name in ("regression", "discriminant"))


def test_what_is_told_of_a_group_was_learnt_from_the_others() -> None:
    x, y = drawn(200)
    group = np.arange(200) // 50
    told = cross_fitted(x, y, group, PRIOR)[1]
    side = halves(group)
    assert {len(set(side[group == one])) for one in range(4)} == {1}  # whole groups
    changed = y.copy()
    changed[side == 0] = 0
    again = cross_fitted(x, changed, group, PRIOR)[1]
    assert not np.allclose(told[side == 1], again[side == 1])
    assert told[np.arange(200), y].mean() > PRIOR[y].mean() + 0.1


def test_without_groups_stretches_of_rows_are_told_by_the_others() -> None:
    side = halves(np.zeros(80, int))
    assert (np.diff(side) != 0).sum() == 3 and side.mean() == 0.5
    sizes = halves(np.repeat([0, 1, 2], [70, 20, 10]))
    assert sorted(np.bincount(sizes)) == [30, 70]  # the largest alone


def test_mixtures_follow_the_better_rule_and_lean_to_what_was_taken_beforehand() -> None:
    rng = np.random.default_rng(3)
    good, poor = rng.uniform(0.6, 0.9, 400), rng.uniform(0.1, 0.4, 400)
    weight = mixed(np.stack([poor, good]))
    assert weight[1] > 0.97 and weight.sum() == pytest.approx(1.0)
    assert mixed(np.stack([good, good]))[0] > 0.65 and mixed(np.stack([good, good]), 1)[1] > 0.65
    both = np.stack([np.where(np.arange(400) % 2, 0.9, 0.1), np.where(np.arange(400) % 2, 0.1, 0.9)])
    assert mixed(both) == pytest.approx([0.5, 0.5], abs=0.02)


def test_means_and_blocks_of_what_rows_have() -> None:
    rng = np.random.default_rng(4)
    values, there = rng.normal(size=(30, 6)), rng.random((30, 6)) < 0.7
    there[:, 3] = there[:, 1]
    there[:, 5] = False
    holes = np.where(there, values, np.nan)
    np.testing.assert_allclose(mean_there(values, there)[:5], np.nanmean(holes[:, :5], axis=0))
    assert mean_there(values, there)[5] == 0.0
    np.testing.assert_allclose(mean_there(values, None), values.mean(axis=0))
    blocks = measured_alike(there)
    assert sorted(column for _, columns in blocks for column in columns) == list(range(6))
    assert any({1, 3} <= set(columns.tolist()) for _, columns in blocks)
    for rows, columns in blocks:
        assert there[np.ix_(rows, columns)].all() and not np.delete(there, rows, axis=0)[:, columns].any()
    ((rows, columns),) = measured_alike(np.ones((4, 3), bool))
    assert rows.tolist() == [0, 1, 2, 3] and columns.tolist() == [0, 1, 2]
