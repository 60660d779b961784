"""Effect, interval and p are of one thing: they cover what is true and agree; of nothing they say nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aivc_graph.operators.intervention.effect_rows import effects_of
from aivc_graph.query.effect_columns import effect_columns, error_of_shares
from tests.operators.test_fit_interventions import PLAN
from tests.operators.test_joint_effects import COMPONENTS, DONORS, study


def told(seed: int, effect: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return what is told of an intervention of a simulated study (component, molecule), and its true effects."""
    rows, true = study(seed, effect)
    found = effects_of(rows, PLAN)
    copies = np.stack([one.mean[0] + one.departure[0] for one in (found.whole, *found.not_shrunken)])
    none = np.zeros(copies.shape[1:])
    return effect_columns(none, copies, none, found.whole.error[0], DONORS, np.ones(COMPONENTS, bool)), np.broadcast_to(
        true[0], none.shape
    )


@pytest.mark.parametrize("effect", [0.1, 0.25, 1.0])
def test_the_true_effect_lies_inside_as_often_as_is_said_whatever_its_size(effect: float) -> None:
    inside, answers, errors = [], [], []
    for seed in range(12):
        found, true = told(seed, effect)
        inside.append((found["lower"] <= true) & (true <= found["upper"]))
        answers.append(true != 0)
        errors.append([((found[name] - true) ** 2).mean() for name in ("shrunken", "estimate")])
    covered, answer = np.array(inside), np.array(answers)
    assert 0.92 < covered.mean() < 0.975 and 0.9 < covered[answer].mean() < 0.99
    shrunken, estimate = np.mean(errors, axis=0)
    assert shrunken < 0.5 * estimate


@pytest.mark.parametrize("effect", [0.25, 1.0])
def test_the_predicted_effect_lies_where_it_says_of_all_and_of_those_it_tells_of(effect: float) -> None:
    inside, tells, width = [], [], []
    for seed in range(12):
        found, true = told(seed, effect)
        inside.append((found["shrunken_lower"] <= true) & (true <= found["shrunken_upper"]))
        tells.append(np.abs(found["shrunken"]) > 0.1)
        width.append(found["shrunken_upper"] - found["shrunken_lower"])
    covered, tell, wide = np.array(inside), np.array(tells), np.array(width)
    assert covered.mean() > 0.94 and covered[tell].mean() > 0.88
    assert wide[~tell].mean() < 0.5 * wide[tell].mean()  # of what does nothing hardly anything is left open


def test_what_is_not_known_of_one_is_not_known_of_the_share_of_another() -> None:
    rng = np.random.default_rng(0)
    share, error = rng.dirichlet(np.full(5, 2.0), size=3), rng.uniform(0.0, 0.1, (3, 5))
    error[:, 0] = 0.0
    drawn = share * np.exp(error * rng.normal(size=(20_000, 3, 5)))
    spread = np.log(drawn / drawn.sum(axis=-1, keepdims=True)).std(axis=0)
    np.testing.assert_allclose(error_of_shares(share, error), spread, rtol=0.05)
    assert (spread[:, 0] > 0.005).all()


def test_moderated_intervals_keep_what_they_say_and_find_more() -> None:
    rng, donors, genes = np.random.default_rng(0), 5, 400
    level = np.exp(rng.normal(0, 1.5, genes))
    true = np.where(np.arange(genes) < 40, 1.5, 0.0) * level**0.8
    found: dict[str, list[np.ndarray]] = {"raw": [], "moderated": []}
    for _ in range(30):
        spread = 0.5 * level**0.8 * np.exp(rng.normal(0, 0.2, genes))
        by_donor = true + spread * rng.normal(size=(donors, genes))
        left_out = (by_donor.sum(axis=0) - by_donor) / (donors - 1)
        copies = level + np.stack([by_donor.mean(axis=0), by_donor.mean(axis=0), *left_out])[:, None]
        for name, given in (("raw", None), ("moderated", level[None])):
            one = effect_columns(
                level[None], copies, np.zeros((1, genes)), np.zeros((1, genes)), donors, np.ones(1, bool), given
            )
            found[name].append(np.stack([one["p"][0], (one["lower"] <= true)[0] & (true <= one["upper"])[0]]))
    raw, moderated = (np.array(found[name]) for name in ("raw", "moderated"))
    assert moderated[:, 1].mean() == pytest.approx(0.95, abs=0.01) == raw[:, 1].mean()
    assert (moderated[:, 0, 40:] < 0.05).mean() == pytest.approx(0.05, abs=0.01)
    power = [(one[:, 0, :40] < 0.001).mean() for one in (raw, moderated)]
    assert power[1] > 0.9 > 0.5 > power[0]


def test_few_genes_are_not_moderated() -> None:
    rng = np.random.default_rng(1)
    untreated, error = np.exp(rng.normal(size=(1, 40))), np.zeros((1, 40))
    copies = untreated + rng.normal(size=(7, 1, 40))
    plain = effect_columns(untreated, copies, error, error, 5, np.ones(1, bool))
    few = effect_columns(
        untreated[:, :20], copies[..., :20], error[:, :20], error[:, :20], 5, np.ones(1, bool), untreated[:, :20]
    )
    many = effect_columns(untreated, copies, error, error, 5, np.ones(1, bool), untreated)
    np.testing.assert_array_equal(few["upper"], plain["upper"][:, :20])
    assert np.abs(many["upper"] - plain["upper"]).max() > 0.1


def test_estimate_interval_and_p_are_of_one_thing() -> None:
    found, true = told(3, 0.4)
    assert ((found["lower"] <= found["estimate"]) & (found["estimate"] <= found["upper"])).all()
    excludes = (found["lower"] > 0) | (found["upper"] < 0)
    np.testing.assert_array_equal(excludes, found["p"] < 0.05)
    assert (found["p"] < 0.05)[true == 0].mean() < 0.08
    assert np.abs(found["shrunken"]).sum() < np.abs(found["estimate"]).sum()


def test_the_middle_is_the_estimate_and_not_the_mean_of_what_is_left_when_donors_are_left_out() -> None:
    copies = np.array([0.0, 4.0, *(3.0, 3.0, 3.0, 3.0, 6.0)])[:, None, None]
    found = {name: float(one[0, 0]) for name, one in effect_columns(*_alone(copies)).items()}
    assert (found["lower"] + found["upper"]) / 2 == pytest.approx(4.0) == pytest.approx(found["estimate"])
    spread = np.sqrt(4 / 5 * np.sum((np.array([3, 3, 3, 3, 6]) - 3.6) ** 2))
    assert found["upper"] - found["estimate"] == pytest.approx(2.776445 * spread, rel=1e-5)


def test_what_is_not_reached_does_not_change_for_sure() -> None:
    copies = np.zeros((7, 2, 3))
    copies[2:, 0] = np.random.default_rng(0).normal(size=(5, 3))
    untreated, error = np.ones((2, 3)), np.full((2, 3), 0.1)
    found = effect_columns(untreated, copies + untreated, error, error, 5, np.array([True, False]))
    assert (found["lower"][0] < 0).all() and (found["upper"][0] > 0).all() and (found["p"][0] == 1).all()
    assert (found["lower"][1] == 0).all() and (found["upper"][1] == 0).all() and np.isnan(found["p"][1]).all()


def test_too_few_donors_give_neither_interval_nor_p() -> None:
    found = effect_columns(*_alone(np.array([0.5, 2.0])[:, None, None], donors=3))
    assert found["estimate"] == 2.0 and found["shrunken"] == 0.5
    assert all(np.isnan(found[name]).all() for name in ("lower", "upper", "p"))
    zero, nobody = np.zeros((1, 1)), np.zeros(1, bool)
    nothing = effect_columns(zero, np.zeros((2, 1, 1)), zero, zero, 3, nobody)
    assert nothing["lower"] == nothing["upper"] == 0  # who is not reached does not change, however few donors there are


def _alone(copies: np.ndarray, donors: int = 5) -> tuple[Any, ...]:
    return np.zeros((1, 1)), copies, *np.zeros((2, 1, 1)), donors, np.ones(1, bool)
