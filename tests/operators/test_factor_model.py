"""States read off a part of the features, and moments of sparse rows: as the dense Gaussian has them."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from aivc_graph.operators.measurement.factor_model import reading_of
from aivc_graph.operators.measurement.moments import gram, moment_times, squares_of
from aivc_graph.operators.measurement.panel_components import factors_of, keep_factors

FEATURES, LATENT = 7, 2


@pytest.fixture
def model() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return orthonormal loadings, the variance of factors and of single features."""
    rng = np.random.default_rng(0)
    loading = np.linalg.qr(rng.normal(size=(FEATURES, LATENT)))[0]
    parts = loading, np.array([3.0, 1.0]), rng.uniform(0.2, 0.6, FEATURES)
    return tuple(torch.from_numpy(part).double() for part in parts)  # type: ignore[return-value]


def test_all_features_are_read_as_they_are(model: tuple[torch.Tensor, ...]) -> None:
    loading, variance, own = model
    reading, error = reading_of(loading, variance, own, torch.ones(FEATURES).double())
    assert torch.equal(reading, loading) and not error.any()


def test_hidden_features_are_told_as_their_conditional_expectation(model: tuple[torch.Tensor, ...]) -> None:
    loading, variance, own = model
    seen = torch.tensor([1, 1, 0, 1, 0, 1, 0]).double()
    reading, error = reading_of(loading, variance, own, seen)
    here = seen.numpy() > 0
    e, factors = loading.numpy(), np.diag(variance.numpy())
    covariance = e @ factors @ e.T + np.diag(own.numpy())
    x = np.random.default_rng(1).normal(size=FEATURES) * here
    # The factors given what was seen, from the joint normal itself.
    gain = factors @ e[here].T @ np.linalg.inv(covariance[np.ix_(here, here)])
    told = e[here].T @ x[here] + e[~here].T @ e[~here] @ gain @ x[here]
    np.testing.assert_allclose(x @ reading.numpy(), told, atol=1e-10)
    left = factors - gain @ e[here] @ factors
    away = e[~here].T @ e[~here]
    np.testing.assert_allclose(error.numpy(), np.diag(away @ left @ away), atol=1e-10)


def test_the_more_is_hidden_the_less_surely_it_is_read(model: tuple[torch.Tensor, ...]) -> None:
    errors = []
    for number in range(FEATURES, -1, -1):
        seen = (torch.arange(FEATURES) < number).double()
        errors.append(reading_of(*model, seen)[1])
    assert all(bool((b >= a - 1e-12).all()) for a, b in itertools.pairwise(errors))
    nothing = reading_of(*model, torch.zeros(FEATURES).double())
    assert not nothing[0].any()
    np.testing.assert_allclose(nothing[1].numpy(), model[1].numpy(), atol=1e-10)  # nothing seen: the prior's variance


def test_moments_of_sparse_rows_are_those_of_dense_ones() -> None:
    rng = np.random.default_rng(2)
    scaled = sparse.random(50, FEATURES, 0.4, format="csr", random_state=0)
    section = rng.integers(0, 3, 50)
    mean = np.stack([np.asarray(scaled[section == one].mean(axis=0)).ravel() for one in range(3)])
    dense = scaled.toarray() - mean[section]
    vectors = rng.normal(size=(FEATURES, 3))
    np.testing.assert_allclose(gram(scaled, mean, section), dense.T @ dense, atol=1e-5)
    np.testing.assert_allclose(moment_times(scaled, mean, section, vectors), dense.T @ dense @ vectors, atol=1e-8)
    np.testing.assert_allclose(squares_of(scaled, mean, section), (dense**2).sum(axis=0), atol=1e-8)


def test_factors_of_a_sample_come_back_and_are_kept_with_their_largest_loading_above_zero() -> None:
    rng = np.random.default_rng(3)
    true = np.linalg.qr(rng.normal(size=(FEATURES, LATENT)))[0]
    x = rng.normal(size=(20_000, LATENT)) * np.sqrt([6.0, 3.0]) @ true.T + 0.4 * rng.normal(size=(20_000, FEATURES))
    moment = x.T @ x / len(x)
    values, vectors = np.linalg.eigh(moment)
    found = factors_of(vectors[:, ::-1][:, :LATENT], values[::-1][:LATENT], np.diag(moment))
    assert found.variance == pytest.approx([6.0, 3.0], rel=0.05)
    assert found.own_variance == pytest.approx(np.full(FEATURES, 0.16), abs=0.03)
    held = {name: torch.zeros(shape) for name, shape in (("loading", (FEATURES, LATENT)), ("variance", (LATENT,)))}
    part = SimpleNamespace(**held, own_variance=torch.zeros(FEATURES), plan=SimpleNamespace(latent=LATENT))
    keep_factors(part, found)
    largest = part.loading.abs().argmax(dim=0)
    assert bool((part.loading[largest, torch.arange(LATENT)] > 0).all())
    np.testing.assert_allclose(np.abs(part.loading.numpy()), np.abs(found.loading), atol=1e-6)
