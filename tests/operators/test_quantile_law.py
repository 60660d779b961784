"""The law of values by what was expected: scores are normal, values come back, and what many share stays one value."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from aivc_graph.operators.quantile_law import QuantileLaw

N = 4000


def _fitted(seed: int = 0) -> tuple[QuantileLaw, np.ndarray, np.ndarray]:
    """Return a law of two molecules: one scatters the more the more is expected, of one half of the nodes have none."""
    rng = np.random.default_rng(seed)
    expected = rng.uniform(0, 3, (N, 2))
    measured = expected + (0.2 + 0.3 * expected) * rng.normal(size=(N, 2))
    measured[rng.random(N) < 0.5, 1] = 0.0
    law = QuantileLaw(2)
    law.fit(expected, measured)
    return law, expected, measured


def test_scores_are_normal_wherever_and_lead_back_to_the_values() -> None:
    law, expected, measured = _fitted()
    score = law.scores(measured, expected, np.random.default_rng(1))
    for rows in (expected[:, 0] < 1, expected[:, 0] > 2):
        assert stats.kstest(score[rows, 0], "norm").statistic < 0.06
        assert stats.kstest(score[rows, 1], "norm").statistic < 0.06
    back = law.values(score[:, None], expected, np.arange(2))[:, 0]
    inside = np.abs(score[:, 0]) < 1.5
    np.testing.assert_allclose(back[inside, 0], measured[inside, 0], atol=0.15)


def test_a_value_that_many_share_is_drawn_as_often() -> None:
    law, expected, _ = _fitted()
    drawn = law.values(np.random.default_rng(2).normal(size=(N, 20, 1)), expected[:, 1:], np.array([1]))
    assert np.mean(np.abs(drawn) < 1e-4) == pytest.approx(0.47, abs=0.06)


def test_before_it_is_fitted_a_value_is_what_is_expected_and_its_score() -> None:
    score, expected = np.array([[[0.0], [1.0]]]), np.array([[2.0]])
    np.testing.assert_allclose(QuantileLaw(1).values(score, expected, np.array([0])).ravel(), [2.0, 3.0], atol=0.02)
