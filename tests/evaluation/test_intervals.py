"""Intervals resample whole units, hold what they promise, and are withheld where units are few."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.evaluation.intervals import Estimate, Units, estimate, holm, interval, resampled, units_of
from aivc_graph.evaluation.metrics.metric import metric


def names_of(n: int, each: int) -> np.ndarray:
    return np.repeat([f"d{i}" for i in range(n)], each)


def test_the_widest_unit_there_are_five_of_is_resampled() -> None:
    pos = np.random.default_rng(0).random((80, 2)) * 1000
    for donors, sections, expected in ((8, 16, "donor"), (2, 8, "section"), (2, 4, "block"), (1, 1, "block")):
        units = units_of(names_of(donors, 80 // donors), names_of(sections, 80 // sections), pos)
        assert units.name == expected and units.n >= 5
    block = units_of(names_of(1, 80), names_of(2, 40), pos)
    assert all(len(np.unique(block.section[block.code == code])) == 1 for code in range(block.n))


def test_few_units_have_no_interval() -> None:
    units = units_of(names_of(2, 20), names_of(4, 10))
    assert (units.name, units.n) == ("section", 4) and resampled(units) is None
    found = estimate(metric("rmse_log"), np.zeros((40, 2)), np.ones((40, 2)), units)
    assert found.value == 1.0 and found.bounds() == (None, None)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        effect = np.repeat(rng.normal(0, 1.0, 20), 10)
        measured = (effect + rng.normal(0, 0.3, 200))[:, None]
        units = units_of(names_of(20, 10), names_of(20, 10))
        low, high = estimate(metric("coverage"), np.array([[[-9.0], [0.0]]] * 200), measured, units).bounds()
        covered += low <= 0.5 <= high
    assert 0.88 < covered / 200 < 0.99
    # Nodes of a donor are alike: resampled one by one, the interval would be far too narrow.
    alone = Units(np.arange(200), "node", np.zeros(200, int))
    wide = np.diff(estimate(metric("coverage"), np.array([[[-9.0], [0.0]]] * 200), measured, units).bounds())
    narrow = np.diff(estimate(metric("coverage"), np.array([[[-9.0], [0.0]]] * 200), measured, alone).bounds())
    assert wide > 1.8 * narrow


def test_a_metric_within_sections_ignores_how_sections_differ() -> None:
    rng = np.random.default_rng(2)
    section = np.repeat(np.arange(6), 50)
    measured = rng.normal(size=(300, 3)) + 10 * section[:, None]
    units = Units(section, "section", section)
    between = np.repeat(10.0 * section[:, None], 3, axis=1) + rng.normal(size=(300, 3))
    assert abs(estimate(metric("pearson_by_gene"), between, measured, units).value) < 0.2
    assert estimate(metric("pearson_by_gene"), 2 * measured + 1, measured, units).value == pytest.approx(1.0)


def test_equal_answers_have_no_difference_and_clear_ones_do() -> None:
    rng = np.random.default_rng(3)
    measured = rng.normal(size=(200, 2))
    units = units_of(names_of(10, 20), names_of(10, 20))
    a, b = (estimate(metric("rmse_log"), p, measured, units) for p in (measured + 0.1, measured + 0.5))
    assert (a - a).p_of_none() == 1.0 and (a - b).p_of_none() < 0.01
    low, high = (a - b).bounds()
    assert low <= (a - b).value == a.value - b.value <= high < 0


@pytest.mark.parametrize("n", [5, 6, 8, 12, 30])
def test_few_units_are_covered_as_often_as_many(n: int) -> None:
    rng = np.random.default_rng(n)
    weights = resampled(Units(np.arange(n), "donor", np.zeros(n, int)))
    assert weights is not None
    covered, wrong, times = 0, 0, 1500
    for differences in rng.normal(size=(times, n)):
        draws = weights @ differences / n
        low, high = interval(draws, n, 0.9)
        covered += low <= 0 <= high
        wrong += Estimate(float(differences.mean()), draws, differences).p_of_none() < 0.1
    assert 0.87 < covered / times < 0.93 and 0.07 < wrong / times < 0.13


def test_an_interval_of_a_share_stays_a_share() -> None:
    weights = resampled(Units(np.arange(6), "donor", np.zeros(6, int)))
    low, high = interval(weights @ np.array([1, 1, 1, 1, 1, 0.4]) / 6, 6)
    assert 0.4 <= low < 0.8 and high == 1.0


def test_holm_by_hand() -> None:
    one = ["a"] * 4
    assert holm([0.01, None, 0.04, 0.03], one) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.9, 0.8], one[:2]) == [1.0, 1.0]
    assert holm([0.01, 0.02, 0.03], ["a", "b", "a"]) == [pytest.approx(0.02), 0.02, pytest.approx(0.03)]
