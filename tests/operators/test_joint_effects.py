"""Effects from all sections at once: known ones come back, noise goes to nothing, every section tells of its donor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from aivc_graph.operators.intervention.joint_effects import JointEffects, Rows, _inflation, joint_effects, shrink
from aivc_graph.operators.intervention.shrinkage import (
    FOR_NOTHING,
    SPREADS,
    STEPS,
    log_evidence,
    shrunken,
    shrunken_together,
)

DONORS, COMPONENTS, MOLECULES = 5, 3, 200


def study(seed: int, effect: float) -> tuple[Rows, np.ndarray]:
    """Return rows of one control and two treated sections a donor, and the true effects (column, molecule)."""
    rng = np.random.default_rng(seed)
    true = np.zeros((2, MOLECULES))
    true[0, :10], true[1, 5:15] = effect, -effect
    base = rng.normal(0, 0.3, (DONORS, COMPONENTS, MOLECULES))
    x, donor, section, component, y = [], [], [], [], []
    for d in range(DONORS):
        for number, arm in enumerate(((0, 0), (1, 0), (0, 1))):
            for j in range(COMPONENTS):
                x.append(arm), donor.append(d), section.append(3 * d + number), component.append(j)
                y.append(base[d, j] + np.array(arm) @ true + rng.normal(0, 0.2, MOLECULES))
    variance = np.full((len(y), MOLECULES), 0.02)
    of = np.array(donor), np.array(section), np.array(component)
    rows = Rows(np.array(y), variance, np.array(x, float), *of, np.full(2, 1e3), variance**0)
    return rows, true


def found_by(rows: Rows) -> JointEffects:
    """Return the shrunken effects of all donors."""
    without = [joint_effects(rows.take(rows.donor != d), DONORS, COMPONENTS) for d in range(DONORS)]
    return shrink(joint_effects(rows, DONORS, COMPONENTS), without, np.ones((DONORS, 2), bool))[0]


def test_known_effects_come_back_and_the_rest_is_nothing() -> None:
    rows, true = study(0, 1.0)
    found = found_by(rows)
    assert np.abs(found.mean - true)[true != 0].max() < 0.3
    assert np.abs(found.mean)[true == 0].max() < 0.15 and np.abs(found.departure).max() < 0.3
    # Counting explains half of the variance about the fit; the rest is told as surplus.
    assert np.median(found.surplus) == pytest.approx(0.02, rel=0.5)


def test_what_columns_do_to_rows_is_what_was_put_in() -> None:
    rows, true = study(8, 1.0)
    told = joint_effects(rows, DONORS, COMPONENTS).of(rows)
    assert np.abs(told - rows.x @ true).mean() < 0.15
    departing = replace(rows, y=rows.y + 2.0 * rows.x[:, :1] * (rows.component == 1)[:, None])
    told = joint_effects(departing, DONORS, COMPONENTS).of(departing)
    assert (told - rows.x @ true)[(rows.component == 1) & (rows.x[:, 0] > 0)].mean() == pytest.approx(2.0, abs=0.2)


def test_no_effect_gives_none() -> None:
    rows = study(1, 0.0)[0]
    found, noise = found_by(rows), joint_effects(rows, DONORS, COMPONENTS)
    for name in ("mean", "departure"):
        assert (getattr(found, name) ** 2).mean() < 0.02 * (getattr(noise, name) ** 2).mean()


def test_what_donors_do_not_agree_on_is_nothing() -> None:
    rows, _ = study(4, 0.0)
    rng = np.random.default_rng(4)
    # Each donor's treated sections differ as whole sections do: the same in all components, by chance in each donor.
    batch = rng.normal(0, 0.6, (DONORS, 2, MOLECULES))
    apart = replace(rows, y=rows.y + np.einsum("rk,rkg->rg", rows.x, batch[rows.donor]))
    # Sections that are not told apart, so that only donors left out say so.
    shaken = replace(apart, section=rows.donor)
    by_counting = shrink(joint_effects(shaken, DONORS, COMPONENTS), [], np.zeros((0, 2), bool))[0].mean
    assert (by_counting**2).mean() > 0.01
    assert (found_by(shaken).mean ** 2).mean() < 0.2 * (by_counting**2).mean()
    assert (found_by(apart).mean ** 2).mean() < 0.1 * (by_counting**2).mean()


def test_departures_that_donors_do_not_agree_on_are_nothing() -> None:
    rows, _ = study(4, 0.0)
    shift = np.where(np.arange(MOLECULES) < 20, 1.0, 0.0) * (rows.component == 1)[:, None]
    rows = replace(rows, y=rows.y + rows.x[:, :1] * shift)
    whole = joint_effects(rows, DONORS, COMPONENTS)
    without = [joint_effects(rows.take(rows.donor != d), DONORS, COMPONENTS) for d in range(DONORS)]
    rng, given = np.random.default_rng(5), np.ones((DONORS, 2), bool)
    odd = [replace(one, departure=one.departure + rng.normal(0, 0.5, one.departure.shape)) for one in without]
    agreed, apart = (shrink(whole, some, given)[0].departure[0, 1, :20].mean() for some in (without, odd))
    assert agreed > 0.4 > 0.1 > apart


def test_donors_it_was_not_given_to_do_not_say_how_sure_an_effect_is() -> None:
    rows, _ = study(6, 1.0)
    given = np.ones((DONORS, 2), bool)
    given[:2, 0] = False
    whole = joint_effects(rows, DONORS, COMPONENTS)
    without = [joint_effects(rows.take(rows.donor != d), DONORS, COMPONENTS) for d in range(DONORS)]
    before = shrink(whole, without, given)[0].mean[0]
    for donor in range(DONORS):
        odd = [replace(part, mean=part.mean + 2.0 * (d == donor)) for d, part in enumerate(without)]
        after = shrink(whole, odd, given)[0].mean[0]
        assert np.array_equal(after, before) == (not given[donor, 0])


@pytest.mark.parametrize("times", [1.0, 3.0])
def test_errors_are_inflated_by_as_much_as_donors_differ(times: float) -> None:
    rng, counting = np.random.default_rng(7), 0.1
    by_donor = rng.normal(0, times * counting * np.sqrt(DONORS), (DONORS, 5000))
    every = by_donor.mean(axis=0)
    left_out = (DONORS * every - by_donor) / (DONORS - 1)
    found = _inflation(every, left_out, np.full(5000, counting))
    assert np.median(found) == pytest.approx(times**2, rel=0.1)
    odd = np.where(np.arange(5000) < 500, 4.0, 1.0)
    found = _inflation(every, every + odd * (left_out - every), np.full(5000, counting))
    assert np.median(found[:500]) > 4 * np.median(found[500:])


def test_rows_that_err_together_count_for_less() -> None:
    rows, _ = study(5, 1.0)
    whole = joint_effects(rows, DONORS, COMPONENTS)
    inflated = joint_effects(replace(rows, inflation=rows.inflation * 9), DONORS, COMPONENTS)
    np.testing.assert_allclose(inflated.mean_error / whole.mean_error, 3, rtol=0.25)


def test_order_of_rows_does_not_matter() -> None:
    rows, _ = study(2, 1.0)
    order = np.random.default_rng(0).permutation(len(rows.y))
    mixed = rows.take(order)
    a, b = joint_effects(rows, DONORS, COMPONENTS), joint_effects(mixed, DONORS, COMPONENTS)
    for name in ("mean", "mean_error", "departure", "base", "surplus"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-9)


def test_a_donor_left_out_is_known_by_the_others_alone() -> None:
    rows, _ = study(3, 1.0)
    other = replace(rows, y=rows.y + 5.0 * (rows.donor == 2)[:, None])
    a, b = (joint_effects(given.take(given.donor != 2), DONORS, COMPONENTS) for given in (rows, other))
    np.testing.assert_array_equal(a.mean, b.mean)
    assert (a.base[2] == 0).all()


def test_shrinkage_keeps_the_few_and_drops_the_many() -> None:
    rng = np.random.default_rng(0)
    true = np.zeros(500)
    true[:10] = 2.0
    estimate = true + rng.normal(0, 0.3, 500)
    found = shrunken(estimate, np.full(500, 0.3))
    assert ((found - true) ** 2).mean() < 0.15 * ((estimate - true) ** 2).mean()
    assert np.abs(found[:10] - estimate[:10]).max() < 0.4 and (np.abs(found) <= np.abs(estimate)).all()
    np.testing.assert_array_equal(shrunken(np.zeros(5), np.ones(5)), 0)
    assert np.abs(shrunken(np.full(5, 3.0), np.full(5, 1e3))).max() < 0.1  # unknown: as if never measured


def test_what_one_component_shows_alone_is_kept_there_and_nowhere_else() -> None:
    rng, error = np.random.default_rng(0), np.full((4, 300), 0.2)
    true = np.zeros((4, 300))
    true[2, :15], true[:, 15:30] = -1.0, 1.0
    found = shrunken_together(true + rng.normal(0, error), error, np.zeros(300)).mean
    assert ((found - true)[:, :15] ** 2).mean() < 0.5 * 0.2**2 and np.abs(found[2, :15] + 1).mean() < 0.25
    assert np.abs(found[[0, 1, 3], :15]).mean() < 0.05 and np.abs(found[:, 30:]).mean() < 0.01
    # Four that answer alike tell more than one.
    assert ((found - true)[:, 15:30] ** 2).mean() < 0.5 * 0.2**2


@pytest.mark.parametrize("in_common", [0.0, 0.3])
def test_shrinking_together_is_the_posterior_mean_of_the_mixture(in_common: float) -> None:
    rng = np.random.default_rng(1)
    estimate, error = rng.normal(0, 0.4, (3, 6)), rng.uniform(0.1, 0.5, (3, 6))
    found = shrunken_together(estimate, error, np.full(6, in_common))
    kinds = [s**2 * np.ones((3, 3)) + t**2 * np.eye(3) for s in SPREADS for t in SPREADS]
    kinds += [s**2 * np.diag(one) for s in SPREADS[1:] for one in np.eye(3)]
    noise = [np.diag(e**2) + in_common for e in error.T]
    likely = np.array(
        [[stats.multivariate_normal.pdf(b, cov=u + n) for u in kinds] for b, n in zip(estimate.T, noise, strict=True)]
    )
    before = np.where(np.arange(len(kinds)) == 0, FOR_NOTHING, 1.0)
    weight = np.where(before > 1, 0.5, 0.5 / (len(kinds) - 1))
    for _ in range(STEPS):
        share = likely * weight
        weight = (share / share.sum(axis=1, keepdims=True)).sum(axis=0) + before - 1
        weight /= weight.sum()
    share = likely * weight
    share /= share.sum(axis=1, keepdims=True)
    means = np.array([[u @ np.linalg.solve(u + n, b) for u in kinds] for b, n in zip(estimate.T, noise, strict=True)])
    squares = means**2 + [[np.diag(u - u @ np.linalg.solve(u + n, u)) for u in kinds] for n in noise]
    mean, square = (np.einsum("gk,gkj->jg", share, part) for part in (means, squares))
    np.testing.assert_allclose(found.mean, mean, atol=1e-9)
    np.testing.assert_allclose(found.error, np.sqrt(square - mean**2), atol=1e-8)
    none = np.array([stats.multivariate_normal.logpdf(b, cov=n) for b, n in zip(estimate.T, noise, strict=True)])
    assert found.evidence == pytest.approx((np.log(likely @ weight) - none).sum(), abs=1e-3)


def test_unknown_components_follow_the_others() -> None:
    estimate, error = np.zeros((3, 50)), np.full((3, 50), 0.1)
    estimate[:2, :10], error[2] = 1.0, 30.0
    found = shrunken_together(estimate, error, np.zeros(50)).mean
    assert found[2, :10].min() > 0.3 and np.abs(found[:, 10:]).max() < 0.01


def test_evidence_is_the_integral_over_the_prior() -> None:
    square, cross = 7.0, 4.0
    before = np.where(SPREADS == 0, FOR_NOTHING, 1.0) / (FOR_NOTHING + len(SPREADS) - 1)
    expected = before[0]
    for share, spread in zip(before[1:], SPREADS[1:], strict=True):

        def integrand(effect: float, spread: float = spread) -> float:
            likelihood = np.exp(cross * effect - 0.5 * square * effect**2)
            return float(likelihood * np.exp(-0.5 * (effect / spread) ** 2) / (spread * np.sqrt(2 * np.pi)))

        expected += share * integrate.quad(integrand, -8 * spread, 8 * spread, points=[0.0])[0]
    found = log_evidence(np.array([[[square]]]), np.array([[cross]]))
    assert found == pytest.approx(np.log(expected), rel=1e-4)
    # Two columns that never meet: the second, of no data, changes nothing.
    both = log_evidence(np.array([[[square, 0], [0, 0.0]]]), np.array([[cross, 0.0]]))
    assert both == pytest.approx(found)
