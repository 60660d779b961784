"""Conformal bounds hold for donors never seen, count donors and not cells, and are refused where donors are few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc_graph.evaluation.conformal import INSUFFICIENT, conformal, left_out_coverage, units_needed


def test_nine_donors_are_the_least_for_ninety_per_cent() -> None:
    assert [units_needed(alpha) for alpha in (0.5, 0.2, 0.1, 0.05, 0.15)] == [1, 4, 9, 19, 6]
    with pytest.raises(ValueError, match="between 0 and 1"):
        units_needed(1.0)
    scores = np.arange(1.0, 10.0)
    assert conformal(scores, np.arange(9))["all"].value == pytest.approx(9.0)
    for n in (5, 8):
        # Many cells of few donors are still few.
        few = conformal(np.repeat(scores[:n], 500), np.repeat(np.arange(n), 500))["all"]
        assert few.value is None and few.n_units == n and few.reason.startswith(INSUFFICIENT)


def test_one_row_a_unit_is_the_usual_quantile_by_hand() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 20.0))
    # The ceil(20 x 0.9) = 18th smallest of nineteen, the ceil(20 x 0.75) = 15th.
    assert conformal(scores, np.arange(19), 0.1)["all"].value == pytest.approx(18.0)
    assert conformal(scores, np.arange(19), 0.25)["all"].value == pytest.approx(15.0)


@settings(deadline=None)
@given(st.integers(9, 40), st.integers(0, 10_000))
def test_order_of_rows_and_number_of_copies_do_not_matter(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, unit, order = rng.random((n, 2)), np.arange(n), rng.permutation(3 * n)
    found = conformal(scores, unit)["all"].value
    again = conformal(np.repeat(scores, 3, axis=0)[order], np.repeat(unit, 3)[order])["all"].value
    np.testing.assert_array_equal(found, again)


def test_a_donor_with_many_cells_does_not_speak_for_the_others() -> None:
    scores = np.concatenate([np.zeros(10_000), np.full(18, 5.0)])
    unit = np.concatenate([np.zeros(10_000, int), np.arange(1, 19)])
    assert conformal(scores, unit)["all"].value == pytest.approx(5.0)
    assert conformal(scores, np.arange(len(scores)))["all"].value == pytest.approx(0.0)  # cell by cell it would


def test_each_group_has_its_own_bound_and_its_own_refusal() -> None:
    rng = np.random.default_rng(1)
    unit, group = np.tile(np.arange(20), 2), np.repeat(["calm", "wild"], 20)
    scores = np.abs(rng.normal(size=40)) * np.where(group == "wild", 10.0, 1.0)
    found = conformal(scores, unit, group=group)
    assert found["wild"].value > 3 * found["calm"].value
    keep = (group == "calm") | (unit < 5)
    assert conformal(scores[keep], unit[keep], group=group[keep])["wild"].reason.startswith(INSUFFICIENT)


def test_new_donors_are_covered_and_cells_as_units_are_not() -> None:
    rng, by_donor, by_cell = np.random.default_rng(2), [], []
    for _ in range(200):
        error = np.abs(rng.normal(0, 1, (60, 1)) + rng.normal(0, 0.2, (60, 20)))
        cells, donor = error.reshape(-1), np.repeat(np.arange(60), 20)
        seen, new = donor < 19, donor >= 19
        by_donor.append((cells[new] <= conformal(cells[seen], donor[seen])["all"].value).mean())
        few = donor < 5
        by_cell.append((cells[new] <= conformal(cells[few], np.arange(few.sum()))["all"].value).mean())
    assert 0.89 < np.mean(by_donor) < 0.96 and np.mean(by_cell) < 0.86


def test_every_donor_is_once_the_new_one() -> None:
    rng = np.random.default_rng(3)
    scores, unit = np.abs(rng.normal(size=(200, 30))), np.repeat(np.arange(20), 10)
    found = left_out_coverage(scores, unit, 0.1)
    assert len(found) == 20 and 0.93 < np.mean(list(found.values())) < 0.96  # 0.9 x 20 / 19
    assert set(left_out_coverage(scores[:50], unit[:50], 0.1).values()) == {None}
    missing = scores.copy()
    missing[unit == 3] = np.nan
    assert left_out_coverage(missing, unit, 0.1)["3"] is None
