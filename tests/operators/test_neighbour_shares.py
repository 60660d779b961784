"""What neighbours, states and counts of hidden nodes are weighed by: least squares with bounds, slopes, scatter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from aivc_graph.operators.correspondence import _carried, _likeness, _unit
from aivc_graph.operators.genes_from_cells import _likely, likeness_by_gene, ratio_of_alike
from aivc_graph.operators.measurement.unmeasured import FOLDS, _chosen, _left_out, _summed
from aivc_graph.operators.prediction.count_law import _scatter_loss
from aivc_graph.operators.prediction.neighbour_fit import (
    Seen,
    _least_squares,
    _mean,
    _slope,
    _within,
    joined,
    levelled,
    mixed,
)
from aivc_graph.tissue.evenly import evenly
from tests.operators.parts import neighbours

RNG = np.random.default_rng(0)
NODES, GENES = 60, 4


def seen(there: np.ndarray | None = None) -> Seen:
    rng = np.random.default_rng(1)
    return Seen(
        said=rng.normal(size=(NODES, GENES)), rings=rng.normal(size=(2, NODES, GENES)),
        numbers=np.tile([[2.0], [6.0]], NODES), measured=rng.normal(size=(NODES, GENES)),
        total=np.ones(NODES), section=np.arange(NODES) % 3, there=there,
    )  # fmt: skip


def test_the_mean_of_rings_is_over_their_members_by_the_weight_of_each() -> None:
    part, asked = neighbours(GENES, 2), seen()
    part.ring_weight.copy_(torch.tensor([1.0, 0.5]))
    expected = (2 * asked.rings[0] + 0.5 * 6 * asked.rings[1]) / (2 + 3)
    np.testing.assert_allclose(_mean(part, asked), expected)
    part.ring_weight.zero_()
    assert not _mean(part, asked).any()


def test_said_and_neighbours_are_mixed_by_their_shares_and_then_levelled() -> None:
    part, asked = neighbours(GENES, 2), seen()
    np.testing.assert_allclose(mixed(part, asked), asked.said)  # the start
    part.said_share.fill_(0.25)
    part.neighbour_share.fill_(0.5)
    expected = 0.25 * asked.said + 0.5 * _mean(part, asked)
    np.testing.assert_allclose(mixed(part, asked), expected)
    part.factor.copy_(torch.arange(1.0, 1 + GENES))
    part.offset.fill_(-2.0)
    np.testing.assert_allclose(levelled(part, asked), -2 + np.arange(1, 1 + GENES) * expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(levelled(part, asked, np.array([4, 9])), levelled(part, asked)[[4, 9]])


def test_what_was_measured_is_joined_where_anybody_lacks_anything() -> None:
    holes = RNG.random((NODES, GENES)) > 0.3
    assert joined([seen(), seen()]) is None
    found = joined([seen(), seen(holes)])
    assert found is not None and found[:NODES].all()
    np.testing.assert_array_equal(found[NODES:], holes)


def test_values_are_compared_within_their_section() -> None:
    values, section = RNG.normal(size=(NODES, GENES)), np.repeat([7, 3, 90], 20)
    found = _within(values, section)
    for one in (7, 3, 90):
        np.testing.assert_allclose(found[section == one].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(_within(values + section[:, None], section), found, atol=1e-12)


@pytest.mark.parametrize(
    ("true", "expected"), [((0.3, 0.6), (0.3, 0.6)), ((1.7, 0.0), (1.0, 0.0)), ((-0.5, 0.4), (0, 0.4))]
)
def test_shares_are_from_nothing_to_all(true: tuple[float, float], expected: tuple[float, float]) -> None:
    a, b = np.linalg.qr(RNG.normal(size=(500, 2)))[0].T
    np.testing.assert_allclose(_least_squares([a, b], true[0] * a + true[1] * b), expected, atol=1e-4)


def test_slopes_that_differ_by_chance_are_one_and_those_that_do_not_stay() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 50))
    by_chance = _slope(x, x + 5.0 * rng.normal(size=x.shape), None)
    assert np.abs(by_chance - 1).max() < 0.25
    slopes = rng.uniform(0.3, 2.0, 50)
    found = _slope(x, slopes * x + 0.1 * rng.normal(size=x.shape), None)
    np.testing.assert_allclose(found, slopes, atol=0.03)


def test_slopes_are_of_what_was_measured_and_one_where_nobody_did() -> None:
    rng = np.random.default_rng(3)
    x, there = rng.normal(size=(300, 5)), np.ones((300, 5), bool)
    y = np.array([0.5, 1.5, 1.0, 0.7, 9.0]) * x + 0.05 * rng.normal(size=x.shape)
    there[:, 4], there[:150, 0] = False, False
    spoilt = np.where(there, y, 1e6)
    np.testing.assert_allclose(_slope(x, spoilt, there), [0.5, 1.5, 1.0, 0.7, 1.0], atol=0.02)


def test_scatter_is_told_by_the_likelihood_but_for_what_does_not_depend_on_it() -> None:
    rng = np.random.default_rng(4)
    mean = rng.uniform(0.2, 8.0, (80, 3))
    counts = rng.negative_binomial(2.0, 2.0 / (2.0 + mean)).astype(float)
    ours = [_scatter_loss(one, mean, counts) for one in (0.5, 2.0, 30.0)]
    theirs = [-stats.nbinom.logpmf(counts, one, one / (one + mean)).sum(axis=0) for one in (0.5, 2.0, 30.0)]
    np.testing.assert_allclose(ours[1] - ours[0], theirs[1] - theirs[0], rtol=1e-8)
    np.testing.assert_allclose(ours[2] - ours[0], theirs[2] - theirs[0], rtol=1e-8)
    assert (np.argmin(ours, axis=0) == 1).all()


def test_sources_that_tell_genes_are_chosen_and_others_get_no_variance() -> None:
    rng = np.random.default_rng(5)
    n = 90
    known, noise = rng.normal(size=(n, 4)), rng.normal(size=(n, 4))
    own = known @ rng.normal(size=(4, 3)) + 0.2 * rng.normal(size=(n, 3))
    alike = {"told": known @ known.T, "noise": noise @ noise.T}
    fold = rng.permutation(n) % FOLDS
    chosen = _chosen(alike, own, fold)
    assert chosen["told"] > 0
    kernel = _summed(alike, chosen, (n, n))
    flat = _left_out(np.zeros((n, n)), own, fold)
    for one in range(FOLDS):
        np.testing.assert_allclose(flat[fold == one], own[fold != one].mean(axis=0)[None].repeat(sum(fold == one), 0))
    assert ((_left_out(kernel, own, fold) - own) ** 2).sum() < 0.2 * ((flat - own) ** 2).sum()
    moved = own.copy()
    moved[fold == 0] += 100.0  # what is left out says nothing of itself
    np.testing.assert_allclose(_left_out(kernel, moved, fold)[fold == 0], _left_out(kernel, own, fold)[fold == 0])
    assert _chosen({"noise": alike["noise"]}, rng.normal(size=(n, 3)), fold)["noise"] <= 0.1


def test_values_are_carried_from_the_nearest_cells() -> None:
    given = _unit(RNG.normal(size=(80, 3)))
    np.testing.assert_allclose(np.linalg.norm(given, axis=1), 1.0)
    assert not _unit(np.zeros((2, 3))).any()
    values = RNG.normal(size=(80, 2))
    near = np.argsort(((given - given[4]) ** 2).sum(axis=1))[:30]
    np.testing.assert_allclose(_carried(given, given[4:5], values)[0], values[near].mean(axis=0))
    few = _carried(given[:5], given[:2], values[:5])
    np.testing.assert_allclose(few, values[:5].mean(axis=0)[None].repeat(2, axis=0))


def test_likeness_is_a_correlation_and_nothing_where_nothing_varies() -> None:
    values = RNG.normal(size=(50, 3))
    assert _likeness(values, 3 * values + 7) == pytest.approx(1.0)
    assert _likeness(values, -values) == pytest.approx(-1.0)
    assert _likeness(np.ones((50, 3)), values) == 0.0
    told = np.column_stack([values[:, 0], np.ones(50), -values[:, 2]])
    np.testing.assert_allclose(likeness_by_gene(told, values), [1.0, 0.0, -1.0], atol=1e-12)


def test_rates_told_too_low_by_a_factor_are_off_by_it_in_every_tenth() -> None:
    rates = RNG.uniform(0.1, 5.0, (200, 3))
    found = ratio_of_alike(np.log1p(rates), np.log1p(4 * rates))
    assert found.shape == (10, 3)
    np.testing.assert_allclose(found, 4.0, rtol=0.05)


def test_a_node_is_told_by_the_cells_most_like_it_and_the_sharper_the_fewer() -> None:
    cells, values = _unit(RNG.normal(size=(100, 4))), RNG.normal(size=(100, 2))
    nearest = cells @ cells[3] >= np.sort(cells @ cells[3])[-30]
    np.testing.assert_allclose(_likely(cells[3:4], cells, values, 0.0)[0], values[nearest].mean(axis=0))
    np.testing.assert_allclose(_likely(cells[3:4], cells, values, 1e4)[0], values[3], atol=1e-6)
    weight = np.exp(2 * cells @ cells[3])
    np.testing.assert_allclose(_likely(cells[3:4], cells, values, 2.0)[0], weight @ values / weight.sum())


@pytest.mark.parametrize(("n", "most"), [(1, 5), (5, 5), (100, 7), (0, 3)])
def test_no_more_rows_than_wanted_each_once_and_in_order(n: int, most: int) -> None:
    found = evenly(n, most)
    assert len(found) == min(n, most) and (np.diff(found) > 0).all()
    assert not n or (found[0] == 0 and (most == 1 or found[-1] == n - 1))
