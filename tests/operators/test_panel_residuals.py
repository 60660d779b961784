"""Molecules that a section lacks are told from those it measured beyond the state, where that is so and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aivc_graph.operators.panel_residuals import LEAST_NODES, LEAST_RATE, PanelTeachers, fit_residuals
from aivc_graph.operators.ridge import ridge, ridge_and_gains

N, K, DEPTH = 800, 24, 200.0
SEEN = np.arange(K) % 2 == 0


def study(beyond: float, n: int = N) -> tuple[PanelTeachers, np.ndarray]:
    """Return nodes of a state that is decoded in full, and of a programme that is not, and their true rates."""
    rng = np.random.default_rng(0)
    state, programme = rng.normal(size=(n, 3)) @ rng.normal(size=(3, K)), rng.normal(size=(n, 1)) @ np.ones((1, K))
    level = np.log(DEPTH / K) - 1
    rate = np.exp(level + 0.3 * state + beyond * programme)
    counts = rng.poisson(rate).astype(np.float64)
    decoded = np.exp(level + 0.3 * state)
    known, firm, group = np.ones((n, K), bool), np.ones(n), np.arange(n) * 8 // n
    return PanelTeachers(decoded, np.log1p(counts), counts, known, firm, group), rate


def half(nodes: PanelTeachers, rows: np.ndarray) -> PanelTeachers:
    return PanelTeachers(*(values[rows] for values in vars(nodes).values()))


def misses(told: np.ndarray, rate: np.ndarray) -> float:
    """Return the Poisson deviance of rates told of what was not seen, from the true ones."""
    told, rate = told[:, ~SEEN], rate[:, ~SEEN]
    return float((told - rate * np.log(told)).mean())


@pytest.mark.parametrize("beyond", [0.0, 0.5])
def test_what_the_state_leaves_open_is_told_and_nothing_else(beyond: float) -> None:
    nodes, rate = study(beyond)
    train, test = (half(nodes, rows) for rows in (np.arange(N) % 16 < 8, np.arange(N) % 16 >= 8))
    found = fit_residuals(SEEN, train)
    told = found.told(test.rate, test.logs)
    true = rate[np.arange(N) % 16 >= 8]
    alone, best = misses(test.rate, true), misses(true, true)
    if beyond:
        assert misses(told, true) - best < 0.35 * (alone - best)
    else:
        assert misses(told, true) - best < 1e-3
    assert (told >= LEAST_RATE * test.rate).all()
    np.testing.assert_allclose(told[:, ~SEEN].mean(axis=0), test.rate[:, ~SEEN].mean(axis=0), rtol=0.12)


def test_what_was_seen_stays_as_decoded() -> None:
    nodes, _ = study(0.5)
    told = fit_residuals(SEEN, nodes).told(nodes.rate, nodes.logs)
    np.testing.assert_array_equal(told[:, SEEN], nodes.rate[:, SEEN])
    # Nor is what a section did not measure looked at.
    other = np.where(SEEN, nodes.logs, 99.0)
    np.testing.assert_array_equal(fit_residuals(SEEN, nodes).told(nodes.rate, other), told)


def test_of_shuffled_nodes_nothing_is_learnt() -> None:
    nodes, rate = study(0.5)
    logs = nodes.logs[np.random.default_rng(1).permutation(N)]
    alone, told = misses(nodes.rate, rate), fit_residuals(SEEN, replace(nodes, logs=logs)).told(nodes.rate, logs)
    true = fit_residuals(SEEN, nodes).told(nodes.rate, nodes.logs)
    assert misses(told, rate) - alone > 0.05 * (misses(true, rate) - alone)


def test_too_few_nodes_teach_nothing() -> None:
    nodes, _ = study(0.5)
    assert not fit_residuals(SEEN, half(nodes, np.arange(LEAST_NODES - 1))).weight.any()
    known = nodes.known.copy()
    known[LEAST_NODES - 1 :, 1] = False
    weight = fit_residuals(SEEN, replace(nodes, known=known)).weight
    assert not weight[:, 1].any() and weight[:, 3].any()


def test_nodes_of_other_panels_teach_what_they_measured() -> None:
    nodes, rate = study(0.5)
    known = nodes.known.copy()
    known[::2, :16:2] = known[::2, 1] = False
    junk = 1e3 * np.random.default_rng(1).normal(size=(N, K))
    cut = replace(nodes, known=known, whole=np.where(known, nodes.whole, junk), logs=np.where(known, nodes.logs, junk))
    told = fit_residuals(SEEN, cut).told(nodes.rate, nodes.logs)
    whole = fit_residuals(SEEN, nodes).told(nodes.rate, nodes.logs)
    best = misses(rate, rate)
    assert misses(told, rate) - best < 1.3 * (misses(whole, rate) - best)
    assert np.corrcoef(told[:, 1], whole[:, 1])[0, 1] > 0.95


def test_gains_are_those_of_each_group_held_out() -> None:
    rng = np.random.default_rng(0)
    x, group = rng.normal(size=(300, 4)), np.arange(300) // 60
    y = x @ rng.normal(size=(4, 3)) + 0.1 * rng.normal(size=(300, 3))
    weight, gains = ridge_and_gains(x, y, group)
    np.testing.assert_array_equal(weight, ridge(x, y, group))
    assert len(gains) == 5 and gains.mean() == pytest.approx(1, abs=0.05)
    assert ridge_and_gains(x, rng.normal(size=(300, 3)), group)[1].mean() < 0.02
