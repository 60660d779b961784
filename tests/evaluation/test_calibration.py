"""Scores of intervals and of distributions against integration, hand-worked values and planted miscalibration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from aivc_graph.evaluation.metrics.distribution import central, crps_draws
from aivc_graph.evaluation.metrics.metric import METRICS, metric
from aivc_graph.evaluation.selective import risk_coverage

OF_DRAWS = ("crps", "pit_chi_square", "coverage_50", "coverage_80", "coverage_90", "coverage_95")


def value(name: str, predicted: np.ndarray, measured: np.ndarray, section: np.ndarray | None = None) -> float:
    judge, groups = metric(name), np.arange(len(measured)) % 3
    section = np.zeros(len(measured), int) if section is None else section
    return judge.value(judge.statistics(predicted, measured, groups, 3, section).sum(axis=0))


def drawn(n: int, spread: float = 1.0, bias: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return 400 draws for each of n values of a normal, and the values, in two columns."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(n, 1, 2))
    return mean + bias + spread * rng.normal(size=(n, 400, 2)), mean[:, 0] + rng.normal(size=(n, 2))


@pytest.mark.parametrize(("mean", "sd", "y"), [(0.0, 1.0, 0.3), (2.0, 0.5, -1.0), (-1.0, 3.0, 4.0)])
def test_crps_of_a_normal_is_its_integral(mean: float, sd: float, y: float) -> None:
    def squared(x: float) -> float:
        return (stats.norm.cdf(x, mean, sd) - (x >= y)) ** 2

    ends = (mean - 12 * sd, y, mean + 12 * sd)
    whole = sum(integrate.quad(squared, a, b)[0] for a, b in itertools.pairwise(ends))
    levels = (np.arange(4000) + 0.5) / 4000
    draws = stats.norm.ppf(levels, mean, sd)[None]
    assert crps_draws(draws, np.array([y]))[0] == pytest.approx(whole, rel=2e-3)


def test_crps_by_hand() -> None:
    # |0 - 1| and |4 - 1| have mean 2; of the four pairs two differ, by 4: half their mean is 1.
    assert crps_draws(np.array([[0.0, 4.0]]), np.array([1.0])).tolist() == [1.0]
    assert crps_draws(np.array([[3.0]]), np.array([1.0])).tolist() == [2.0]


def test_what_is_calibrated_is_found_so_and_what_is_not_is_not() -> None:
    draws, measured = drawn(2000)
    for level in (50, 80, 90, 95):
        assert value(f"coverage_{level}", draws, measured) == pytest.approx(level / 100, abs=0.015)
        assert METRICS.facts[f"coverage_{level}"]["best"] == level / 100
    assert value("pit_chi_square", draws, measured) < 0.01
    for spread, bias in ((0.5, 0.0), (2.0, 0.0), (1.0, 1.0)):
        worse, _ = drawn(2000, spread, bias)
        assert value("pit_chi_square", worse, measured) > 0.1
        assert value("crps", worse, measured) > value("crps", draws, measured) + 0.02
    assert value("coverage_90", drawn(2000, 0.5)[0], measured) < 0.65


def test_counts_with_ties_are_spread_over_their_place() -> None:
    rng = np.random.default_rng(1)
    draws, measured = rng.poisson(0.7, (4000, 300, 1)).astype(float), rng.poisson(0.7, (4000, 1)).astype(float)
    assert value("pit_chi_square", draws, measured) < 0.01
    assert value("pit_chi_square", draws + 1, measured) > 0.5


@pytest.mark.parametrize("mean", [0.05, 0.7, 30.0])
def test_intervals_of_counts_hold_what_they_say(mean: float) -> None:
    rng = np.random.default_rng(2)
    draws, measured = rng.poisson(mean, (4000, 300, 1)), rng.poisson(mean, (4000, 1))
    for level in (50, 80, 90, 95):
        assert value(f"coverage_{level}", draws, measured) == pytest.approx(level / 100, abs=0.02)
    # Of two draws below, four alike and two above, the place of these is [1/4, 3/4]: all of it is central.
    one = np.array([[0, 0, 1, 1, 1, 1, 2, 2]])[..., None]
    assert [value("coverage_50", one, np.array([[y]])) for y in (0, 1, 2)] == [0.0, 1.0, 0.0]
    assert value("coverage_80", one, np.array([[2]])) == pytest.approx((0.9 - 0.75) / 0.25)


def test_values_rounded_differently_are_still_tied() -> None:
    rng = np.random.default_rng(3)
    draws, measured = (np.log1p(rng.poisson(0.7, size) * 3.7) for size in ((2000, 99, 1), (2000, 1)))
    rounded = measured + 1e-7 * rng.choice([-1, 1], measured.shape)
    for name in ("pit_chi_square", "coverage_50"):
        assert value(name, draws, rounded) == pytest.approx(value(name, draws, measured))


def test_pit_of_the_extremes_by_hand() -> None:
    draws = np.arange(10.0)[None, :, None].repeat(2, axis=0)
    # Both above every draw: all in the last tenth. (1 - 0.1)² x 10 + 9 x 0.1² x 10 = 9.
    assert value("pit_chi_square", draws, np.array([[99.0], [99.0]])) == pytest.approx(9.0)
    assert value("pit_chi_square", draws, np.array([[-1.0], [-1.0]])) == pytest.approx(9.0)


def test_interval_score_by_hand_and_least_at_the_true_quantiles() -> None:
    bounds = np.array([[0.0, 2.0]] * 3)
    assert [value("winkler_90", bounds[:1], np.array([y])) for y in (1.0, -0.5, 3.0)] == [2.0, 12.0, 22.0]
    measured = np.random.default_rng(2).normal(size=20_000)
    scores = {w: value("winkler_90", np.tile([-w, w], (20_000, 1)), measured) for w in (1.2, 1.645, 2.2)}
    assert min(scores, key=scores.__getitem__) == 1.645


def test_the_worst_group_is_the_section_covered_least() -> None:
    section = np.repeat([0, 1, 3], 10)
    measured = np.where(section == 1, np.arange(30) % 2, 0.0)
    bounds = np.tile([-0.5, 0.5], (30, 1))
    assert value("worst_group_coverage", bounds, measured, section) == 0.5
    assert value("coverage", bounds, measured, section) == pytest.approx(25 / 30)


def test_every_metric_states_its_facts() -> None:
    metric("crps")
    for name in (*OF_DRAWS, "winkler_90", "worst_group_coverage"):
        facts = METRICS.facts[name]
        assert {"formula", "best", "higher_is_better", "reference", "weakness"} == set(facts)
        assert "doi:10." in str(facts["reference"])


def test_central_holds_its_share() -> None:
    draws = np.arange(101.0)[None]
    np.testing.assert_allclose(central(draws, 0.9), [[5.0, 95.0]])


def test_withholding_the_unsure_helps_only_who_knows() -> None:
    rng = np.random.default_rng(3)
    error = np.abs(rng.normal(size=500))
    knows, guesses = risk_coverage(error, error), risk_coverage(error, rng.random(500))
    assert knows.area == pytest.approx(knows.best) and knows.area < 0.6 * guesses.area
    assert guesses.area == pytest.approx(guesses.chance, rel=0.2) and knows.risk[-1] == pytest.approx(error.mean())
    flat = risk_coverage(error, np.zeros(500))
    np.testing.assert_allclose(flat.risk, error.mean())
    # By hand: most certain first 0, 2, 1 → means 0, 1, 1.
    assert risk_coverage(np.array([2.0, 0.0, 1.0]), np.array([1.0, 0.0, 2.0])).area == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="as many of both"):
        risk_coverage(error, error[:3])
