"""Niches recur over donors: what a donor's own spread hides is found, and where nothing is hidden nothing changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from aivc_graph.query import recurrence
from aivc_graph.query.niches import Surroundings, fit_niches
from aivc_graph.query.recurrence import PRIOR_NODES, evened, recurring, spread_of
from tests.query.test_niches import bands

DONORS = 4


@pytest.fixture(scope="module")
def planted() -> tuple[Surroundings, NDArray[np.int_]]:
    """Return three bands in four donors, each of which varies six times as much along a coordinate of its own."""
    found_in, band = bands(0, 3, "patch")
    donor = np.random.default_rng(2).integers(0, DONORS, len(band))
    noise = np.random.default_rng(3).normal(size=(len(band), DONORS))
    x = np.hstack([found_in.x, 0.5 * noise])
    x[np.arange(len(band)), found_in.x.shape[1] + donor] *= 12.0
    own = np.hstack([found_in.own, np.zeros((len(band), DONORS))])
    return dataclasses.replace(found_in, x=x, own=own, donor=donor), band


def test_no_evenness_changes_nothing_and_full_evenness_gives_donors_one_spread() -> None:
    rng = np.random.default_rng(0)
    donor = np.repeat([0, 1], 30_000)
    x = rng.normal(size=(60_000, 3)) * np.where(donor[:, None] == 0, [1.0, 5.0, 2.0], [4.0, 1.0, 2.0]) + donor[:, None]
    spread = spread_of(x)
    assert evened(x, donor, spread, 0.0) is x
    even = evened(x, donor, spread, 1.0)
    for one in (0, 1):
        np.testing.assert_allclose(even[donor == one].std(axis=0), spread, rtol=0.02)
        np.testing.assert_allclose(even[donor == one].mean(axis=0), x[donor == one].mean(axis=0), atol=1e-9)
        np.testing.assert_array_equal(even[donor == one].argsort(axis=0), x[donor == one].argsort(axis=0))
    half = evened(x, donor, spread, 0.5)
    np.testing.assert_allclose(half.std(axis=0)[2], x.std(axis=0)[2], rtol=0.1)
    assert (np.abs(half - x).max(axis=0) < np.abs(even - x).max(axis=0)).all()


def test_a_donor_of_few_nodes_keeps_most_of_the_common_spread() -> None:
    x = np.array([[-0.01], [0.01]])
    even = evened(x, np.zeros(2, int), np.ones(1), 1.0)
    assert np.abs(even).max() == pytest.approx(0.01 * np.sqrt((PRIOR_NODES + 2) / (PRIOR_NODES + 2e-4)), rel=1e-4)
    np.testing.assert_array_equal(evened(x[:1], np.zeros(1, int), np.ones(1), 1.0), x[:1])


def test_states_of_a_donor_are_evened_alike_alone_and_among_others() -> None:
    rng = np.random.default_rng(1)
    x, donor, spread = rng.normal(size=(300, 2)), np.repeat([0, 1, 2], 100), np.array([2.0, 0.5])
    among = evened(x, donor, spread, 1.0)
    np.testing.assert_allclose(among[donor == 1], evened(x[donor == 1], np.zeros(100, int), spread, 1.0))


def test_what_the_spread_of_donors_hides_is_found(
    planted: tuple[Surroundings, NDArray[np.int_]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found_in, band = planted
    rule = fit_niches(found_in, 3, 1.0, 0)
    niche = rule(found_in).argmax(axis=1)
    assert rule.evenness > 0
    monkeypatch.setattr(recurrence, "EVENNESS", (0.0,))
    monkeypatch.setattr(recurrence, "AXES", (None,))
    plain = fit_niches(found_in, 3, 1.0, 0)
    before = plain(found_in).argmax(axis=1)
    assert plain.evenness == 0.0
    assert adjusted_rand_score(band, niche) > adjusted_rand_score(band, before) + 0.2
    shared = [normalized_mutual_info_score(found_in.donor, one) for one in (niche, before)]
    assert shared[0] < shared[1]


def test_niches_of_a_run_are_told_alike_in_a_donor_seen_alone(planted: tuple[Surroundings, NDArray[np.int_]]) -> None:
    found_in, _ = planted
    rule = dataclasses.replace(fit_niches(found_in, 3, 1.0, 0), coupling=0.0)
    assert rule.evenness > 0
    one = found_in.donor == 2
    np.testing.assert_allclose(rule(found_in.among(one)), rule(found_in)[one], atol=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: dataclasses.replace(one, donor=np.zeros_like(one.donor)),
        lambda one: dataclasses.replace(one, made_of="own"),
    ],
    ids=["one donor", "nodes that stand for themselves"],
)
def test_where_donors_do_not_say_nothing_is_evened(
    planted: tuple[Surroundings, NDArray[np.int_]], change: Callable[[Surroundings], Surroundings]
) -> None:
    assert fit_niches(change(planted[0]), 3, 1.0, 0).evenness == 0.0


def test_a_spread_that_tells_niches_apart_is_left_as_it_is(planted: tuple[Surroundings, NDArray[np.int_]]) -> None:
    """Two donors have one band each: to even them out would make their noise as wide as the bands lie apart."""
    found_in, band = bands(1, 2, "patch")
    donor = np.where(np.random.default_rng(0).random(len(band)) < 0.4, 2, band)
    one = dataclasses.replace(found_in, donor=donor)
    rule = fit_niches(one, 2, 1.0, 0)
    assert adjusted_rand_score(band, rule(one).argmax(axis=1)) > 0.75 and rule.evenness < 1.0


def test_the_choice_is_made_on_donors_that_taught_nothing(
    planted: tuple[Surroundings, NDArray[np.int_]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every mixture by which evenness is chosen is fitted without some donor; the last, which answers, on all."""
    found_in, _ = planted
    fitted: list[int] = []
    true = recurrence._fitted
    monkeypatch.setattr(recurrence, "_fitted", lambda x, *more, **few: fitted.append(len(x)) or true(x, *more, **few))
    recurring(found_in.x, np.eye(3)[np.arange(len(found_in.x)) % 3], found_in.donor, 3, 0)
    assert all(n < len(found_in.x) for n in fitted[:-1]) and fitted[-1] == len(found_in.x)
    assert len(fitted) == 1 + recurrence.FOLDS * (len(recurrence.AXES) + len(recurrence.EVENNESS) - 1)
