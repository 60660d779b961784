"""Ridge with a penalty for each axis that targets share: what they have in common is not shrunk as their noise is."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.operators.ridge import ridge, ridge_by_axes

ROWS, F, K = 300, 12, 200
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def tissue(seed: int, share: float = 0.5) -> Arrays:
    """Return features, targets and what is true of them: one direction told by one feature, beneath noise of each."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, F))
    true = share * np.outer(x[:, 0], np.r_[np.ones(K // 2), -np.ones(K // 2)])
    return x, true + rng.normal(size=true.shape), true


def error(coefficients: np.ndarray, x: np.ndarray, true: np.ndarray) -> float:
    return float(((x @ coefficients - true) ** 2).mean())


@pytest.fixture(scope="module")
def group() -> np.ndarray:
    return np.arange(ROWS) * 5 // ROWS


def test_what_targets_share_is_shrunk_less_than_what_each_has_alone(group: np.ndarray) -> None:
    x, y, _ = tissue(0)
    asked, _, wanted = tissue(1)
    by_axes, plain = ridge_by_axes(x, y, group), ridge(x, y, group)
    assert error(by_axes, asked, wanted) < 0.2 * error(plain, asked, wanted)
    told, meant = (float(one[:, : K // 2].mean(axis=1) @ asked[:, 0]) for one in (asked @ by_axes, wanted))
    assert 0.9 < told / meant < 1.1


def test_noise_alone_tells_nothing(group: np.ndarray) -> None:
    x, y, true = tissue(2, share=0.0)
    # Least squares would err by the number of features over that of rows, 0.04.
    assert error(ridge_by_axes(x, y, group), x, true) < 0.003


def test_shuffled_rows_take_the_gain_away(group: np.ndarray) -> None:
    x, y, _ = tissue(0)
    asked, _, wanted = tissue(1)
    dealt = ridge_by_axes(np.random.default_rng(0).permutation(x), y, group)
    assert error(dealt, asked, wanted) > 0.9 * float((wanted**2).mean())


def test_units_of_a_target_change_nothing(group: np.ndarray) -> None:
    x, y, _ = tissue(3)
    units = np.logspace(-3, 3, K)
    np.testing.assert_allclose(ridge_by_axes(x, y * units, group) / units, ridge_by_axes(x, y, group), atol=1e-8)


@pytest.mark.parametrize("k", [1, 3, 30])
def test_few_targets_and_a_constant_one(k: int, group: np.ndarray) -> None:
    x, y, true = tissue(4, share=2.0)
    y = np.column_stack([y[:, :k], np.zeros(ROWS)])
    found = ridge_by_axes(x, y, group)
    assert np.isfinite(found).all() and not found[:, -1].any()
    assert error(found[:, :k], x, true[:, :k]) < 0.1


def test_one_target_is_ridge(group: np.ndarray) -> None:
    x, y, _ = tissue(5)
    y = y[:, :1] - y[:, :1].mean()
    np.testing.assert_allclose(ridge_by_axes(x, y, group), ridge(x, y, group), rtol=1e-6, atol=1e-9)
    one = np.zeros(ROWS, int)  # a single group: stretches stand in
    np.testing.assert_allclose(ridge_by_axes(x, y, one), ridge(x, y, one), rtol=1e-6, atol=1e-9)
