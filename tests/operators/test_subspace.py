"""The leading axes of wide tables are those of the whole decomposition, found without making rows dense."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from aivc_graph.operators.subspace import along, axes_told, leading_axes


@pytest.mark.parametrize("shape", [(60, 200), (200, 60)])
def test_axes_are_those_of_the_singular_value_decomposition(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(shape[0], 6)) * [9, 7, 5, 4, 3, 2] @ rng.normal(size=(6, shape[1])) + 0.1 * rng.normal(
        size=shape
    )
    x += 3.0  # far from the origin: the centre counts
    centre = x.mean(axis=0)
    axes = leading_axes(sparse.csr_matrix(x), centre, 5)
    right = np.linalg.svd(x - centre, full_matrices=False)[2][:5]
    np.testing.assert_allclose(np.abs((axes.T * right).sum(axis=1)), 1.0, atol=1e-6)
    np.testing.assert_allclose(axes.T @ axes, np.eye(5), atol=1e-9)


def test_all_axes_keep_distances() -> None:
    x = np.random.default_rng(1).poisson(1.0, (30, 400)).astype(float)
    centre = x.mean(axis=0)
    told = along(sparse.csr_matrix(x), centre, leading_axes(sparse.csr_matrix(x), centre, 1000))
    assert told.shape == (30, 29)
    np.testing.assert_allclose(told @ told.T, (x - centre) @ (x - centre).T, atol=1e-6)


def test_axes_of_what_features_tell_are_not_those_of_what_varies_most() -> None:
    """A regression lies wholly in as many axes as there are features, whatever its penalty; the rest is noise."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(120, 4))
    x -= x.mean(axis=0)
    y = 0.3 * x @ rng.normal(size=(4, 300)) + rng.normal(size=(120, 5)) * 3 @ rng.normal(size=(5, 300))
    y -= y.mean(axis=0)
    axes = axes_told(x, sparse.csr_matrix(y), 10)
    assert axes.shape == (300, 4)
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-9)
    for penalty in (0.0, 300.0):
        said = x @ np.linalg.solve(x.T @ x + penalty * np.eye(4), x.T @ y)
        np.testing.assert_allclose(said @ axes @ axes.T, said, atol=1e-8)
    lost = said - said @ (own := leading_axes(y, np.zeros(300), 4)) @ own.T
    assert (lost**2).sum() > 0.15 * (said**2).sum()  # what varies most is something else
    twice = axes_told(np.hstack([x, x, 0 * x]), y, 10)  # features that repeat, or say nothing, add no axis
    np.testing.assert_allclose(twice @ twice.T, axes @ axes.T, atol=1e-6)
