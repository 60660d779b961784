"""The mean of log counts is what sampling says it is."""

from __future__ import annotations

import numpy as np

from aivc_graph.query.predictions import mean_log1p


def test_mean_log_of_counts_is_that_of_draws() -> None:
    rng = np.random.default_rng(0)
    mean = np.array([[0.05, 0.5], [3.0, 20.0], [150.0, 190.0]])
    dispersion = np.array([0.7, 8.0])
    draws = rng.poisson(mean * rng.gamma(dispersion, 1 / dispersion, (200_000, *mean.shape)))
    np.testing.assert_allclose(mean_log1p(mean, dispersion), np.log1p(draws).mean(axis=0), rtol=0.03, atol=0.003)
    assert (mean_log1p(mean, dispersion) < np.log1p(mean)).all()
    # Counted at a fourth of the depth and scaled up: more zeros, so a smaller mean of logs.
    scaled = mean_log1p(mean, dispersion, 4.0)
    np.testing.assert_allclose(scaled, np.log1p(4.0 * draws).mean(axis=0), rtol=0.03, atol=0.006)
    assert (scaled < mean_log1p(4.0 * mean, dispersion)).all()
