"""Risk by hand on known scores: the scale, what is left out and why, groups, weights, and runs that reversed order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from aivc_graph.evaluation.intervals import Halves, Units, estimate
from aivc_graph.evaluation.inversions import inversions_of
from aivc_graph.evaluation.metrics.metric import metric
from aivc_graph.evaluation.records import AXES
from aivc_graph.evaluation.risk import NOT_EVALUATED, risk_of, scale_of
from aivc_graph.evaluation.scoring import Scored, judge, results_of, units_of_scores
from aivc_graph.evaluation.settings import EvaluationConfig
from aivc_graph.evaluation.weighing import cvar, similarity_curve, weight_sensitivity

ALIKE = dict.fromkeys(AXES, 1.0)
UNITS = Units(np.repeat(np.arange(6), 10), "donor", np.repeat(np.arange(6), 10), tuple("abcdef"))
TRUE = np.random.default_rng(0).normal(size=(60, 3))


def task(model: float, rule: float = 1.0, **changes: object) -> Scored:
    """Return a task whose model is off by `model` everywhere, and whose mean rule by `rule`; the ceiling is perfect."""
    made = Scored(
        task="t",
        axis="scale",
        split="test",
        scale="cell",
        modality="rna",
        readout="genes",
        measured=TRUE,
        model=TRUE + model,
        baselines={"global_mean": TRUE + rule, "ridge": TRUE + rule / 2},
        metrics=("rmse_log",),
        units=UNITS,
        leakage=0.0,
        ceilings={"truth": TRUE},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_scale_runs_from_the_ceiling_to_the_mean_rule() -> None:
    found = risk_of(judge([task(0.25)]), ALIKE)
    assert found["scale"]["value"] == pytest.approx(0.25) and found["total"]["value"] == pytest.approx(0.25)
    (score,) = found["scale"]["scores"]
    assert (score["floor"], score["ceiling"], score["b"], score["r"]) == ("global_mean", "truth", 1.0, 0.0)
    assert found["predictors"] == {"model": 0.25, "global_mean": 1.0, "ridge": 0.5, "best baseline": 0.5}
    assert [found[axis] for axis in ("modality", "context", "intervention")] == [NOT_EVALUATED] * 3
    assert found["weights"] == {"scale": 1.0}
    up = task(0.0, metrics=("pearson_by_gene",), baselines={"global_mean": np.zeros_like(TRUE)})
    assert risk_of(judge([up]), ALIKE)["scale"]["value"] == pytest.approx(0.0)


def test_what_is_far_off_is_clipped_and_kept_as_it_was() -> None:
    found = risk_of(judge([task(7.0)]), ALIKE)
    assert found["total"]["value"] == 3.0 and found["total"]["unclipped"] == pytest.approx(7.0)
    assert (found["scale"]["scores"][0]["risk"], found["scale"]["scores"][0]["unclipped"]) == (3.0, 7.0)


def test_a_score_without_scale_says_why_and_takes_no_part() -> None:
    bare = task(0.2, task="bare", axis="context", ceilings={}, no_ceiling="nobody measured it twice")
    noisy = task(0.2, task="noisy", axis="modality", ceilings={"split_half": TRUE + 2.0})
    found = risk_of(judge([bare, noisy, task(0.5)]), ALIKE)
    assert found["context"]["value"] is None and found["context"]["reason"] == "nobody measured it twice"
    assert "no better than the mean rule" in found["modality"]["reason"]
    assert found["total"]["value"] == pytest.approx(0.5) and set(found["weights"]) == {"scale"}
    alone = risk_of(judge([bare]), ALIKE)
    assert alone["total"]["value"] is None and "floor and ceiling" in alone["total"]["reason"]


def test_axes_are_weighed_and_the_worst_is_named() -> None:
    tasks = [task(0.2), task(0.8, task="u", axis="context"), task(0.4, task="v", axis="context")]
    even = risk_of(judge(tasks), ALIKE)
    assert even["total"]["value"] == pytest.approx((0.2 + 0.6) / 2) and even["worst_axis"]["axis"] == "context"
    uneven = risk_of(judge(tasks), {"scale": 3.0, "context": 1.0, "modality": 5.0})
    assert uneven["weights"] == {"scale": 0.75, "context": 0.25} and uneven["total"]["value"] == pytest.approx(0.3)


def test_many_scores_of_one_task_weigh_as_one_task() -> None:
    tasks = [task(0.2, readout=f"r{i}") for i in range(5)] + [task(0.8, task="u")]
    assert risk_of(judge(tasks), ALIKE)["total"]["value"] == pytest.approx(0.5)


def test_more_metrics_of_one_readout_make_it_weigh_no_more() -> None:
    many = task(0.2, readout="a", metrics=("rmse_log", "rmse", "rmse_effect"))
    assert risk_of(judge([many, task(0.8, readout="b")]), ALIKE)["total"]["value"] == pytest.approx(0.5)


def test_a_bad_donor_is_seen_in_the_tail_and_the_interval() -> None:
    off = np.where(UNITS.code == 2, 1.5, 0.1)[:, None]
    found = risk_of(judge([replace(task(0.0), model=TRUE + off)]), ALIKE)
    # The worst fifth of six donors: all of the bad one, and a fifth of the next.
    assert found["cvar_0.2"]["value"] == pytest.approx((1.5 / 6 + 0.1 * (0.2 - 1 / 6)) / 0.2, rel=1e-4)
    assert found["total"]["lower"] < found["total"]["value"] < found["total"]["upper"]
    (one,) = units_of_scores(judge([replace(task(0.0), model=TRUE + off)]))
    assert one.names == tuple("abcdef") and one.values["model"][2] == pytest.approx(1.5)


def test_tail_mean_by_hand() -> None:
    assert cvar(np.array([1.0, 4.0, 2.0]), np.array([1.0, 1.0, 2.0]), 0.5) == pytest.approx(3.0)
    assert cvar(np.array([1.0, 2.0]), np.ones(2), 1.0) == pytest.approx(1.5)


def test_risk_falls_with_likeness() -> None:
    likeness = np.linspace(0.5, 1.0, 11)
    found = similarity_curve(2.0 - likeness, likeness)
    assert found["slope"] == pytest.approx(-1.0) and found["at_0"] == pytest.approx(2.0)
    np.testing.assert_allclose(found["risk"], 2.0 - likeness, atol=1e-6)
    assert similarity_curve(likeness, np.full(11, np.nan))["value"] is None
    rising = similarity_curve(likeness, likeness)
    np.testing.assert_allclose(rising["risk"], likeness.mean(), atol=1e-6)  # never rises


def test_weights_decide_only_where_axes_disagree() -> None:
    agreed = {"model": {"a": 0.1, "b": 0.2}, "rule": {"a": 0.5, "b": 0.6}}
    assert weight_sensitivity(agreed, {"a": 0.5, "b": 0.5})["rank_stability"] == 1.0
    crossed = {"model": {"a": 0.0, "b": 1.0}, "rule": {"a": 0.4, "b": 0.6}}
    found = weight_sensitivity(crossed, {"a": 0.6, "b": 0.4})
    assert found["rank_stability"] == pytest.approx(0.5, abs=0.05) and found["lower"] < 0.1 < 0.9 < found["upper"]
    assert weight_sensitivity({"model": {"a": 1.0}}, {"a": 1.0})["rank_stability"] is None


def test_halves_of_a_measurement_find_the_reliability_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    true, n = rng.normal(size=(4000, 3)), 4000
    units = Units(np.arange(n) % 8, "donor", np.zeros(n, int))
    whole = [true + rng.normal(size=true.shape) for _ in range(2)]
    halves = Halves(*(true + np.sqrt(2) * rng.normal(size=true.shape) for _ in range(2)))
    for name in ("pearson_by_gene", "rmse_log"):
        expected = estimate(metric(name), whole[0], whole[1], units).value
        assert estimate(metric(name), halves, whole[0], units).value == pytest.approx(expected, rel=0.05), name
    apart = Halves(rng.normal(size=true.shape), -halves.one)
    assert np.isfinite(estimate(metric("rmse_log"), apart, true, units).value)
    assert np.isnan(estimate(metric("ari"), Halves(np.zeros(4000, int), np.zeros(4000, int)), true, units).value)


def test_a_floor_that_says_nothing_gives_way() -> None:
    (one,) = judge([task(0.1, metrics=("pearson_by_gene",), baselines={"ridge": TRUE * 0 + 1.0, "z": TRUE})])
    assert scale_of(one).floor == "z"


def test_orders_that_disagree_are_listed() -> None:
    tasks = [
        task(
            0.9,
            # Shifted everywhere: a large error and a perfect correlation; half the truth: the other way round.
            baselines={
                "global_mean": np.zeros_like(TRUE),
                "noisy": TRUE + 0.3 * np.random.default_rng(2).normal(size=(60, 3)),
            },
            metrics=("rmse_log", "pearson_by_gene"),
        )
    ]
    (row,) = inversions_of(results_of(judge(tasks)))
    assert row["error"] == ["genes", "rmse_log"] and row["readout"] == ["genes", "pearson_by_gene"]
    assert row["pairs"] == 3 and {"better_by_error": "noisy", "better_by_readout": "model"} in row["inverted"]


def test_errors_in_other_terms_are_held_against_the_first() -> None:
    rules = {"global_mean": TRUE * 0, "noisy": TRUE + 0.3}
    # In terms of the sum, what is far off gene by gene comes out right.
    balanced = replace(task(0.0, baselines=rules), model=TRUE + np.array([2.0, -1.0, -1.0]))
    sums = {who: values.sum(axis=1, keepdims=True) for who, values in rules.items()}
    summed = task(0.0, readout="sum", metrics=("rmse",), measured=TRUE.sum(axis=1, keepdims=True), baselines=sums)
    summed = replace(summed, model=summed.measured, ceilings={})
    (row,) = inversions_of(results_of(judge([balanced, summed])))
    assert row["error"] == ["genes", "rmse_log"] and row["readout"] == ["sum", "rmse"]
    assert {"better_by_error": "noisy", "better_by_readout": "model"} in row["inverted"]


@pytest.mark.parametrize(
    ("weights", "said"),
    [({"scale": -1.0}, "no number from 0"), ({"scale": 0.0}, "all weights are 0"), ({"scal": 1.0}, "scal")],
)
def test_weights_that_weigh_nothing_are_refused(weights: dict[str, float], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EvaluationConfig(weights=weights)
    assert EvaluationConfig().weights == ALIKE


def test_a_score_of_few_units_is_held_and_said_to_be() -> None:
    few = Units(np.repeat([0, 1], 30), "section", np.repeat([0, 1], 30))
    off = 0.3 * np.random.default_rng(3).random((60, 1))
    tasks = [replace(task(0.0), model=TRUE + off), task(0.4, task="u", axis="context", units=few)]
    found = risk_of(judge(tasks), ALIKE)
    assert found["context"]["lower"] is None and "too few units" in found["context"]["interval"]
    assert (
        found["total"]["interval"].startswith("1 of 2 scores held")
        and found["total"]["lower"] < found["total"]["upper"]
    )
