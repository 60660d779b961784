"""Sections that err as wholes: their variance comes back, is nought where there is none, and widens what is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aivc_graph.operators.intervention.joint_effects import DONOR, JointEffects, Rows, joint_effects
from aivc_graph.operators.intervention.section_shifts import ComponentPart, SectionShifts, variance_between
from tests.operators.test_joint_effects import COMPONENTS, DONORS, MOLECULES, found_by, study

PRIOR = np.r_[1e3, 1e3, np.full(DONORS, DONOR)]


def shaken(rows: Rows, spread: float, seed: int = 0) -> Rows:
    """Return rows of which each section is shifted in all components alike (row, molecule)."""
    by_section = np.random.default_rng(seed).normal(0, spread, (rows.section.max() + 1, MOLECULES))
    return replace(rows, y=rows.y + by_section[rows.section])


def effects(rows: Rows) -> JointEffects:
    return joint_effects(rows, DONORS, COMPONENTS)


def test_the_solution_is_that_of_all_columns_at_once() -> None:
    rows = shaken(study(3, 1.0)[0], 0.3)
    rng, donor, n = np.random.default_rng(0), np.eye(DONORS)[rows.donor], 3 * DONORS
    weight, variance = rng.uniform(5, 50, rows.y.shape), rng.uniform(0, 0.1, MOLECULES)
    variance[7] = 0.0
    of_donors = rng.uniform(0.1, 0.5, MOLECULES)
    z, of_section = np.c_[rows.x, donor], np.repeat(np.arange(DONORS), 3)
    own = [rows.component == j for j in range(COMPONENTS)]
    parts = [ComponentPart.of(rows.y[of], weight[of], z[of], rows.section[of], PRIOR, n) for of in own]
    sections = SectionShifts.of(parts, np.stack([variance, of_donors]), of_section)
    # A donor's effect and a section's, whose sum is the section's shift.
    columns = np.c_[np.hstack([z * of[:, None] for of in own]), donor, np.eye(n)[rows.section]]
    sums = np.c_[np.eye(DONORS)[of_section], np.eye(n)]
    for g in (0, 7, 100):
        prior = np.r_[np.full(DONORS, of_donors[g]), np.full(n, max(variance[g], 1e-12))]
        prior = np.r_[np.tile(PRIOR, COMPONENTS), prior]
        inverse = np.linalg.inv(columns.T @ (weight[:, g, None] * columns) + np.diag(1 / prior))
        found, k = inverse @ columns.T @ (weight[:, g] * rows.y[:, g]), COMPONENTS * z.shape[1]
        told = [part.estimate(sections)[g] for part in parts]
        np.testing.assert_allclose(told, found[:k].reshape(COMPONENTS, -1), atol=1e-6)
        told = [part.variance(sections)[g] for part in parts]
        np.testing.assert_allclose(told, np.diag(inverse)[:k].reshape(COMPONENTS, -1), rtol=1e-5)
        np.testing.assert_allclose(sections.shift[g], sums @ found[k:], atol=1e-6)
        np.testing.assert_allclose(sections.covariance[g], sums @ inverse[k:, k:] @ sums.T, atol=1e-6)
        left = sections.parameters[g] + sum((1 - part.variance(sections)[g] / PRIOR).sum() for part in parts)
        assert left == pytest.approx((1 - np.diag(inverse) / prior).sum(), abs=1e-4)


def test_moments_are_of_what_sections_of_one_donor_differ_by() -> None:
    rng, of_section = np.random.default_rng(0), np.array([0, 0, 0, 1, 1, -1, 2])
    half, there = rng.normal(size=(4, 7, 7)), of_section >= 0
    information = (half @ half.transpose(0, 2, 1)) * there * there[:, None]
    score, none = rng.normal(size=(4, 7)) * there, np.zeros((4, 0, 1))
    part = ComponentPart(none, none[..., 0], none, information, score)
    found = SectionShifts.of([part], np.zeros((2, 4)), of_section).moments
    # Two contrasts of the first donor, one of the second; a section alone tells nothing of this.
    contrast = np.zeros((7, 3))
    contrast[:2, 0], contrast[:3, 1], contrast[3:5, 2] = [1, -1], [1, 1, -2], [1, -1]
    contrast /= np.linalg.norm(contrast, axis=0)
    inside = contrast.T @ information @ contrast
    expected = [((score @ contrast) ** 2).sum(axis=1), np.trace(inside, axis1=1, axis2=2), (inside**2).sum(axis=(1, 2))]
    np.testing.assert_allclose(found[0], expected)
    donors = np.eye(3)[np.where(there, of_section, 0)] * there[:, None]
    inside = donors.T @ information @ donors
    expected = [((score @ donors) ** 2).sum(axis=1), np.trace(inside, axis1=1, axis2=2), (inside**2).sum(axis=(1, 2))]
    np.testing.assert_allclose(found[1], expected)


@pytest.mark.parametrize("spread", [0.15, 0.4])
def test_what_sections_differ_by_comes_back(spread: float) -> None:
    found = effects(shaken(study(0, 1.0)[0], spread))
    assert np.sqrt(np.median(found.between)) == pytest.approx(spread, rel=0.15)
    # What sections err by is theirs, and no longer that of their parts.
    assert np.median(found.surplus) == pytest.approx(0.02, rel=0.3)


def test_few_sections_are_drawn_to_what_is_usual_and_odd_molecules_less() -> None:
    rng, spread = np.random.default_rng(0), np.where(np.arange(2000) < 100, 1.5, 0.2)
    score = 40.0 * rng.normal(0, np.sqrt(spread**2 + 1 / 40), (4, 2000)).T
    squared = (score**2).sum(axis=1)
    found = variance_between(squared, np.full(2000, 4 * 40.0), np.full(2000, 4 * 40.0**2))
    by_itself = np.maximum(squared / 160 - 1, 0) / 40
    usual = spread < 1
    assert np.sqrt(np.median(found[usual])) == pytest.approx(0.2, rel=0.2)
    assert found[usual].std() < 0.6 * by_itself[usual].std()
    assert np.median(found[~usual]) > 10 * np.median(found[usual])


def test_a_few_odd_molecules_are_no_difference_of_sections() -> None:
    rng, odd = np.random.default_rng(1), np.arange(400) < 8
    squared = 160 * rng.chisquare(4, 400) / 4 * np.where(odd, 5.0, 1.0)
    first, second = np.full(400, 4 * 40.0), np.full(400, 4 * 40.0**2)
    assert (variance_between(squared, first, second) == 0).all()
    assert (variance_between(1.5 * squared, first, second) > 0).any()  # where all are, they differ


def test_sections_that_agree_change_nothing() -> None:
    rows = study(1, 1.0)[0]
    mean = np.array([rows.y[rows.section == s].mean(axis=0) for s in range(3 * DONORS)])
    true = study(1, 1.0)[1]
    # No section is off as a whole: what is left about the truth is nought on average in each.
    agreeing = replace(rows, y=rows.y - mean[rows.section] + rows.x @ true)
    found, plain = effects(agreeing), effects(replace(agreeing, section=agreeing.donor))
    assert (found.between == 0).all() and np.abs(found.shift).max() < 1e-12 and found.in_common.max() < 1e-3
    for name in ("mean", "mean_error", "departure", "error", "in_common", "base", "surplus"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), atol=1e-5)


def test_molecules_that_show_nothing_of_sections_have_none() -> None:
    assert (variance_between(*np.zeros((3, 5))) == 0).all()
    rows = shaken(study(1, 1.0)[0], 0.3)
    assert (effects(rows.take(rows.section % 3 == 0)).between == 0).all()  # one section a donor


def test_molecules_are_solved_apart_and_too_many_sections_as_their_donors(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shaken(study(1, 1.0)[0], 0.3)
    whole, alike = effects(rows), effects(replace(rows, section=rows.donor))
    monkeypatch.setattr("aivc_graph.operators.intervention.joint_effects.AT_ONCE", 7)
    pieces = effects(rows)
    monkeypatch.setattr("aivc_graph.operators.intervention.joint_effects.MOST_SECTIONS", 3 * DONORS - 1)
    many = effects(rows)
    for name in ("mean", "error", "in_common", "shift", "surplus", "between"):
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), atol=1e-12)
        if name != "shift":
            np.testing.assert_allclose(getattr(many, name), getattr(alike, name), atol=1e-12)
    assert many.shift.shape == whole.shift.shape and np.abs(many.shift).max() < 1e-12


def test_levels_that_donors_have_in_all_components_say_nothing_of_effects() -> None:
    rows = shaken(study(2, 1.0)[0], 0.3)
    level = np.random.default_rng(1).normal(0, 1.0, (DONORS, MOLECULES))
    a, b = (effects(replace(rows, y=rows.y + times * level[rows.donor])) for times in (1.0, 3.0))
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
    assert np.mean(away["apart"]) < 0.85 * np.mean(away["alike"])
    assert np.concatenate(held).mean() > 0.9


def test_the_error_that_sections_make_is_shared_by_components() -> None:
    rows = study(5, 1.0)[0]
    rows = replace(rows, y=rows.y + np.random.default_rng(0).normal(0, 1.0, (DONORS, MOLECULES))[rows.donor])
    calm, off = effects(rows), effects(shaken(rows, 0.5))
    # Of five donors, against their own untreated section.
    assert np.sqrt(np.median(off.in_common)) == pytest.approx(0.5 * np.sqrt(2 / DONORS), rel=0.2)
    assert np.median(off.error) == pytest.approx(np.median(calm.error), rel=0.2)
    np.testing.assert_array_less(off.in_common, off.mean_error**2 + 1e-12)
