"""Sections that err as wholes: their variance comes back, is nought where there is none, and widens what is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aivc_graph.operators.intervention.joint_effects import DONOR, JointEffects, Rows, joint_effects
from aivc_graph.operators.intervention.section_shifts import (
    ComponentPart,
    SectionShifts,
    variance_between,
    within_donors,
)
from tests.operators.test_joint_effects import COMPONENTS, DONORS, MOLECULES, found_by, study

PRIOR = np.r_[1e3, 1e3, np.full(DONORS, DONOR)]


def shaken(rows: Rows, spread: float, seed: int = 0) -> Rows:
    """Return rows of which each section is shifted in all components alike (row, molecule)."""
    by_section = np.random.default_rng(seed).normal(0, spread, (rows.section.max() + 1, MOLECULES))
    return replace(rows, y=rows.y + by_section[rows.section])


def effects(rows: Rows) -> JointEffects:
    return joint_effects(rows, DONORS, COMPONENTS)


def test_contrasts_are_orthonormal_and_leave_donors_alone() -> None:
    section, donor = np.array([0, 0, 1, 2, 3, 3, 5, 6]), np.array([0, 0, 0, 0, 1, 1, 2, 2])
    found = within_donors(section, donor)
    assert found.shape == (7, 3)  # of three, one and two sections; none is number 4
    np.testing.assert_allclose(found.T @ found, np.eye(3), atol=1e-12)
    for own in ([0, 1, 2], [3], [5, 6]):
        np.testing.assert_allclose(found[own].sum(axis=0), 0, atol=1e-12)
    assert within_donors(section[:0], donor[:0]).shape == (0, 0)


def test_the_solution_is_that_of_all_columns_at_once() -> None:
    rows = shaken(study(3, 1.0)[0], 0.3)
    rng, donor = np.random.default_rng(0), np.eye(DONORS)[rows.donor]
    weight = rng.uniform(5, 50, rows.y.shape)
    z, whole = np.c_[rows.x, donor], np.c_[donor, within_donors(rows.section, rows.donor)[rows.section]]
    own = [rows.component == j for j in range(COMPONENTS)]
    parts = [ComponentPart.of(rows.y[of], weight[of], z[of], whole[of], PRIOR) for of in own]
    sections = SectionShifts.of(parts, DONORS, DONOR)
    columns = np.c_[np.hstack([z * of[:, None] for of in own]), whole]
    for g in (0, 7, 100):
        prior = np.r_[np.tile(PRIOR, COMPONENTS), np.full(DONORS, DONOR)]
        prior = np.r_[prior, np.full(whole.shape[1] - DONORS, sections.variance[g])]
        square = columns.T @ (weight[:, g, None] * columns)
        inverse = np.linalg.inv(square + np.diag(1 / prior))
        found = inverse @ columns.T @ (weight[:, g] * rows.y[:, g])
        estimate, shift = found[: -whole.shape[1]].reshape(COMPONENTS, -1), found[-whole.shape[1] :]
        variance = np.diag(inverse)[: -whole.shape[1]].reshape(COMPONENTS, -1)
        np.testing.assert_allclose([part.estimate(sections)[g] for part in parts], estimate, atol=1e-8)
        np.testing.assert_allclose([part.variance(sections)[g] for part in parts], variance, rtol=1e-6)
        np.testing.assert_allclose(sections.shift[g], shift, atol=1e-8)
        parameters = len(prior) - (np.diag(inverse) / prior).sum()
        told = sections.parameters[g] + sum((1 - part.variance(sections)[g] / PRIOR).sum() for part in parts)
        assert told == pytest.approx(parameters)


@pytest.mark.parametrize("spread", [0.15, 0.4])
def test_what_sections_differ_by_comes_back(spread: float) -> None:
    found = effects(shaken(study(0, 1.0)[0], spread))
    assert np.sqrt(np.median(found.between)) == pytest.approx(spread, rel=0.15)
    # What sections err by is theirs, and no longer that of their parts.
    assert np.median(found.surplus) == pytest.approx(0.02, rel=0.3)


def test_few_sections_are_drawn_to_what_is_usual_and_odd_molecules_less() -> None:
    rng, spread = np.random.default_rng(0), np.where(np.arange(2000) < 100, 1.5, 0.2)
    information = np.tile(40.0 * np.eye(4), (2000, 1, 1))
    score = 40.0 * rng.normal(0, np.sqrt(spread**2 + 1 / 40), (4, 2000)).T
    found = variance_between(information, score)
    by_itself = np.maximum((score**2).sum(axis=1) / 160 - 1, 0) / 40
    usual = spread < 1
    assert np.sqrt(np.median(found[usual])) == pytest.approx(0.2, rel=0.2)
    assert found[usual].std() < 0.6 * by_itself[usual].std()
    assert np.median(found[~usual]) > 10 * np.median(found[usual])


def test_sections_that_agree_change_nothing() -> None:
    rows = study(1, 1.0)[0]
    mean = np.array([rows.y[rows.section == s].mean(axis=0) for s in range(3 * DONORS)])
    true = study(1, 1.0)[1]
    # No section is off as a whole: what is left about the truth is nought on average in each.
    agreeing = replace(rows, y=rows.y - mean[rows.section] + rows.x @ true)
    found, plain = effects(agreeing), effects(replace(agreeing, section=agreeing.donor))
    assert (found.between == 0).all() and (found.shift == 0).all() and found.in_common.max() < 1e-3
    for name in ("mean", "mean_error", "departure", "error", "in_common", "base", "surplus"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), atol=1e-9)


def test_molecules_of_no_weight_have_none() -> None:
    nothing = variance_between(np.zeros((3, 2, 2)), np.zeros((3, 2)))
    assert (nothing == 0).all() and variance_between(np.zeros((3, 0, 0)), np.zeros((3, 0))).shape == (3,)


def test_a_level_of_a_donor_in_all_components_says_nothing_of_effects() -> None:
    rows = shaken(study(2, 1.0)[0], 0.3)
    level = np.random.default_rng(1).normal(0, 1.0, (DONORS, MOLECULES))
    level -= level.mean(axis=0) * 0.5
    moved = replace(rows, y=rows.y + level[rows.donor])
    a, b = effects(rows), effects(moved)
    assert np.sqrt(np.mean((a.mean - b.mean) ** 2)) < 0.3 * np.median(a.mean_error)
    assert np.corrcoef((b.base - a.base).mean(axis=1).ravel(), level.ravel())[0, 1] > 0.98


def test_effects_are_nearer_and_their_errors_truer_where_sections_are_told_apart() -> None:
    away: dict[str, list[np.ndarray]] = {"apart": [], "alike": []}
    held = []
    for seed in range(6):
        rows, true = study(seed, 0.8)
        rows = shaken(rows, 0.3, seed)
        for name, section in (("apart", rows.section), ("alike", rows.donor)):
            found = found_by(replace(rows, section=section))
            off = found.mean[:, None] + found.departure - true[:, None]
            away[name].append(off**2)
            if name == "apart":
                told = np.abs(found.mean) > 0.1
                held.append((np.abs(off) < 1.96 * found.error).swapaxes(1, 2)[told])
    assert np.mean(away["apart"]) < 0.75 * np.mean(away["alike"])
    assert np.concatenate(held).mean() > 0.9


def test_the_error_that_sections_make_is_shared_by_components() -> None:
    rows, _ = study(5, 1.0)
    calm, off = effects(rows), effects(shaken(rows, 0.5))
    # Of five donors, against their own untreated section.
    assert np.sqrt(np.median(off.in_common)) == pytest.approx(0.5 * np.sqrt(2 / DONORS), rel=0.2)
    assert np.median(off.error) == pytest.approx(np.median(calm.error), rel=0.2)
    np.testing.assert_array_less(off.in_common, off.mean_error**2 + 1e-12)
