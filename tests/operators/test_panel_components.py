"""Components of molecules of which each section measured a part."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from aivc_graph.operators.measurement.panel_components import (
    Factors,
    PanelMoment,
    factors_of,
    joint_components,
)

N, GENES, LATENT = 1500, 40, 3


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (node, gene) of a factor model, and its loading."""
    rng = np.random.default_rng(seed)
    loading = np.linalg.qr(rng.normal(size=(GENES, LATENT)))[0] * np.array([4.0, 3.0, 2.0])
    return rng.normal(size=(N, LATENT)) @ loading.T + 0.5 * rng.normal(size=(N, GENES)), loading


def moments(x: np.ndarray, panels: list[np.ndarray], whole: bool = True) -> list[PanelMoment]:
    """Return the moments of equal parts of the rows, each of its own panel, added in two windows."""
    found = []
    for rows, columns in zip(np.array_split(np.arange(N), len(panels)), panels, strict=True):
        own = PanelMoment(columns, whole)
        for some in np.array_split(rows, 2):
            own.add(sparse.csr_matrix(x[some]), np.zeros((1, GENES)), np.zeros(len(some), np.int64))
        found.append(own)
    return found


def panels() -> list[np.ndarray]:
    order = np.random.default_rng(1).permutation(GENES)
    return [np.sort(order[(13 * i + np.arange(24)) % GENES]) for i in range(3)]


def fitted(x: np.ndarray, own: list[np.ndarray], whole: bool = True) -> Factors:
    return joint_components(moments(x, own, whole), GENES, LATENT, np.random.default_rng(2))


def astray(one: np.ndarray, other: np.ndarray) -> float:
    """Return the sine of the largest angle between two spaces of columns."""
    a, b = (np.linalg.qr(basis)[0] for basis in (one, other))
    return float(np.sqrt(max(1 - np.linalg.svd(a.T @ b)[1].min() ** 2, 0)))


def test_with_all_molecules_they_are_principal_components() -> None:
    x, _ = planted()
    found = fitted(x, [np.arange(GENES)] * 2)
    values, vectors = np.linalg.eigh(x.T @ x / N)
    expected = factors_of(vectors[:, ::-1][:, :LATENT], values[::-1][:LATENT], (x**2).mean(axis=0))
    assert astray(found.loading, expected.loading) < 1e-3
    np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-4)
    np.testing.assert_allclose(found.own_variance, expected.own_variance, rtol=1e-3)


def test_planted_components_are_found_where_each_node_lacks_two_fifths() -> None:
    x, loading = planted()
    own = panels()
    found = fitted(x, own)
    zeros = np.zeros_like(x)
    for rows, columns in zip(np.array_split(np.arange(N), 3), own, strict=True):
        zeros[np.ix_(rows, columns)] = x[np.ix_(rows, columns)]
    filled = np.linalg.eigh(zeros.T @ zeros)[1][:, -LATENT:]
    assert astray(found.loading, loading) < 0.1 < 0.5 * astray(filled, loading)
    np.testing.assert_allclose(found.variance, [16, 9, 4], rtol=0.12)
    assert found.own_variance == pytest.approx(0.25, rel=0.5)


def test_pairs_that_no_section_measured_together_covary_as_they_do() -> None:
    x, loading = planted()
    first, last = np.arange(24), np.arange(12, GENES)
    found = fitted(x, [first, last])
    told = (found.loading * found.variance) @ found.loading.T
    never = np.ix_(np.arange(12), np.arange(24, GENES))
    truth = (loading @ loading.T)[never]
    assert np.corrcoef(told[never].ravel(), truth.ravel())[0, 1] > 0.97
    assert np.abs(told[never] - truth).max() < 0.4 * np.abs(truth).max()


def test_rows_and_whole_moments_say_the_same() -> None:
    x, _ = planted()
    vectors = np.random.default_rng(3).normal(size=(24, 5))
    for whole, rows in zip(moments(x, panels()), moments(x, panels(), whole=False), strict=True):
        np.testing.assert_allclose(whole.times(vectors), rows.times(vectors), rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(whole.squares(), rows.squares(), rtol=1e-4)
    found, passed = (fitted(x, panels(), whole) for whole in (True, False))
    assert astray(found.loading, passed.loading) < 0.01  # in a tenth of the rounds


def test_the_order_of_sections_and_windows_does_not_matter() -> None:
    x, _ = planted()
    own = moments(x, panels())
    one, other = (joint_components(given, GENES, LATENT, np.random.default_rng(2)) for given in (own, own[::-1]))
    np.testing.assert_allclose(one.loading, other.loading, atol=1e-8)
