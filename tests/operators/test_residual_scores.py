"""Scores of counts: what they undo, how molecules vary together in draws, and that a law gone wrong is made up for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from aivc_graph.operators.residual_scores import MOST_NODES, ResidualScores, counts_of, scores_of

NODES, MOLECULES = 4_000, 3
MEAN, DISPERSION = np.array([0.8, 6.0, 40.0]), np.array([0.7, 3.0, 12.0])
ALL = np.arange(MOLECULES)


def _counts(rng: np.random.Generator, dispersion: np.ndarray = DISPERSION) -> np.ndarray:
    """Return counts (node, molecule) whose first two molecules rise and fall together."""
    score = rng.standard_normal((NODES, MOLECULES))
    score[:, 1] = 0.8 * score[:, 0] + 0.6 * score[:, 1]
    return counts_of(score, np.tile(MEAN, (NODES, 1)), np.tile(dispersion, (NODES, 1)))


def _fitted(counts: np.ndarray, place: np.ndarray | None = None) -> ResidualScores:
    residuals = ResidualScores(MOLECULES)
    law = np.tile(MEAN, (len(counts), 1)), np.tile(DISPERSION, (len(counts), 1))
    place = np.random.default_rng(0).random((len(counts), 1)) if place is None else place
    rows = residuals.kept(len(counts))
    residuals.fit(place[rows], scores_of(counts, *law, np.random.default_rng(1))[rows])
    return residuals


def _drawn(residuals: ResidualScores, place: float = 0.5, draws: int = 3_000) -> np.ndarray:
    score = residuals.draw(np.array([[place]]), ALL, draws, np.random.default_rng(2))[0]
    return counts_of(score, np.tile(MEAN, (draws, 1)), np.tile(DISPERSION, (draws, 1)))


def test_counts_have_the_law_and_scores_lead_back_to_them() -> None:
    rng = np.random.default_rng(0)
    law = np.tile(MEAN, (NODES, 1)), np.tile(DISPERSION, (NODES, 1))
    counts = counts_of(rng.standard_normal((NODES, MOLECULES)), *law)
    np.testing.assert_allclose(counts.mean(axis=0), MEAN, rtol=0.06)
    np.testing.assert_allclose(counts.var(axis=0), MEAN + MEAN**2 / DISPERSION, rtol=0.15)
    scores = scores_of(counts, *law, rng)
    assert all(stats.kstest(one, "norm").pvalue > 1e-3 for one in scores.T)
    np.testing.assert_array_equal(counts_of(scores, *law), counts)


def test_molecules_vary_together_as_in_measured_nodes_and_alone_at_the_start() -> None:
    counts = _counts(np.random.default_rng(3))
    wanted, found = np.corrcoef(np.log1p(counts).T), np.corrcoef(np.log1p(_drawn(_fitted(counts))).T)
    assert wanted[0, 1] > 0.5
    np.testing.assert_allclose(found, wanted, atol=0.15)
    alone = np.corrcoef(np.log1p(_drawn(ResidualScores(MOLECULES), draws=3_000)).T)
    assert abs(alone[0, 1]) < 0.2


def test_draws_scatter_as_what_was_measured_where_the_law_is_too_narrow() -> None:
    counts = _counts(np.random.default_rng(4), dispersion=DISPERSION / 4)
    wanted = counts.var(axis=0)
    assert (wanted > 2 * (MEAN + MEAN**2 / DISPERSION))[1:].all()
    np.testing.assert_allclose(_drawn(_fitted(counts)).var(axis=0)[1:], wanted[1:], rtol=0.35)


def test_draws_are_those_of_nodes_alike() -> None:
    rng = np.random.default_rng(5)
    place = rng.random((NODES, 1))
    counts = np.where(place < 0.5, 0.0, 3.0) * np.ones(MOLECULES)
    residuals = _fitted(counts, place)
    np.testing.assert_array_equal(np.unique(_drawn(residuals, 0.1)[:, 1]), [0.0])
    np.testing.assert_array_equal(np.unique(_drawn(residuals, 0.9)[:, 1]), [3.0])


@pytest.mark.parametrize("n", [1, 7, NODES])
def test_few_nodes_are_all_kept_and_many_evenly(n: int) -> None:
    residuals, place = ResidualScores(MOLECULES), np.arange(n)[:, None] / n
    rows = residuals.kept(n)
    assert len(set(rows)) == min(n, MOST_NODES) and rows[0] == 0 and rows[-1] == n - 1
    residuals.fit(place[rows], np.repeat(place[rows], MOLECULES, axis=1))
    drawn = residuals.draw(place, ALL[:2], 5, np.random.default_rng(0))
    assert drawn.shape == (n, 5, 2) and set(np.unique(drawn)) <= set(np.unique(residuals.score.numpy()))


@pytest.mark.parametrize(("mean", "dispersion"), [(0.02, 0.05), (3.0, 8.0), (60.0, 2.0), (900.0, 40.0)])
def test_counts_are_the_quantiles_of_the_negative_binomial(mean: float, dispersion: float) -> None:
    score = np.linspace(-4.4, 4.4, 301)
    wanted = stats.nbinom.ppf(stats.norm.cdf(score), dispersion, dispersion / (dispersion + mean))
    np.testing.assert_array_equal(counts_of(score, np.array([mean]), np.array([dispersion])), wanted)


def test_kept_scores_return_with_the_state() -> None:
    fitted, loaded = _fitted(_counts(np.random.default_rng(6))), ResidualScores(MOLECULES)
    loaded.load_state_dict(fitted.state_dict())
    np.testing.assert_array_equal(_drawn(fitted), _drawn(loaded))
