"""How strength goes with dose and time, what reaches a group, and what of an effect is a donor's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aivc_graph.operators.intervention.choose_courses import _about_mean
from aivc_graph.operators.intervention.contrasts import HANDED_ON, Contrasts
from aivc_graph.operators.intervention.course import Course, course_options, footprint, shown, usual_course
from aivc_graph.operators.intervention.exposure import sharpened
from aivc_graph.operators.intervention.fit_interventions import _about_own_mean, _in_state
from aivc_graph.operators.intervention.joint_effects import DONOR
from aivc_graph.operators.intervention.shrinkage import shrunken
from aivc_graph.operators.propagator.hill_relaxation import LEAST, N_HALVES, HillRelaxation
from tests.operators.parts import propagator

DOSES, HOURS = np.array([0.0, 0.5, 1.0, 2.0]), np.array([0.0, 6.0, 24.0, 24.0])
N = len(DOSES)


def contrasts(near: float = 0.5) -> Contrasts:
    """Return four groups of one section each: the first was given nothing, the others more and more."""
    applied = (DOSES > 0).astype(float)[:, None]
    return Contrasts(
        donor=np.zeros(N, int), section=np.arange(N), component=np.zeros(N, int),
        counts=np.ones((N, 3)), expected=np.ones((N, 3)), uneven=np.zeros((N, 3)), applied=applied,
        near=np.full((N, 1, len(HANDED_ON)), near) * np.linspace(1.0, 0.5, len(HANDED_ON)),
        local=np.zeros((N, 1), bool), tile=np.full(N, -1), dose=DOSES[:, None], hours=HOURS[:, None], nodes=np.ones(N),
    )  # fmt: skip


def carry(course: np.ndarray, before: float, dose: float, hours: float) -> float:
    given = (torch.as_tensor(one, dtype=torch.float64) for one in (before, dose, hours))
    return float(propagator(1).carry(torch.from_numpy(np.asarray(course)), *given))


COURSES = propagator(1).courses(DOSES[1:], HOURS[1:])


def test_the_full_dose_and_time_show_the_whole_effect_whatever_the_course() -> None:
    for course in COURSES:
        assert carry(course, 0.0, 2.0, 24.0) == pytest.approx(1.0)
        assert carry(course, 0.0, 0.0, 24.0) == 0.0
        assert carry(course, 0.4, 1.0, 0.0) == pytest.approx(0.4)


@pytest.mark.parametrize("course", COURSES[[0, 3, -1]])
def test_hours_in_two_steps_are_the_hours_together(course: np.ndarray) -> None:
    for dose in (0.0, 0.5, 2.0):
        halfway = carry(course, 0.3, dose, 5.0)
        assert carry(course, halfway, dose, 7.0) == pytest.approx(carry(course, 0.3, dose, 12.0))


@pytest.mark.parametrize("course", COURSES[[0, 3, -1]])
def test_more_of_a_dose_and_more_time_show_more_and_nothing_given_washes_out(course: np.ndarray) -> None:
    by_dose = [carry(course, 0.0, dose, 6.0) for dose in (0.0, 0.25, 0.5, 1.0, 2.0, 8.0)]
    by_hours = [carry(course, 0.0, 1.0, hours) for hours in (0.0, 2.0, 6.0, 24.0, 96.0)]
    assert (np.diff(by_dose) > 0).all() and (np.diff(by_hours) > 0).all()
    half, _, tau, *_ = course
    assert carry(course, 0.8, 0.0, float(tau)) == pytest.approx(0.8 / np.e)
    assert carry(course, 0.0, float(half), 24.0) < 1.0 + 1e-9 or half > 2.0


def test_half_doses_are_tried_with_three_doses_and_times_with_two() -> None:
    made = propagator(1)
    exponents, times = HillRelaxation.Options().exponents, HillRelaxation.Options().hours
    for doses, hours, tried in (
        ([1.0], [24.0], 1),
        ([1.0, 2.0], [24.0, 24.0], 1),
        ([0.5, 1.0, 2.0], [24.0] * 3, N_HALVES * len(exponents)),
        ([1.0, 1.0], [6.0, 24.0], len(times)),
        ([0.5, 1.0, 2.0], [6.0, 24.0, 24.0], N_HALVES * len(exponents) * len(times)),
    ):
        found = made.courses(np.array(doses), np.array(hours))
        assert len(found) == 1 + tried
        np.testing.assert_array_equal(found[0], [max(doses), 1.0, max(hours), max(doses), max(hours)])
    np.testing.assert_array_equal(made.courses(np.zeros(1), np.zeros(1))[0], [LEAST, 1.0, LEAST, LEAST, LEAST])


def test_the_usual_course_is_of_what_was_given_and_its_options_differ_in_numbers_alone() -> None:
    part = contrasts()
    usual = usual_course(part, 0, propagator(1))
    np.testing.assert_array_equal(usual.numbers, COURSES[0])
    options = course_options(part, 0, Course(usual.propagator, usual.numbers, 0.75, 3.0, 0.5))
    assert {(one.handed_on, one.sharpness, one.spread) for one in options} == {(0.75, 3.0, 0.5)}
    np.testing.assert_array_equal(np.stack([one.numbers for one in options]), COURSES)


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_what_reaches_a_group_is_by_what_was_done_and_what_is_near(spread: float) -> None:
    part, course = contrasts(), Course(propagator(1), COURSES[0], 0.75, 3.0, spread)
    near = part.near[:, 0, HANDED_ON.index(0.75)]
    expected = (1 - spread) * part.applied[:, 0] + spread * sharpened(near, 3.0)
    np.testing.assert_allclose(footprint(part, 0, course), expected)
    np.testing.assert_allclose(shown(part, 0, course), course.strength(DOSES, HOURS) * expected)
    assert shown(part, 0, course)[0] == 0.0  # its section was given nothing, near as it may be
    assert shown(part, 0, Course(propagator(1), COURSES[0]))[-1] == pytest.approx(1.0)


def test_some_rows_are_the_same_rows() -> None:
    whole, rows = contrasts(), np.array([True, False, False, True])
    part = whole.take(rows)
    np.testing.assert_array_equal(part.dose, whole.dose[rows])
    np.testing.assert_array_equal(part.section, [0, 3])


def test_values_about_the_mean_of_their_section_and_component() -> None:
    rng = np.random.default_rng(0)
    values, weight = rng.normal(size=(12, 4)), rng.random((12, 4))
    section, component = np.repeat([0, 1], 6), np.tile([0, 1, 2], 4)
    found = _about_mean(values, weight, section, component)
    for s in (0, 1):
        for c in range(3):
            own = (section == s) & (component == c)
            np.testing.assert_allclose((weight[own] * found[own]).sum(axis=0), 0.0, atol=1e-12)
    level = 10.0 * section[:, None] - 3.0 * component[:, None]
    np.testing.assert_allclose(_about_mean(values + level, weight, section, component), found)


def test_what_a_donor_has_of_its_own_is_no_error() -> None:
    """What is left over all rows of a component is nearly the donor's own; what differs between rows is not."""
    weight, component = np.full((50, 2), 100.0), np.zeros(50, int)
    alike, turns = np.full((50, 2), 0.3), np.where(np.arange(50)[:, None] % 2, 0.3, -0.3) * np.ones(2)
    square = float((weight * alike**2).sum())
    assert _about_own_mean(alike, weight, component) < 0.01 * square
    assert _about_own_mean(turns, weight, component) == pytest.approx(square)
    assert _about_own_mean(alike, weight * 1e-9, component) == pytest.approx(square * 1e-9, rel=1e-4)
    expected = square - 2 * (50 * 100.0 * 0.3) ** 2 / (50 * 100.0 + 1 / DONOR)
    assert _about_own_mean(alike, weight, component) == pytest.approx(expected)


def test_steps_in_the_state_decode_to_the_effect_where_the_state_can_tell_it() -> None:
    rng = np.random.default_rng(1)
    weight, step = rng.normal(size=(40, 3)), rng.normal(size=(2, 5, 3))
    np.testing.assert_allclose(_in_state(step @ weight.T, weight), step, rtol=5e-3, atol=5e-3)
    beside = rng.normal(size=40)
    beside -= weight @ np.linalg.lstsq(weight, beside, rcond=None)[0]
    np.testing.assert_allclose(_in_state(beside, weight), 0.0, atol=1e-9)
    assert not _in_state(rng.normal(size=(2, 40)), np.zeros((40, 3))).any()  # a decoder that tells nothing


def test_shrinkage_does_not_mind_signs_order_or_shape_and_never_overshoots() -> None:
    rng = np.random.default_rng(2)
    estimate, error = rng.normal(size=(6, 10)), rng.uniform(0.05, 0.5, (6, 10))
    found = shrunken(estimate, error)
    np.testing.assert_allclose(shrunken(-estimate, error), -found)
    turn = rng.permutation(60)
    np.testing.assert_allclose(shrunken(estimate.ravel()[turn], error.ravel()[turn]), found.ravel()[turn])
    assert (np.sign(found) == np.sign(estimate)).all() and (np.abs(found) < np.abs(estimate)).all()
    assert np.abs(shrunken(estimate, np.full_like(error, 1e3))).max() < 1e-3  # nothing is known of it
