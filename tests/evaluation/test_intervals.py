"""Intervals resample whole units, hold what they promise, and are withheld where units are few."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.evaluation.intervals import Units, estimate, holm, p_of_difference, resampled, units_of
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
    assert a.draws is not None and b.draws is not None
    assert p_of_difference(a.draws - a.draws) == 1.0 and p_of_difference(a.draws - b.draws) < 0.01


def test_holm_by_hand() -> None:
    one = ["a"] * 4
    assert holm([0.01, None, 0.04, 0.03], one) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.9, 0.8], one[:2]) == [1.0, 1.0]
    assert holm([0.01, 0.02, 0.03], ["a", "b", "a"]) == [pytest.approx(0.02), 0.02, pytest.approx(0.03)]
