"""Ridge along its penalties is the textbook solution on either side, and shares of rows say the same."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.operators.kernels import ridge_shares, squared_distances
from aivc_graph.operators.regressions import chosen_penalty, nearest_mean, principal_axes, ridge_path


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_ridge_is_the_textbook_solution(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x, y, asked = rng.normal(size=shape), rng.normal(size=(shape[0], 3)), rng.normal(size=(5, shape[1]))
    for penalty, said in zip((0.1, 10.0), ridge_path(x, y, asked, (0.1, 10.0)), strict=True):
        textbook = np.linalg.solve(x.T @ x + penalty * np.eye(shape[1]), x.T @ y)
        np.testing.assert_allclose(said, asked @ textbook, atol=1e-10)
        np.testing.assert_allclose(ridge_shares(x @ x.T, asked @ x.T, penalty) @ y, asked @ textbook, atol=1e-10)


def test_noise_asks_for_a_large_penalty_and_signal_for_a_small_one() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 10))
    group = np.arange(60) % 5
    signal = x @ rng.normal(size=(10, 4)) + 0.01 * rng.normal(size=(60, 4))
    assert chosen_penalty(x, signal, group) < 1.0 < 100.0 < chosen_penalty(x, rng.normal(size=(60, 4)), group)


def test_distances_axes_and_neighbours() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(80, 6)) * np.array([9.0, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(squared_distances(x[:3], x)[1, 5], ((x[1] - x[5]) ** 2).sum())
    assert abs(principal_axes(x - x.mean(axis=0))[0, 0]) > 0.99
    near = np.argsort(squared_distances(x[:1], x)[0])[:25]
    np.testing.assert_allclose(nearest_mean(x, x[:, :2], x[:1])[0], x[near, :2].mean(axis=0))
