"""Metrics against independent implementations and hand-worked values; perfect is best, shuffled is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import pearsonr
from sklearn.metrics import adjusted_rand_score, f1_score

from aivc_graph.evaluation.metrics.metric import METRICS, metric

N = 120
RNG = np.random.default_rng(0)
SECTION = np.repeat([0, 1, 2], N // 3)
VALUES = RNG.normal(size=(N, 6)) + SECTION[:, None]
SHARES = RNG.dirichlet(np.ones(5), N)
CLASSES = RNG.integers(0, 4, N)
TRUE_OF = {
    "pearson_by_gene": VALUES,
    "rmse_log": VALUES,
    "rmse": VALUES,
    "foscttm": VALUES,
    "rmse_effect": VALUES,
    "pearson_delta": VALUES,
    "effect_sign": VALUES,
    "registration_um": VALUES[:, :2],
    "jsd": SHARES,
    "rmse_shares": SHARES,
    "ari": CLASSES,
    "macro_f1": CLASSES,
}


def value(name: str, predicted: np.ndarray, measured: np.ndarray) -> float:
    """Return a metric over all rows, its statistics summed over arbitrary groups."""
    judge = metric(name)
    groups = np.random.default_rng(1).integers(0, 7, len(measured))
    return judge.value(judge.statistics(predicted, measured, groups, 7, np.zeros(len(measured), int)).sum(axis=0))


@pytest.mark.parametrize("name", sorted(TRUE_OF))
def test_perfect_is_best_and_shuffled_is_worse(name: str) -> None:
    facts, true = METRICS.facts[name], TRUE_OF[name]
    assert value(name, true, true) == pytest.approx(facts["best"], abs=1e-7)
    shuffled = value(name, true[np.random.default_rng(2).permutation(N)], true)
    assert shuffled < facts["best"] - 0.05 if facts["higher_is_better"] else shuffled > 0.05


def test_every_metric_states_its_facts() -> None:
    metric("ari")
    assert {*TRUE_OF, "coverage"} <= set(METRICS)
    for name in METRICS:
        assert {"formula", "best", "higher_is_better", "reference", "weakness"} == set(METRICS.facts[name]) - {"chance"}


def test_correlation_is_that_of_scipy_gene_by_gene() -> None:
    predicted = VALUES + RNG.normal(size=VALUES.shape)
    expected = np.mean([pearsonr(predicted[:, g], VALUES[:, g])[0] for g in range(6)])
    assert value("pearson_by_gene", predicted, VALUES) == pytest.approx(expected)
    constant = predicted.copy()
    constant[:, 0] = 3.0
    expected = np.sum([pearsonr(predicted[:, g], VALUES[:, g])[0] for g in range(1, 6)]) / 6
    assert value("pearson_by_gene", constant, VALUES) == pytest.approx(expected)


def test_divergence_is_that_of_scipy() -> None:
    predicted = RNG.dirichlet(np.ones(5), N)
    expected = np.mean([jensenshannon(p, q, base=2) for p, q in zip(predicted, SHARES, strict=True)])
    assert value("jsd", predicted, SHARES) == pytest.approx(expected)
    assert value("jsd", np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])) == pytest.approx(1.0)


def test_partitions_are_compared_as_by_scikit_learn() -> None:
    found = np.where(RNG.random(N) < 0.4, RNG.integers(0, 6, N), CLASSES)
    assert value("ari", found, CLASSES) == pytest.approx(adjusted_rand_score(CLASSES, found))
    assert value("ari", np.zeros(N, int), CLASSES) == 0.0
    same = np.where(RNG.random(N) < 0.4, RNG.integers(0, 4, N), CLASSES)
    assert value("macro_f1", same, CLASSES) == pytest.approx(f1_score(CLASSES, same, average="macro"))


def test_effects_by_hand() -> None:
    true = np.array([[2.0, -2.0, 0.01, 0.0]])
    assert value("effect_sign", np.array([[1.0, 3.0, -9.0, 1.0]]), true) == 0.5
    assert value("effect_sign", np.zeros((1, 4)), true) == 0.0
    assert value("pearson_delta", np.zeros((1, 4)), true) == -1.0
    assert value("pearson_delta", 3 * true, true) == pytest.approx(1.0)
    assert np.isnan(value("pearson_delta", true, np.zeros((1, 4))))
    assert value("rmse_effect", np.zeros((1, 4)), true) == pytest.approx(np.sqrt((8 + 1e-4) / 4))


def test_points_a_shift_away_are_wrong_by_that_shift() -> None:
    assert value("registration_um", VALUES[:, :2] + [3.0, 4.0], VALUES[:, :2]) == pytest.approx(5.0)


def test_coverage_counts_what_lies_inside() -> None:
    bounds = np.array([[0.0, 1.0], [0.0, 1.0], [np.nan, np.nan], [2.0, 3.0]])
    assert value("coverage", bounds, np.array([0.5, 1.0, 0.0, 5.0])) == 0.5
